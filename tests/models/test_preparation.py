"""Facts of a network of the zoo that its row and its weights decide."""

from __future__ import annotations

import pytest

from edgekit.models.preparation import preprocessing
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.models.zoo import VARIANTS, Variant

# Fraction of a row -> (side of the crop, side that its source resizes to).
RESIZES = [
    (0.875, 224, 256),
    (0.875, 96, 109),
    (224 / 232, 224, 232),
    (240 / 255, 240, 255),
    (240 / 256, 240, 256),
    (0.882, 240, 272),
    (0.95, 224, 235),
    (1.0, 97, 97),
]


@pytest.mark.parametrize(("fraction", "crop", "resize"), RESIZES)
def test_the_shorter_side_is_a_whole_number_whatever_the_fractions_last_bit(
    fraction: float, crop: int, resize: int
) -> None:
    rule = preprocessing((crop, crop), IMAGENET_MEAN, IMAGENET_STD, fraction, "bicubic")
    assert (rule.resize, rule.crop, rule.interpolation) == (resize, (crop, crop), "bicubic")


def test_every_whole_resize_comes_back_exactly() -> None:
    for crop in (96, 224, 240):
        for resize in range(crop, 2 * crop):
            rule = preprocessing((crop, crop), IMAGENET_MEAN, IMAGENET_STD, crop / resize)
            assert rule.resize == resize


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_row_resizes_to_at_least_its_crop(variant: Variant) -> None:
    size = (variant.image_size, variant.image_size)
    rule = preprocessing(
        size, variant.mean, variant.std, variant.crop_fraction, variant.interpolation
    )
    assert variant.image_size <= rule.resize <= 1.2 * variant.image_size
    assert rule.interpolation in ("bilinear", "bicubic")
