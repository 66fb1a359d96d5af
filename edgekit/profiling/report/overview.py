"""The top of the page: the verdict in one sentence, every figure in one table, the ratios."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from edgekit.profiling.report import words
from edgekit.profiling.report.details import card_anchor
from edgekit.profiling.report.html import Child, Markup, join, tag
from edgekit.profiling.report.parts import (
    Group,
    Row,
    badge,
    bullets,
    callout,
    columns,
    folded,
    section,
    table,
    unlike_environments,
)
from edgekit.profiling.report.plot import percent
from edgekit.profiling.report.scale import Scale, spanning
from edgekit.profiling.result import STABLE, Instructions, ProfileResult, Reference, Run

Results = Sequence[ProfileResult]

_MOST_TITLES = 8  # results in one line each at the top; the others are folded

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
    return tag("header", title, _doubt(results), _timed(results), *_limits(results, unlike))


def _title(result: ProfileResult) -> Markup:
    """``words.sentence``, with the figure set large and the verdict as a badge."""
    run = words.headline(result)
    if run is None and result.instructions:
        return _count_title(words.short(result.model), result.instructions[0])
    if run is None:
        return tag("h1", words.sentence(result))
    figure = tag("span", f"{words.ms(run.p50_ms)} ms", class_="figure")
    return join(
        (
            tag("h1", words.short(result.model), " takes ", figure),
            tag("p", words.circumstances(result, run), " ", badge(run.verdict), class_="lead"),
        )
    )


def _count_title(model: str, one: Instructions) -> Markup:
    count = tag("span", f"{words.count(one.per_inference)} instructions", class_="figure")
    how = f"with {words.short(one.runtime)}, {words.plural(one.threads, 'thread')}"
    where = f"on an emulated {words.short(one.core)} {how}: a count, not a time."
    return join(
        (tag("h1", model, " executes ", count), tag("p", "per inference ", where, class_="lead"))
    )


def _titles(results: Results) -> Markup:
    places = list(dict.fromkeys(map(words.place, results)))
    where = places[0] if len(places) == 1 else words.plural(len(places), "machine")
    title = tag("h1", f"{words.plural(len(results), 'profile')} on {where}")
    found = [
        _found(name, result) for name, result in zip(words.names(results), results, strict=True)
    ]
    left = found[_MOST_TITLES:]
    more = folded(f"and {len(left)} more", bullets(left)) if left else None
    return join((title, tag("div", bullets(found[:_MOST_TITLES]), more, class_="lead")))


def _found(name: str, result: ProfileResult) -> Markup:
    """One of several results in one line; the table below has the rest."""
    run = words.headline(result)
    if run is None:
        return join([words.sentence(result, name)])
    figure = tag("strong", f"{words.ms(run.p50_ms)} ms", class_="figure")
    how = f" with {words.short(run.runtime)}, {words.plural(run.threads, 'thread')} "
    return join((name, " takes ", figure, how, badge(run.verdict)))


def _doubt(results: Results) -> Markup | None:
    """Of the figure at the top the first reason; how many more there are, and where they stand."""
    runs = [run for result in results for run in result.runs]
    doubtful = sum(run.verdict != STABLE for run in runs)
    if not doubtful:
        return None
    first = words.headline(results[0]) if len(results) == 1 else None
    reason = words.reasons(first).partition("; ")[0] if first else ""
    said = f"{reason[:1].upper()}{reason[1:]}. " if reason else ""
    of = f"Not trustworthy as measured: {doubtful} of {words.plural(len(runs), 'figure')}."
    return tag(
        "p", said, tag("strong", of), " Each verdict below leads to its reasons.", class_="why"
    )


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
        yield unlike_environments(unlike)
    if any(not result.complete for result in results):
        yield callout("warning", "Incomplete.", INCOMPLETE)
    notes = list(_notes(results))
    if notes:
        titles = " · ".join(title for title, _ in notes)
        each = (tag("p", tag("strong", f"{title}."), " ", text) for title, text in notes)
        yield tag("div", folded(titles, *each), class_="callout info")


def _notes(results: Results) -> Iterator[tuple[str, Child]]:
    """Title and text of what is folded at the top."""
    if any(result.facts.random_weights for result in results):
        yield "Random weights", RANDOM_WEIGHTS
    if any(result.preset == "quick" for result in results):
        yield "A first look", FIRST_LOOK
    said = list(_said(results))
    if said:
        yield f"{words.plural(len(said), 'remark')} while measuring", bullets(said)


def _said(results: Results) -> Iterator[str]:
    """Warnings; random weights have a note of their own."""
    for name, result in zip(words.names(results), results, strict=True):
        for text in result.warnings:
            if not text.lower().startswith("random weights"):
                yield text if len(results) == 1 else f"{name}: {text}"


# ---- all figures -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cards:
    """Which runs are drawn below: the first ``runs`` of the first ``results``."""

    results: int
    runs: int


def figures(results: Results, cards: Cards) -> Markup:
    """Models x runtimes x threads x scopes, with every run on one scale."""
    runs = [run for result in results for run in result.runs]
    counted = [
        f"{name} {words.executes(one)}"
        for result, name in _counted(results)
        for one in result.instructions
    ]
    said = tag("div", bullets(counted)) if counted else None
    if not runs:
        what = _NO_TIME if counted else "No latency was measured."
        return section("Figures", "figures", tag("p", what, class_="absent"), said)
    scale = spanning(
        [v for run in runs for v in (run.min_ms, run.p99_ms or run.p90_ms)],
        zero=True,
        log=_far_apart(runs),
    )
    ends = f"{words.ms(scale.low)} to {words.ms(scale.high)} ms"
    axis = f"{ends}, logarithmic" if scale.log else ends
    # First what a narrow screen has room for.
    heads = columns(
        "runtime", "#p50 ms", "verdict", "95 % interval", f"min · p50 · p99, {axis}", "#p90 ms",
        "#p99 ms", "#samples",
    )  # fmt: skip
    rows = list(_rows(results, cards, scale))
    drawn = table("All figures", heads, rows)
    return section("Figures", "figures", drawn, said, tag("p", _READING, class_="note"))


_NO_TIME = "No time was measured: an emulator counted the instructions that its core executes."


def _counted(results: Results) -> Iterator[tuple[ProfileResult, str]]:
    """Those that have nothing but counts, with their names."""
    for result, name in zip(results, words.names(results, places=False), strict=True):
        if words.emulated(result):
            yield result, name


def _rows(results: Results, cards: Cards, scale: Scale) -> Iterator[Row]:
    for index, (name, result) in enumerate(zip(words.names(results), results, strict=True)):
        if len(results) > 1 and result.runs:
            yield Group(name)  # one model is in the title already
        for number, run in enumerate(result.runs):
            there = index < cards.results and number < cards.runs
            yield _row(run, scale, card_anchor(f"r{index + 1}-latency", number) if there else None)


def _far_apart(runs: Sequence[Run]) -> bool:
    low, high = min(run.min_ms for run in runs), max(run.p90_ms for run in runs)
    return low > 0 and high > 30 * low


def _row(run: Run, scale: Scale, anchor: str | None) -> Sequence[Child]:
    sign = join((badge(run.verdict), "" if run.complete else " incomplete"))
    return (
        join((run.runtime, tag("span", _how(run), class_="how"))),
        tag("strong", words.ms(run.p50_ms)),
        tag("a", sign, href=f"#{anchor}") if anchor else sign,
        words.between(run.p50_interval_ms),
        _range(run, scale),
        words.ms(run.p90_ms),
        words.maybe_ms(run.p99_ms),
        f"{run.samples:,}",
    )


def _how(run: Run) -> str:
    paced = f", {words.pace(run)}" if run.pace_hz else ""
    return f"{words.short(run.scope)}, {words.plural(run.threads, 'thread')}{paced}"


_READING = (
    "Back-to-back unless a pace stands beside the scope. p50 is the median of all samples of all "
    "processes, and its interval a bootstrap over blocks of neighbouring samples; p99 is given "
    "from 1000 samples on. In the drawing the thin line goes from the fastest sample to p99 (to "
    "p90 where p99 is missing), the box from p50 to p90."
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
    rows = [
        (name, result, ref)
        for name, result in zip(words.names(results), results, strict=True)
        for ref in result.references
    ]
    if not rows:
        said = tag("p", "No reference network was timed beside the model.", class_="absent")
        return section("Beside known networks", "references", said)
    heads = columns(
        "model", "runtime", "#threads", "reference", "#its p50 ms", "#model p50 ms",
        "#model / reference", "95 % interval", "#reference MACs", "accuracy", "#turns",
    )  # fmt: skip
    first = 0 if len(results) > 1 else 1  # one model is in the title already
    heads = (dataclasses.replace(heads[first], row=True), *heads[first + 1 :])
    drawn = table(
        "Ratios to reference networks",
        heads,
        [_ratio_row(name, ref)[first:] for name, _, ref in rows],
    )
    said = bullets(compared(*row[1:]) for row in rows[:12])
    note = tag(
        "p",
        "Model and reference were timed in turns in the same process, so that what slows the "
        "machine slows both. Accuracies are the published ones; nothing here measured them.",
        class_="note",
    )
    sources = dict.fromkeys(f"{ref.name}: {ref.source}" for *_, ref in rows if ref.source)
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


def _ratio_row(name: str, ref: Reference) -> Sequence[Child]:
    return (
        name,
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
