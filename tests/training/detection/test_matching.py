"""Anchors and regions find their boxes; a step learns from some of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.runtimes.vision_language import regions
from edgekit.training.detection.matching import (
    ANCHORS,
    BACKGROUND,
    NEITHER,
    REGIONS,
    encode,
    match,
    overlaps,
    sample,
)

BOX = [0.0, 0.0, 10.0, 10.0]


def boxes(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).reshape(-1, 4)


def wide(width: float) -> list[float]:
    """Overlaps `BOX` by 10 / width."""
    return [0.0, 0.0, width, 10.0]


def test_overlaps_by_hand() -> None:
    shared = overlaps(boxes(BOX), boxes(BOX, wide(20), [5.0, 5.0, 15.0, 15.0], [20, 20, 30, 30]))
    assert shared.tolist() == [[1.0, 0.5, pytest.approx(25 / 175), 0.0]]


def test_an_empty_box_overlaps_nothing() -> None:
    assert overlaps(boxes([3.0, 3, 3, 3]), boxes([3.0, 3, 3, 3], BOX)).tolist() == [[0.0, 0.0]]


def test_anchors_are_positive_from_070_and_background_below_030() -> None:
    found = match(boxes(BOX, wide(14.2), wide(14.4), wide(33), wide(34)), boxes(BOX), ANCHORS)
    assert found.tolist() == [0, 0, NEITHER, NEITHER, BACKGROUND]


def test_the_best_anchor_of_a_box_is_positive_however_little_it_overlaps() -> None:
    far = [50.0, 50.0, 60.0, 60.0]
    found = match(boxes(BOX, [55.0, 55, 65, 65], [90.0, 90, 99, 99]), boxes(BOX, far), ANCHORS)
    assert found.tolist() == [0, 1, BACKGROUND]
    alike = match(boxes([-9.0, 0, 1, 10], [9.0, 0, 19, 10]), boxes(BOX), ANCHORS)
    assert alike.tolist() == [0, 0], "of equal ones all are"


def test_an_anchor_that_touches_no_box_is_never_rescued() -> None:
    assert match(boxes(BOX), boxes([50.0, 50, 60, 60]), ANCHORS).tolist() == [BACKGROUND]


def test_a_rescued_anchor_is_of_the_box_that_it_overlaps_most() -> None:
    anchor, near, little = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 1.0]
    assert match(boxes(anchor), boxes(little, near), ANCHORS).tolist() == [1]


def test_regions_are_positive_from_one_half_and_nothing_rescues_them() -> None:
    found = match(boxes(wide(19.9), wide(20.1)), boxes(BOX), REGIONS)
    assert found.tolist() == [0, BACKGROUND]


@pytest.mark.parametrize("bounds", [ANCHORS, REGIONS])
def test_without_boxes_all_is_background(bounds: object) -> None:
    assert match(boxes(BOX, wide(20)), boxes(), bounds).tolist() == [-1, -1]  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), regions.BOX_WEIGHTS])
def test_deltas_are_undone_by_what_a_board_decodes_with(weights: tuple[float, ...]) -> None:
    draw = np.random.default_rng(0)
    corner, size = draw.uniform(0, 50, (2, 40, 2)), draw.uniform(2, 60, (2, 40, 2))
    wanted, reference = np.concatenate([corner, corner + size], 2).astype(np.float32)
    deltas = encode(torch.from_numpy(wanted), torch.from_numpy(reference), weights)
    again = regions.decode(reference, deltas.numpy(), weights)
    assert np.abs(again - wanted).max() < 1e-3


def test_deltas_by_hand() -> None:
    found = encode(boxes([5.0, 0.0, 25.0, 10.0]), boxes(BOX), (10.0, 10.0, 5.0, 5.0))
    assert found[0].tolist() == pytest.approx([10.0, 0.0, 5 * 0.693147, 0.0], rel=1e-5)


def test_no_deltas_are_infinite() -> None:
    flat = [3.0, 3.0, 3.0, 9.0]
    assert bool(encode(boxes(flat, BOX), boxes(BOX, flat), (1.0,) * 4).isfinite().all())


def matched(positive: int, background: int, neither: int = 5) -> Tensor:
    return torch.tensor([3] * positive + [BACKGROUND] * background + [NEITHER] * neither)


@pytest.mark.parametrize(
    ("positive", "background", "taken"),
    [(100, 500, (16, 48)), (3, 500, (3, 61)), (0, 500, (0, 64)), (100, 7, (16, 7)), (2, 3, (2, 3))],
)
def test_a_quarter_at_most_is_positive_and_background_fills_up(
    positive: int, background: int, taken: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    found = matched(positive, background)
    first, second = sample(found, 64, 0.25)
    assert (len(first), len(second)) == taken
    assert bool((found[first] >= 0).all()) and bool((found[second] == BACKGROUND).all())
    assert len(set(first.tolist())) == len(first)


def test_the_step_decides_what_is_sampled_and_every_one_can_be() -> None:
    found, seen = matched(10, 10), set()
    for seed in range(50):
        torch.manual_seed(seed)
        first, _ = sample(found, 8, 0.5)
        torch.manual_seed(seed)
        assert torch.equal(first, sample(found, 8, 0.5)[0])
        seen |= set(first.tolist())
    assert seen == set(range(10))
