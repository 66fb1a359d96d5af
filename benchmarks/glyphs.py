"""Images of letters in the fonts of this machine, as a folder that edgekit reads.

    ROOT/train/A/*.png    in three quarters of the font families
    ROOT/val/A/*.png      in the others, which no network has seen

Each glyph is turned, stretched, moved and, if not plain, coloured, on a patterned ground with
noise; what is drawn depends on the seed and on the fonts that are found.
"""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts")
CAPITALS = string.ascii_uppercase
# Those that do not look like a capital, or like a part of one.
OTHERS = "abdefghijmnqrty2345679"
_SUFFIXES = (".ttf", ".otf")
_UNKNOWN = "\uffff"  # of which no font has a glyph
_FEWEST = 12  # families

Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        root: ``imagefolder:ROOT`` reads it.
        families: of fonts, in ``train`` and in ``val``.
        images: likewise.
    """

    root: Path
    families: tuple[int, int]
    images: tuple[int, int]

    def __str__(self) -> str:
        """For the head of a table."""
        return (
            f"{self.images[0]} images of glyphs in {self.families[0]} font families, held out "
            f"{self.images[1]} in {self.families[1]}"
        )


def draw_glyphs(
    root: Path,
    size: int,
    *,
    train: int,
    val: int,
    glyphs: str = CAPITALS,
    plain: bool = False,
    seed: int = 0,
) -> Drawn:
    """Draw ``train`` and ``val`` images of each of ``glyphs`` into ``root``.

    Args:
        root: an empty folder.
        size: pixels of an image's side.
        train: images of a glyph to train on.
        val: held-out ones.
        glyphs: a class each.
        plain: white on black, without noise: an image differs from others by its letter, font and
            place only.
        seed: of everything drawn.

    Raises:
        SystemExit: too few fonts are installed.
    """
    families = _families(FONTS, glyphs)
    if len(families) < _FEWEST:
        raise SystemExit(
            f"{len(families)} families of fonts below {FONTS}; {_FEWEST} are needed, e.g. those of "
            "the packages fonts-noto-core, fonts-freefont-ttf and fonts-lato"
        )
    names = sorted(families, key=lambda name: hashlib.sha256(name.encode()).digest())
    held_out = len(names) // 4
    parts = {"train": (names[held_out:], train), "val": (names[:held_out], val)}
    for part, (own, count) in parts.items():
        draw = np.random.default_rng([seed, count, len(own)])
        for glyph in glyphs:
            folder = root / part / glyph
            folder.mkdir(parents=True)
            for number in range(count):
                family = families[own[number % len(own)]]
                font = family[int(draw.integers(len(family)))]
                ink = _ink(glyph, font, size, draw)
                (ink if plain else _coloured(ink, draw)).save(folder / f"{number:05}.png")
    counts = (len(names) - held_out, held_out)
    return Drawn(root, counts, (train * len(glyphs), val * len(glyphs)))


def _families(root: Path, glyphs: str) -> dict[str, list[Path]]:
    """Fonts that have all glyphs, by family: half of them are one family's weights and slopes."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and _has_all(path, glyphs):
            family = ImageFont.truetype(path, 16).getname()[0] or path.stem
            # Noto has a family for each script, whose Latin letters are often the same.
            found.setdefault(" ".join(family.split()[:2]), []).append(path)
    return found


def _has_all(path: Path, glyphs: str) -> bool:
    try:
        font = ImageFont.truetype(path, 32)
        unknown = bytes(font.getmask(_UNKNOWN))
        masks = [bytes(font.getmask(glyph)) for glyph in glyphs]
    except (OSError, ValueError):
        return False
    different = len({*masks}) == len(glyphs)
    return different and unknown not in masks and all(any(mask) for mask in masks)


def _ink(glyph: str, path: Path, size: int, draw: np.random.Generator) -> Image.Image:
    """White on black, in the middle of a square or near it."""
    return _large(glyph, path, 2 * size, draw).resize((size, size), Image.Resampling.BOX)


def _coloured(ink: Image.Image, draw: np.random.Generator) -> Image.Image:
    share = np.asarray(ink, np.float64)[..., None] / 255
    # One of the two is dark and the other light.
    dark, light = draw.uniform(0, 100, 3), draw.uniform(155, 255, 3)
    colour, ground = (dark, light) if draw.random() < 0.5 else (light, dark)
    image = share * colour + (1 - share) * (ground + _waves(ink.width, draw))
    image += draw.normal(0, draw.uniform(0, 15), image.shape)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def _large(glyph: str, path: Path, side: int, draw: np.random.Generator) -> Image.Image:
    font = ImageFont.truetype(path, round(side * draw.uniform(0.55, 0.95)))
    image = Image.new("L", (side, side))
    middle = (side / 2, side / 2)
    ImageDraw.Draw(image).text(middle, glyph, fill=255, font=font, anchor="mm")
    angle, stretch = np.radians(draw.uniform(-15, 15)), draw.uniform(0.75, 1.3)
    shear, moved = draw.uniform(-0.25, 0.25), draw.uniform(-0.1, 0.1, 2) * side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch, shear], [0, 1 / stretch]])
    offset = np.array(middle) - matrix @ (np.array(middle) + moved)
    rows = [*matrix[0], offset[0], *matrix[1], offset[1]]
    transform = Image.Transform.AFFINE
    return image.transform((side, side), transform, rows, Image.Resampling.BILINEAR)


def _waves(size: int, draw: np.random.Generator) -> Pixels:
    """A pattern of the ground, (S, S, 3), of mean 0."""
    y, x = np.mgrid[:size, :size] / size
    angle, waves, phase = draw.uniform(0, 2 * np.pi), draw.uniform(0, 3), draw.uniform(0, 6.3)
    wave = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return wave[..., None] * draw.uniform(0, 30, 3)
