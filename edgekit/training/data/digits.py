"""scikit-learn's digits: 1,797 scanned 8 x 8 digits that come with the package.

The last 360 are held out, as in scikit-learn's own example: they are by other writers than most of
the first, and so a harder test than a random fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgekit.optional import require
from edgekit.runtimes.preprocess import load_image
from edgekit.training.data.source import Splits

if TYPE_CHECKING:
    from PIL import Image

_HELD_OUT = 360
_LEVELS = 16  # grey levels of the scan


@dataclass(frozen=True)
class Digits:
    """Some of the images, in memory."""

    pixels: npt.NDArray[np.uint8]  # (N, 8, 8)
    classes: npt.NDArray[np.int64]
    first: int  # number of the first in the whole set
    labels: tuple[str, ...] = tuple("0123456789")
    in_memory: bool = True
    augment: str = "glyphs"
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many images."""
        return len(self.pixels)

    def read(self, index: int) -> Image.Image:
        """Bright strokes on black, as scanned."""
        return load_image(self.pixels[index])

    def label(self, index: int) -> int:
        """The digit."""
        return int(self.classes[index])

    def name(self, index: int) -> str:
        """Its number in the whole set."""
        return f"digit {self.first + index}"


def open_digits() -> Splits:
    """All of them, in the order of the package.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    found = require("sklearn.datasets", "the digits").load_digits()
    pixels = (found.images * (255 / _LEVELS)).round().astype(np.uint8)
    classes = found.target.astype(np.int64)
    cut = len(pixels) - _HELD_OUT
    return Splits(Digits(pixels[:cut], classes[:cut], 0), Digits(pixels[cut:], classes[cut:], cut))
