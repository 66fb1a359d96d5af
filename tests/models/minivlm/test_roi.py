"""RoIAlign with gradients: the numbers of the board's, and of one pixel after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekit.models.minivlm.roi import levels, roi_align
from edgekit.runtimes.vision_language import regions

CANVAS = (128, 192)
SIZES = [(32, 48), (16, 24), (8, 12), (4, 6)]
POOLED, SAMPLES, WIDTH = 4, 2, 5


def cells(seed: int = 0) -> NDArray[np.float32]:
    count = sum(rows * columns for rows, columns in SIZES)
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def boxes() -> NDArray[np.float32]:
    """Of every map, thin and tiny ones, and some that leave the canvas or reach its corners."""
    draw = np.random.default_rng(1)
    corner = draw.uniform(-20, 100, (60, 2))
    size = np.exp(draw.uniform(np.log(0.5), np.log(900), (60, 2)))
    odd = [[0, 0, 192, 128], [5, 5, 5.2, 100], [188, 120, 192, 128], [0, 0, 900, 900]]
    return np.concatenate([np.concatenate([corner, corner + size], 1), odd]).astype(np.float32)


def slowly(maps: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float64]:
    """Written again from the paper's words, one point after the other."""
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    level = min(max(math.floor(4 + math.log2(side / 224 + 1e-6)), 2), 5) - 2
    start = sum(rows * columns for rows, columns in SIZES[:level])
    rows, columns = SIZES[level]
    one = maps[start : start + rows * columns].reshape(rows, columns, -1).astype(np.float64)
    left, top, right, bottom = (float(corner) / (4 << level) for corner in box)
    step_y, step_x = max(bottom - top, 1) / POOLED, max(right - left, 1) / POOLED
    found = np.zeros((POOLED, POOLED, WIDTH))
    for cell in np.ndindex(POOLED, POOLED):
        for point in np.ndindex(SAMPLES, SAMPLES):
            y = top + (cell[0] + (point[0] + 0.5) / SAMPLES) * step_y
            x = left + (cell[1] + (point[1] + 0.5) / SAMPLES) * step_x
            if -1 <= y <= rows and -1 <= x <= columns:
                found[cell] += bilinear(one, y, x) / SAMPLES**2
    return found.reshape(POOLED**2, WIDTH)


def bilinear(one: NDArray[np.float64], y: float, x: float) -> NDArray[np.float64]:
    y, x = (min(max(at, 0.0), size - 1.0) for at, size in zip((y, x), one.shape[:2], strict=True))
    total = np.zeros(one.shape[2])
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            total += one[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def aligned(maps: torch.Tensor, found: NDArray[np.float32]) -> torch.Tensor:
    image = torch.zeros(len(found), dtype=torch.int64)
    return roi_align(maps[None], CANVAS, torch.from_numpy(found), image, POOLED, SAMPLES)


def test_the_same_as_one_point_after_the_other_and_as_on_the_board() -> None:
    ours = aligned(torch.from_numpy(cells()), boxes()).numpy()
    expected = np.stack([slowly(cells(), box) for box in boxes()])
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()
    theirs = regions.roi_align(cells(), CANVAS, boxes(), POOLED, SAMPLES)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert np.abs(ours * 1.01 - theirs).max() > 1e-3 * np.abs(theirs).max()


def test_all_four_maps_are_read() -> None:
    level = levels(torch.from_numpy(boxes()))
    assert set(level.tolist()) == {0, 1, 2, 3}
    assert level.tolist() == regions.level_of(boxes()).tolist()


@pytest.mark.parametrize(("side", "level"), [(111.9, 0), (112, 1), (223, 1), (224, 2), (448, 3)])
def test_a_side_that_is_a_power_of_two_begins_its_map(side: float, level: int) -> None:
    assert levels(torch.tensor([[0.0, 0.0, side, side]])).tolist() == [level]


def test_each_region_is_read_from_its_own_image() -> None:
    maps = torch.from_numpy(np.stack([cells(0), cells(1)]))
    found = torch.from_numpy(boxes()[:6])
    image = torch.tensor([0, 1, 0, 1, 1, 0])
    both = roi_align(maps, CANVAS, found, image, POOLED, SAMPLES)
    for row, number in enumerate(image.tolist()):
        alone = aligned(maps[number], boxes()[row : row + 1])
        assert torch.equal(both[row], alone[0])


def test_gradients_are_those_of_finite_differences() -> None:
    maps = torch.from_numpy(cells()).requires_grad_()
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=(8, 16, WIDTH))).float()
    (aligned(maps, boxes()[-8:]) * weights).sum().backward()
    assert maps.grad is not None
    touched = maps.grad.abs().sum(1).argsort(descending=True)[:5]
    for row in touched.tolist():
        moved = cells()
        moved[row, 1] += 1.0  # it is linear, so any step will do
        change = aligned(torch.from_numpy(moved), boxes()[-8:]) - aligned(maps, boxes()[-8:])
        expected = float((change * weights).sum().detach())
        assert float(maps.grad[row, 1]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_no_region_is_no_row() -> None:
    assert aligned(torch.from_numpy(cells()), boxes()[:0]).shape == (0, 16, WIDTH)
