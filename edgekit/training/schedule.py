"""Learning rates as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _constant(_progress: float) -> float:
    return 1.0


def _steps(progress: float) -> float:
    """A tenth from 0.6 on and a hundredth from 0.8 on: of a linear probe's 100 epochs."""
    return 0.1 ** ((progress >= 0.6) + (progress >= 0.8))


_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "constant": _constant,
    "steps": _steps,
}


def rate(shape: str, step: int, steps: int, warmup: int) -> float:
    """The share of the highest learning rate at ``step`` of ``steps``.

    It rises in a line over the first ``warmup`` steps, the first of which is not zero, and then
    follows ``shape`` over all that is left.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return _SHAPES[shape]((step - warmup) / max(1, steps - warmup))
