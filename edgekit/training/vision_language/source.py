"""What every kind of vision-language data looks like from above: regions, and what is said of them.

An image is its regions: a frozen detector looked at it once. Of each image of a split there may be
captions, questions with answers, and statements on it and another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Images(Protocol):
    """The regions of images, in any order."""

    def __len__(self) -> int:
        """How many images."""

    def name(self, index: int) -> str:
        """For messages."""

    def regions(self, index: int) -> Floats:
        """(R, visual), the best first: a feature and the six numbers of its box.

        Raises:
            InputError: they cannot be read.
        """

    def tags(self, index: int) -> tuple[str, ...]:
        """Names of what is there, the surest first."""

    def fingerprint(self) -> str:
        """Differs where the regions do, as far as that can be seen before a run; see each kind."""


@dataclass(frozen=True)
class Captioned:
    """A caption of image ``image``; ``tags`` in the place of the image's, where they are given."""

    image: int
    captions: tuple[str, ...]
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """A question; each answer has a score above 0 and up to 1."""

    image: int
    question: str
    answers: Mapping[str, float]
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Paired:
    """A statement on two images, which is true or not."""

    images: tuple[int, int]
    caption: str
    label: bool


@dataclass(frozen=True)
class Told:
    """One split."""

    images: Images
    captioned: tuple[Captioned, ...] = ()
    asked: tuple[Asked, ...] = ()
    paired: tuple[Paired, ...] = ()

    def tags(self, item: Captioned | Asked) -> tuple[str, ...]:
        """Those of the item, or of its image."""
        return self.images.tags(item.image) if item.tags is None else item.tags


@dataclass(frozen=True)
class VlmSplits:
    """A data set.

    Attributes:
        train: what is trained on.
        held_out: what is only evaluated on.
        words: tokens of a vocabulary that the data bring; none if they bring none.
    """

    train: Told
    held_out: Told
    words: tuple[str, ...] = ()
