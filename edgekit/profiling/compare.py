"""Two results beside each other: may they be compared, and is the second one worse?

    differences(a, b)   what about the environments differs, in words; empty: comparable
    unlike(a, b)        what about the things measured differs: another model is not a slower one
    changes(a, b)       figure by figure: ratio, its interval, and what of it is noise
    worse(a, b)         of those, what got worse beyond the noise

A time is worse when the intervals of both figures do not overlap AND the ratio is beyond the
noise floor. The interval knows how far a figure moves within its processes; how far it moves from
one process to the next is the spread, and three processes bound it badly, hence the floor:

    p50, p90       the larger spread of both results, at least 2 %; 5 % below three processes
    memory         5 %, at least 1 MiB: pages and allocators
    instructions   the larger spread of both, at least 0.1 %
    counts         nothing: they are exact

The largest minus the smallest of three figures is 1.7 of their standard deviations, and the
difference of two medians over three processes moves by 0.8: the floor is two of those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgekit.errors import InputError
from edgekit.profiling.result import Environment, Instructions, Memory, ProfileResult, Run
from edgekit.profiling.statistics import spread
from edgekit.runtimes import RUNTIMES

LEAST_FLOOR = 0.02
FEW_PROCESSES, FEW_FLOOR = 3, 0.05
MEMORY_FLOOR, MEMORY_BYTES = 0.05, 1 << 20
INSTRUCTIONS_FLOOR = 0.001
_MEMORY_SIZE_TOLERANCE = 0.05  # MemTotal is what the kernel left over

WORSE, SAME, BETTER = "worse", "same", "better"
TIME, MEMORY, INSTRUCTIONS, COUNT = "time", "memory", "instructions", "count"


@dataclass(frozen=True)
class Change:
    """One figure in both results.

    Attributes:
        kind: ``time``, ``memory``, ``instructions`` or ``count``.
        figure: e.g. ``p50_ms``; its name ends in its unit.
        subject: e.g. ``onnxruntime, 1 thread, engine``.
        before: of the baseline; ``after`` of the result.
        ratio: after / before.
        interval: the least and most that ratio can be by the intervals of both figures; None
            where a figure has none.
        floor: what a ratio must be beyond to count, e.g. 1.02.
        verdict: ``worse``, ``same`` or ``better``.
    """

    kind: str
    figure: str
    subject: str
    before: float
    after: float
    ratio: float
    interval: tuple[float, float] | None
    floor: float
    verdict: str


# ---- may they be compared? -------------------------------------------------------------------


class Timed(Protocol):
    """A run of any kind of result."""

    @property
    def runtime(self) -> str:
        """Key of ``RUNTIMES``."""


class Measured(Protocol):
    """A result of any kind: of one graph, or by stage."""

    @property
    def environment(self) -> Environment:
        """Where it was measured."""

    @property
    def runs(self) -> Sequence[Timed]:
        """What was."""


R = TypeVar("R")

# What counts as another environment. Anything that a table of speeds would have as a column.
_ENVIRONMENT: tuple[tuple[str, Callable[[Measured], object]], ...] = (
    ("architecture", lambda r: r.environment.machine.architecture),
    ("board", lambda r: r.environment.machine.board),
    ("cpu", lambda r: r.environment.machine.cpu),
    ("cores", lambda r: r.environment.machine.cores),  # nvpmodel switches cores off
    ("kinds of cores", lambda r: _pairs(r.environment.machine.clusters)),
    ("instruction sets", lambda r: r.environment.machine.features),  # kernels are chosen by them
    ("virtual machine", lambda r: r.environment.machine.virtual or "none"),
    ("gpu", lambda r: r.environment.machine.gpu),
    # A distribution's updates keep the major number; a new one changes the scheduler.
    ("kernel", lambda r: _leading(r.environment.machine.kernel, 1)),
    ("Python", lambda r: _leading(r.environment.machine.python, 2)),
    ("L4T", lambda r: r.environment.machine.l4t),
    ("governor", lambda r: tuple(sorted(set(r.environment.before.governors.values())))),
    ("highest clock", lambda r: _clocks(r.environment.before.max_mhz)),
    ("clocks locked", lambda r: r.environment.before.clocks_locked),
    ("power mode", lambda r: r.environment.before.power_mode),
    ("turbo", lambda r: r.environment.before.turbo),
    ("SMT", lambda r: r.environment.before.smt),
    ("CPU quota", lambda r: r.environment.before.quota_cpus),
    ("on battery", lambda r: bool(r.environment.before.on_battery)),
    ("pinned to CPUs", lambda r: _pinned(r)),
)
# Not here: temperature, load and free memory (the verdict and the notes speak of them), the
# distribution's name, edgekit's own version (a gate compares across it), how the device was
# reached, the preset (a shorter run has a wider interval).

# What counts as another thing measured. Not here: checksums, since a rebuilt model is what a
# gate looks at.
_SUBJECT: tuple[tuple[str, Callable[[ProfileResult], object]], ...] = (
    ("model", lambda r: r.facts.id),
    ("inputs", lambda r: _pairs(r.facts.inputs)),
    ("precision", lambda r: r.facts.precision),
)


def differences(a: Measured, b: Measured) -> tuple[str, ...]:
    """What about the environments of two results differs; empty when they are comparable."""
    named = [*_differing(_ENVIRONMENT, a, b), *_memory_sizes(a, b), *_versions(a, b)]
    return tuple(named)


def unlike(a: ProfileResult, b: ProfileResult) -> tuple[str, ...]:
    """What about the models of two results differs, beyond having been rebuilt."""
    return tuple(_differing(_SUBJECT, a, b))


def _differing(facts: tuple[tuple[str, Callable[[R], object]], ...], a: R, b: R) -> Iterator[str]:
    for name, fact in facts:
        one, other = fact(a), fact(b)
        if one != other:
            yield f"{name}: {_shown(one)} / {_shown(other)}"


def _memory_sizes(a: Measured, b: Measured) -> Iterator[str]:
    one, other = a.environment.machine.memory_bytes, b.environment.machine.memory_bytes
    if abs(one - other) > _MEMORY_SIZE_TOLERANCE * max(one, other):
        yield f"memory: {one / 1e9:.1f} GB / {other / 1e9:.1f} GB"


def _versions(a: Measured, b: Measured) -> Iterator[str]:
    """Of what computed in both: the runtimes that both measured, and numpy."""
    names = {"numpy"}
    for runtime in {run.runtime for run in a.runs} & {run.runtime for run in b.runs}:
        row = RUNTIMES.get(runtime)
        names |= {runtime, *(row.imports + row.stand_ins if row else ())}
    tables = [_normal(result.environment.machine.packages) for result in (a, b)]
    for name in sorted(names):
        one, other = (table.get(name, "") for table in tables)
        if one != other:
            yield f"{name}: {_shown(one)} / {_shown(other)}"


def _normal(packages: Mapping[str, str]) -> dict[str, str]:
    """Distributions by the name of their import: ai-edge-litert is ai_edge_litert."""
    return {name.lower().replace("-", "_"): version for name, version in packages.items()}


def _pairs(table: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{key} {_shown(value)}" for key, value in sorted(table.items()))


def _pinned(result: Measured) -> object:
    """Which CPUs, where they are of several kinds; else they are as good as each other."""
    cpus = result.environment.cpus
    several = len(result.environment.machine.clusters) > 1
    return cpus if several and cpus else "yes" if cpus else "no"


def _clocks(table: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{mhz:.0f} MHz" for mhz in sorted(set(table.values())))


def _leading(version: str, numbers: int) -> str:
    return ".".join(re.findall(r"\d{1,9}", version)[:numbers])


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "not known"
    return "not known" if value in ("", None) else str(value)


# ---- is it worse? ----------------------------------------------------------------------------


def worse(baseline: ProfileResult, current: ProfileResult) -> tuple[Change, ...]:
    """What got worse beyond the noise; see ``changes``."""
    return tuple(change for change in changes(baseline, current) if change.verdict == WORSE)


def changes(baseline: ProfileResult, current: ProfileResult) -> tuple[Change, ...]:
    """Every figure that both results have.

    Raises:
        InputError: a figure is 0 or less, which no measurement gives.
    """
    found = (rule(baseline, current) for rule in (_counts, _times, _memories, _instructions))
    return tuple(change for group in found for change in group)


def unmatched(baseline: ProfileResult, current: ProfileResult) -> tuple[str, ...]:
    """Runs of the baseline that the result does not have: nothing is known about them."""
    return tuple(run_text(key) for key in _runs(baseline) if key not in _runs(current))


def not_compared(baseline: ProfileResult, current: ProfileResult) -> tuple[str, ...]:
    """Memory and instructions of the baseline that the result does not have."""
    memory, counts = _peaks(current), _executed(current)
    lost = [f"peak memory of {thread_text(*key)}" for key in _peaks(baseline) if key not in memory]
    lost += [
        f"instructions of {thread_text(*key[1:])}, {key[0]}"
        for key in _executed(baseline)
        if key not in counts
    ]
    return tuple(lost)


RunKey = tuple[str, int, str, float]


def _runs(result: ProfileResult) -> dict[RunKey, Run]:
    return {(run.runtime, run.threads, run.scope, run.pace_hz): run for run in result.runs}


def run_text(key: RunKey) -> str:
    """``onnxruntime, 1 thread, engine, 30/s``."""
    runtime, threads, scope, pace_hz = key
    pace = f", {pace_hz:g}/s" if pace_hz else ""
    return f"{thread_text(runtime, threads)}, {scope}{pace}"


def thread_text(runtime: str, threads: int) -> str:
    """``onnxruntime, 1 thread``."""
    return f"{runtime}, {threads} thread{'' if threads == 1 else 's'}"


def _counts(baseline: ProfileResult, current: ProfileResult) -> Iterator[Change]:
    for name in ("params", "macs", "elementwise_multiplies"):
        before, after = getattr(baseline.facts, name), getattr(current.facts, name)
        if before > 0 or after > 0:
            ratio = after / before if before > 0 else math.inf
            verdict = WORSE if after > before else BETTER if after < before else SAME
            yield Change(COUNT, name, "model", before, after, ratio, None, 1.0, verdict)


def _times(baseline: ProfileResult, current: ProfileResult) -> Iterator[Change]:
    now = _runs(current)
    for key, before in _runs(baseline).items():
        if key in now:
            after = now[key]
            for figure, share in (("p50_ms", 0.5), ("p90_ms", 0.9)):
                floor = 1 + max(_run_floor(before, share), _run_floor(after, share))
                yield _time(figure, run_text(key), before, after, floor)


def _time(figure: str, subject: str, before: Run, after: Run, floor: float) -> Change:
    name = figure.removesuffix("_ms")
    low0, high0 = getattr(before, f"{name}_interval_ms")
    low1, high1 = getattr(after, f"{name}_interval_ms")
    ratio = _ratio(getattr(before, figure), getattr(after, figure), f"{figure} of {subject}")
    interval = _ratio(high0, low1, figure), _ratio(low0, high1, figure)
    return Change(
        kind=TIME,
        figure=figure,
        subject=subject,
        before=getattr(before, figure),
        after=getattr(after, figure),
        ratio=ratio,
        interval=interval,
        floor=floor,
        verdict=_verdict(ratio, interval, floor),
    )


def _run_floor(run: Run, share: float) -> float:
    """How far a figure moves from one process to the next, as a share of it."""
    figures = [_at(process.samples_ns, share) for process in run.processes if process.samples_ns]
    if len(figures) < FEW_PROCESSES:
        return max(run.spread or 0.0, FEW_FLOOR)
    return max(spread(figures), (run.spread or 0.0) if share == 0.5 else 0.0, LEAST_FLOOR)


def _at(samples: tuple[int, ...], share: float) -> float:
    ordered = sorted(samples)
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def _peaks(result: ProfileResult) -> dict[tuple[str, int], Memory]:
    """Of those that were measured: a system without ``/proc`` gives rows of zeros."""
    return {(row.runtime, row.threads): row for row in result.memory if row.peak_use}


def _memories(baseline: ProfileResult, current: ProfileResult) -> Iterator[Change]:
    now = _peaks(current)
    for key, old in _peaks(baseline).items():
        if key in now:
            before, after = old.peak_use, now[key].peak_use
            yield _plain(MEMORY, "peak_rss_bytes", thread_text(*key), before, after)


def _executed(result: ProfileResult) -> dict[tuple[str, str, int], Instructions]:
    return {(row.core, row.runtime, row.threads): row for row in result.instructions}


def _instructions(baseline: ProfileResult, current: ProfileResult) -> Iterator[Change]:
    now = _executed(current)
    for key, old in _executed(baseline).items():
        if key in now:
            new = now[key]
            subject = f"{thread_text(*key[1:])}, {key[0]}"
            noise = max(old.spread, new.spread)
            yield _plain(
                INSTRUCTIONS, "instructions", subject, old.per_inference, new.per_inference, noise
            )


def _plain(
    kind: str, figure: str, subject: str, before: float, after: float, noise: float = 0.0
) -> Change:
    """A change of a figure without an interval."""
    ratio = _ratio(before, after, f"{figure} of {subject}")
    least = max(MEMORY_FLOOR, MEMORY_BYTES / before) if kind == MEMORY else INSTRUCTIONS_FLOOR
    floor = 1 + max(noise, least)
    verdict = _verdict(ratio, None, floor)
    return Change(kind, figure, subject, before, after, ratio, None, floor, verdict)


def _ratio(before: float, after: float, what: str) -> float:
    if before <= 0 or after <= 0:
        raise InputError(
            f"{what} is {before:g} in the baseline and {after:g} in the result: only figures "
            "above 0 can be compared; measure again"
        )
    return after / before


def _verdict(ratio: float, interval: tuple[float, float] | None, floor: float) -> str:
    low, high = interval or (ratio, ratio)
    if low > 1 and ratio > floor:
        return WORSE
    return BETTER if high < 1 and ratio < 1 / floor else SAME
