"""Weighted k nearest neighbours on frozen features: how good they are before anything is fitted."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from edgekit.bundle import Preprocessing
from edgekit.training.data.loading import evaluation_batches, worker_count
from edgekit.training.data.source import ImageSource, Splits
from edgekit.training.evaluation import logits_of

# Published settings of the authors' toolbox: 1 neighbour; and the weighting that others use.
NEIGHBOURS, TEMPERATURE = (1, 20), 0.07
# Of so many images at most, one in so many, each epoch; `edgekit evaluate` takes all.
_MOST_WHILE_TRAINING = 20_000
_AT_ONCE = 256  # queries whose similarities are in memory


def features_of(
    network: nn.Module, source: ImageSource, rule: Preprocessing, most: int = 0
) -> tuple[Tensor, Tensor]:
    """L2-normalised answers (N, D) and classes (N,), of images prepared as for evaluation.

    Args:
        network: (B, 3, S, S) -> (B, D).
        source: images with classes.
        rule: how they are prepared.
        most: of so many images, evenly spread; of all with 0.
    """
    every = -(-len(source) // most) if most else 1
    batches = evaluation_batches(
        source, rule, batch_size=64, workers=worker_count(-1, source), every=every
    )
    features, classes = logits_of(network, batches)
    return F.normalize(torch.from_numpy(features), dim=1), torch.from_numpy(classes)


def nearest(
    known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor], neighbours: int, classes: int
) -> float:
    """Share of ``asked`` whose class most of its neighbours have.

    A neighbour's vote weighs exp(cosine / T), T = `TEMPERATURE`.

    Args:
        known: features (N, D) and classes (N,).
        asked: features (M, D) and classes (M,).
        neighbours: that vote, at most N.
        classes: how many there are.
    """
    right = 0
    for first in range(0, len(asked[0]), _AT_ONCE):
        features, wanted = (part[first : first + _AT_ONCE] for part in asked)
        near = (features @ known[0].T).topk(min(neighbours, len(known[0])), dim=1)
        votes = torch.zeros(len(features), classes)
        votes.scatter_add_(1, known[1][near.indices], (near.values / TEMPERATURE).exp())
        right += int((votes.argmax(1) == wanted).sum())
    return right / len(asked[0])


def neighbour_figures(
    network: nn.Module, splits: Splits, rule: Preprocessing, *, while_training: bool = False
) -> dict[str, float]:
    """Accuracy on the held-out images with 1 and with 20 neighbours of the trained-on ones.

    Of large sets only a part is taken ``while_training``.
    """
    most = _MOST_WHILE_TRAINING if while_training else 0
    parts = (splits.train, splits.held_out)
    known, asked = (features_of(network, part, rule, most) for part in parts)
    count = len(splits.train.labels)
    return {f"{k}-NN": nearest(known, asked, k, count) for k in NEIGHBOURS}
