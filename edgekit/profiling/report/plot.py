r"""The frame that every chart is drawn in: HTML and SVG that need no script and no library.

    | 2 |        plot: as wide as the page lets it     |
    | 1 |   ___/\___                                    |     x in percent, y in pixels: the text
    |   | 0        500       1000   inference          |     keeps its size on a phone

Own SVG rather than a plotting library: a board that makes a report would have to install it, and
what a library draws scales its text with the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.profiling.report.html import Markup, join, tag
from edgekit.profiling.report.scale import Scale, tick_text

_GRID = 1000.0  # units across of what is stretched: polylines cannot be given in percent
_TEXT_BELOW = 20
_NEAR_END = 0.9


@dataclass(frozen=True)
class Frame:
    """A chart's axes. Pixels grow downwards from ``top``.

    Attributes:
        x: None where the horizontal axis has no numbers.
        top: room above the drawing, for labels.
        x_ticks: values to write under the axis; None: round ones.
    """

    x: Scale | None
    y: Scale | None
    height: int
    top: int = 8
    x_ticks: Sequence[float] | None = None
    y_most: int = 4

    def down(self, value: float) -> float:
        """Pixels from the top to ``value``."""
        assert self.y is not None
        return round(self.top + (1 - self.y.at(value)) * self.height, 1)

    def across(self, value: float) -> str:
        """Percent from the left to ``value``."""
        assert self.x is not None
        return percent(self.x.at(value))

    @property
    def bottom(self) -> int:
        """Pixels from the top to the horizontal axis."""
        return self.top + self.height

    def draw(self, name: str, *parts: Markup, described: tuple[str, str] | None = None) -> Markup:
        """The chart: its two pieces of SVG in a grid.

        Args:
            name: what it shows, in words.
            parts: the drawing.
            described: an id that is free on the page, and more words, where the name is not enough.
        """
        tall = self.bottom + (_TEXT_BELOW if self.x is not None else 4)
        at, more = described or (None, "")
        plot = tag(
            "svg",
            tag("desc", more, id=at) if at else None,
            *self._grid_lines(),
            *parts,
            tag("line", class_="axis", x1="0", x2="100%", y1=self.bottom, y2=self.bottom),
            *self._x_labels(),
            class_="plot",
            role="img",
            aria_label=name,
            aria_describedby=at,
            height=tall,
        )
        if self.y is None:
            return plot
        left = tag("svg", *self._y_labels(), class_="scale", aria_hidden="true", height=tall)
        return tag("div", left, plot, class_="frame")

    def _ticks_y(self) -> tuple[float, ...]:
        return self.y.ticks(self.y_most) if self.y else ()

    def _grid_lines(self) -> Iterable[Markup]:
        for value in self._ticks_y():
            at = self.down(value)
            yield tag("line", class_="grid", x1="0", x2="100%", y1=at, y2=at)

    def _y_labels(self) -> Iterable[Markup]:
        for value in self._ticks_y():
            yield tag("text", tick_text(value), x=42, y=self.down(value) + 4, class_="end")

    def _x_labels(self) -> Iterable[Markup]:
        if self.x is None:
            return
        ticks = self.x.ticks(5) if self.x_ticks is None else self.x_ticks
        for value in ticks:
            share = self.x.at(value)
            yield tag(
                "line", class_="axis", x1=percent(share), x2=percent(share),
                y1=self.bottom, y2=self.bottom + 4,
            )  # fmt: skip
            yield tag(
                "text", tick_text(value), x=percent(share), y=self.bottom + 16, class_=side(share)
            )


def percent(share: float) -> str:
    """A share of the width as SVG wants it."""
    return f"{100 * max(0.0, share):.2f}".rstrip("0").rstrip(".") + "%"


def side(share: float) -> str:
    """The class that keeps a label at ``share`` of the width inside the drawing."""
    if share > _NEAR_END:
        return "end"
    return "middle" if share > 1 - _NEAR_END else "start"


def stretched(class_: str, points: Iterable[tuple[float, float]], *, close: bool) -> Markup:
    """A line, or an area, through ``points``: (share of the width, pixels down).

    The inner SVG is stretched to the width; its strokes are not (see page.css).
    """
    path = "L".join(f"{round(_GRID * x, 1):g} {round(y, 1):g}" for x, y in points)
    if not path:
        return Markup("")
    end = "Z" if close else ""
    return tag("path", d=Markup(f"M{path}{end}"), class_=class_)  # numbers only: nothing to escape


def stretch(height: int, *parts: Markup) -> Markup:
    """What ``stretched`` made, across the whole plot; ``height`` in pixels is kept."""
    return tag(
        "svg", join(parts), viewBox=f"0 0 {_GRID:g} {height}", preserveAspectRatio="none",
        width="100%", height=height,
    )  # fmt: skip


def legend(*entries: tuple[str, str]) -> Markup:
    """What the colours mean: (class, words)."""
    return tag(
        "p",
        (
            tag("span", tag("span", class_=f"key {class_}", aria_hidden="true"), words)
            for class_, words in entries
        ),
        class_="legend",
    )


def figure(title: str, *parts: Markup | str | None, note: str = "") -> Markup:
    """A chart with its title above and what must be known below."""
    below = tag("p", note, class_="note") if note else None
    return tag("figure", tag("figcaption", title), *parts, below)
