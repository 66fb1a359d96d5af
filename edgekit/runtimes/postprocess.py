"""From a network's output to what a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import InputError


def softmax(logits: npt.NDArray[Any], axis: int = -1) -> npt.NDArray[np.float64]:
    """Probabilities along ``axis``, in float64, without overflow for any finite input."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=axis, keepdims=True))
    scores: npt.NDArray[np.float64] = shifted / shifted.sum(axis=axis, keepdims=True)
    return scores


def top_k(
    scores: npt.NDArray[Any], labels: Sequence[str] = (), k: int = 5
) -> list[tuple[str, float]]:
    """The ``k`` best classes, the best first; among equals the lower class index first.

    Args:
        scores: (classes,), or (1, classes).
        labels: one a class, or none: then a class is called ``"class 17"``.
        k: how many; all when there are fewer.

    Raises:
        InputError: more than one image's scores, or another number of labels.
    """
    flat = np.asarray(scores).reshape(-1) if scores.shape[:-1] in ((), (1,)) else None
    if flat is None:
        raise InputError(
            f"scores have shape {scores.shape}: (classes,) or (1, classes) expected, "
            "of several images one after the other, scores[i : i + 1]"
        )
    if labels and len(labels) != flat.size:
        raise InputError(f"{len(labels)} labels for {flat.size} classes")
    best = np.argsort(-flat, kind="stable")[: max(k, 0)]
    return [(labels[i] if labels else f"class {i}", float(flat[i])) for i in map(int, best)]
