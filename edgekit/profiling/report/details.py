"""One result in detail: how its samples lie, cold start, pace, long runs, layers, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TypeVar

from edgekit.profiling.report import charts, words
from edgekit.profiling.report.html import Child, Markup, join, tag
from edgekit.profiling.report.parts import (
    Missing,
    badge,
    bullets,
    columns,
    folded,
    section,
    table,
)
from edgekit.profiling.result import (
    ColdStart,
    Instructions,
    Memory,
    ProfileResult,
    Run,
    Sustained,
)

T = TypeVar("T", ColdStart, Run)

_MOST_SERIES = 20  # sensors' curves are large


def latency(result: ProfileResult, anchor: str, columns_each: int, most: int) -> Markup | Missing:
    """Distribution and time series of each of the first ``most`` runs."""
    if not result.runs:
        return Missing("Latency")
    cards = (
        _card(run, columns_each, card_anchor(anchor, number))
        for number, run in enumerate(result.runs[:most])
    )
    left = result.runs[most:]
    more = f"The charts of {words.plural(len(left), 'further run')} are left out." if left else ""
    doubts = bullets(f"{words.label(run)}: {'; '.join(run.reasons)}" for run in left if run.reasons)
    others = (
        folded("Why others are not trustworthy", doubts) if any(r.reasons for r in left) else None
    )
    note = tag(
        "p",
        "Every sample is in the JSON. For drawing, the samples under one pixel become their "
        f"range (light) and median (dark), so that no spike is lost. {more}",
        class_="note",
    )
    return section("Latency", anchor, note, tag("div", cards, class_="cards"), others, level=3)


def card_anchor(latency: str, number: int) -> str:
    """Of the card of a run, within the section of that anchor."""
    return f"{latency}-{number + 1}"


def _card(run: Run, columns_each: int, anchor: str) -> Markup:
    return tag(
        "article",
        tag("h4", words.label(run), " ", badge(run.verdict)),
        charts.distribution(run),
        charts.series(run, columns_each),
        _small_print(run),
        class_="card",
        id=anchor,
    )


def _small_print(run: Run) -> Markup:
    p99 = f", p99 {words.ms(run.p99_ms)}" if run.p99_ms is not None else ""
    reasons = tag("p", words.reasons(run), class_="reasons") if run.reasons else None
    warm = [process.warm_up for process in run.processes]
    unsettled = sum(not w.settled for w in warm)
    settled = "warm-up settled" if not unsettled else f"warm-up did not settle in {unsettled}"
    share = min((process.cpu_share for process in run.processes), default=0.0)
    spread = (
        ", whose spread is unknown"
        if run.spread is None
        else f" whose medians differ by {words.percent(run.spread)}"
    )
    text = (
        f"p50 {words.ms(run.p50_ms)} ({words.between(run.p50_interval_ms)}), "
        f"p90 {words.ms(run.p90_ms)} ({words.between(run.p90_interval_ms)}), "
        f"p95 {words.ms(run.p95_ms)}{p99}, min {words.ms(run.min_ms)}, max {words.ms(run.max_ms)}, "
        f"mean {words.ms(run.mean_ms)}, MAD {words.ms(run.mad_ms)} ms. "
        f"{words.plural(run.samples, 'sample')} of {words.plural(len(run.processes), 'process')}"
        f"{spread}; {settled}; "
        f"CPU share at least {words.percent(share)}; "
        f"preempted {words.plural(sum(p.preempted for p in run.processes), 'time')}."
    )
    return join((reasons, tag("p", text, class_="note")))


def cold_starts(result: ProfileResult, anchor: str) -> Markup | Missing:
    """From the start of a fresh process to its first answer."""
    title = "Cold start"
    if not result.starts:
        return Missing(title, "an emulated core has no times" if words.emulated(result) else "")
    groups = _grouped(result.starts)
    heads = columns(
        "runtime", "#threads", "#processes", "#import ms", "#load ms", "#first inference ms",
        "#together ms",
    )  # fmt: skip
    drawn = table("Cold starts, medians", heads, [_start_row(*group) for group in groups])
    cards = (
        tag("article", tag("h4", f"{runtime}, {words.plural(threads, 'thread')}"),
            charts.starts(group[:_MOST_SERIES]), class_="card")
        for (runtime, threads), group in groups[:_MOST_SERIES]
    )  # fmt: skip
    note = tag("p", _MEDIANS, class_="note")
    return section(title, anchor, drawn, note, tag("div", cards, class_="cards"), level=3)


_MEDIANS = (
    "Each column is a median of its own, so that import, load and first inference need not add "
    "up to the last column, which is the median of the processes' sums."
)


def _grouped(items: Iterable[T]) -> list[tuple[tuple[str, int], list[T]]]:
    groups: dict[tuple[str, int], list[T]] = {}
    for item in items:
        groups.setdefault((item.runtime, item.threads), []).append(item)
    return list(groups.items())


def _start_row(key: tuple[str, int], group: Sequence[ColdStart]) -> Sequence[Child]:
    parts = [
        [start.import_ms for start in group],
        [start.load_ms for start in group],
        [start.first_ms for start in group],
        [start.total_ms for start in group],
    ]
    return (*key, len(group), *(words.ms(median(part)) for part in parts))


def pacing(result: ProfileResult, anchor: str) -> Markup | Missing:
    """The same run back-to-back and at a fixed rate."""
    title = "Paced and back-to-back"
    pairs = list(_pairs(result.runs))
    if not pairs:
        return Missing("A fixed pace", "--pace 30 also measures at 30 inferences per second")
    heads = columns(
        "runtime", "#threads", "scope", "pace", "#p50 ms", "#p90 ms", "#back-to-back p50 ms",
        "#back-to-back p90 ms", "#p50 ratio",
    )  # fmt: skip
    rows = [
        (paced.runtime, paced.threads, paced.scope, words.pace(paced), words.ms(paced.p50_ms),
         words.ms(paced.p90_ms), words.ms(free.p50_ms), words.ms(free.p90_ms),
         words.ms(paced.p50_ms / free.p50_ms) if free.p50_ms else "–")
        for paced, free in pairs
    ]  # fmt: skip
    note = (
        "An app that answers a camera is idle between two frames: clocks go down and caches go "
        "cold meanwhile, and back-to-back figures do not show it."
    )
    return section(title, anchor, table(title, heads, rows), tag("p", note, class_="note"), level=3)


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    free = {(run.runtime, run.threads, run.scope): run for run in runs if not run.pace_hz}
    for run in runs:
        other = free.get((run.runtime, run.threads, run.scope))
        if run.pace_hz and other is not None:
            yield run, other


def long_runs(result: ProfileResult, anchor: str) -> Markup | Missing:
    """Back-to-back for as long as was asked: where it throttles, what an inference costs."""
    title = "Sustained"
    if not result.sustained:
        return Missing("A sustained run", "--sustain 60 runs back-to-back for a minute")
    drawn = (_long_run(run) for run in result.sustained[:_MOST_SERIES])
    return section(title, anchor, drawn, level=3)


def _long_run(run: Sustained) -> Markup:
    energy = (
        f"{1000 * run.joules_per_inference:.3g} mJ per inference ({run.power_source})."
        if run.joules_per_inference is not None
        else "Energy: no sensor."
    )
    text = (
        f"{words.plural(sum(run.inferences), 'inference')} in "
        f"{run.window_s * len(run.p50_ms):.0f} s. {words.endurance(run)} {energy}"
    )
    cards = (tag("div", chart, class_="card") for chart in charts.sustained(run))
    title = f"{run.runtime}, {words.plural(run.threads, 'thread')}"
    heading = tag("h4", title, " ", badge(words.endurance_verdict(run)))
    return join((heading, tag("p", text), tag("div", cards, class_="cards")))


def memory(result: ProfileResult, anchor: str) -> Markup | Missing:
    """Resident set of separate processes."""
    title = "Memory"
    if not result.memory:
        return Missing(title, words.left_out(result))
    heads = columns(
        "runtime", "#threads", "#runtime imported", "#model loaded", "#peak until loaded",
        "#peak in use", "#model's own at peak", "#on the device", "how",
    )  # fmt: skip
    drawn = table("Memory", heads, [_memory_row(one) for one in result.memory])
    note = "Resident set of a separate process; the model's own is the peak less the import."
    return section(title, anchor, drawn, tag("p", note, class_="note"), level=3)


def _memory_row(one: Memory) -> Sequence[Child]:
    sizes = (one.imported, one.loaded, one.peak_load, one.peak_use, one.peak_use - one.imported)
    device = words.size(one.device) if one.device is not None else "–"
    return (one.runtime, one.threads, *map(words.size, sizes), device, one.note)


def instructions(result: ProfileResult, anchor: str) -> Markup | Missing:
    """Executed by an emulated core: a count."""
    title = "Instructions of an emulated core"
    if not result.instructions:
        return Missing("Instructions", "--emulate cortex-a72 counts them")
    heads = columns(
        "core", "runtime", "#threads", "#instructions per inference", "#repetitions", "#spread",
        "emulator",
    )  # fmt: skip
    drawn = table(title, heads, [_count_row(one) for one in result.instructions])
    note = (
        "A count of executed instructions, not a time: it repeats where times do not, so that a "
        "change can be gated on without a board, and it says nothing about caches or clocks."
    )
    return section(title, anchor, drawn, tag("p", note, class_="note"), level=3)


def _count_row(one: Instructions) -> Sequence[Child]:
    return (
        one.core,
        one.runtime,
        one.threads,
        f"{one.per_inference:,.0f}",
        len(one.counts),
        f"{100 * one.spread:.4f} %",
        one.emulator,
    )
