"""Figures and findings as people say them: ``0.482 ms``, ``1 thread``, one sentence a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
    Instructions,
    LayerRun,
    Machine,
    ProfileResult,
    Run,
    Sustained,
)
from edgekit.profiling.verdict import ROSE

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


def emulated(result: ProfileResult) -> bool:
    """Whether it has counts of an emulated core and no time at all."""
    return bool(result.instructions) and not result.runs


def cores(result: ProfileResult) -> str:
    """``an emulated cortex-a72``."""
    return "an emulated " + ", ".join(dict.fromkeys(short(i.core) for i in result.instructions))


def place(result: ProfileResult) -> str:
    """The machine, and the host it was reached by if it was another; or the emulated core."""
    if emulated(result):
        return cores(result)
    name = machine(result.environment.machine)
    return name if result.device in ("", "local") else f"{name} ({short(result.device)})"


Facet = Callable[[ProfileResult], str]

# What may tell results apart that have the same name, in the order in which it is tried.
_FACETS: tuple[Facet, ...] = (
    lambda r: f" for {short(r.facts.target)}",
    lambda r: f", {short(r.facts.precision)}",
    lambda r: f", {short(r.preset)}",
    lambda r: f", {_threads(r)}",
    lambda r: f", {short(r.started)[:16].replace('T', ' ')}",
    lambda r: f", {short(r.started)}",
)


def names(results: Sequence[ProfileResult], *, places: bool = True) -> list[str]:
    """What tells the results apart: the model, and of all else only what differs.

    Args:
        results: in the order to be shown.
        places: name the machine too if there are several; without, the caller says it.
    """
    where = list(map(place, results)) if len(set(map(place, results))) > 1 else [""] * len(results)
    told = [(short(result.model), at) for result, at in zip(results, where, strict=True)]
    for facet in _FACETS:
        told = _told_by(facet, told, results)
    shown = [f"{name} on {at}" if at and places else name for name, at in told]
    before = [told[:index].count(name) for index, name in enumerate(told)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(shown, before, strict=True)]


def _told_by(
    facet: Facet, told: Sequence[tuple[str, str]], results: Sequence[ProfileResult]
) -> list[tuple[str, str]]:
    """Names with ``facet`` added to those that it tells apart."""
    values: dict[tuple[str, str], set[str]] = {}
    for key, result in zip(told, results, strict=True):
        values.setdefault(key, set()).add(facet(result))
    return [
        (key[0] + facet(result) if len(values[key]) > 1 else key[0], key[1])
        for key, result in zip(told, results, strict=True)
    ]


def _threads(result: ProfileResult) -> str:
    counts = sorted({run.threads for run in result.runs})
    return f"{', '.join(map(str, counts))} thread{'' if counts == [1] else 's'}"


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


def sentence(result: ProfileResult, name: str = "") -> str:
    """The one sentence a person can repeat; ``name`` where the model's is not enough."""
    run = headline(result)
    name = name or short(result.model)
    if run is not None:
        return f"{name} takes {ms(run.p50_ms)} ms {circumstances(result, run)} {run.verdict}."
    if result.instructions:
        return f"{name} {executes(result.instructions[0])}: a count, not a time."
    return f"{name}: no latency was measured on {place(result)}."


def executes(one: Instructions) -> str:
    """``executes 11.6 M instructions an inference on an emulated cortex-a72 with litert, ...``."""
    return (
        f"executes {count(one.per_inference)} instructions an inference on an emulated "
        f"{short(one.core)} with {short(one.runtime)}, {plural(one.threads, 'thread')}"
    )


def circumstances(result: ProfileResult, run: Run) -> str:
    """The rest of the sentence, but for the verdict: interval, machine, runtime, threads."""
    return (
        f"(p50, 95 % interval {between(run.p50_interval_ms)}) on {place(result)} "
        f"with {short(run.runtime)}, {plural(run.threads, 'thread')}; measurement:"
    )


def reasons(run: Run) -> str:
    """Why a run is not trustworthy, without the word that its badge says."""
    return "; ".join(reason.removeprefix(f"{run.verdict}: ") for reason in run.reasons)


# ---- a long run ------------------------------------------------------------------------------


def slower(run: Sustained) -> float | None:
    """By how much the end lies above the beginning; None where there is no such thing."""
    if len(run.p50_ms) < 2 or run.p50_ms[0] <= 0:
        return None
    return run.p50_ms[-1] / run.p50_ms[0] - 1


def endurance(run: Sustained) -> str:
    """How a long run ended beside how it began, and whether that is called falling off."""
    change = slower(run)
    if change is None:
        return "Too short to tell an end from a beginning."
    way = "slower" if change > 0 else "faster"
    ended = (
        f"It ended {percent(abs(change))} {way} than it began" if change else "It ended as it began"
    )
    return (
        f"{ended} (p50 {ms(run.p50_ms[0])} ms in the first window, {ms(run.p50_ms[-1])} ms in "
        f"the last). {_fell(run)}"
    )


def _fell(run: Sustained) -> str:
    rule = f"by more than {percent(ROSE)}, until the end"
    if run.throttled_at_s is not None:
        return (
            f"It fell off for good after {run.throttled_at_s:.0f} s: slower than at first {rule}."
        )
    return f"It did not fall off for good: it never stayed slower than at first {rule}."


def endurance_verdict(run: Sustained) -> str:
    """``throttled`` if it fell off for good, ``noisy`` if its ends differ, else ``stable``."""
    if run.throttled_at_s is not None:
        return THROTTLED
    return NOISY if abs(slower(run) or 0.0) > ROSE else STABLE


def inputs(result: ProfileResult) -> str:
    """``image 1 × 3 × 224 × 224``."""
    return ", ".join(
        f"{name} {' × '.join(map(str, shape))}" for name, shape in result.facts.inputs.items()
    )


def executed(run: LayerRun, defined: int) -> str:
    """MACs of the layers that are shown, beside the model's own, which are others.

    Args:
        run: whose kernels' MACs add up to the first figure.
        defined: MACs of the model as defined.
    """
    known = [layer.macs for layer in run.layers if layer.macs is not None]
    own = f"the model as defined: {count(defined)}"
    said = "MACs of the graph this runtime executes"
    if not known:
        return f"{said}: not known; {own}."
    if sum(known) == defined:
        return f"{said}: {count(defined)}, as of the model as defined."
    return f"{said}: {count(sum(known))}; {own} (docs/counting.md says why they differ)."


def left_out(result: ProfileResult) -> str:
    """How to get what ``--quick`` leaves out."""
    return "leave --quick out to get them" if result.preset == "quick" else ""


def accuracy(result: ProfileResult) -> str:
    """The published accuracy of the model without its source, or ""."""
    return model_accuracy(result.facts)[0]
