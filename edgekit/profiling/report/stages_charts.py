"""Bars of stages: one a runtime and number of threads, all of a chart on one scale.

    openvino, 1 thread: 107 ms
    [5][     61.5     ][10][8][ 18 ][4]
    onnxruntime, 1 thread: 116 ms
    [5][       70.9       ][10][8][ 18 ][4]
    0        25        50        75       100

A piece has its figure where it is wide enough, and always its name and figure as a title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.profiling.report import stages_words, words
from edgekit.profiling.report.html import Markup, join, shown, tag
from edgekit.profiling.report.plot import Frame, figure, legend, percent
from edgekit.profiling.report.scale import Scale
from edgekit.profiling.report.stages_words import Part, Setting
from edgekit.profiling.stages_result import ASK, LOOK, WRITE

_ROW, _BAR = 46, 20  # pixels a row takes, and its bar
_LABEL = 15  # from the top of a row to the foot of its name
_ROOM = 0.1  # share of the width that a figure needs within its part
_LONGEST = 16  # characters of a runtime's name
_MOST_BARS = 24  # of one chart; the tables have more


@dataclass(frozen=True)
class Bar:
    """A call in one setting. ``ms``: its own median, which that of the parts need not add up to."""

    call: str
    setting: Setting
    ms: float
    parts: tuple[Part, ...]

    @property
    def end(self) -> float:
        """Where it ends: the parts one after the other."""
        return max(self.ms, sum(part.ms for part in self.parts))


def look(settings: Sequence[Setting], anchor: str) -> Markup | None:
    """``look`` by its stages in every setting; None where it was not timed."""
    return _chart("look by stage: median ms", _bars(settings, LOOK), anchor)


def calls(settings: Sequence[Setting], anchor: str) -> Markup | None:
    """``ask`` and ``caption`` in every setting, on one scale."""
    bars = [*_bars(settings, ASK), *_bars(settings, WRITE)]
    return _chart("ask and caption, with look: median ms", bars, anchor)


def _bars(settings: Sequence[Setting], call: str) -> list[Bar]:
    return [
        Bar(call, one, one.runs[call].p50_ms, tuple(stages_words.parts(one, call)))
        for one in settings
        if call in one.runs
    ]


def _chart(title: str, bars: Sequence[Bar], anchor: str) -> Markup | None:
    if not bars:
        return None
    drawn, left = bars[:_MOST_BARS], len(bars) - _MOST_BARS
    scale = Scale(0, max(bar.end for bar in drawn) * 1.02)
    frame = Frame(x=scale, y=None, height=_ROW * len(drawn), top=0)
    rows = join(_row(frame, _ROW * number, bar) for number, bar in enumerate(drawn))
    chart = frame.draw(title, rows, described=(anchor, _described(drawn)))
    said = f"{words.plural(left, 'further bar')} left out; the tables have them."
    note = said if left > 0 else ""
    return figure(title, chart, legend(*_keys(drawn)), note=note)


def _described(bars: Sequence[Bar]) -> str:
    """The chart in words: what the tables say in full."""
    return "; ".join(f"{_name(bar)} {words.ms(bar.ms)} ms" for bar in bars)


def _name(bar: Bar) -> str:
    """Above its bar, where text does not wrap."""
    of = bar.setting
    name = f"{shown(of.runtime, _LONGEST)}, {words.plural(of.threads, 'thread')}"
    return name if bar.call == LOOK else f"{bar.call}, {name}"


def _keys(bars: Sequence[Bar]) -> list[tuple[str, str]]:
    """Colours of all parts that are drawn, each once; what is left comes last."""
    found = {part.name: part.colour for bar in bars for part in bar.parts}
    ordered = sorted(found, key=lambda name: name == stages_words.REST)
    return [(found[name], name) for name in ordered]


def _row(frame: Frame, top: int, bar: Bar) -> Iterator[Markup]:
    figure_ = tag("tspan", f"{words.ms(bar.ms)} ms", class_="total")
    yield tag("text", f"{_name(bar)}: ", figure_, x="0", y=top + _LABEL, class_="start bar")
    done = 0.0
    for part in bar.parts:
        yield _piece(frame, top + _LABEL + 6, done, part, bar)
        done += part.ms


def _piece(frame: Frame, top: int, done: float, part: Part, bar: Bar) -> Markup:
    assert frame.x is not None
    left, right = frame.x.at(done), frame.x.at(done + part.ms)
    share = f", {words.percent(part.ms / bar.ms)} of {bar.call}" if bar.ms > 0 else ""
    inside = tag(
        "text", words.ms(part.ms), x=percent((left + right) / 2), y=top + 14, class_="middle inside"
    )  # fmt: skip
    return tag(
        "g",
        tag("title", f"{part.label}: {words.ms(part.ms)} ms{share}"),
        tag("rect", class_=f"piece {part.colour}", x=percent(left), width=percent(right - left),
            y=top, height=_BAR),
        inside if right - left >= _ROOM and part.colour != "rest" else None,
    )  # fmt: skip
