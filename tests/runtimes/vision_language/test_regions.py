"""Geometry between the graphs of a detector, against loops that anyone can check."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.models.minivlm import specs
from edgekit.models.minivlm.specs import TEE0
from edgekit.runtimes.vision_language import regions
from edgekit.runtimes.vision_language.regions import (
    anchor_boxes,
    best,
    box_numbers,
    clip,
    decode,
    level_of,
    map_sizes,
    nms,
    overlaps,
    propose,
    roi_align,
    select,
)

CANVAS = (128, 192)
Floats = NDArray[np.float32]


def boxes_of(seed: int, count: int, side: float = 100.0) -> Floats:
    corner = np.random.default_rng(seed).uniform(0, side, (count, 2, 2))
    low, high = corner.min(1), corner.max(1)
    return np.concatenate([low, high], 1).astype(np.float32)


def slow_iou(a: Floats, b: Floats) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return float(common / union) if union > 0 else 0.0


def slow_nms(boxes: Floats, scores: Floats, iou: float) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda n: (-scores[n], n))
    kept: list[int] = []
    while left:
        one = left.pop(0)
        kept.append(one)
        left = [n for n in left if slow_iou(boxes[n], boxes[one]) <= iou]
    return kept


def test_the_numbers_are_those_of_the_model() -> None:
    """The two rooms must not import each other, so both say them."""
    assert (specs.STRIDES, specs.RATIOS) == (regions.STRIDES, regions.RATIOS)
    assert specs.POOLED_LEVELS == regions.POOLED
    assert box_numbers(np.ones((1, 4), np.float32), (1, 1)).shape[1] == specs.BOX_NUMBERS


def test_anchors() -> None:
    found = anchor_boxes(*CANVAS, TEE0.anchors)
    assert found.shape == (sum(h * w for h, w in map_sizes(*CANVAS)) * 3, 4)
    sizes = found[:, 2:] - found[:, :2]
    assert np.allclose(sizes[:3].prod(1), 32**2) and np.allclose(sizes[-1].prod(), 512**2)
    assert np.allclose(sizes[:3, 1] / sizes[:3, 0], (0.5, 1, 2)), "height / width"
    centres = (found[:, 2:] + found[:, :2]) / 2
    assert centres[0].tolist() == [2, 2] and centres[3].tolist() == [6, 2], "columns first"
    assert centres[-1].tolist() == [160, 96], "the last cell of stride 64"


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_nms_is_the_greedy_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = boxes_of(seed, count)
    scores = (rng.integers(0, 8, count) / 8).astype(np.float32)  # with ties
    for iou in (0.0, 0.3, 0.7):
        wanted = slow_nms(boxes, scores, iou)
        assert nms(boxes, scores, iou).tolist() == wanted
        assert nms(boxes, scores, iou, 3).tolist() == wanted[:3]


def test_nms_over_several_blocks() -> None:
    boxes = boxes_of(1, 900, 400)
    scores = np.random.default_rng(2).uniform(size=900).astype(np.float32)
    assert nms(boxes, scores, 0.2).tolist() == slow_nms(boxes, scores, 0.2)


@pytest.mark.parametrize(("iou", "kept"), [(0.5, 600), (0.499, 300)])
def test_an_overlap_of_just_the_bound_is_none_in_any_block(iou: float, kept: int) -> None:
    """300 boxes far apart, and then the left half of each: some in the same block, some not."""
    left = np.arange(300, dtype=np.float32) * 16
    zero = np.zeros_like(left)
    whole = np.stack([left, zero, left + 8, zero + 4], 1)
    half = np.stack([left, zero, left + 4, zero + 4], 1)
    boxes = np.concatenate([whole, half])
    assert overlaps(whole, half).diagonal().tolist() == [0.5] * 300
    scores = np.linspace(1, 0, 600, dtype=np.float32)
    assert nms(boxes, scores, iou).tolist() == [*range(kept)]
    mixed = np.stack([np.arange(300), np.arange(300, 600)], 1).flatten()
    wanted = [*range(600)] if kept == 600 else [*range(0, 600, 2)]
    assert nms(boxes[mixed], scores, iou).tolist() == wanted


def test_nms_of_equal_boxes_keeps_the_first_of_the_best() -> None:
    boxes = np.tile(boxes_of(3, 1), (5, 1))
    assert nms(boxes, np.array([1, 2, 2, 1, 0], np.float32), 0.5).tolist() == [1]
    assert nms(boxes[:0], np.zeros(0, np.float32), 0.5).tolist() == []


def test_boxes_without_an_area_overlap_nothing() -> None:
    flat = np.array([[5, 5, 5, 9], [5, 5, 5, 9]], np.float32)
    assert overlaps(flat, flat).tolist() == [[0, 0], [0, 0]]


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 12))
def test_best_keeps_the_first_of_equals(values: list[int], count: int) -> None:
    scores = np.array(values, np.float32)
    wanted = sorted(sorted(range(len(values)), key=lambda n: (-values[n], n))[:count])
    assert best(scores, count).tolist() == wanted


def test_decode() -> None:
    box = np.array([[10, 20, 30, 60]], np.float32)
    same = decode(box, np.zeros((1, 4), np.float32))
    assert same.tolist() == box.tolist()
    moved = decode(box, np.array([[0.5, -0.25, math.log(2), 0]], np.float32))
    assert np.allclose(moved, [[10, 10, 50, 50]])
    weighted = decode(box, np.array([[5, -2.5, 5 * math.log(2), 0]], np.float32), (10, 10, 5, 5))
    assert np.allclose(weighted, moved)
    assert np.isfinite(decode(box, np.full((1, 4), 1e4, np.float32))).all()


def slow_sample(feature: Floats, y: float, x: float) -> Floats:
    """Bilinear, as Mask R-CNN's first form: zero beyond one pixel outside."""
    height, width, channels = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(channels, np.float32)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    top = feature[y0, x0] * (1 - dx) + feature[y0, x1] * dx
    bottom = feature[y1, x0] * (1 - dx) + feature[y1, x1] * dx
    return top * (1 - dy) + bottom * dy


def slow_roi_align(cells: Floats, box: Floats, pooled: int, samples: int) -> Floats:
    sizes = map_sizes(*CANVAS)
    level = int(level_of(box[None])[0])
    start = sum(h * w for h, w in sizes[:level])
    height, width = sizes[level]
    feature = cells[start : start + height * width].reshape(height, width, -1)
    x1, y1, x2, y2 = (float(n) / regions.STRIDES[level] for n in box)
    steps = max(y2 - y1, 1) / pooled, max(x2 - x1, 1) / pooled
    out = np.zeros((pooled, pooled, cells.shape[1]))
    for row, column in itertools.product(range(pooled), repeat=2):
        for i, j in itertools.product(range(samples), repeat=2):
            y = y1 + (row + (i + 0.5) / samples) * steps[0]
            x = x1 + (column + (j + 0.5) / samples) * steps[1]
            out[row, column] += slow_sample(feature, y, x) / samples**2
    return out.reshape(pooled * pooled, -1).astype(np.float32)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 3]))
def test_roi_align_is_the_loop(seed: int, pooled: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    count = sum(h * w for h, w in map_sizes(*CANVAS)[:4])
    cells = rng.normal(size=(count, 3)).astype(np.float32)
    boxes = clip(boxes_of(seed, 4, 260) - 30, *CANVAS)
    boxes[0] = (0, 0, 192, 128)
    boxes[1] = boxes[1][[0, 1, 0, 1]]  # a point
    found = roi_align(cells, CANVAS, boxes, pooled, samples)
    for box, got in zip(boxes, found, strict=True):
        wanted = slow_roi_align(cells, box, pooled, samples)
        assert np.abs(got - wanted).max() < 1e-4, box


def test_roi_align_of_nothing() -> None:
    count = sum(h * w for h, w in map_sizes(*CANVAS)[:4])
    cells = np.zeros((count, 3), np.float32)
    assert roi_align(cells, CANVAS, np.zeros((0, 4), np.float32), 4, 2).shape == (0, 16, 3)


def test_levels() -> None:
    sides = np.array([1, 111, 112, 223, 224, 447, 448, 5000], np.float32)
    zero = np.zeros_like(sides)
    found = level_of(np.stack([zero, zero, sides, sides], 1))
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def slow_propose(
    logits: Floats, deltas: Floats, anchors: Floats, size: tuple[int, int], spec: specs.TeeSpec
) -> Floats:
    """Map by map, as the definition has it."""
    found, start = [], 0
    for rows, columns in map_sizes(*CANVAS):
        part = slice(start, start + rows * columns * 3)
        start = part.stop
        order = np.argsort(-logits[part], kind="stable")[: spec.candidates] + part.start
        boxes = clip(decode(anchors[order], deltas[order]), *size)
        kept = [n for n in range(len(order)) if (boxes[n, 2:] > boxes[n, :2]).all()]
        boxes, order = boxes[kept], order[kept]
        for n in slow_nms(boxes, logits[order], spec.proposal_iou):
            found.append((-logits[order[n]], order[n], boxes[n]))
    found.sort(key=lambda each: each[:2])
    chosen: Floats = np.array([box for _, _, box in found[: spec.proposals]], np.float32)
    return chosen


@pytest.mark.parametrize("size", [CANVAS, (96, 33), (1, 192)])
def test_proposals_are_those_of_each_map(size: tuple[int, int]) -> None:
    spec = replace(TEE0, candidates=40, proposals=25)
    anchors = anchor_boxes(*CANVAS, spec.anchors)
    rng = np.random.default_rng(5)
    logits = rng.normal(size=len(anchors)).astype(np.float32).round(1)  # with ties
    deltas = rng.normal(0, 0.4, (len(anchors), 4)).astype(np.float32)
    found = propose(logits, deltas, anchors, size, spec, CANVAS)
    wanted = slow_propose(logits, deltas, anchors, size, spec)
    assert len(found) == 25 and np.array_equal(found, wanted)


def test_no_proposals_where_all_boxes_are_outside() -> None:
    anchors = anchor_boxes(*CANVAS, TEE0.anchors)
    deltas = np.zeros((len(anchors), 4), np.float32)
    deltas[:, 0] = 1e4
    found = propose(np.zeros(len(anchors), np.float32), deltas, anchors, CANVAS, TEE0, CANVAS)
    assert found.shape == (0, 4)


def test_select_takes_one_class_a_region_and_no_background() -> None:
    boxes = np.array([[0, 0, 50, 50], [1, 1, 51, 51], [60, 60, 90, 90]], np.float32)
    scores = np.array([[0.1, 0.6, 0.3], [0.0, 0.2, 0.8], [0.9, 0.06, 0.04]], np.float32)
    spec = replace(TEE0, regions=5)
    found = select(boxes, scores, np.zeros((3, 4), np.float32), CANVAS, spec)
    assert found.index.tolist() == [1, 2] and found.classes.tolist() == [1, 0]
    assert np.allclose(found.scores, [0.8, 0.06])
    certain = select(boxes, scores, np.zeros((3, 4), np.float32), CANVAS, spec, min_score=0.1)
    assert certain.index.tolist() == [1]
    nothing = select(boxes, scores, np.zeros((3, 4), np.float32), CANVAS, spec, min_score=0.9)
    assert len(nothing.boxes) == 0
    none = select(boxes[:0], scores[:0], np.zeros((0, 4), np.float32), CANVAS, spec)
    assert len(none.index) == 0


def test_select_keeps_the_best_class_of_each_region_beside_the_background() -> None:
    boxes = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 80, 20]], np.float32)
    scores = np.array([[0.1, 0.6, 0.3], [0.0, 0.2, 0.8], [0.9, 0.06, 0.04]], np.float32)
    found = select(boxes, scores, np.zeros((3, 4), np.float32), CANVAS, TEE0)
    assert found.index.tolist() == [1, 0, 2] and found.classes.tolist() == [1, 0, 0]
    assert np.allclose(found.scores, [0.8, 0.6, 0.06])
    assert np.array_equal(found.boxes, boxes[[1, 0, 2]])


def test_box_numbers() -> None:
    found = box_numbers(np.array([[10, 20, 30, 60]], np.float32), (100, 200))
    assert np.allclose(found, [[0.05, 0.2, 0.15, 0.6, 0.1, 0.4]])
    assert box_numbers(np.zeros((0, 4), np.float32), (100, 200)).shape == (0, 6)
