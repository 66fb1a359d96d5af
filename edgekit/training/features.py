"""Features of trained weights, before the head and behind it, used by neighbours and probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgekit.errors import UsageError
from edgekit.models.building import CreatedModel
from edgekit.models.preparation import variant_preprocessing
from edgekit.training.data import open_data
from edgekit.training.evaluation import load_saved
from edgekit.training.neighbours import neighbours
from edgekit.training.networks import without_head
from edgekit.training.probe import linear_probe


@dataclass(frozen=True)
class Figure:
    """How good features are, used in one way.

    Attributes:
        features: ``body``, what the head is given; or ``embedding``, what it answers.
        how: ``1-NN``, ``20-NN`` or ``linear, lr N``.
        top1: share of held-out images.
    """

    features: str
    how: str
    top1: float


def evaluate_features(
    path: Path,
    data: str,
    *,
    knn: bool,
    probe_epochs: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Of weights that `save_checkpoint` wrote.

    Args:
        path: the weights.
        data: with classes, see `edgekit.training.data`.
        knn: with nearest neighbours, before and behind the head.
        probe_epochs: of a linear probe on the body; 0 for none.
        progress: told how far it is.

    Raises:
        UsageError: data without classes, or a file that does not name its network.
    """
    splits = open_data(data)
    if not splits.train.labels:
        raise UsageError(f"data {data!r} has no classes to evaluate on")
    created = load_saved(path)
    body = without_head(created.module, created.variant)
    rule = variant_preprocessing(created.variant, created.image_size)
    found = []
    for name, network in _parts(created, body) if knn else ():
        progress(f"nearest neighbours, {name}")
        figures = neighbours(network, splits, rule)
        if figures.unreadable:
            progress(f"{figures.unreadable} images cannot be read and are not counted")
        found += [Figure(name, how, top1) for how, top1 in figures.top1.items()]
    if probe_epochs:
        probes = linear_probe(
            body, created.variant, created.image_size, splits,
            epochs=probe_epochs, progress=progress,
        )  # fmt: skip
        found += [Figure("body", f"linear, lr {each.lr:g}", each.accuracy.top1) for each in probes]
    return found


def _parts(created: CreatedModel, body: nn.Module) -> list[tuple[str, nn.Module]]:
    embedding = [("embedding", created.module)] if created.task == "embedding" else []
    return [("body", body), *embedding]
