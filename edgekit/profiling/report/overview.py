"""The top of the page: the verdict in one sentence, every figure in one table, the ratios."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from edgekit.profiling.report import words
from edgekit.profiling.report.html import Child, Markup, join, tag
from edgekit.profiling.report.parts import badge, bullets, callout, columns, section, table
from edgekit.profiling.report.plot import percent
from edgekit.profiling.report.scale import Scale, spanning
from edgekit.profiling.result import STABLE, ProfileResult, Reference, Run

Results = Sequence[ProfileResult]

_MOST_DOUBTS = 2  # figures whose reasons are told at the top

RANDOM_WEIGHTS = (
    "Fit for latency work only: what the network would answer means nothing. An accuracy that is "
    "shown is the published one."
)
FIRST_LOOK = (
    "Fewer processes and samples than a figure to publish needs. "
    "Without --quick the measurement takes under a minute a runtime."
)
INCOMPLETE = "The measurement ended early. What was finished until then is shown, and nothing else."


def verdict(results: Results, unlike: Sequence[str]) -> Markup:
    """The page's first lines: what was found, of what exactly, and what limits it."""
    title = _title(results[0]) if len(results) == 1 else _titles(results)
    return tag("header", title, _timed(results), *_limits(results, unlike))


def _title(result: ProfileResult) -> Markup:
    """``words.sentence``, with the figure set large and the verdict as a badge."""
    run = words.headline(result)
    if run is None:
        return tag("h1", words.sentence(result))
    figure = tag("span", f"{words.ms(run.p50_ms)} ms", class_="figure")
    return join(
        (
            tag("h1", words.short(result.model), " takes ", figure),
            tag("p", words.circumstances(result, run), " ", badge(run.verdict), class_="lead"),
        )
    )


def _titles(results: Results) -> Markup:
    places = list(dict.fromkeys(map(words.place, results)))
    where = places[0] if len(places) == 1 else words.plural(len(places), "machine")
    title = tag("h1", f"{words.plural(len(results), 'profile')} on {where}")
    return join((title, tag("div", bullets(map(words.sentence, results)), class_="lead")))


def _timed(results: Results) -> Markup:
    pairs = [(result, words.headline(result)) for result in results]
    said = dict.fromkeys(
        f"Timed: {words.SCOPE_WORDS.get(run.scope, run.scope)} (scope {run.scope}), "
        f"{words.pace(run)}. Input: {words.inputs(result)}."
        for result, run in pairs
        if run is not None
    )
    return join(tag("p", text, class_="timed") for text in list(said)[:5])


def _limits(results: Results, unlike: Sequence[str]) -> Iterator[Markup]:
    if unlike:
        yield callout(
            "warning",
            "Unlike environments.",
            "These results were made in environments that differ, and were put on one page by "
            "force: a difference between their figures may be the environment's.",
            bullets(unlike),
        )
    if any(not result.complete for result in results):
        yield callout("warning", "Incomplete.", INCOMPLETE)
    for result in results:
        yield from _doubts(
            result, of=f" of {words.short(result.model)}" if len(results) > 1 else ""
        )
    if any(result.facts.random_weights for result in results):
        yield callout("info", "Random weights.", RANDOM_WEIGHTS)
    if any(result.preset == "quick" for result in results):
        yield callout("info", "A first look.", FIRST_LOOK)


def _doubts(result: ProfileResult, of: str) -> Iterator[Markup]:
    doubtful = [run for run in result.runs if run.verdict != STABLE]
    if doubtful:
        first = words.headline(result)
        doubtful.sort(key=lambda run: run is not first)
        left = len(doubtful) - _MOST_DOUBTS
        more = [f"and {left} more: the reasons stand with each figure below"] if left > 0 else []
        yield callout(
            "warning",
            "Not trustworthy as they stand:",
            f"{len(doubtful)} of {words.plural(len(result.runs), 'figure')}{of}.",
            bullets([*map(_doubt, doubtful[:_MOST_DOUBTS]), *more]),
        )
    # Random weights have a callout of their own.
    said = [text for text in result.warnings if not text.lower().startswith("random weights")]
    if said:
        yield callout("info", f"Said while measuring{of}.", bullets(said))


def _doubt(run: Run) -> str:
    reasons = "; ".join(run.reasons)
    said = reasons if reasons.startswith(run.verdict) else f"{run.verdict}; {reasons}"
    return f"{words.label(run)}: {said.removesuffix('; ')}"


# ---- all figures -----------------------------------------------------------------------------


def figures(results: Results) -> Markup:
    """Models x runtimes x threads x scopes, with every run on one scale."""
    rows = [
        (name, run)
        for name, result in zip(words.names(results), results, strict=True)
        for run in result.runs
    ]
    if not rows:
        return section("Figures", "figures", tag("p", "No latency was measured.", class_="absent"))
    scale = spanning(
        [v for _, run in rows for v in (run.min_ms, run.p99_ms or run.p90_ms)],
        zero=True,
        log=_far_apart([run for _, run in rows]),
    )
    ends = f"{words.ms(scale.low)} to {words.ms(scale.high)} ms"
    axis = f"{ends}, logarithmic" if scale.log else ends
    heads = columns(
        "model", "runtime", "#threads", "scope", "#p50 ms", "95 % interval",
        f"min · p50 · p99, {axis}", "#p90 ms", "#p99 ms", "#samples", "verdict",
    )  # fmt: skip
    # One model is in the title already, and a phone has no room to say it again.
    first = 0 if len(results) > 1 else 1
    heads = (dataclasses.replace(heads[first], row=True), *heads[first + 1 :])
    drawn = table("All figures", heads, [_row(*row, scale)[first:] for row in rows])
    return section("Figures", "figures", drawn, tag("p", _READING, class_="note"))


_READING = (
    "Back-to-back unless a pace stands beside the scope. p50 is the median of all samples of all "
    "processes, and its interval a bootstrap over blocks of neighbouring samples; p99 is given "
    "from 1000 samples on. In the drawing the thin line goes from the fastest sample to p99 (to "
    "p90 where p99 is missing), the box from p50 to p90."
)


def _far_apart(runs: Sequence[Run]) -> bool:
    low, high = min(run.min_ms for run in runs), max(run.p90_ms for run in runs)
    return low > 0 and high > 30 * low


def _row(name: str, run: Run, scale: Scale) -> Sequence[Child]:
    return (
        name,
        run.runtime,
        run.threads,
        f"{run.scope}, {words.pace(run)}" if run.pace_hz else run.scope,
        tag("strong", words.ms(run.p50_ms)),
        words.between(run.p50_interval_ms),
        _range(run, scale),
        words.ms(run.p90_ms),
        words.maybe_ms(run.p99_ms),
        f"{run.samples:,}",
        join((badge(run.verdict), "" if run.complete else " incomplete")),
    )


def _range(run: Run, scale: Scale) -> Markup:
    low, p50, p90 = (scale.at(v) for v in (run.min_ms, run.p50_ms, run.p90_ms))
    end = scale.at(run.p99_ms or run.p90_ms)
    at = percent(p50)
    return tag(
        "svg",
        tag("line", class_="axis", x1=percent(low), x2=percent(end), y1=9, y2=9),
        tag("rect", class_="time", x=at, width=percent(max(0.004, p90 - p50)), y=5, height=8),
        tag("line", class_="mark", x1=at, x2=at, y1=1, y2=17),
        class_="range",
        aria_hidden="true",  # its figures stand beside it
        height=18,
    )


# ---- references ------------------------------------------------------------------------------


def references(results: Results) -> Markup:
    """Ratios to known networks: they travel between machines where milliseconds do not."""
    rows = [(result, ref) for result in results for ref in result.references]
    if not rows:
        said = tag("p", "No reference network was timed beside the model.", class_="absent")
        return section("Beside known networks", "references", said)
    heads = columns(
        "model", "runtime", "#threads", "reference", "#its p50 ms", "#model p50 ms",
        "#model / reference", "95 % interval", "#reference MACs", "accuracy", "#turns",
    )  # fmt: skip
    drawn = table("Ratios to reference networks", heads, [_ratio_row(*row) for row in rows])
    said = bullets(compared(*row) for row in rows[:12])
    note = tag(
        "p",
        "Model and reference were timed in turns in the same process, so that what slows the "
        "machine slows both. Accuracies are the published ones; nothing here measured them.",
        class_="note",
    )
    sources = dict.fromkeys(f"{ref.name}: {ref.source}" for _, ref in rows if ref.source)
    read = tag("p", f"Accuracies: {'; '.join(sources)}.", class_="note") if sources else None
    return section("Beside known networks", "references", said, drawn, note, read)


def compared(result: ProfileResult, ref: Reference) -> str:
    """``M1: 51.4 % at X ms; on this machine MobileNetV2-0.5 @ 96, 51.2 %, takes Y ms``."""
    top, its = words.accuracy(result), ref.accuracy
    model, name = words.short(result.model), words.short(ref.name)
    return (
        f"{model}{f', {words.short(top)},' if top else ''} takes {words.ms(ref.model_p50_ms)} ms; "
        f"on this machine {name}{f', {words.short(its)},' if its else ''} takes "
        f"{words.ms(ref.p50_ms)} ms: {model} needs {words.ms(ref.ratio)} times its time "
        f"({words.between(ref.ratio_interval)}), with {words.short(ref.runtime)}, "
        f"{words.plural(ref.threads, 'thread')}."
    )


def _ratio_row(result: ProfileResult, ref: Reference) -> Sequence[Child]:
    return (
        result.model,
        ref.runtime,
        ref.threads,
        ref.name,
        words.ms(ref.p50_ms),
        words.ms(ref.model_p50_ms),
        tag("strong", words.ms(ref.ratio)),
        words.between(ref.ratio_interval),
        words.count(ref.macs),
        ref.accuracy or "–",
        ref.turns,
    )
