"""Which networks of the zoo ``make test`` takes through slow paths; ``make test-zoo`` the rest.

Building, keys and counts are tested for every network everywhere. Tracing and exporting takes ten
seconds and more, so that is done for one or two a family; `make test-zoo` takes the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest
from _pytest.mark import ParameterSet

from edgekit.models.zoo import VARIANTS

SAMPLED = (
    "micronet-m1",
    "dcd-mobilenetv2-x0.35",
    "dcd-resnet18",
    "mobilenetv2-x0.5",
    "mobilenetv3-small",
    "mobilenetv3-large-seed",
    "efficientnet-b0-tf",
    "resnet18",
)
# Above this many MACs a network is exported for small images: what is exported is the same graph.
LARGE = 1_000_000_000
SMALL_IMAGE = 64


def every_variant(sampled: Collection[str] = SAMPLED) -> list[ParameterSet]:
    """Each id as a parameter; those that are not ``sampled`` are of the zoo run."""
    return marked(VARIANTS, sampled)


def marked(names: Iterable[str], sampled: Collection[str]) -> list[ParameterSet]:
    """Each name as a parameter; those that are not ``sampled`` are of the zoo run."""
    return [pytest.param(name, marks=() if name in sampled else pytest.mark.zoo) for name in names]


def image_size(model_id: str) -> int:
    """Pixels of the image for which the slow paths take this network."""
    row = VARIANTS[model_id]
    return row.image_size if row.macs < LARGE else SMALL_IMAGE
