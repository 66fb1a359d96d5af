"""The page of results by stage: where the time of a vision-language model goes.

verdict -> figures -> each result: what, bars, a table a runtime, the machine -> words
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgekit.profiling.report import stages_charts, stages_words, surroundings, words
from edgekit.profiling.report.html import Child, Markup, join, tag
from edgekit.profiling.report.parts import (
    Group,
    Row,
    badge,
    bullets,
    callout,
    columns,
    facts,
    folded,
    section,
    table,
    unlike_environments,
)
from edgekit.profiling.report.sheet import sheet
from edgekit.profiling.report.stages_words import Setting
from edgekit.profiling.stages_result import WHOLE, StageRun, StagesResult

Results = Sequence[StagesResult]

_MOST_RESULTS = 20  # that are shown in detail
_MOST_SETTINGS = 24  # of one result, likewise
_MOST_REASONS = 8  # of one call

RANDOM_WEIGHTS = (
    "Each stage takes as long as with trained ones. What the model would answer means nothing, and "
    "how many tokens its captions have is chance."
)


def stages_html(results: Results, *, unlike: Sequence[str] = ()) -> str:
    """One self-contained page about ``results``.

    Args:
        results: at least one, in the order to be shown.
        unlike: what differs between their environments, in words: said at the top.
    """
    assert results, "a report of nothing"
    one = stages_words.sentence(results[0])
    return sheet(one if len(results) == 1 else _plural(results), _body(results, unlike))


def _plural(results: Results) -> str:
    return f"{words.plural(len(results), 'profile')} by stage"


def _body(results: Results, unlike: Sequence[str]) -> Markup:
    named = list(zip(stages_words.names(results), results, strict=True))
    headed = list(zip(stages_words.names(results, places=False), results, strict=True))
    left = len(named) - _MOST_RESULTS
    more = callout("info", "Not all in detail:", f"{left} further results.") if left > 0 else None
    return tag(
        "main",
        tag("p", "edgekit · profile by stage", class_="eyebrow"),
        _header(results, unlike),
        _contents(named[:_MOST_RESULTS]),
        _figures(named),
        (_result(f"r{i}", *pair) for i, pair in enumerate(headed[:_MOST_RESULTS], start=1)),
        more,
        _glossary(results),
        tag("footer", "Made by edgekit from its JSON, which has every sample."),
    )


# ---- the top ---------------------------------------------------------------------------------


def _header(results: Results, unlike: Sequence[str]) -> Markup:
    title = _title(results[0]) if len(results) == 1 else _titles(results)
    return tag("header", title, _doubt(results), *_limits(results, unlike))


def _title(result: StagesResult) -> Markup:
    best = stages_words.headline(result)
    if best is None:
        return tag("h1", stages_words.sentence(result))
    first, *others = best.calls
    also = [stages_words.call(run) for run in others]
    more = f"{stages_words.listed(also)}, with the look, " if also else ""
    return join(
        (
            tag("h1", words.short(result.model), " takes ", _figure(first), " to ",
                stages_words.CALLS[first.stage]),
            tag("p", f"{more}{stages_words.circumstances(result, best)} ", badge(best.verdict),
                class_="lead"),
        )
    )  # fmt: skip


def _figure(run: StageRun) -> Markup:
    return tag("span", f"{words.ms(run.p50_ms)} ms", class_="figure")


def _titles(results: Results) -> Markup:
    names = stages_words.names(results, places=False)
    said = map(stages_words.sentence, results[:_MOST_RESULTS], names)
    return join((tag("h1", _plural(results)), bullets(said)))


def _doubt(results: Results) -> Markup | None:
    """How many calls are not trustworthy; the reasons stand below each table."""
    doubtful, of = map(sum, zip(*map(stages_words.doubtful, results), strict=True))
    if not doubtful:
        return None
    said = f"Not trustworthy as measured: {doubtful} of {words.plural(of, 'call')}."
    return tag("p", tag("strong", said), " Each verdict below leads to its reasons.", class_="why")


def _limits(results: Results, unlike: Sequence[str]) -> Iterator[Markup]:
    if unlike:
        yield unlike_environments(unlike)
    names = stages_words.names(results)
    random = [name for name, one in zip(names, results, strict=True) if one.random]
    if random:
        whose = f": {', '.join(random)}" if len(results) > 1 else ""
        yield callout("info", f"Random weights{whose}.", RANDOM_WEIGHTS)


def _contents(named: Sequence[tuple[str, StagesResult]]) -> Markup:
    links = [("figures", "figures")]
    links += [(name, f"r{number}") for number, (name, _) in enumerate(named, start=1)]
    links += [("what the stages are", "stages"), ("what the words mean", "words")]
    items = (tag("li", tag("a", title, href=f"#{anchor}")) for title, anchor in links)
    return tag("nav", tag("ul", items), aria_label="Contents")


def _figures(named: Sequence[tuple[str, StagesResult]]) -> Markup:
    """Every runtime and number of threads: medians of the three calls."""
    heads = columns("runtime", *(f"#{call} ms" for call in WHOLE), "verdict")
    rows = [row for number, pair in enumerate(named, start=1) for row in _figure_rows(number, pair)]
    if len(named) == 1:
        rows = [row for row in rows if not isinstance(row, Group)]  # it is in the title already
    said = tag("p", _READING, class_="note")
    return section("Figures", "figures", table("Medians of the calls", heads, rows), said)


_READING = (
    "Medians over all processes. ask and caption include look, which an app that asks several "
    "questions about an image pays once. The verdict is the worst of the three."
)


def _figure_rows(number: int, pair: tuple[str, StagesResult]) -> Iterator[Row]:
    name, result = pair
    yield Group(name)
    for index, one in enumerate(stages_words.settings(result)):
        there = index < _MOST_SETTINGS and number <= _MOST_RESULTS
        sign = badge(one.verdict)
        yield (
            one.name,
            *(_median(one, call) for call in WHOLE),
            tag("a", sign, href=f"#{_anchor(f'r{number}', index)}") if there else sign,
        )


def _median(one: Setting, call: str) -> Child:
    run = one.runs.get(call)
    return tag("strong", words.ms(run.p50_ms)) if run else "–"


def _anchor(result: str, index: int) -> str:
    return f"{result}-{index + 1}"  # of our own words only: nothing of a file is in an id


# ---- one result ------------------------------------------------------------------------------


def _result(anchor: str, name: str, result: StagesResult) -> Markup:
    found = stages_words.settings(result)
    shown = found[:_MOST_SETTINGS]
    left = len(found) - len(shown)
    return tag(
        "section",
        tag("h2", f"{name} on {stages_words.place(result)}"),
        _about(result),
        section("Where the time goes", f"{anchor}-time", *_charts(found, anchor), level=3),
        section(
            "Each stage",
            f"{anchor}-each",
            (_setting(_anchor(anchor, index), one) for index, one in enumerate(shown)),
            tag("p", f"{left} further settings are left out.", class_="note") if left else None,
            level=3,
        ),
        _machine(f"{anchor}-machine", result),
        class_="result",
        id=anchor,
    )


def _about(result: StagesResult) -> Markup:
    """What was measured."""
    processes = max((len(run.samples_ms) for run in result.runs), default=0)
    pairs: list[tuple[str, Child]] = [
        ("model", result.model),
        ("parameters", f"{words.count(result.params)}"),
        ("MACs, for an image and a short question", words.count(result.macs)),
        ("weights", "random" if result.random else "not random: those of the bundle"),
        ("image", result.image),
        ("captions", _captions(result)),
        ("fresh processes of each setting", str(processes)),
        ("machine", ", ".join(filter(None, (stages_words.place(result), result.machine.system)))),
    ]
    return facts((name, value) for name, value in pairs if value)


def _captions(result: StagesResult) -> str:
    told = {name: count for name, count in result.tokens.items() if count}
    counts = set(told.values())
    if len(counts) == 1:
        return words.plural(counts.pop(), "token")
    each = (f"{words.plural(count, 'token')} ({name})" for name, count in told.items())
    return ", ".join(each)


def _charts(found: Sequence[Setting], anchor: str) -> Iterator[Markup]:
    drawn = (
        stages_charts.look(found, f"{anchor}-look"),
        stages_charts.calls(found, f"{anchor}-calls"),
    )
    cards = [tag("div", chart, class_="card") for chart in drawn if chart]
    if not cards:
        yield tag("p", "No call was timed.", class_="absent")
        return
    yield from cards
    yield tag("p", _ADDING, class_="note")


_ADDING = (
    "Each piece is the median of its stage, and the figure above a bar the median of the whole "
    "call. The rest is what stands between the stages; where figures are noisy it is also that "
    "medians do not add up. A pointer on a piece shows its name and figure; the tables have them "
    "all."
)

_HEADS = columns(
    "stage", "#p50 ms", "#of look", "#p10 ms", "#p90 ms", "#samples", "#spread", "verdict"
)  # first what a narrow screen has room for


def _setting(anchor: str, one: Setting) -> Markup:
    """The table of a runtime and number of threads, and why not all of it is trustworthy."""
    heading = tag("h4", one.name, " ", badge(one.verdict))
    drawn = table(f"Stages, {one.name}", _HEADS, list(_rows(one)))
    return tag("div", heading, drawn, *_why(one), id=anchor)


def _rows(one: Setting) -> Iterator[Row]:
    by_group = groupby(one.runs.values(), key=lambda run: stages_words.stage(run.stage).group)
    for group, runs in by_group:
        yield Group(group)
        yield from (_row(one, run) for run in runs)


def _row(one: Setting, run: StageRun) -> Sequence[Child]:
    share = one.of_look(run)
    return (
        run.stage,
        tag("strong", words.ms(run.p50_ms)),
        "–" if share is None else words.percent(share),
        words.ms(run.p10_ms),
        words.ms(run.p90_ms),
        f"{stages_words.samples(run):,}",
        "–" if run.spread is None else words.percent(run.spread),
        badge(run.verdict),
    )


def _why(one: Setting) -> Iterator[Markup]:
    """Reasons of the calls in the open, those of single stages on demand."""
    of_calls = stages_words.reasons(one.calls, _MOST_REASONS)
    # Of a single stage the first: the worst, which explains the others.
    others = stages_words.reasons([r for r in one.runs.values() if r.stage not in WHOLE], 1)
    if of_calls:
        yield tag("div", _reasons(of_calls), class_="reasons")
    left = {reason: stages for reason, stages in others.items() if reason not in of_calls}
    if left:
        yield folded("Why single stages are not trustworthy", _reasons(left))


def _reasons(found: dict[str, list[str]]) -> Markup:
    return bullets(f"{', '.join(stages)}: {reason}" for reason, stages in found.items())


def _machine(anchor: str, result: StagesResult) -> Markup:
    return section(
        "Environment",
        anchor,
        surroundings.computer(result.machine),
        tag("h4", "Before and after"),
        surroundings.states(result.environment),
        level=3,
    )


# ---- the words -------------------------------------------------------------------------------


def _glossary(results: Results) -> Markup:
    known = [_meaning(row) for row in stages_words.known(results)]
    heads = columns("stage", "computed by", "what it does")
    stages = section(
        "What the stages are",
        "stages",
        table("Stages", heads, known),
        tag("p", _BETWEEN, class_="note"),
    )
    return join((stages, section("What the words mean", "words", surroundings.verdicts(), _last())))


def _meaning(row: stages_words.Stage) -> Sequence[Child]:
    name = f"{row.name}N" if row.name == stages_words.FUSION else row.name
    return (name, row.by or "all of it", row.meaning)


_BETWEEN = (
    "A graph is computed by the runtime, its copies in and out included. numpy stands between the "
    "graphs and takes about as long whatever the runtime; it does not get faster with threads. The "
    "percentage beside a stage is its median by that of look, of stages after look as well."
)


def _last() -> Markup:
    pairs = [
        ("p10, p50, p90", "a tenth, half and nine tenths of all samples are not above it"),
        ("spread", "largest less smallest of the processes' medians, by the median"),
        ("samples", "of all processes; step has one a token"),
    ]
    return table("Figures", columns("word", "it says"), pairs)
