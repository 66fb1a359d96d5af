"""Weighted k nearest neighbours on frozen features: how good they are before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Features:
    """Of images that can be read.

    Attributes:
        values: L2-normalised (N, D).
        classes: (N,).
        unreadable: images that are not among them.
    """

    values: Tensor
    classes: Tensor
    unreadable: int


@dataclass(frozen=True)
class Neighbours:
    """What nearest neighbours get right.

    Attributes:
        top1: share of the held-out images, by ``1-NN`` and ``20-NN``.
        unreadable: images of both parts that are not among them.
    """

    top1: Mapping[str, float]
    unreadable: int


def features_of(
    network: nn.Module, source: ImageSource, rule: Preprocessing, most: int = 0, workers: int = -1
) -> Features:
    """A network's answers to images, prepared as for evaluation.

    Args:
        network: (B, 3, S, S) -> (B, D).
        source: images with classes.
        rule: how they are prepared.
        most: of so many images, evenly spread; of all with 0.
        workers: see `Recipe`.
    """
    every = -(-len(source) // most) if most else 1
    batches = evaluation_batches(
        source, rule, batch_size=64, workers=worker_count(workers, source), every=every
    )
    features, classes = logits_of(network, batches)
    lacking = len(range(0, len(source), every)) - len(classes)
    values = F.normalize(torch.from_numpy(features), dim=1)
    return Features(values, torch.from_numpy(classes), lacking)


def nearest(known: Features, asked: Features, neighbours: int, classes: int) -> float:
    """Share of ``asked`` whose class most of its neighbours have.

    A neighbour's vote weighs exp(cosine / T), T = `TEMPERATURE`.

    Args:
        known: that vote,
        asked: on these.
        neighbours: how many vote, if there are as many.
        classes: how many there are.
    """
    right = 0
    for first in range(0, len(asked.values), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        features, wanted = asked.values[part], asked.classes[part]
        near = (features @ known.values.T).topk(min(neighbours, len(known.values)), dim=1)
        votes = torch.zeros(len(features), classes)
        votes.scatter_add_(1, known.classes[near.indices], (near.values / TEMPERATURE).exp())
        right += int((votes.argmax(1) == wanted).sum())
    return right / len(asked.values)


def neighbours(
    network: nn.Module,
    splits: Splits,
    rule: Preprocessing,
    *,
    while_training: bool = False,
    workers: int = -1,
) -> Neighbours:
    """Accuracy on the held-out images with 1 and with 20 neighbours of the trained-on ones.

    Of large sets only a part is taken ``while_training``.
    """
    most = _MOST_WHILE_TRAINING if while_training else 0
    parts = (splits.train, splits.held_out)
    known, asked = (features_of(network, part, rule, most, workers) for part in parts)
    count = len(splits.train.labels)
    top1 = {f"{k}-NN": nearest(known, asked, k, count) for k in NEIGHBOURS}
    return Neighbours(top1, known.unreadable + asked.unreadable)
