"""From an image to the input tensor, the same to the bit for every runtime.

    load_image    file, PIL image or array -> upright 8-bit RGB
    preprocess    shorter side -> centre crop -> /255 -> (x - mean) / std, float32

Resizing and cropping follow torchvision's rules on PIL images, so that a model sees what it was
evaluated with: the longer side is ``int(size * long / short)``, the crop's corner is
``round((size - crop) / 2)``. The result is an NCHW view of NHWC memory: LiteRT takes it without
a conversion, the others pay one plain copy.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgekit import optional
from edgekit.bundle import Preprocessing
from edgekit.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

_FEATURE = "reading images"
_MODULES = {"Image": "PIL.Image", "ImageOps": "PIL.ImageOps"}


def load_image(source: Any) -> Image.Image:
    """An upright 8-bit RGB image.

    EXIF rotation is applied. Transparency is laid over white, as a page shows it. 16-bit grey is
    scaled to 8 bits, and so are wider integers whose values fit in 16. Of an animation, the first
    frame is taken.

    Args:
        source: a path, the bytes of a file, a PIL image, or a uint8 array (H, W), (H, W, 1),
            (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
        InputError: not an image, cut short, empty, or too large to be honest.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source))
    image_module = optional.require(_MODULES["Image"], _FEATURE)
    if isinstance(source, image_module.Image):
        return _decode(source, "the image")
    if isinstance(source, (bytes, bytearray)):
        return _decode(_open(io.BytesIO(source), "the image"), "the image")
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        with _open(name, repr(name)) as image:
            return _decode(image, repr(name))
    raise InputError(
        f"an image is a path, bytes, a PIL image or a uint8 array, got {type(source).__name__}"
    )


def preprocess(image: Image.Image, rule: Preprocessing) -> npt.NDArray[np.float32]:
    """The input tensor of an RGB image.

    Args:
        image: 8-bit RGB, from ``load_image``.
        rule: the bundle's preprocessing.

    Returns:
        (1, 3, H, W) float32, an NCHW view of NHWC memory.

    Raises:
        InputError: the image is so narrow that its resized form would be enormous.
    """
    resized = image.resize(_resized(image.size, rule.resize), _filter(rule.interpolation))
    pixels = np.asarray(resized.crop(_crop_box(resized.size, rule.crop)))  # (H, W, 3)
    nhwc = _normalise(pixels, rule.mean, rule.std)[None]
    nchw: npt.NDArray[np.float32] = nhwc.transpose(0, 3, 1, 2)
    return nchw


def fit_into(
    image: Image.Image,
    canvas: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """A whole image, as large as fits, in the upper left of a canvas of zeros.

    Args:
        image: 8-bit RGB, from ``load_image``.
        canvas: its height and width in pixels.
        mean: per RGB channel, on the scale 0..1.
        std: likewise.

    Returns:
        (1, 3, H, W) float32, an NCHW view of NHWC memory, and height and width of the image in it:
        at least one pixel each.
    """
    width, height = image.size
    scale = min(canvas[0] / height, canvas[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    resized = image.resize((size[1], size[0]), _filter("bilinear"))
    nhwc = np.zeros((1, *canvas, 3), np.float32)
    nhwc[0, : size[0], : size[1]] = _normalise(np.asarray(resized), mean, std)
    nchw: npt.NDArray[np.float32] = nhwc.transpose(0, 3, 1, 2)
    return nchw, size


# ---- reading ---------------------------------------------------------------------------------


def _open(source: Any, name: str) -> Image.Image:
    image_module = optional.require(_MODULES["Image"], _FEATURE)
    try:
        with _pillow_warnings(image_module):
            opened: Image.Image = image_module.open(source)
            return opened
    except FileNotFoundError:
        raise InputError(f"no image at {name}") from None
    except image_module.UnidentifiedImageError:
        raise InputError(f"{name} is not an image that Pillow can read") from None
    except (image_module.DecompressionBombWarning, image_module.DecompressionBombError) as error:
        raise InputError(f"{name} is refused: {error}; scale it down first") from None
    except Exception as error:  # decoders raise almost anything on a damaged file
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be read: {why}") from error


@contextlib.contextmanager
def _pillow_warnings(image_module: ModuleType) -> Iterator[None]:
    """Refuse a bomb at Pillow's limit, where it only warns; keep quiet about damaged metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", image_module.DecompressionBombWarning)
        yield


def _decode(image: Image.Image, name: str) -> Image.Image:
    ops = optional.require(_MODULES["ImageOps"], _FEATURE)
    if min(image.size) < 1:
        raise InputError(f"{name} is empty: {image.size[0]} x {image.size[1]} pixels")
    try:
        with _pillow_warnings(optional.require(_MODULES["Image"], _FEATURE)):
            # Reads the orientation, then the pixels; older Pillows cannot do it the other way.
            return _to_rgb(ops.exif_transpose(image))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except Exception as error:  # decoders raise almost anything on a damaged file
        raise InputError(f"{name} is damaged or cut short: {error}") from error


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    image_module = optional.require(_MODULES["Image"], _FEATURE)
    if array.dtype != np.uint8:
        raise InputError(
            f"an image array is uint8 with values 0 to 255, got {array.dtype}: "
            'scale it and convert it with .astype("uint8")'
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InputError(
            f"an image array has shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}"
        )
    if 0 in array.shape:
        raise InputError(f"the image array is empty: shape {array.shape}")
    image: Image.Image = image_module.fromarray(np.ascontiguousarray(array))
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode Pillow has."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # I;16 and its byte orders; I where Pillow widens it
        return _scale_16_bit(image)
    if image.mode == "F":
        raise InputError("its pixels are floating point, of unknown range: save it with 8 bits")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _over_white(image)
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Grey with 0..65535 to 0..255; Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError("its pixels have more than 16 bits: save it with 8 bits")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return _from_array(grey).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    image_module = optional.require(_MODULES["Image"], _FEATURE)
    image = image.convert("RGBA")
    white: Image.Image = image_module.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return white.convert("RGB")


# ---- geometry and values ---------------------------------------------------------------------

_MAX_RESIZED_PIXELS = 1 << 26


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(width, height) with the shorter side at ``shorter``, as torchvision rounds it."""
    width, height = size
    longer = int(shorter * max(size) / min(size))
    if shorter * longer > _MAX_RESIZED_PIXELS:
        raise InputError(
            f"an image of {width} x {height} pixels is too narrow: with its shorter side at "
            f"{shorter} the longer one would be {longer}"
        )
    return (shorter, longer) if width <= height else (longer, shorter)


def _crop_box(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the centre crop, as torchvision rounds it."""
    width, height = size
    crop_height, crop_width = crop
    left = round((width - crop_width) / 2.0)
    top = round((height - crop_height) / 2.0)
    return left, top, left + crop_width, top + crop_height


def _filter(interpolation: str) -> Any:
    resampling = optional.require(_MODULES["Image"], _FEATURE).Resampling
    return {"bilinear": resampling.BILINEAR, "bicubic": resampling.BICUBIC}[interpolation]


@functools.lru_cache(maxsize=8)
def _rows(
    mean: tuple[float, ...], std: tuple[float, ...], width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and std repeated along a row: numpy is five times faster on long inner axes."""
    return np.tile(np.array(mean, np.float32), width), np.tile(np.array(std, np.float32), width)


def _normalise(
    pixels: npt.NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 to (H, W, 3) float32, in the order of operations torchvision has."""
    height, width, channels = pixels.shape
    means, stds = _rows(mean, std, width)
    values = pixels.reshape(height, width * channels).astype(np.float32)
    values /= np.float32(255)
    values -= means
    values /= stds
    return values.reshape(pixels.shape)
