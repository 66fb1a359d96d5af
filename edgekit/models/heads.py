"""What stands last in a backbone: a classifier, or the projection of self-supervised training.

    linear          width -> outputs
    projection      width -> width, ReLU -> outputs               of MoCo and SEED
    projection-bn   width -> hidden, BatchNorm, ReLU -> outputs   of SimCLR and SwAV

Linear layers have biases. A head takes the place of the last linear layer, so its keys begin as
that one's do: ``fc.weight`` becomes ``fc.0.weight`` and ``fc.2.weight``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgekit.errors import UnknownNameError


def _linear(width: int, _hidden: int, outputs: int) -> nn.Linear:
    return nn.Linear(width, outputs)


def _projection(width: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _projection_bn(width: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


_BUILDERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "linear": _linear,
    "projection": _projection,
    "projection-bn": _projection_bn,
}
HEADS = tuple(_BUILDERS)


def build_head(kind: str, width: int, outputs: int, hidden: int | None = None) -> nn.Module:
    """(B, width) -> (B, outputs), with freshly drawn parameters.

    Args:
        kind: one of `HEADS`.
        width: features that enter.
        outputs: classes, or numbers of an embedding; embeddings are not normalised here.
        hidden: width between the two layers of a projection; ``width`` by default.

    Raises:
        UnknownNameError: no such head.
    """
    if kind not in _BUILDERS:
        raise UnknownNameError("head", kind, HEADS)
    return _BUILDERS[kind](width, width if hidden is None else hidden, outputs)
