"""RoIAlign that gradients pass, over the cells of P2 to P5 as `Tee` gives them.

The same numbers as ``edgekit/runtimes/vision_language/regions.py``, which a board runs. A region
is ``pooled`` x ``pooled`` cells, and a cell is the mean of ``samples`` x ``samples`` points; a
point is the weighted sum of the four pixels around it. So a cell is one weighted sum of rows of
the maps, and an embedding bag is that sum, with neither the points nor the pixels being kept.

He et al., Mask R-CNN, ICCV 2017, arXiv 1703.06870; which map a region is read from is equation 1 of
Lin et al., Feature Pyramid Networks, CVPR 2017, arXiv 1612.03144.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.models.minivlm.specs import POOLED_LEVELS, STRIDES

_CANONICAL_SIDE, _CANONICAL_LEVEL, _FIRST_LEVEL = 224, 4, 2
_EDGE = 1e-6  # a side that is a power of two must not fall below its level


def levels(boxes: Tensor) -> Tensor:
    """From which map each of ``boxes`` (R, 4) is read, (R,): 0 for P2 to 3 for P5."""
    area = (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(area.sqrt() / _CANONICAL_SIDE + _EDGE))
    return (level - _FIRST_LEVEL).clamp(0, POOLED_LEVELS - 1).long()


def roi_align(
    cells: Tensor,
    canvas: tuple[int, int],
    boxes: Tensor,
    image: Tensor,
    pooled: int,
    samples: int,
) -> Tensor:
    """What the maps show of each region.

    Args:
        cells: (B, N, C) of P2 to P5, row by row and map by map; gradients flow into it.
        canvas: height and width of the images, in pixels.
        boxes: (R, 4) x1, y1, x2, y2 in pixels of the canvas; no gradient.
        image: (R,) int64, of which image of the batch each is.
        pooled: cells a side of a region.
        samples: points a side of a cell.

    Returns:
        (R, pooled * pooled, C) float32, rows first.
    """
    level = levels(boxes)
    shapes = [[-(-side // stride) for side in canvas] for stride in STRIDES[:POOLED_LEVELS]]
    sizes = torch.tensor(shapes, device=boxes.device)
    counts = sizes.prod(1)
    first = (counts.cumsum(0) - counts)[level] + image * cells.shape[1]
    stride = torch.tensor(STRIDES[:POOLED_LEVELS], device=boxes.device)[level]
    scaled = boxes.detach().float() / stride[:, None]
    height, width = sizes[level].unbind(1)
    rows, row_shares = _points(scaled[:, 1], scaled[:, 3], height, pooled, samples)
    columns, column_shares = _points(scaled[:, 0], scaled[:, 2], width, pooled, samples)
    # (R, pooled, 1, 2 * samples, 1) with (R, 1, pooled, 1, 2 * samples)
    places = (
        first[:, None, None, None, None]
        + rows[:, :, None, :, None] * width[:, None, None, None, None]
        + columns[:, None, :, None, :]
    )
    shares = row_shares[:, :, None, :, None] * column_shares[:, None, :, None, :]
    bags = (len(boxes) * pooled * pooled, (2 * samples) ** 2)
    pixels = cells.float().flatten(0, 1)
    found = functional.embedding_bag(
        places.reshape(bags), pixels, per_sample_weights=shares.reshape(bags), mode="sum"
    )
    return found.view(len(boxes), pooled * pooled, cells.shape[2])


def _points(
    start: Tensor, end: Tensor, size: Tensor, pooled: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Along one side: pixels (R, pooled, 2 * samples) and their shares in the mean of a cell.

    ``start`` and ``end`` are in pixels of the map, of which there are ``size``; all are (R,).
    """
    steps = (torch.arange(pooled * samples, device=start.device) + 0.5) / samples
    step = (end - start).clamp(min=1) / pooled
    at = start[:, None] + steps * step[:, None]
    last = (size[:, None] - 1).float()
    seen = (at >= -1) & (at <= last + 1)
    at = torch.minimum(at.clamp(min=0), last)
    low = at.floor()
    high = torch.minimum(low + 1, last)
    far = (at - low) * seen / samples
    near = (1 - (at - low)) * seen / samples
    pixels, shares = torch.stack([low, high], 2).long(), torch.stack([near, far], 2)
    shape = (len(start), pooled, 2 * samples)
    return pixels.reshape(shape), shares.reshape(shape)
