"""From the maps of a two-stage detector to regions: what stands between its graphs.

    logits, deltas of anchors -> propose -> boxes -> roi_align -> cells of each
    class scores, deltas      -> select  -> regions, the best first

In numpy and not in the graphs, because the number of results is not static, TFLite has neither
operator, and it costs a few milliseconds. Boxes are x1, y1, x2, y2 in pixels of the canvas, the
padded image that the network sees; widths are differences, without the one pixel more of older
code. Equal scores keep the order of the anchors, so the same input gives the same regions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)  # height / width
POOLED = 4  # of the maps are read by RoIAlign
BOX_NUMBERS = 6  # that say where a region is
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # by which the second stage's deltas are larger
_ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
_CANONICAL, _CANONICAL_LEVEL = 224.0, 4  # a region of so many pixels a side is read from P4
_LOG_LIMIT = math.log(1000.0 / 16)
_BLOCK = 256  # boxes that nms compares at once


class Geometry(Protocol):
    """The numbers of a detector: `edgekit.models.minivlm.specs.TeeSpec`, or a bundle's own."""

    @property
    def anchors(self) -> tuple[int, ...]:
        """Side of the anchors on each map, in pixels."""

    @property
    def candidates(self) -> int:
        """Anchors of each map that compete."""

    @property
    def proposals(self) -> int:
        """Boxes that go to the second stage."""

    @property
    def proposal_iou(self) -> float:
        """Overlap with a better one beyond which a proposal is dropped."""

    @property
    def regions(self) -> int:
        """Regions that are kept."""

    @property
    def region_iou(self) -> float:
        """As ``proposal_iou``, for regions."""


@dataclass(frozen=True)
class Regions:
    """What a detector found, the best first; possibly nothing.

    Attributes:
        boxes: (R, 4).
        scores: of their best class (R,).
        classes: that class, counted from 0 without the background (R,).
        index: which proposal each was (R,).
    """

    boxes: Floats
    scores: Floats
    classes: Indices
    index: Indices


def map_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of P2 to P6 for a canvas: each halves the one before, rounding up."""
    sizes = []
    for stride in STRIDES:
        sizes.append((-(-height // stride), -(-width // stride)))
    return sizes


def anchor_boxes(height: int, width: int, sides: tuple[int, ...]) -> Floats:
    """All anchors of a canvas (A, 4): map by map, row by row, and the ratios of a cell together.

    Args:
        height: of the canvas, in pixels.
        width: of it.
        sides: of a square anchor on each map; those of other ratios have the same area.
    """
    levels = []
    for side, stride, (rows, columns) in zip(sides, STRIDES, map_sizes(height, width), strict=True):
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres = (np.stack([x, y], -1)[:, :, None] + 0.5) * stride
        halves = np.array([(side / math.sqrt(r) / 2, side * math.sqrt(r) / 2) for r in RATIOS])
        levels.append(np.concatenate([centres - halves, centres + halves], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def decode(boxes: Floats, deltas: Floats, weights: tuple[float, ...] = _ANCHOR_WEIGHTS) -> Floats:
    """Boxes moved and scaled: deltas are of the centre, by the size, and logarithms of the size."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    scaled = deltas / np.asarray(weights, np.float32)
    centres = boxes[:, :2] + sizes / 2 + scaled[:, :2] * sizes
    halves = np.exp(np.minimum(scaled[:, 2:], _LOG_LIMIT)) * sizes / 2
    return np.concatenate([centres - halves, centres + halves], 1)


def clip(boxes: Floats, height: float, width: float) -> Floats:
    """Boxes cut at the edges of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each box of ``a`` with each of ``b``: (A, B)."""
    corner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = corner.clip(min=0).prod(2)
    areas_a, areas_b = (each[:, 2:] - each[:, :2] for each in (a, b))
    union = areas_a.prod(1)[:, None] + areas_b.prod(1)[None] - common
    shared: Floats = common / np.maximum(union, np.finfo(np.float32).tiny)
    return shared


def nms(boxes: Floats, scores: Floats, iou: float, most: int | None = None) -> Indices:
    """Which boxes are left when each is dropped that overlaps a better one by more than ``iou``.

    Args:
        boxes: (N, 4).
        scores: (N,); of equal ones the first is better.
        iou: bound.
        most: stop when so many are kept.

    Returns:
        Their numbers, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    limit = len(order) if most is None else most
    kept = order[:0]
    for start in range(0, len(order), _BLOCK):
        if len(kept) >= limit:
            break
        block = order[start : start + _BLOCK]
        if len(kept):
            block = block[(overlaps(boxes[block], boxes[kept]) <= iou).all(1)]
        kept = np.concatenate([kept, block[_greedy(overlaps(boxes[block], boxes[block]) > iou)]])
    return kept[:limit]


def _greedy(conflicts: NDArray[np.bool_]) -> Indices:
    """Numbers, in order, of those that no one kept before is in conflict with."""
    alive = np.ones(len(conflicts), bool)
    for number in range(len(conflicts)):
        if alive[number]:
            alive[number + 1 :] &= ~conflicts[number, number + 1 :]
    return np.flatnonzero(alive)


def best(scores: Floats, count: int) -> Indices:
    """Numbers of the ``count`` highest, in their order; of equal ones the first."""
    if len(scores) <= count:
        return np.arange(len(scores))
    bound = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > bound)
    level = np.flatnonzero(scores == bound)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


def propose(
    logits: Floats,
    deltas: Floats,
    anchors: Floats,
    size: tuple[float, float],
    geometry: Geometry,
    canvas: tuple[int, int],
) -> Floats:
    """Boxes for the second stage.

    On each map the best anchors are moved, cut at the image and thinned; of all maps the best stay.

    Args:
        logits: of being an object (A,).
        deltas: (A, 4).
        anchors: of `anchor_boxes` (A, 4).
        size: height and width of the image inside the canvas, in pixels.
        geometry: see there.
        canvas: height and width of the canvas.

    Returns:
        (P, 4), the best first; none if nothing is left that has an area.
    """
    counts = [rows * columns * len(RATIOS) for rows, columns in map_sizes(*canvas)]
    chosen, level = [], []
    start = 0
    for number, count in enumerate(counts):
        found = best(logits[start : start + count], geometry.candidates) + start
        chosen.append(found)
        level.append(np.full(len(found), number))
        start += count
    index, levels = np.concatenate(chosen), np.concatenate(level)
    boxes = clip(decode(anchors[index], deltas[index]), *size)
    has_area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    boxes, index, levels = boxes[has_area], index[has_area], levels[has_area]
    # Maps are thinned apart: shifted so that boxes of two maps never meet. In the order of their
    # scores all at once is the same as one by one, and ends after ``proposals`` of them.
    apart = boxes + (levels * (2 * max(canvas)))[:, None].astype(np.float32)
    kept = nms(apart, logits[index], geometry.proposal_iou, geometry.proposals)
    return boxes[kept]


def level_of(boxes: Floats) -> Indices:
    """Which of P2 to P5 each box is read from, counted from 0."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
    level = np.floor(_CANONICAL_LEVEL + np.log2(np.sqrt(areas) / _CANONICAL + 1e-6))
    from_p2: Indices = level.clip(2, 5).astype(np.int64) - 2
    return from_p2


def roi_align(
    cells: Floats, canvas: tuple[int, int], boxes: Floats, pooled: int, samples: int
) -> Floats:
    """What the maps have in each box: bilinear samples, averaged over a grid of cells.

    He, Gkioxari, Dollar, Girshick: "Mask R-CNN", ICCV 2017, arXiv 1703.06870, in its first form:
    coordinates are not shifted by half a pixel, and a box has at least one pixel of its map.

    Args:
        cells: P2 to P5, row by row and one after another (N, C).
        canvas: its height and width in pixels.
        boxes: (P, 4).
        pooled: cells a side.
        samples: points a side in each of them.

    Returns:
        (P, pooled * pooled, C).
    """
    sizes = np.array(map_sizes(*canvas)[:POOLED])
    starts = np.concatenate([[0], np.cumsum(sizes.prod(1))])
    level = level_of(boxes)
    scaled = boxes / np.array(STRIDES[:POOLED], np.float32)[level, None]
    rows = _points(scaled[:, 1], scaled[:, 3], sizes[level, 0], pooled * samples)
    columns = _points(scaled[:, 0], scaled[:, 2], sizes[level, 1], pooled * samples)
    return _gather(cells, starts[level], sizes[level, 1], rows, columns, pooled)


def _points(low: Floats, high: Floats, size: Indices, count: int) -> tuple[Indices, Floats]:
    """Along one axis: the two cells that each sample lies between, and their shares.

    Returns:
        (P, 2 * count) each: both cells of a sample side by side.
    """
    step = np.maximum(high - low, 1) / count
    at = low[:, None] + (np.arange(count, dtype=np.float32) + 0.5) * step[:, None]
    last = size[:, None] - 1
    outside = (at < -1) | (at > last + 1)
    at = at.clip(0, last)
    first = np.floor(at).astype(np.int64)
    share = (at - first).astype(np.float32)
    cells = np.stack([first, np.minimum(first + 1, last)], 2)
    shares = np.stack([1 - share, share], 2) * ~outside[:, :, None]
    shape = len(low), 2 * count
    return cells.reshape(shape), shares.reshape(shape).astype(np.float32)


def _gather(
    cells: Floats,
    start: Indices,
    stride: Indices,
    rows: tuple[Indices, Floats],
    columns: tuple[Indices, Floats],
    pooled: int,
) -> Floats:
    """The weighted mean of what each pooled cell reads: columns first, then rows."""
    (row, row_share), (column, column_share) = rows, columns
    count, each, channels = len(row), row.shape[1] // pooled, cells.shape[1]
    index = (start[:, None] + row * stride[:, None])[:, :, None] + column[:, None, :]
    read = cells[index.reshape(-1)]  # (P * rows * columns, C)
    across = read.reshape(count * row.shape[1] * pooled, each, channels)
    weights = np.repeat(column_share.reshape(count, 1, pooled, each), row.shape[1], 1)
    narrow = np.matmul(weights.reshape(-1, 1, each), across)  # (P * rows * pooled, 1, C)
    narrow = narrow.reshape(count, pooled, each, pooled * channels)
    pooled_rows = np.matmul(row_share.reshape(count, pooled, 1, each), narrow)
    mean = pooled_rows.reshape(count, pooled * pooled, channels) / (each / 2) ** 2
    single: Floats = mean.astype(np.float32, copy=False)
    return single


def select(
    proposals: Floats,
    scores: Floats,
    deltas: Floats,
    size: tuple[float, float],
    geometry: Geometry,
    min_score: float = 0.0,
) -> Regions:
    """The regions that are kept: one round of `nms` over all classes.

    Args:
        proposals: (P, 4).
        scores: of each class, with the background first (P, classes).
        deltas: (P, 4).
        size: height and width of the image inside the canvas, in pixels.
        geometry: see there.
        min_score: what the best class needs.
    """
    classes = scores[:, 1:].argmax(1)
    highest = scores[np.arange(len(scores)), classes + 1]
    boxes = clip(decode(proposals, deltas, BOX_WEIGHTS), *size)
    fits = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1) & (highest >= min_score)
    (index,) = np.nonzero(fits)
    index = index[nms(boxes[index], highest[index], geometry.region_iou, geometry.regions)]
    return Regions(boxes[index], highest[index], classes[index], index)


def box_numbers(boxes: Floats, size: tuple[float, float]) -> Floats:
    """Where regions are, as the transformer is told (R, 6): corners and size, as shares."""
    height, width = size
    scale = np.array([width, height, width, height], np.float32)
    corners = boxes / scale
    return np.concatenate([corners, corners[:, 2:] - corners[:, :2]], 1).astype(np.float32)
