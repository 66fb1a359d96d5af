"""The losses of both stages and of attributes, each of a batch's samples put together.

    objectness   binary cross-entropy, over sampled anchors
    anchor box   smooth L1 of the deltas of positive anchors
    class        cross-entropy over classes and background, over sampled regions
    region box   smooth L1 of the deltas of positive regions, one box for all classes
    attributes   cross-entropy against what is equal on all attributes of an object, over positive
                 regions that have any. What the paper took was not found.

Losses of boxes are divided by all samples and not by positive ones, so that an image with few
objects does not outweigh others; where they begin to be straight is Detectron's choice.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ANCHOR_BETA, _REGION_BETA = 1 / 9, 1.0


def anchor_losses(
    logits: Tensor, deltas: Tensor, positive: Tensor, negative: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Objectness and box.

    Args:
        logits: (A,) of all anchors of all images.
        deltas: (A, 4).
        positive: numbers of anchors (P,).
        negative: numbers of anchors (N,).
        wanted: deltas of the positive ones (P, 4).
    """
    count = max(1, len(positive) + len(negative))
    chosen = torch.cat([logits[positive], logits[negative]])
    truth = torch.cat([torch.ones_like(logits[positive]), torch.zeros_like(logits[negative])])
    objectness = functional.binary_cross_entropy_with_logits(chosen, truth, reduction="sum")
    box = _smooth(deltas[positive], wanted, _ANCHOR_BETA)
    return objectness / count, box / count


def region_losses(
    scores: Tensor, deltas: Tensor, classes: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and box.

    Args:
        scores: (R, classes) logits, background first.
        deltas: (R, 4).
        classes: (R,), 0 for background.
        wanted: deltas (R, 4), of which those of background are not read.
    """
    positive = classes > 0
    box = _smooth(deltas[positive], wanted[positive], _REGION_BETA)
    return functional.cross_entropy(scores, classes), box / max(1, len(classes))


def attribute_loss(logits: Tensor, attributes: Tensor) -> Tensor:
    """Of objects (N, attributes) that have each up to 16 of them (N, 16), filled up with -1."""
    given = attributes >= 0
    shares = torch.zeros_like(logits).scatter_add(1, attributes.clamp(min=0), given.to(logits))
    counts = shares.sum(1)
    losses = -(shares * functional.log_softmax(logits, 1)).sum(1) / counts.clamp(min=1)
    return losses.sum() / (counts > 0).sum().clamp(min=1)


def _smooth(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    return functional.smooth_l1_loss(found, wanted, beta=beta, reduction="sum")
