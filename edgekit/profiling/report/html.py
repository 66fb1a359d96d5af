"""HTML from small parts: everything that is not ``Markup`` is text, and is escaped.

    tag("td", "a < b", class_="number")   <td class="number">a &lt; b</td>

Names come from files that somebody else wrote, so there is no way to put a string into a page but
through ``tag``; a string is cut at ``LONGEST`` characters, so that no name can fill the page.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

LONGEST = 400
_UNSEEN = ("Cc", "Cf", "Cs")  # control, format (bidi ...), half a character
_VOID = {"meta", "br"}
_SHAPES = {"rect", "line", "path", "circle"}


class Markup(str):
    """HTML that is ready to be used."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """One element. An attribute that is None is left out; ``class_`` and ``a_b`` are spelt so."""
    start = name + "".join(_attribute(k, v) for k, v in attributes.items() if v is not None)
    if name in _VOID:
        return Markup(f"<{start}>")
    if name in _SHAPES and not children:
        return Markup(f"<{start}/>")
    return Markup(f"<{start}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """The children one after the other."""
    return Markup("".join(map(_child, children)))


def shown(value: str, limit: int = LONGEST) -> str:
    """A text as it may be shown: of bounded length and without what cannot be seen."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join("\ufffd" if unicodedata.category(c) in _UNSEEN else c for c in cut)


def _child(value: Child) -> str:
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return escape(shown(value))
    if isinstance(value, (int, float)):
        return str(value)
    return join(value)


def _attribute(name: str, value: str | float) -> str:
    text = f"{value:g}" if isinstance(value, float) else value
    safe = text if isinstance(text, Markup) else escape(shown(str(text)))
    return f' {name.rstrip("_").replace("_", "-")}="{safe}"'
