"""Figures of latency samples, with intervals that know the samples are not independent.

percentile   linear between the two nearest ranks (type 7 of Hyndman and Fan, numpy's default)
MAD          median of |x - p50|, not scaled
interval     95 %, moving-block bootstrap (Kuensch 1989) of the share of samples at or below the
             percentile, turned back into milliseconds (Woodruff 1952)
spread       (largest - smallest) / median of the processes' medians; None of one process
ratio        median over paired turns of a / b; interval by bootstrap over the turns

Neighbouring samples resemble each other (a clock step, an interrupt, another process), so whole
blocks are drawn, of sqrt(n) samples, and never across two processes. Shares instead of
percentiles are resampled because sums of blocks come from one cumulative sum: 100 000 samples
take tens of milliseconds. The seed is fixed: the same samples give the same interval.

The interval says how far the figure may move if these processes had run longer. How far it moves
from process to process is the spread, which three processes can show but not bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

LEAST_FOR_P99 = 1000
_RESAMPLES = 1000
_LONGEST_BLOCK = 1000
_LEVELS = (0.025, 0.975)
_SEED = 0


@dataclass(frozen=True)
class Summary:
    """The figures of ``result.Run``, in milliseconds; see there."""

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float | None
    min_ms: float
    max_ms: float
    mean_ms: float
    mad_ms: float
    p50_interval_ms: Interval
    p90_interval_ms: Interval
    samples: int
    spread: float | None


def summarise(processes_ns: Sequence[Sequence[int]]) -> Summary:
    """Figures over all processes, each with at least one sample in nanoseconds."""
    processes = [np.asarray(samples, np.float64) / 1e6 for samples in processes_ns]
    values = np.concatenate(processes)
    p50, p90, p95, p99 = map(float, np.quantile(values, (0.5, 0.9, 0.95, 0.99)))
    p50_interval, p90_interval = quantile_intervals(processes, (0.5, 0.9))
    return Summary(
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99 if values.size >= LEAST_FOR_P99 else None,
        min_ms=float(values.min()),
        max_ms=float(values.max()),
        mean_ms=float(values.mean()),
        mad_ms=float(np.median(np.abs(values - p50))),
        p50_interval_ms=p50_interval,
        p90_interval_ms=p90_interval,
        samples=int(values.size),
        spread=spread([float(np.median(process)) for process in processes])
        if len(processes) > 1
        else None,
    )


def quantile_intervals(
    processes: Sequence[Floats], quantiles: Sequence[float]
) -> tuple[Interval, ...]:
    """95 % intervals of quantiles of all samples together.

    Args:
        processes: samples of each process, in the order they were taken.
        quantiles: of 0 to 1.
    """
    rng = np.random.default_rng(_SEED)
    values = np.concatenate(processes)
    # Equal samples (a coarse clock, two levels) are ranked by lot: a share must be free to move.
    order = np.lexsort((rng.random(values.size), values))
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    ends = np.cumsum([process.size for process in processes])[:-1]
    intervals = []
    for quantile in quantiles:
        below = np.split(ranks < quantile * values.size, ends)
        shares = _resampled_shares(below, rng)
        low, high = np.quantile(shares, _LEVELS) - np.mean(ranks < quantile * values.size)
        found = np.quantile(values, np.clip([quantile - high, quantile - low], 0, 1))
        intervals.append((float(found[0]), float(found[1])))
    return tuple(intervals)


def _resampled_shares(
    processes: Sequence[npt.NDArray[np.bool_]], rng: np.random.Generator
) -> Floats:
    """Share that is true in every resample, from blocks of each process."""
    counts = np.zeros(_RESAMPLES)
    for process in processes:
        length = block_length(process.size)
        blocks = -(-process.size // length)
        starts = rng.integers(0, process.size - length + 1, (_RESAMPLES, blocks))
        sums = np.concatenate(([0], np.cumsum(process)))
        drawn = (sums[starts + length] - sums[starts]).sum(axis=1)
        counts += drawn * (process.size / (blocks * length))
    shares: Floats = counts / sum(process.size for process in processes)
    return shares


def block_length(samples: int) -> int:
    """How many neighbouring samples are drawn together."""
    return max(1, min(math.isqrt(samples), _LONGEST_BLOCK))


def spread(medians: Sequence[float]) -> float:
    """(largest - smallest) / median; 0 of a single one."""
    middle = float(np.median(medians))
    return (max(medians) - min(medians)) / middle if middle > 0 else 0.0


def ratio_of_turns(a_ms: Sequence[float], b_ms: Sequence[float]) -> tuple[float, Interval]:
    """Median over the turns of a / b, and its 95 % interval.

    Args:
        a_ms: one median a turn.
        b_ms: those of the same turns.
    """
    ratios = np.asarray(a_ms, np.float64) / np.asarray(b_ms, np.float64)
    rng = np.random.default_rng(_SEED)
    drawn = ratios[rng.integers(0, ratios.size, (_RESAMPLES, ratios.size))]
    low, high = np.quantile(np.median(drawn, axis=1), _LEVELS)
    return float(np.median(ratios)), (float(low), float(high))


def chunk_medians(samples: Sequence[int] | npt.NDArray[Any], chunks: int) -> list[float]:
    """Medians of equal stretches of the samples, in order; fewer where there are few samples."""
    values = np.asarray(samples, np.float64)
    parts = np.array_split(values, max(1, min(chunks, values.size)))
    return [float(np.median(part)) for part in parts]
