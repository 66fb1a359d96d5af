"""How images are varied: the crop where they are read, everything else on the batch, by kornia.

A row says what is drawn; `edgekit train --augment NAME` takes another than the data suggest. The
rows of self-supervised training are those of MoCo-v2's, SwAV's and SimCLR's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.optional import require

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Augment:
    """What is drawn for one image.

    Attributes:
        name: of the row.
        area: least and largest share of the image that is cropped.
        ratio: narrowest and widest form of the crop, width over height.
        flip: probability of a mirrored image.
        degrees: largest rotation.
        shift: largest translation, as a share of the side.
        jitter: brightness, contrast, saturation and hue.
        jitter_p: its probability.
        grey: probability of no colour.
        blur: probability of a Gaussian blur, sigma 0.1 to 2.
    """

    name: str
    area: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    degrees: float = 0.0
    shift: float = 0.0
    jitter: tuple[float, float, float, float] | None = None
    jitter_p: float = 0.0
    grey: float = 0.0
    blur: float = 0.0


_FORMS = (3 / 4, 4 / 3)
_MOCO = (0.4, 0.4, 0.4, 0.1)
_HUED = (0.4, 0.4, 0.4, 0.4)

AUGMENTS: dict[str, Augment] = {
    row.name: row
    for row in (
        Augment("none"),
        Augment("photos", (0.08, 1.0), _FORMS, flip=0.5),
        # A mirrored digit is another sign, or none.
        Augment("glyphs", (0.7, 1.0), (0.8, 1.25), degrees=10, shift=0.08),
        Augment("moco-v2", (0.2, 1.0), _FORMS, 0.5, 0, 0, _MOCO, 0.8, grey=0.2, blur=0.5),
        Augment("swav", (0.14, 1.0), _FORMS, 0.5, 0, 0, _MOCO, 0.8, grey=0.2, blur=0.5),
        Augment("simclr", (0.2, 1.0), _FORMS, 0.5, 0, 0, _HUED, 1.0, grey=0.2),
        # Glyphs for training without classes: the same, and harder.
        Augment("glyphs-hard", (0.5, 1.0), (0.75, 1.33), 0.0, 20, 0.1, _MOCO, 0.8, blur=0.3),
    )
}


# Of SEED's small patches, which are varied as the whole ones.
PATCH_AREA = (0.05, 0.14)


@dataclass(frozen=True)
class Crops:
    """Which parts of an image a network sees.

    Attributes:
        row: how they are drawn and varied.
        size: pixels of a side.
        count: of one image.
    """

    row: Augment
    size: int
    count: int = 1


def get_augment(name: str) -> Augment:
    """The row of ``name``.

    Raises:
        UnknownNameError: no such row.
    """
    if name not in AUGMENTS:
        raise UnknownNameError("augment", name, AUGMENTS)
    return AUGMENTS[name]


def crop(
    image: Image.Image, row: Augment, size: int, draw: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A random part of ``image``, (size, size, 3) uint8."""
    bilinear = require("PIL.Image", "training").Resampling.BILINEAR
    return np.asarray(image.resize((size, size), bilinear, box=_box(image.size, row, draw)))


_TRIES = 10


def _box(
    size: tuple[int, int], row: Augment, draw: np.random.Generator
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part; the middle square where no draw fits."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * draw.uniform(*row.area)
        form = math.exp(draw.uniform(math.log(row.ratio[0]), math.log(row.ratio[1])))
        w, h = math.sqrt(area * form), math.sqrt(area / form)
        if w <= width and h <= height:
            left, top = draw.uniform(0, width - w), draw.uniform(0, height - h)
            return (left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


class OnBatch(nn.Module):
    """uint8 (B, 3, S, S) or (B, V, 3, S, S) -> float32, varied and normalised.

    Draws from torch's own generator, which the engine seeds at every step.
    """

    def __init__(
        self, row: Augment, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.vary = nn.Sequential(*_operators(row))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """As the network is fed."""
        varied = self.vary(images.flatten(0, -4).float() / 255)
        normal: Tensor = (varied - self.mean) / self.std
        return normal.view(images.shape)


_BLUR = (13, 13)  # three of the largest sigma on each side


def _operators(row: Augment) -> list[nn.Module]:
    if row == Augment(row.name, row.area, row.ratio):
        return []
    kornia = require("kornia.augmentation", "augmentation")
    made = []
    if row.flip:
        made.append(kornia.RandomHorizontalFlip(p=row.flip))
    if row.degrees or row.shift:
        shift = (row.shift, row.shift)
        made.append(kornia.RandomAffine(row.degrees, translate=shift, p=1.0))
    if row.jitter:
        made.append(kornia.ColorJitter(*row.jitter, p=row.jitter_p))
    if row.grey:
        made.append(kornia.RandomGrayscale(p=row.grey))
    if row.blur:
        made.append(kornia.RandomGaussianBlur(_BLUR, (0.1, 2.0), p=row.blur))
    return made
