"""Learning rates as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Place:
    """Behind the warm-up: ``step`` of ``steps``, of which an epoch has ``epoch``."""

    step: int
    steps: int
    warmup: int
    epoch: int

    @property
    def left_behind(self) -> float:
        """Share of what was left after the warm-up."""
        return (self.step - self.warmup) / max(1, self.steps - self.warmup)


def _cosine(place: _Place) -> float:
    return _falling(place.left_behind)


def _cosine_by_epoch(place: _Place) -> float:
    """As SEED's code has it: one rate an epoch, over all epochs, those of the warm-up too."""
    return _falling(place.step // place.epoch * place.epoch / place.steps)


def _falling(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _linear(place: _Place) -> float:
    """To zero in a line: BERT's, and OSCAR's."""
    return 1 - place.left_behind


def _constant(_place: _Place) -> float:
    return 1.0


def _steps(place: _Place) -> float:
    """A tenth from 0.6 on and a hundredth from 0.8 on: of a linear probe's 100 epochs."""
    return 0.1 ** ((place.left_behind >= 0.6) + (place.left_behind >= 0.8))


def _steps_by_quarter(place: _Place) -> float:
    """A tenth from each quarter on: of DCD's ResNet-50, 120 epochs."""
    return 0.1 ** int(4 * place.left_behind)


_SHAPES: dict[str, Callable[[_Place], float]] = {
    "cosine": _cosine,
    "cosine-by-epoch": _cosine_by_epoch,
    "linear": _linear,
    "constant": _constant,
    "steps": _steps,
    "steps-by-quarter": _steps_by_quarter,
}
SCHEDULES = tuple(_SHAPES)


def rate(
    shape: str, step: int, *, steps: int, epoch: int, warmup: int = 0, start: float = 0.0
) -> float:
    """The share of the highest learning rate.

    Args:
        shape: one of `SCHEDULES`, which is followed behind the warm-up.
        step: from 0,
        steps: of so many.
        epoch: steps of an epoch.
        warmup: steps over which the rate rises in a line; the first is above ``start``.
        start: share from which it rises.
    """
    if step < warmup:
        return start + (1 - start) * (step + 1) / (warmup + 1)
    return _SHAPES[shape](_Place(step, steps, warmup, epoch))
