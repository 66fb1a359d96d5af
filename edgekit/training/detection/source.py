"""Images with boxes, whatever they come from: ``coco:FOLDER``, ``scenes`` or ``scenes:COUNT``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MOST_ATTRIBUTES = 16  # of one object


@dataclass(frozen=True)
class Objects:
    """What is to be found in one image.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels of the image; the far sides are no part of
            the box, so that its width is x2 - x1.
        classes: (N,) int64, from 1; 0 is the background.
        attributes: (N, `MOST_ATTRIBUTES`) int64, from 0, filled up with -1.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    attributes: NDArray[np.int64]

    def __len__(self) -> int:
        """How many objects."""
        return len(self.boxes)

    def some(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Objects:
        """Those that are chosen."""
        return Objects(self.boxes[which], self.classes[which], self.attributes[which])


class DetectionSource(Protocol):
    """Images with boxes that can be read in any order, by any process."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the classes, without the background."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes; empty where objects have none."""

    @property
    def in_memory(self) -> bool:
        """Whether reading is cheaper than handing over to a worker."""

    def __len__(self) -> int:
        """How many images."""

    def read(self, index: int) -> tuple[Image.Image, Objects]:
        """Upright, 8-bit RGB, and what is in it.

        Raises:
            InputError: it cannot be read, or is not the image that was annotated.
        """

    def name(self, index: int) -> str:
        """For messages."""

    def annotated(self, index: int) -> str:
        """What is said of the image, in a form that differs where that differs."""


@dataclass(frozen=True)
class DetectionSplits:
    """A data set: what is trained on, what is only evaluated on, and what a user should know."""

    train: DetectionSource
    held_out: DetectionSource
    notes: tuple[str, ...] = field(default=())


def packed(
    boxes: list[tuple[float, float, float, float]],
    classes: list[int],
    attributes: list[tuple[int, ...]],
) -> Objects:
    """`Objects` of lists of one length."""
    rows = [(*row[:MOST_ATTRIBUTES], *(-1,) * (MOST_ATTRIBUTES - len(row))) for row in attributes]
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(rows, np.int64).reshape(-1, MOST_ATTRIBUTES),
    )
