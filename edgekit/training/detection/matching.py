"""Which anchors and regions are of which box, and which of them a step learns from.

Ren et al., Faster R-CNN, section 3.1.2 and 3.1.3; nothing here has a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST = 1e-3  # pixels, so that a size has a logarithm


@dataclass(frozen=True)
class Bounds:
    """When a box and what is compared with it belong together.

    Attributes:
        positive: they do from this overlap on,
        negative: and with less than this one with every box it is background; between them it is
            neither, and is not learnt from.
        rescue: whether what overlaps a box most belongs to it however little that is, so that
            none is left alone.
    """

    positive: float
    negative: float
    rescue: bool = False


ANCHORS = Bounds(0.7, 0.3, rescue=True)
REGIONS = Bounds(0.5, 0.5)
BACKGROUND, NEITHER = -1, -2


@dataclass(frozen=True)
class Sampling:
    """How many a step learns from, of each image.

    Attributes:
        anchors: at most,
        anchor_share: of which so many may be positive.
        regions: likewise, of the second stage,
        region_share: and of these.
        candidates: as in a `TeeSpec`, while training,
        proposals: likewise.
    """

    anchors: int = 256
    anchor_share: float = 0.5
    regions: int = 512
    region_share: float = 0.25
    candidates: int = 2000
    proposals: int = 1000


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of ``a`` (A, 4) with each of ``b`` (B, 4): (A, B)."""
    corner = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (corner - torch.maximum(a[:, None, :2], b[None, :, :2])).clamp(min=0).prod(2)
    areas_a, areas_b = ((each[:, 2:] - each[:, :2]).prod(1) for each in (a, b))
    union = areas_a[:, None] + areas_b[None] - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def encode(boxes: Tensor, reference: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Deltas (N, 4) that turn ``reference`` into ``boxes``: what ``decode`` of regions undoes."""
    sizes = (reference[:, 2:] - reference[:, :2]).clamp(min=_SMALLEST)
    wanted = (boxes[:, 2:] - boxes[:, :2]).clamp(min=_SMALLEST)
    centres = (boxes[:, :2] + boxes[:, 2:] - reference[:, :2] - reference[:, 2:]) / 2
    deltas = torch.cat([centres / sizes, torch.log(wanted / sizes)], 1)
    return deltas * torch.tensor(weights, device=boxes.device)


def match(candidates: Tensor, boxes: Tensor, bounds: Bounds) -> Tensor:
    """Of each candidate (A, 4) the number of its box, `BACKGROUND` or `NEITHER`: (A,) int64."""
    if not len(boxes):
        return torch.full((len(candidates),), BACKGROUND, device=candidates.device)
    shared = overlaps(candidates, boxes)
    best, number = shared.max(1)
    matched = torch.where(best >= bounds.positive, number, NEITHER)
    matched = torch.where(best < bounds.negative, BACKGROUND, matched)
    if bounds.rescue:
        most = shared.max(0).values
        rescued = ((shared == most) & (most > 0)).any(1)
        # Of several boxes that it would rescue, it is the one that it overlaps most.
        matched = torch.where(rescued, number, matched)
    return matched


def sample(matched: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Numbers of the positives and of the background to learn from, at random.

    As many as ``share`` of ``count`` of the former, and of the latter what is then missing. It
    draws from torch's own generator, on the CPU whatever the device, and as often for any match.
    """
    order = torch.randperm(len(matched)).to(matched.device)
    shuffled = matched[order]
    positive = order[shuffled >= 0][: math.floor(count * share)]
    negative = order[shuffled == BACKGROUND][: count - len(positive)]
    return positive, negative
