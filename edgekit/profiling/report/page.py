"""The page: one file that needs no network, no script and no library.

verdict -> figures -> known networks -> each result: latency ... how it was measured -> words
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.profiling.report import details, layers, overview, surroundings, words
from edgekit.profiling.report.html import Markup, tag
from edgekit.profiling.report.parts import Missing, bullets, callout, missing_text, section
from edgekit.profiling.result import ProfileResult

_PIXELS = 60_000  # columns of all time series together: about 1.2 MB of page
_MOST_COLUMNS, _LEAST_COLUMNS = 320, 40
_MOST_RUNS = 40  # of one result whose charts are drawn
_MOST_RESULTS = 40  # that are shown in detail

Part = Callable[[ProfileResult, str], Markup | Missing]

# Title in the contents, and what draws it; latency is drawn apart: it needs the page's budget.
_PARTS: tuple[tuple[str, Part], ...] = (
    ("cold start", details.cold_starts),
    ("pace", details.pacing),
    ("sustained", details.long_runs),
    ("layers", layers.layers),
    ("memory", details.memory),
    ("instructions", details.instructions),
    ("environment", surroundings.environment),
    ("how it was measured", surroundings.method),
)


def html_report(results: Sequence[ProfileResult], *, unlike: Sequence[str] = ()) -> str:
    """One self-contained page about ``results``.

    Args:
        results: at least one, in the order to be shown.
        unlike: what differs between their environments, in words: said at the top.
    """
    assert results, "a report of nothing"
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title = words.sentence(results[0]) if len(results) == 1 else f"{len(results)} profiles"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(_policy(style))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="edgekit"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    page = tag("html", head, tag("body", _body(results, unlike)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _policy(style: str) -> str:
    """Nothing may be loaded or run; of styles only the page's own."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _body(results: Sequence[ProfileResult], unlike: Sequence[str]) -> Markup:
    runs = sum(min(len(result.runs), _MOST_RUNS) for result in results[:_MOST_RESULTS])
    each = max(_LEAST_COLUMNS, min(_MOST_COLUMNS, _PIXELS // max(1, runs)))
    left = len(results) - _MOST_RESULTS
    more = callout("info", "Not all in detail:", f"{left} further results.") if left > 0 else None
    return tag(
        "main",
        tag("p", "edgekit · profile report · ", _dates(results), class_="eyebrow"),
        overview.verdict(results, unlike),
        _contents(results),
        overview.figures(results),
        overview.references(results),
        (_result(number, result, each) for number, result in _numbered(results)),
        more,
        surroundings.glossary(),
        tag("footer", "Made by edgekit from its JSON, which has every sample."),
    )


def _dates(results: Sequence[ProfileResult]) -> str:
    days = sorted({result.started[:10] for result in results})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _numbered(results: Sequence[ProfileResult]) -> list[tuple[int, ProfileResult]]:
    return list(enumerate(results[:_MOST_RESULTS], start=1))


def _contents(results: Sequence[ProfileResult]) -> Markup:
    links = [("figures", "figures"), ("known networks", "references")]
    if len(results) == 1:
        drawn, _ = _parts(1, results[0])
        links += [("latency", "r1-latency"), *((title, _anchor(1, title)) for title in drawn)]
    else:
        links += [
            (words.short(result.model), f"r{number}") for number, result in _numbered(results)
        ]
    links.append(("what the words mean", "words"))
    items = (tag("li", tag("a", title, href=f"#{anchor}")) for title, anchor in links)
    return tag("nav", tag("ul", items), aria_label="Contents")


def _anchor(number: int, title: str) -> str:
    """Of our own words only: nothing of a result file is in an id."""
    return f"r{number}-{title.replace(' ', '-')}"


def _parts(number: int, result: ProfileResult) -> tuple[dict[str, Markup], list[Missing]]:
    """What there is of a result, by title, and what is missing."""
    made = [(title, draw(result, _anchor(number, title))) for title, draw in _PARTS]
    drawn = {title: part for title, part in made if not isinstance(part, Missing)}
    return drawn, [part for _, part in made if isinstance(part, Missing)]


def _result(number: int, result: ProfileResult, columns_each: int) -> Markup:
    drawn, missing = _parts(number, result)
    return tag(
        "section",
        tag("h2", f"{words.short(result.model)} on {words.place(result)}"),
        details.latency(result, f"r{number}-latency", columns_each, _MOST_RUNS),
        drawn.values(),
        _not_measured(f"r{number}-missing", missing) if missing else None,
        class_="result",
        id=f"r{number}",
    )


def _not_measured(anchor: str, missing: Sequence[Missing]) -> Markup:
    return section("Not measured", anchor, bullets(map(missing_text, missing)), level=3)
