"""Class names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.errors import EdgekitError
from edgekit.models.labels import labels_of
from edgekit.models.zoo import VARIANTS, Variant, get_variant


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_row_has_a_name_for_every_class(variant: Variant) -> None:
    names = labels_of(variant)
    assert len(names) == (variant.num_classes if variant.task == "classification" else 0)
    assert all(name == name.strip() != "" for name in names)


def test_numbers_of_an_embedding_have_no_names() -> None:
    student = get_variant("efficientnet-b0-seed")
    assert labels_of(student) == labels_of(student, 128) == labels_of(student, 7) == ()


def test_imagenet_starts_and_ends_as_everybodys() -> None:
    names = labels_of(get_variant("micronet-m0"), 1000)
    assert "tench" in names[0]
    assert "goldfish" in names[1]
    assert "toilet" in names[999]


def test_a_head_of_another_width_gets_numbers() -> None:
    assert labels_of(get_variant("micronet-m0"), 3) == ("class 0", "class 1", "class 2")


def test_a_missing_list_is_a_damaged_installation() -> None:
    variant = replace(get_variant("micronet-m0"), labels="imagenet-9k")
    with pytest.raises(EdgekitError, match="'imagenet-9k' are not in the installed package"):
        labels_of(variant)


def test_a_list_of_another_length_is_refused() -> None:
    variant = replace(get_variant("micronet-m0"), num_classes=999)
    with pytest.raises(EdgekitError, match="has 1000 lines, micronet-m0 has 999 classes"):
        labels_of(variant)
