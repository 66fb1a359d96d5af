"""What sections are built of: tables, folded parts, callouts, a verdict's badge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.profiling.report import words
from edgekit.profiling.report.html import Child, Markup, tag
from edgekit.profiling.result import CONTENDED, NOISY, STABLE, THROTTLED

_LONG_WORD = 32  # characters that a column may be widened by
_SHORT = 16
MOST_ROWS = 300  # of one table; the JSON has them all

_SIGNS = {STABLE: "●", NOISY: "▲", THROTTLED: "▼", CONTENDED: "◆"}  # not by colour alone


@dataclass(frozen=True)
class Missing:
    """A part of the report that was not measured, and how it is."""

    what: str
    how: str = ""


@dataclass(frozen=True)
class Column:
    """Of a table. ``number``: set flush right; ``row``: its cells name their rows."""

    title: str
    number: bool = False
    row: bool = False


@dataclass(frozen=True)
class Group:
    """A row that names those below it."""

    title: str


Row = Sequence[Child] | Group


def table(name: str, columns: Sequence[Column], rows: Sequence[Row]) -> Markup:
    """A table that scrolls by itself where the page is narrow."""
    head = tag("tr", (tag("th", c.title, scope="col", class_=_class(c)) for c in columns))
    body = (_row(columns, row) for row in rows[:MOST_ROWS])
    left = len(rows) - MOST_ROWS
    more = tag("p", f"and {left:,} more, in the JSON", class_="note") if left > 0 else None
    drawn = tag(
        "table", tag("caption", name, class_="unseen"), tag("thead", head), tag("tbody", body)
    )
    # Focusable, so that it can be scrolled without a mouse.
    scrolls = tag("div", drawn, class_="scroll", role="region", aria_label=name, tabindex="0")
    return tag("div", scrolls, more, class_="table")


def _row(columns: Sequence[Column], row: Row) -> Markup:
    if isinstance(row, Group):
        name = tag("span", row.title, class_="group")
        return tag("tr", tag("th", name, colspan=str(len(columns)), scope="rowgroup"))
    return tag("tr", (_cell(*pair) for pair in zip(columns, row, strict=True)))


def _cell(column: Column, value: Child) -> Markup:
    class_ = _class(column) or _width(value)
    if column.row:
        return tag("th", value, scope="row", class_=class_)
    return tag("td", value, class_=class_)


def _width(value: Child) -> str | None:
    """Short texts stay on one line; only too long a word may be broken within."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return None
    if max(map(len, value.split()), default=0) > _LONG_WORD:
        return "long"
    return "short" if len(value) <= _SHORT else None


def _class(column: Column) -> str | None:
    return "number" if column.number else None


def columns(*titles: str) -> tuple[Column, ...]:
    """Columns by title; the first names the row, and a title that starts with # is of numbers."""
    return tuple(
        Column(title.lstrip("#"), number=title.startswith("#"), row=index == 0)
        for index, title in enumerate(titles)
    )


def badge(verdict: str) -> Markup:
    """The verdict as a sign and a word."""
    known = verdict if verdict in _SIGNS else "unknown"
    sign = tag("span", _SIGNS.get(verdict, "?"), aria_hidden="true")
    return tag("span", sign, " ", verdict, class_=f"badge {known}")


def callout(kind: str, title: str, *content: Child) -> Markup:
    """What must not be overlooked; ``kind`` is ``info`` or ``warning``."""
    return tag("div", tag("strong", title), " ", *content, class_=f"callout {kind}", role="note")


def unlike_environments(unlike: Iterable[Child]) -> Markup:
    """That results on one page should not be compared; ``unlike`` is what differs."""
    return callout(
        "warning",
        "Unlike environments.",
        "These results were made in environments that differ, and were put on one page by force: "
        "a difference between their figures may be the environment's.",
        bullets(unlike),
    )


def bullets(items: Iterable[Child]) -> Markup:
    """A list."""
    cut = list(items)
    more = [f"and {len(cut) - MOST_ROWS:,} more"] if len(cut) > MOST_ROWS else []
    return tag("ul", (tag("li", item) for item in [*cut[:MOST_ROWS], *more]))


def folded(title: str, *content: Child) -> Markup:
    """Shown on demand."""
    return tag("details", tag("summary", title), *content)


def section(title: str, anchor: str, *content: Child, level: int = 2) -> Markup:
    """A part of the page under its heading."""
    return tag("section", tag(f"h{level}", title), *content, id=anchor)


def absent(missing: Missing) -> Markup:
    """What is not there is said."""
    return tag("p", missing_text(missing), class_="absent")


def missing_text(missing: Missing) -> str:
    """``A fixed pace: not measured; --pace 30 does``."""
    tail = f"; {missing.how}" if missing.how else ""
    return f"{missing.what}: {words.NOT_MEASURED}{tail}."


def code(text: str) -> Markup:
    """A command, a name or a hash."""
    return tag("code", text)


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Names and values, one beside the other."""
    shown = list(pairs)[:MOST_ROWS]
    return tag("dl", (tag("div", tag("dt", name), tag("dd", value)) for name, value in shown))
