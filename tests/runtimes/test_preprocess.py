from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.bundle import Preprocessing
from edgekit.errors import InputError
from edgekit.runtimes.preprocess import _resized, load_image, preprocess

IMAGENET = Preprocessing(256, (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


# ---- an independent implementation -----------------------------------------------------------
# Written from torchvision's documentation and Pillow's description of its filters, in float64
# and without Pillow: the longer side, the centre, the triangle and Keys filters.


def _triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _keys(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _weights(size: int, to: int, kernel: Any, reach: float) -> np.ndarray:
    """(to, size) matrix that resizes one axis; when shrinking, the filter widens with it."""
    scale = size / to
    stretch = max(scale, 1.0)
    matrix = np.zeros((to, size))
    for i in range(to):
        centre = (i + 0.5) * scale
        first = max(int(centre - reach * stretch + 0.5), 0)
        last = min(int(centre + reach * stretch + 0.5), size)
        row = [kernel((j - centre + 0.5) / stretch) for j in range(first, last)]
        matrix[i, first:last] = np.array(row) / sum(row)
    return matrix


def reference(pixels: np.ndarray, rule: Preprocessing) -> np.ndarray:
    """(H, W, 3) uint8 to (1, 3, h, w) float64."""
    height, width, _ = pixels.shape
    new_width, new_height = (
        (rule.resize, math.floor(rule.resize * height / width))
        if width < height
        else (math.floor(rule.resize * width / height), rule.resize)
    )
    kernel, reach = (_triangle, 1.0) if rule.interpolation == "bilinear" else (_keys, 2.0)
    # 8 bits are kept between the two passes, as Pillow does; across first.
    across = np.einsum("ow,hwc->hoc", _weights(width, new_width, kernel, reach), pixels)
    across = np.clip(np.floor(across + 0.5), 0, 255)
    down = np.einsum("oh,hwc->owc", _weights(height, new_height, kernel, reach), across)
    down = np.clip(np.floor(down + 0.5), 0, 255)
    top = int(round((new_height - rule.crop[0]) / 2.0))  # noqa: RUF046 as torchvision has it
    left = int(round((new_width - rule.crop[1]) / 2.0))  # noqa: RUF046
    cut = down[top : top + rule.crop[0], left : left + rule.crop[1]]
    return ((cut / 255 - rule.mean) / rule.std).transpose(2, 0, 1)[None]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("width", "height", "resize", "crop"),
    [
        (64, 48, 40, (32, 32)),
        (48, 64, 40, (32, 32)),
        (33, 33, 32, (32, 32)),
        (41, 77, 20, (19, 18)),
        (20, 31, 37, (30, 37)),  # enlarged
        (7, 90, 9, (9, 9)),
    ],
)
def test_it_is_what_the_independent_implementation_says(
    width: int, height: int, resize: int, crop: tuple[int, int], interpolation: str
):
    image = noise(width, height)
    rule = Preprocessing(resize, crop, IMAGENET.mean, IMAGENET.std, interpolation)
    got = preprocess(image, rule)
    want = reference(np.asarray(image), rule)
    assert got.shape == want.shape == (1, 3, *crop)
    levels = np.abs(got - want) * np.reshape(rule.std, (1, 3, 1, 1)) * 255
    assert levels.max() <= 1.01  # Pillow's weights are fixed-point: it may round a level apart
    assert (levels > 0.01).mean() < 0.02


def test_every_level_has_torchvisions_value_to_the_bit():
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    rule = Preprocessing(16, (16, 16), IMAGENET.mean, IMAGENET.std)
    got = preprocess(Image.fromarray(grey), rule)
    for channel in range(3):
        for level in range(256):
            value = np.float32(level) / np.float32(255)
            value = (value - np.float32(rule.mean[channel])) / np.float32(rule.std[channel])
            assert got[0, channel, level // 16, level % 16] == value


def test_known_values():
    red = Image.new("RGB", (300, 500), (255, 0, 0))
    got = preprocess(red, IMAGENET)
    assert got.shape == (1, 3, 224, 224)
    assert got.dtype == np.float32
    assert got[0, :, 0, 0].tolist() == pytest.approx([2.2489083, -2.0357141, -1.8044444], abs=1e-6)
    assert np.unique(got).size == 3


def test_the_result_is_a_view_of_channels_last_memory():
    got = preprocess(noise(300, 260), IMAGENET)
    assert got.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not got.flags.c_contiguous


@pytest.mark.parametrize(
    ("size", "shorter", "want"),
    [
        ((640, 480), 256, (341, 256)),  # 341.33
        ((480, 640), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),  # 341.33
        ((256, 256), 256, (256, 256)),
        ((1000, 3), 2, (666, 2)),  # 666.67 is cut, not rounded
        ((1, 1), 7, (7, 7)),
    ],
)
def test_the_longer_side(size, shorter: int, want):
    assert _resized(size, shorter) == want


@pytest.mark.parametrize(
    ("width", "left"),
    [(224, 0), (225, 0), (226, 1), (227, 2), (229, 2), (231, 4)],  # .5 goes to the even one
)
def test_the_crop_is_centred_as_torchvision_rounds(width: int, left: int):
    columns = np.zeros((224, width, 3), np.uint8)
    columns[:, :, 0] = np.arange(width)
    rule = Preprocessing(224, (224, 224), (0, 0, 0), (1, 1, 1))
    got = preprocess(Image.fromarray(columns), rule)
    assert round(float(got[0, 0, 0, 0]) * 255) == left


def test_too_narrow_an_image_is_refused():
    with pytest.raises(InputError, match="an image of 60000 x 1 pixels is too narrow"):
        preprocess(Image.new("RGB", (60_000, 1)), Preprocessing(2048, (1, 1), (0,) * 3, (1,) * 3))


# ---- kinds of images -------------------------------------------------------------------------


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixel(source: Any, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = load_image(source)
    assert image.mode == "RGB"
    got = image.getpixel(at)
    assert isinstance(got, tuple)
    return got


def _grey16(value: int) -> Image.Image:
    return Image.fromarray(np.full((2, 2), value, np.uint16))


def _palette() -> Image.Image:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 0, 0])
    return image


def _animation() -> bytes:
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


KINDS = [
    ("RGB", Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3)),
    ("grey", Image.new("L", (2, 2), 77), (77, 77, 77)),
    ("1 bit, white", Image.new("1", (2, 2), 1), (255, 255, 255)),
    ("1 bit, black", Image.new("1", (2, 2), 0), (0, 0, 0)),
    ("palette", _palette(), (10, 20, 30)),
    ("palette, transparent", saved(_palette(), "PNG", transparency=0), (255, 255, 255)),
    ("RGBA, opaque", Image.new("RGBA", (2, 2), (9, 8, 7, 255)), (9, 8, 7)),
    ("RGBA, clear", Image.new("RGBA", (2, 2), (9, 8, 7, 0)), (255, 255, 255)),
    ("RGBA, half", Image.new("RGBA", (2, 2), (0, 100, 200, 128)), (127, 177, 227)),
    ("LA, clear", Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
    ("RGB with a colour key", saved(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG",
                                    transparency=(1, 2, 3)), (255, 255, 255)),
    ("CMYK", Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
    ("YCbCr", Image.new("YCbCr", (2, 2), (255, 128, 128)), (255, 255, 255)),
    ("16 bit, white", _grey16(65535), (255, 255, 255)),
    ("16 bit, middle", _grey16(32768), (128, 128, 128)),
    ("16 bit, dark", _grey16(255), (1, 1, 1)),  # clipped at 255 it would be white
    ("16-bit PNG", saved(_grey16(51400), "PNG"), (200, 200, 200)),
    ("16-bit TIFF", saved(_grey16(51400), "TIFF"), (200, 200, 200)),
    ("32-bit integers", Image.new("I", (2, 2), 51400), (200, 200, 200)),
    ("animated GIF", _animation(), (255, 0, 0)),
    ("array", np.full((2, 2, 3), 5, np.uint8), (5, 5, 5)),
    ("array, grey", np.full((2, 2), 5, np.uint8), (5, 5, 5)),
    ("array, grey with an axis", np.full((2, 2, 1), 5, np.uint8), (5, 5, 5)),
    ("array, RGBA", np.zeros((2, 2, 4), np.uint8), (255, 255, 255)),
    ("array, a view", np.full((3, 4, 4), 5, np.uint8)[::2, ::2, :3], (5, 5, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("source", "want"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS])
def test_kinds_of_images(source: Any, want: tuple[int, ...]):
    assert pixel(source) == want


def test_cmyk_jpeg_as_adobe_writes_it():
    """Inverted on disk; a reader that forgets shows a negative."""
    jpeg = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = pixel(jpeg)
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cameras_that_were_held_sideways(orientation: int, tmp_path: Path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255  # a white dot at the top left
    undo: Any = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 3),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    path = tmp_path / "photo.png"
    stored.save(path, exif=exif)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        assert (np.asarray(load_image(source)) == upright).all()


def _bomb(width: int, height: int) -> bytes:
    """A PNG that says it is enormous."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(body)) + kind + body
        chunks += struct.pack(">I", zlib.crc32(kind + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


PNG = saved(noise(64, 64), "PNG")
JPEG = saved(noise(64, 64), "JPEG")

BAD = [
    ("no file", "does/not/exist.jpg", "no image at 'does/not/exist.jpg'"),
    ("a folder", "/", "'/' cannot be read: .*directory"),
    ("text", b"hello", "the image is not an image that Pillow can read"),
    ("nothing", b"", "the image is not an image that Pillow can read"),
    ("half a JPEG", JPEG[: len(JPEG) // 2], "the image is damaged or cut short"),
    ("half a PNG", PNG[: len(PNG) // 2], "the image is damaged or cut short"),
    ("a bomb", _bomb(50_000, 50_000), "the image is refused: .*; scale it down first"),
    ("near the limit", _bomb(10_000, 10_000), "the image is refused: .*; scale it down first"),
    ("floats", Image.new("F", (2, 2)), "the image: its pixels are floating point"),
    ("32 bits", Image.new("I", (2, 2), 70_000), "the image: its pixels have more than 16 bits"),
    ("no pixels", Image.new("RGB", (0, 5)), "the image is empty: 0 x 5 pixels"),
    ("no array", np.zeros((0, 5, 3), np.uint8), r"the image array is empty: shape \(0, 5, 3\)"),
    ("float array", np.zeros((2, 2, 3)), r"uint8 with values 0 to 255, got float64: scale it"),
    ("channels first", np.zeros((3, 8, 8), np.uint8), r"\(H, W, 3\) or .*, got \(3, 8, 8\)"),
    ("a batch", np.zeros((1, 8, 8, 3), np.uint8), r"got \(1, 8, 8, 3\)"),
    ("a number", 7, "an image is a path, bytes, a PIL image or a uint8 array, got int"),
]


@pytest.mark.parametrize(("source", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_no_image_is_one_line(source: Any, message: str, recwarn):
    with pytest.raises(InputError, match=message) as caught:
        load_image(source)
    assert "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("data", [PNG, JPEG, _animation(), saved(_grey16(7), "TIFF")])
def test_damage_anywhere_is_an_input_error_or_an_image(data: bytes):
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 4):
            broken[at] = rng.integers(256)
        try:
            image = load_image(bytes(broken))
        except InputError:
            continue
        assert image.mode == "RGB"
