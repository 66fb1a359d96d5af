"""Training with classes: cross-entropy, with label smoothing, mixup and cutmix."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from edgekit.training.recipe import Recipe


class Supervised(nn.Module):
    """The loss of a classifier.

    Args:
        network: (B, 3, S, S) -> (B, classes).
        recipe: label smoothing, mixup and cutmix are read.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.smoothing = recipe.label_smoothing
        self.alphas = {"mixup": recipe.mixup, "cutmix": recipe.cutmix}

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """The mean loss of a batch."""
        kinds = [kind for kind, alpha in self.alphas.items() if alpha]
        if not kinds:
            logits = self.network(images)
            return F.cross_entropy(logits, classes, label_smoothing=self.smoothing)
        kind = kinds[int(torch.randint(len(kinds), ()))]
        images, partner, share = _MIXES[kind](images, self.alphas[kind])
        logits = self.network(images)
        losses = [
            F.cross_entropy(logits, target, label_smoothing=self.smoothing)
            for target in (classes, classes[partner])
        ]
        return share * losses[0] + (1 - share) * losses[1]


def _draw(images: Tensor, alpha: float) -> tuple[Tensor, float]:
    """A partner for each image, and the share that the image keeps."""
    partner = torch.randperm(len(images)).to(images.device)
    return partner, float(torch.distributions.Beta(alpha, alpha).sample())


def mixup(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Weighted means of two images each: mixed, partners, share of the first."""
    partner, share = _draw(images, alpha)
    return share * images + (1 - share) * images[partner], partner, share


def cutmix(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """A rectangle of another image in each: mixed, partners, share that is left of the first."""
    partner, share = _draw(images, alpha)
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    h, w = round(height * side), round(width * side)
    top, left = (int(torch.randint(room + 1, ())) for room in (height - h, width - w))
    mixed = images.clone()
    part = (..., slice(top, top + h), slice(left, left + w))
    mixed[part] = images[partner][part]
    return mixed, partner, 1 - h * w / (height * width)


_MIXES = {"mixup": mixup, "cutmix": cutmix}
