"""May the figure be believed? One table of rules over what was recorded, and nothing else.

    verdict     rule                                                          limit
    contended   threads waited for a CPU, of the time they could have run     5 %
                preempted more than ... times a second, over all processes    250
                the cgroup's quota held a process back while timing           once
                the hypervisor gave CPU time to others                        2 %
                as many tasks of others were runnable as there are CPUs,
                before and after
    throttled   the board reports a new reason, or one that holds             any
                the clock fell while timing back-to-back, in every process    5 %
                latency rose and stayed up, in every process                  5 %
                the sustained run fell off                                    5 %
    noisy       medians of the processes differ                               5 %
                the interval of p50 is wide                                   5 % of p50
                a warm-up did not settle
    stable      none of these

The worst one is the verdict, in this order, because each explains those after it: who shares the
CPU looks slow and noisy, and who is throttled looks noisy. Every rule that holds gives its reason.
A run that is evenly slower is stable, and slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgekit.profiling.result import (
    CONTENDED,
    NOISY,
    STABLE,
    THROTTLED,
    VERDICTS,
    Process,
    State,
)
from edgekit.profiling.statistics import Interval, chunk_medians

WAITED = 0.05
PREEMPTED_PER_S = 250.0
STOLEN = 0.02
CLOCK_FELL = 0.05
ROSE = 0.05
SPREAD = 0.05
WIDTH = 0.05

_CHUNKS = 8  # a run is looked at in so many stretches
_LEAST_TO_SEE_A_RISE = 5 * _CHUNKS
_BASE = 0.1  # of a sustained run: its beginning, which the rest is compared with


@dataclass(frozen=True)
class Evidence:
    """What is known of one run.

    Attributes:
        processes: in the order they ran.
        p50_ms: over all processes; ``p50_interval_ms`` and ``spread`` likewise.
        before: state of the machine; ``after`` is None while it is still measured.
        cpus: how many the system has, since its tasks are counted system-wide too.
        sustained_fell_s: when a sustained run of the same engine fell off, or None.
        paced: with pauses, in which the clock falls as it should.
    """

    processes: tuple[Process, ...]
    p50_ms: float
    p50_interval_ms: Interval
    spread: float | None
    before: State | None = None
    after: State | None = None
    cpus: int = 1
    sustained_fell_s: float | None = None
    paced: bool = False


@dataclass(frozen=True)
class Judgement:
    """One of ``VERDICTS``, and why it is not ``stable``."""

    verdict: str
    reasons: tuple[str, ...]


def judge(evidence: Evidence) -> Judgement:
    """The worst verdict that a rule gives, with the reasons of all of them."""
    found = [(verdict, reason) for verdict, rule in RULES for reason in rule(evidence)]
    worst = max((verdict for verdict, _ in found), key=VERDICTS.index, default=STABLE)
    return Judgement(worst, tuple(f"{verdict}: {reason}" for verdict, reason in found))


# ---- contended -------------------------------------------------------------------------------


def _waited(seen: Evidence) -> Iterator[str]:
    weights = [sum(process.samples_ns) for process in seen.processes]
    waited = sum(
        (1 - process.cpu_share) * weight
        for process, weight in zip(seen.processes, weights, strict=True)
    ) / max(sum(weights), 1)
    if waited > WAITED:
        yield f"others had the CPU for {waited:.1%} of the time it was wanted (limit {WAITED:.0%})"


def _preempted(seen: Evidence) -> Iterator[str]:
    seconds = sum(sum(process.samples_ns) for process in seen.processes) / 1e9
    times = sum(process.preempted for process in seen.processes)
    if seconds > 0 and times / seconds > PREEMPTED_PER_S:
        yield (
            f"interrupted by other processes {times / seconds:.0f} times a second "
            f"(limit {PREEMPTED_PER_S:.0f})"
        )


def _held_back(seen: Evidence) -> Iterator[str]:
    times = sum(process.held_back for process in seen.processes)
    if times:
        yield f"the cgroup's CPU quota was used up in {times} of its periods while timing"


def _stolen(seen: Evidence) -> Iterator[str]:
    stolen = _grown(seen, lambda state: state.steal_ticks)
    busy = _grown(seen, lambda state: state.busy_ticks)
    if stolen and busy is not None and stolen > STOLEN * (stolen + busy):
        share = stolen / (stolen + busy)
        yield f"the hypervisor gave {share:.0%} of the CPU time to others (limit {STOLEN:.0%})"


def _company(seen: Evidence) -> Iterator[str]:
    counts = [state.others_running for state in (seen.before, seen.after) if state is not None]
    running = [count for count in counts if count is not None]
    if len(running) == 2 and min(running) >= seen.cpus:
        yield (
            f"{running[0]} other tasks were runnable before and {running[1]} after measuring, "
            f"on {seen.cpus} CPUs"
        )


# ---- throttled -------------------------------------------------------------------------------


def _flags(seen: Evidence) -> Iterator[str]:
    if seen.before is None or seen.after is None:
        return
    new = set(seen.after.throttle_history) - set(seen.before.throttle_history)
    found = sorted({*seen.before.throttle_flags, *seen.after.throttle_flags, *new})
    if found:
        yield f"the board reports {', '.join(found)}"


def _clock_fell(seen: Evidence) -> Iterator[str]:
    falls = [
        1 - process.mhz[-1] / process.mhz[0]
        for process in seen.processes
        if len(process.mhz) > 1 and process.mhz[0] > 0
    ]
    known = bool(falls) and len(falls) == len(seen.processes) and not seen.paced
    if known and min(falls) > CLOCK_FELL:
        last = seen.processes[-1].mhz
        yield (
            f"the clock fell while timing in every process, e.g. from {last[0]:.0f} to "
            f"{last[-1]:.0f} MHz"
        )


def _rose(seen: Evidence) -> Iterator[str]:
    rises = [rise(process.samples_ns) for process in seen.processes]
    if rises and min(rises) > ROSE:
        where = "every process" if len(rises) > 1 else "its process"
        yield (
            f"latency rose while timing and stayed up in {where}, "
            f"by {statistics.median(rises):.0%} (limit {ROSE:.0%})"
        )


def _fell_off(seen: Evidence) -> Iterator[str]:
    if seen.sustained_fell_s is not None:
        yield f"the sustained run fell off after {seen.sustained_fell_s:.0f} s"


def rise(samples: Sequence[int]) -> float:
    """By how much the second half lies above the first quarter, if all of it does; else 0."""
    if len(samples) < _LEAST_TO_SEE_A_RISE:
        return 0.0
    medians = chunk_medians(samples, _CHUNKS)
    base = statistics.median(medians[: _CHUNKS // 4])
    late = medians[_CHUNKS // 2 :]
    if base <= 0 or min(late) <= base * (1 + ROSE):
        return 0.0
    return statistics.median(late) / base - 1


def fell_off_at(
    p50_ms: Sequence[float], mhz: Sequence[float | None], window_s: float
) -> float | None:
    """When the latency rose, or the clock fell, for good: seconds from the start, or None.

    Args:
        p50_ms: one a window.
        mhz: likewise.
        window_s: length of one.
    """
    clock = [1 / value if value else None for value in mhz]
    found = [index for series in (p50_ms, clock) if (index := _stays_up(series)) is not None]
    return min(found) * window_s if found else None


def _stays_up(series: Sequence[float | None]) -> int | None:
    """First index from which all that follows is above the beginning, bar single outliers."""
    if len(series) < _CHUNKS or None in series:
        return None
    values = [value for value in series if value is not None]
    count = max(3, int(len(values) * _BASE))
    limit = statistics.median(values[:count]) * (1 + ROSE)
    smooth = [
        statistics.median(values[max(i - 1, 0) : i + 2]) for i in range(len(values))
    ]  # three windows: one bad second is no throttling
    last_low = max((i for i, value in enumerate(smooth) if value <= limit), default=-1)
    long_enough = len(values) - 1 - last_low >= max(3, count)
    return last_low + 1 if long_enough else None


# ---- noisy -----------------------------------------------------------------------------------


def _spread(seen: Evidence) -> Iterator[str]:
    if seen.spread is not None and seen.spread > SPREAD:
        yield (
            f"medians of {len(seen.processes)} processes differ by {seen.spread:.1%} "
            f"(limit {SPREAD:.0%})"
        )


def _wide(seen: Evidence) -> Iterator[str]:
    low, high = seen.p50_interval_ms
    if seen.p50_ms > 0 and high - low > WIDTH * seen.p50_ms:
        width = (high - low) / seen.p50_ms
        yield f"the 95 % interval of p50 is {width:.1%} of it wide (limit {WIDTH:.0%})"


def _unsettled(seen: Evidence) -> Iterator[str]:
    unsettled = [process.warm_up for process in seen.processes if not process.warm_up.settled]
    if unsettled:
        longest = max(warm_up.seconds for warm_up in unsettled)
        yield (
            f"{len(unsettled)} of {len(seen.processes)} warm-ups had not settled after "
            f"{longest:.1f} s"
        )


def _grown(seen: Evidence, figure: Callable[[State], int | None]) -> int | None:
    before = figure(seen.before) if seen.before is not None else None
    after = figure(seen.after) if seen.after is not None else None
    return after - before if before is not None and after is not None else None


Rule = Callable[[Evidence], Iterator[str]]

# In the order of the table above; the verdict is the worst, whatever the order here.
RULES: tuple[tuple[str, Rule], ...] = (
    (CONTENDED, _waited),
    (CONTENDED, _preempted),
    (CONTENDED, _held_back),
    (CONTENDED, _stolen),
    (CONTENDED, _company),
    (THROTTLED, _flags),
    (THROTTLED, _clock_fell),
    (THROTTLED, _rose),
    (THROTTLED, _fell_off),
    (NOISY, _spread),
    (NOISY, _wide),
    (NOISY, _unsettled),
)
