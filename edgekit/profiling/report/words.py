"""Figures and findings as people say them: ``0.482 ms``, ``1 thread``, one sentence a result."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.profiling.references import model_accuracy
from edgekit.profiling.result import (
    CONTENDED,
    COPIES,
    ENGINE,
    NOISY,
    PIPELINE,
    STABLE,
    THROTTLED,
    VERDICTS,
    Machine,
    ProfileResult,
    Run,
)

NOT_MEASURED = "not measured"
_LONGEST_NAME = 64
_MOST_DECIMALS = 4

SCOPE_WORDS = {
    ENGINE: "the engine's own call, on tensors already in place",
    COPIES: "what an app calls: arrays in, arrays out, copies included",
    PIPELINE: "from an image to classes: preprocessing, engine and postprocessing",
}
VERDICT_WORDS = {
    STABLE: "the processes agree, and nothing was seen that disturbed them",
    NOISY: "figures of the same thing differ by more than they may: measure again, on a quieter "
    "machine or with --thorough",
    THROTTLED: "the clock or the latency fell off while measuring: the figures are those of a "
    "machine that gets slower",
    CONTENDED: "others took the processor meanwhile: the figures are partly theirs",
}


def ms(value: float) -> str:
    """Milliseconds without the unit, to three digits: 0.482, 12.3, 1,204; at most to 0.1 us."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    whole = math.floor(math.log10(abs(value)))
    return f"{value:,.{min(_MOST_DECIMALS, max(0, 2 - whole))}f}"


def maybe_ms(value: float | None) -> str:
    """``ms``, and a dash for what was not measured."""
    return "–" if value is None else ms(value)


def between(interval: tuple[float, float]) -> str:
    """``0.47 to 0.49``."""
    return f"{ms(interval[0])} to {ms(interval[1])}"


def count(value: float) -> str:
    """A count: 5.31 M, 35.4 k, 840."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{ms(value / size)} {unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes: 7.1 MB, in powers of ten."""
    for unit_size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit_size:
            return f"{value / unit_size:.1f} {unit}"
    return f"{value:.0f} B"


def percent(share: float) -> str:
    """A share of one: 4.2 %, 37 %."""
    value = 100 * share
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f} %" if abs(value) >= 10 or value == 0 else f"{value:.1f} %"


def plural(number: int, noun: str) -> str:
    """``1 thread``, ``2,000 samples``."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def pace(run: Run) -> str:
    """``back-to-back`` or ``30 per second``."""
    return f"{run.pace_hz:g} per second" if run.pace_hz else "back-to-back"


def label(run: Run) -> str:
    """What tells one run of a result from the others."""
    return f"{short(run.runtime)}, {plural(run.threads, 'thread')}, {run.scope}, {pace(run)}"


def short(name: str) -> str:
    """A name that leaves room for the rest of its sentence."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def machine(of: Machine) -> str:
    """The machine by the name people call it."""
    name = short(of.board or of.cpu or of.architecture or "an unknown machine")
    return f"{name}, virtual ({short(of.virtual)})" if of.virtual else name


def place(result: ProfileResult) -> str:
    """The machine, and the host it was reached by if it was another."""
    name = machine(result.environment.machine)
    return name if result.device in ("", "local") else f"{name} ({short(result.device)})"


def names(results: Sequence[ProfileResult]) -> list[str]:
    """What tells the results apart: the model, the machine if there are several, the time."""
    one_place = len(set(map(place, results))) == 1
    told = [short(r.model) if one_place else f"{short(r.model)} on {place(r)}" for r in results]
    return [
        f"{name}, {result.started}" if told.count(name) > 1 else name
        for name, result in zip(told, results, strict=True)
    ]


def headline(result: ProfileResult) -> Run | None:
    """The run that stands for the result.

    Engine before copies before pipeline, back-to-back before paced, fewest threads, and of the
    runtimes that are left the fastest that is trustworthy.
    """

    def rank(run: Run) -> tuple[int, bool, int, int, float]:
        known = VERDICTS.index(run.verdict) if run.verdict in VERDICTS else len(VERDICTS)
        scope = tuple(SCOPE_WORDS).index(run.scope) if run.scope in SCOPE_WORDS else 9
        return scope, run.pace_hz > 0, run.threads, known, run.p50_ms

    return min(result.runs, key=rank, default=None)


def sentence(result: ProfileResult) -> str:
    """The one sentence a person can repeat."""
    run = headline(result)
    name = short(result.model)
    if run is not None:
        return f"{name} takes {ms(run.p50_ms)} ms {circumstances(result, run)} {run.verdict}."
    if result.instructions:
        one = result.instructions[0]
        return (
            f"{name} executes {count(one.per_inference)} instructions an inference on an emulated "
            f"{short(one.core)} with {short(one.runtime)}, {plural(one.threads, 'thread')}: "
            "a count, not a time."
        )
    return f"{name}: no latency was measured on {place(result)}."


def circumstances(result: ProfileResult, run: Run) -> str:
    """The rest of the sentence, but for the verdict: interval, machine, runtime, threads."""
    return (
        f"(p50, 95 % interval {between(run.p50_interval_ms)}) on {place(result)} "
        f"with {short(run.runtime)}, {plural(run.threads, 'thread')}; measurement:"
    )


def inputs(result: ProfileResult) -> str:
    """``image 1 × 3 × 224 × 224``."""
    return ", ".join(
        f"{name} {' × '.join(map(str, shape))}" for name, shape in result.facts.inputs.items()
    )


def accuracy(result: ProfileResult) -> str:
    """The published accuracy of the model without its source, or ""."""
    return model_accuracy(result.facts)[0]
