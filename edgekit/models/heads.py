"""What stands last in a backbone: a classifier, or the projection of self-supervised training.

    linear       width -> outputs
    projection   width -> width, ReLU -> outputs     of MoCo and SEED, biases and no BatchNorm

A head takes the place of the last linear layer, so its keys begin as that one's do: ``fc.weight``
becomes ``fc.0.weight`` and ``fc.2.weight``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgekit.errors import UnknownNameError


def _projection(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


_BUILDERS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "projection": _projection,
}
HEADS = tuple(_BUILDERS)


def build_head(kind: str, width: int, outputs: int) -> nn.Module:
    """(B, width) -> (B, outputs), with freshly drawn parameters.

    Args:
        kind: one of `HEADS`.
        width: features that enter.
        outputs: classes, or numbers of an embedding; embeddings are not normalised here.

    Raises:
        UnknownNameError: no such head.
    """
    if kind not in _BUILDERS:
        raise UnknownNameError("head", kind, HEADS)
    return _BUILDERS[kind](width, outputs)
