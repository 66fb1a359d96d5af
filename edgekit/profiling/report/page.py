"""The page: one file that needs no network, no script and no library.

verdict -> figures -> known networks -> each result: latency ... how it was measured -> words
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.profiling.report import details, layers, overview, surroundings, words
from edgekit.profiling.report.html import Markup, tag
from edgekit.profiling.report.parts import Missing, bullets, callout, missing_text, section
from edgekit.profiling.report.sheet import sheet
from edgekit.profiling.result import ProfileResult

_MOST_RESULTS = 40  # that are shown in detail

# Of a whole page, so that it stays below 1.5 MB however much was measured.
_COLUMNS = 8_000  # of time series, 47 bytes each
_CHARTS = 48  # runs that are drawn, 4 kB each beside their columns
_KERNELS = 750  # in charts and tables of all kernels, 800 bytes each
_MOST_COLUMNS = 320  # of one time series: about as many as it has pixels


@dataclass(frozen=True)
class Room:
    """What each part may take of the page: columns a time series, runs a result, kernels a run."""

    columns: int
    runs: int
    kernels: int


Part = Callable[[ProfileResult, str, Room], Markup | Missing]

# Title in the contents, and what draws it.
_PARTS: tuple[tuple[str, Part], ...] = (
    ("latency", lambda result, at, room: details.latency(result, at, room.columns, room.runs)),
    ("cold start", lambda result, at, _: details.cold_starts(result, at)),
    ("pace", lambda result, at, _: details.pacing(result, at)),
    ("sustained", lambda result, at, _: details.long_runs(result, at)),
    ("layers", lambda result, at, room: layers.layers(result, at, room.kernels)),
    ("memory", lambda result, at, _: details.memory(result, at)),
    ("instructions", lambda result, at, _: details.instructions(result, at)),
    ("environment", lambda result, at, _: surroundings.environment(result, at)),
    ("how it was measured", lambda result, at, _: surroundings.method(result, at)),
)


def html_report(results: Sequence[ProfileResult], *, unlike: Sequence[str] = ()) -> str:
    """One self-contained page about ``results``.

    Args:
        results: at least one, in the order to be shown.
        unlike: what differs between their environments, in words: said at the top.
    """
    assert results, "a report of nothing"
    title = words.sentence(results[0]) if len(results) == 1 else f"{len(results)} profiles"
    return sheet(title, _body(results, unlike))


def _body(results: Sequence[ProfileResult], unlike: Sequence[str]) -> Markup:
    room = _room(results[:_MOST_RESULTS])
    left = len(results) - _MOST_RESULTS
    more = callout("info", "Not all in detail:", f"{left} further results.") if left > 0 else None
    named = list(zip(words.names(results, places=False), results, strict=True))
    detailed = [
        _result(number, name, result, room)
        for number, (name, result) in enumerate(named[:_MOST_RESULTS], start=1)
    ]
    return tag(
        "main",
        tag("p", "edgekit · profile report · ", _dates(results), class_="eyebrow"),
        overview.verdict(results, unlike),
        _contents(results, detailed),
        overview.figures(results, overview.Cards(_MOST_RESULTS, room.runs)),
        overview.references(results),
        (one.page for one in detailed),
        more,
        surroundings.glossary(),
        tag("footer", "Made by edgekit from its JSON, which has every sample."),
    )


def _room(results: Sequence[ProfileResult]) -> Room:
    runs = max(1, _CHARTS // len(results))
    drawn = sum(min(len(result.runs), runs) for result in results)
    tables = sum(bool(run.layers) for result in results for run in result.layers)
    columns = min(_MOST_COLUMNS, _COLUMNS // max(1, drawn))
    return Room(columns=columns, runs=runs, kernels=_KERNELS // max(1, tables))


def _dates(results: Sequence[ProfileResult]) -> str:
    days = sorted({result.started[:10] for result in results})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


@dataclass(frozen=True)
class _Detailed:
    """One result, drawn: ``parts`` are the titles and anchors of what there is."""

    page: Markup
    anchor: str
    parts: tuple[tuple[str, str], ...]


def _result(number: int, name: str, result: ProfileResult, room: Room) -> _Detailed:
    anchor = f"r{number}"  # of our own words only: nothing of a result file is in an id
    made = [
        (title, at, draw(result, at, room))
        for title, draw in _PARTS
        for at in (f"{anchor}-{title.replace(' ', '-')}",)
    ]
    missing = [part for _, _, part in made if isinstance(part, Missing)]
    page = tag(
        "section",
        tag("h2", f"{name} on {words.place(result)}"),
        (part for _, _, part in made if not isinstance(part, Missing)),
        _not_measured(f"{anchor}-missing", missing) if missing else None,
        class_="result",
        id=anchor,
    )
    there = tuple((title, at) for title, at, part in made if not isinstance(part, Missing))
    return _Detailed(page, anchor, there)


def _not_measured(anchor: str, missing: Sequence[Missing]) -> Markup:
    return section("Not measured", anchor, bullets(map(missing_text, missing)), level=3)


def _contents(results: Sequence[ProfileResult], detailed: Sequence[_Detailed]) -> Markup:
    links = [("figures", "figures"), ("known networks", "references")]
    if len(results) == 1:
        links += detailed[0].parts
    else:
        links += [
            (name, one.anchor) for name, one in zip(words.names(results), detailed, strict=False)
        ]
    links.append(("what the words mean", "words"))
    items = (tag("li", tag("a", title, href=f"#{anchor}")) for title, anchor in links)
    return tag("nav", tag("ul", items), aria_label="Contents")
