"""How images are prepared for a network: while it is trained, evaluated and run, the same."""

from __future__ import annotations

import math

from edgekit.bundle import Preprocessing
from edgekit.models.variant import Variant

# Resize before the crop: the convention of ImageNet evaluation, 256 for a crop of 224.
_CROP_FRACTION = 0.875


def preprocessing(
    crop: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    crop_fraction: float = _CROP_FRACTION,
    interpolation: str = "bilinear",
) -> Preprocessing:
    """The rule that crops ``crop`` (height, width) of an image that is larger by the fraction."""
    # A fraction like 224 / 232 must give 232 back, whatever its last bit.
    resize = math.floor(max(crop) / crop_fraction + 1e-6)
    return Preprocessing(resize, crop, mean, std, interpolation)


def variant_preprocessing(variant: Variant, size: int) -> Preprocessing:
    """The rule of a row of the zoo for square images of ``size`` pixels."""
    return preprocessing(
        (size, size), variant.mean, variant.std, variant.crop_fraction, variant.interpolation
    )
