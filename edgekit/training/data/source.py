"""What every kind of data set looks like from above: a list of images with a class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


# Blocks that an order mixes: a source keeps as many at hand.
WINDOW = 4


class ImageSource(Protocol):
    """Images that can be read in any order, by any process."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where images have none."""

    @property
    def in_memory(self) -> bool:
        """Whether reading is cheaper than handing over to a worker."""

    @property
    def augment(self) -> str:
        """The row of `edgekit.training.augment` that suits its images."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of runs of images that are cheap to read one after the other; all of them.

        Empty where any order is as good.
        """

    def __len__(self) -> int:
        """How many images."""

    def read(self, index: int) -> Image.Image:
        """Upright, 8-bit RGB.

        Raises:
            InputError: it cannot be read.
        """

    def label(self, index: int) -> int:
        """Its class, -1 where it has none."""

    def name(self, index: int) -> str:
        """For messages."""


@dataclass(frozen=True)
class Splits:
    """A data set: what is trained on, and what is only evaluated on."""

    train: ImageSource
    held_out: ImageSource
