"""Latency of one call in one process: warm up until stable, then keep every sample.

    cold     import -> open -> first inference       once a process, by ``work``
    warm-up  windows, until their medians stop moving
    timed    start = now(); call(); end = now()      back-to-back, or at a fixed rate

A sample is two readings of the clock around one call and nothing else; what they cost is
measured (``measure_cost``) and stays in the samples. The garbage collector rests meanwhile, and
samples go to memory that was there before. No sample is ever left out.
"""

from __future__ import annotations

import gc
import statistics
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from edgekit.bundle import schema
from edgekit.profiling.clock import Clock, Usage, cpu_share, read_usage
from edgekit.profiling.job import Job
from edgekit.profiling.result import Cost, Process, WarmUp

Call = Callable[[], object]

# Per scope and process. Below 17 us an inference it is what ends a measurement of 3.4 s.
MOST_SAMPLES = 200_000
_WINDOWS = 4  # of the warm-up, over which its slope is taken
_SLOPE = 0.01  # a window
_COST_SAMPLES = 20_000


@dataclass(frozen=True)
class Plan:
    """How long to warm up and to measure; the fields are those of ``Job``."""

    seconds: float
    samples: int
    most_seconds: float
    pace_hz: float = 0.0
    warm_runs: int = 10
    warm_seconds: float = 1.0
    most_warm_seconds: float = 30.0


def plan_of(job: Job, *, first: bool = True) -> Plan:
    """The plan of a job. After the first scope the engine is warm, and a third is enough."""
    part = 1.0 if first else 1 / 3
    return Plan(
        seconds=job.seconds,
        samples=job.samples,
        most_seconds=job.most_seconds,
        pace_hz=job.pace_hz,
        warm_runs=job.warm_runs,
        warm_seconds=job.warm_seconds * part,
        most_warm_seconds=job.most_warm_seconds * part,
    )


def measure(
    call: Call,
    clock: Clock,
    plan: Plan,
    *,
    epoch_ns: int = 0,
    usage: Callable[[], Usage] = read_usage,
) -> Process:
    """Warm up, then time ``call`` as ``plan`` says.

    Args:
        call: one inference.
        clock: the system's, or a test's.
        plan: how long.
        epoch_ns: reading of ``clock`` that ``start_ms`` counts from.
        usage: reads the counters of this process.
    """
    with no_collection():
        warmed = warm_up(call, clock, plan)
        before = usage()
        if plan.pace_hz:  # it wakes up for every start, and that wait is in no sample
            before = replace(before, waiting_ns=None)
        started = clock.now_ns()
        samples, missed = _collect(call, clock, _timed_rule(plan))
        after = usage()
    return Process(
        start_ms=(started - epoch_ns) / 1e6,
        warm_up=warmed,
        samples_ns=tuple(samples),
        cpu_share=cpu_share(before, after, sum(samples)),
        preempted=max(after.preempted - before.preempted, 0),
        missed=missed,
        held_back=_growth(before.held_back, after.held_back),
        mhz=() if before.mhz is None or after.mhz is None else (before.mhz, after.mhz),
    )


def _growth(before: int | None, after: int | None) -> int:
    """Of a counter, which is as old as the machine: one reading alone says nothing."""
    return max(after - before, 0) if before is not None and after is not None else 0


def warm_up(call: Call, clock: Clock, plan: Plan) -> WarmUp:
    """Run until the medians of four windows have a slope below 1 % a window, or time is up.

    Whose time is up before ten runs, because an inference takes so long, has four windows of one
    run each at least: slow is not unsettled.
    """
    begin = clock.now_ns()
    window = _Rule(plan.warm_seconds / _WINDOWS, 1, plan.most_warm_seconds, plan.pace_hz)
    medians: list[float] = []
    runs = 0
    while True:
        samples, _ = _collect(call, clock, window)
        runs += len(samples)
        medians.append(statistics.median(samples))
        seconds = (clock.now_ns() - begin) / 1e9
        enough = runs >= plan.warm_runs and seconds >= plan.warm_seconds
        late = seconds >= plan.most_warm_seconds and len(medians) >= _WINDOWS
        settled = (enough or late) and is_settled(medians)
        if settled or late:
            return WarmUp(runs, seconds, settled)


def is_settled(medians: Sequence[float]) -> bool:
    """Whether the least-squares slope of the last windows is below 1 % of their mean a window."""
    last = medians[-_WINDOWS:]
    if len(last) < _WINDOWS:
        return False
    mean = sum(last) / _WINDOWS
    steps = [index - (_WINDOWS - 1) / 2 for index in range(_WINDOWS)]
    slope = sum(x * (y - mean) for x, y in zip(steps, last, strict=True)) / sum(
        x * x for x in steps
    )
    return abs(slope) <= _SLOPE * mean


def measure_cost(clock: Clock) -> Cost:
    """What a sample contains besides the inference: the clock, and the call."""
    now = clock.now_ns
    bare, called = array("q", bytes(8 * _COST_SAMPLES)), array("q", bytes(8 * _COST_SAMPLES))
    with no_collection():
        for index in range(_COST_SAMPLES):
            start = now()
            bare[index] = now() - start
        for index in range(_COST_SAMPLES):
            start = now()
            _nothing()
            called[index] = now() - start
    clock_ns = statistics.median(bare)
    return Cost(clock_ns, max(statistics.median(called) - clock_ns, 0.0))


def collect_window(call: Call, clock: Clock, seconds: float) -> array[int]:
    """Durations of ``call`` in nanoseconds, back-to-back for ``seconds``; at least one."""
    return _collect(call, clock, _Rule(seconds, 1, seconds))[0]


# ---- the loops -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rule:
    """When to stop: after ``seconds`` and ``samples``, or after ``most_seconds``."""

    seconds: float
    samples: int
    most_seconds: float
    pace_hz: float = 0.0


def _timed_rule(plan: Plan) -> _Rule:
    # At a fixed rate the samples are as many as the seconds allow.
    samples = 1 if plan.pace_hz else plan.samples
    return _Rule(plan.seconds, samples, plan.most_seconds, plan.pace_hz)


def _collect(call: Call, clock: Clock, rule: _Rule) -> tuple[array[int], int]:
    """Durations in nanoseconds, and how many starts were missed."""
    room = array("q", bytes(8 * MOST_SAMPLES))
    count, missed = (
        _paced(call, clock, rule, room) if rule.pace_hz else _run(call, clock, rule, room)
    )
    return room[:count], missed


def _run(call: Call, clock: Clock, rule: _Rule, room: array[int]) -> tuple[int, int]:
    """Back-to-back."""
    now, samples = clock.now_ns, rule.samples
    begin = now()
    enough, most = begin + int(rule.seconds * 1e9), begin + int(rule.most_seconds * 1e9)
    count = 0
    for count in range(1, len(room) + 1):
        start = now()
        call()
        end = now()
        room[count - 1] = end - start
        if end >= enough and (count >= samples or end >= most):
            break
    return count, 0


def _paced(call: Call, clock: Clock, rule: _Rule, room: array[int]) -> tuple[int, int]:
    """At a fixed rate.

    A start that passes while an inference still runs is missed, as a camera's frame would be.
    """
    now, sleep_until = clock.now_ns, clock.sleep_until_ns
    period = int(1e9 / rule.pace_hz)
    begin = now()
    enough, most = begin + int(rule.seconds * 1e9), begin + int(rule.most_seconds * 1e9)
    count, missed, due = 0, 0, begin
    while count < len(room):
        sleep_until(due)
        start = now()
        call()
        end = now()
        room[count] = end - start
        count += 1
        if end >= enough and (count >= rule.samples or end >= most):
            break
        steps = max((end - due + period - 1) // period, 1)
        missed += steps - 1
        due += steps * period
    return count, missed


def _nothing() -> None:
    """What is called to measure the cost of calling."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ---- the work of a fresh process -------------------------------------------------------------


@dataclass(frozen=True)
class LatencyDocument:
    """What the child says.

    Attributes:
        import_ms: from the start of the process, see ``ColdStart``.
        runs: by scope.
        problems: scope -> why it was not timed.
        image: what the pipeline was fed, in words.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    runs: Mapping[str, Process]
    problems: Mapping[str, str]
    image: str
    cost: Cost


def work(job: Job, clock: Clock) -> dict[str, Any]:
    """Cold start, then each scope: what ``profile`` puts together over several processes."""
    from edgekit.profiling.opening import first_inference, import_runtime, open_model
    from edgekit.profiling.scopes import Scopes

    import_runtime(job)
    imported = clock.now_ns()
    with open_model(job) as model:
        loaded = clock.now_ns()
        first_ms = first_inference(model, clock)
        scopes = Scopes(model, job.image)
        runs: dict[str, Process] = {}
        for name in job.scopes:
            if call := scopes.call(name):
                plan = plan_of(job, first=not runs)
                runs[name] = measure(call, clock, plan, epoch_ns=job.epoch_ns)
        document = LatencyDocument(
            import_ms=(imported - job.spawned_ns) / 1e6,
            load_ms=(loaded - imported) / 1e6,
            first_ms=first_ms,
            runs=runs,
            problems=scopes.problems,
            image=scopes.image,
            cost=measure_cost(clock),
        )
    encoded: dict[str, Any] = schema.encode(document)
    return encoded
