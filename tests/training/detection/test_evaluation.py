"""mAP50 and attributes, by hand and beside a slow way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.training.detection.evaluation import (
    Detected,
    area,
    assign,
    attribute_accuracy,
    mean_average_precision,
)
from edgekit.training.detection.source import Objects, packed

NONE = np.zeros((0, 0), np.float32)
HERE, THERE = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
NEAR = (0.0, 0.0, 10.0, 6.0)  # overlaps HERE by 0.6
AWAY = (0.0, 0.0, 10.0, 4.0)  # by 0.4


def detected(
    *rows: tuple[tuple[float, ...], float, int], attributes: NDArray[np.float32] = NONE
) -> Detected:
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detected(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
        attributes,
    )


def truth(*rows: tuple[tuple[float, float, float, float], int, tuple[int, ...]]) -> Objects:
    return packed([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def test_all_found_and_nothing_else_is_one() -> None:
    found = [detected((HERE, 0.9, 1), (THERE, 0.4, 2)), detected()]
    assert mean_average_precision(found, [truth((HERE, 1, ()), (THERE, 2, ())), truth()]) == 1.0


def test_a_box_found_twice_is_once_wrong_and_the_worse_one_is() -> None:
    wanted = [truth((HERE, 1, ()), (THERE, 1, ()))]
    late = [detected((HERE, 0.9, 1), (THERE, 0.8, 1), (NEAR, 0.7, 1))]
    assert mean_average_precision(late, wanted) == 1.0, "what is wrong last costs nothing"
    early = [detected((HERE, 0.9, 1), (NEAR, 0.8, 1), (THERE, 0.7, 1))]
    assert mean_average_precision(early, wanted) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_wrong_class_or_too_little_overlap_finds_nothing() -> None:
    wanted = [truth((HERE, 1, ()))]
    assert mean_average_precision([detected((HERE, 0.9, 2))], wanted) == 0.0
    assert mean_average_precision([detected((AWAY, 0.9, 1))], wanted) == 0.0
    assert mean_average_precision([detected((NEAR, 0.9, 1))], wanted) == 1.0


def test_classes_count_alike_and_those_without_boxes_not_at_all() -> None:
    wanted = [truth((HERE, 1, ()), (THERE, 2, ()))]
    assert mean_average_precision([detected((HERE, 0.9, 1), (THERE, 0.9, 3))], wanted) == 0.5


def test_what_is_found_where_nothing_is_makes_it_worse() -> None:
    wanted = [truth(), truth((HERE, 1, ()))]
    found = [detected((HERE, 0.95, 1)), detected((HERE, 0.9, 1))]
    assert mean_average_precision(found, wanted) == 0.5
    assert mean_average_precision([detected()], [truth()]) == 0.0


def test_the_area_is_that_of_a_slow_way() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        count = int(draw.integers(1, 20))
        right, total = draw.random(count) < 0.6, 15
        scores = draw.permutation(count).astype(np.float32)
        assert area(scores, right, total) == pytest.approx(_slow_area(scores, right, total))


def _slow_area(scores: NDArray[np.float32], right: NDArray[np.bool_], total: int) -> float:
    """Each true box is found at some rank, and counts with the best precision from there on."""
    in_order = [bool(right[i]) for i in np.argsort(-scores)]
    precisions = [sum(in_order[: n + 1]) / (n + 1) for n in range(len(in_order))]
    at = [n for n, hit in enumerate(in_order) if hit]
    return sum(max(precisions[n:]) for n in at) / total


def test_the_best_region_chooses_first_and_takes_what_it_overlaps_most() -> None:
    boxes = np.array([NEAR, HERE, NEAR], np.float32)
    wanted = np.array([HERE, (0, 0, 10, 7)], np.float32)
    assert assign(boxes, np.array([0.5, 0.9, 0.1], np.float32), wanted).tolist() == [1, 0, -1]


def test_attributes_are_judged_where_a_box_is_found_whatever_its_class() -> None:
    logits = np.eye(4, dtype=np.float32)[[2, 0, 3]]
    found = detected((HERE, 0.9, 7), (THERE, 0.8, 1), (AWAY, 0.1, 1), attributes=logits)
    wanted = truth((HERE, 1, (1, 2)), (THERE, 1, (3,)), ((0, 90, 9, 99), 1, (0,)))
    assert attribute_accuracy([found], [wanted]) == 0.5
    assert attribute_accuracy([found], [truth((HERE, 1, (2,)), (THERE, 1, ()))]) == 1.0


def test_without_attributes_there_is_no_figure() -> None:
    assert attribute_accuracy([detected((HERE, 0.9, 1))], [truth((HERE, 1, (1,)))]) is None
    with_head = detected((HERE, 0.9, 1), attributes=np.zeros((1, 4), np.float32))
    assert attribute_accuracy([with_head], [truth((HERE, 1, ()))]) is None
