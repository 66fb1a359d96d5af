"""Many samples on few pixels, without losing a spike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_BINS = 48
_BODY = 0.95  # share of the samples that make the body of a distribution
_FAR = 2.0  # beyond so many times the body's width, a tail is told and not drawn


@dataclass(frozen=True)
class Column:
    """The samples under one pixel column."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Equal bins from ``low`` to ``high``; ``beyond`` samples are larger than ``high``."""

    low: float
    high: float
    shares: tuple[float, ...]
    beyond: int
    largest: float


def milliseconds(samples_ns: Iterable[Sequence[int]]) -> Array:
    """All samples of several processes, in order."""
    parts = [np.asarray(part, dtype=np.float64) for part in samples_ns]
    return np.concatenate(parts) / 1e6 if parts else np.zeros(0)


def columns(values: Array, most: int) -> tuple[Column, ...]:
    """At most ``most`` neighbourhoods of ``values``: each keeps its lowest and its highest."""
    if not len(values):
        return ()
    parts = np.array_split(values, min(most, len(values)))
    return tuple(Column(float(p.min()), float(np.median(p)), float(p.max())) for p in parts)


def histogram(values: Array, bins: int = _BINS) -> Histogram:
    """Shares of the samples per bin; a far tail is counted and not drawn."""
    low, body, largest = (float(v) for v in np.quantile(values, (0.0, _BODY, 1.0)))
    width = max(body - low, 1e-3 * max(abs(low), abs(body), 1e-6))
    high = min(max(largest, low + width), low + _FAR * width)
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    beyond = int((values > high).sum())
    shares = tuple(float(c) / len(values) for c in counts)
    return Histogram(low, high, shares, beyond, largest)
