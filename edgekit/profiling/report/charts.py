"""The charts of latency: samples by size and in order, a cold start's parts, a long run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from edgekit.profiling.report import words
from edgekit.profiling.report.html import Markup, join, tag
from edgekit.profiling.report.plot import (
    Frame,
    figure,
    legend,
    percent,
    stretch,
    stretched,
)
from edgekit.profiling.report.sampling import Array, Column, columns, histogram, milliseconds
from edgekit.profiling.report.scale import Scale, spanning
from edgekit.profiling.result import ColdStart, Run, Sustained

_LABEL = 14  # pixels a row of labels takes
_MOST_NAMED = 12  # processes whose numbers fit side by side


def distribution(run: Run) -> Markup:
    """Histogram of all samples, with p50, p90 and p99 marked."""
    values = milliseconds(process.samples_ns for process in run.processes)
    if not len(values):
        return figure("Distribution", words.NOT_MEASURED)
    bars = histogram(values)
    marks = [("p50", run.p50_ms), ("p90", run.p90_ms)]
    marks += [("p99", run.p99_ms)] if run.p99_ms is not None else []
    frame = Frame(
        x=Scale(bars.low, bars.high),
        y=Scale(0, 100 * max(*bars.shares, 1e-9) * 1.05),
        height=84,
        top=_LABEL * len(marks) + 8,
        y_most=3,
    )
    name = f"Histogram of {words.plural(run.samples, 'sample')}: " + ", ".join(
        f"{mark} {words.ms(value)} ms" for mark, value in marks
    )
    chart = frame.draw(
        name,
        stretch(frame.bottom, stretched("area", _steps(frame, bars.shares), close=True)),
        join(part for row, mark in enumerate(marks) for part in _mark(frame, row, *mark)),
    )
    note = ""
    if bars.beyond:
        note = (
            f"{words.plural(bars.beyond, 'sample')} beyond the right edge, up to "
            f"{words.ms(bars.largest)} ms."
        )
    return figure("Distribution: % of samples by ms", chart, note=note)


def _steps(frame: Frame, shares: Sequence[float]) -> Iterator[tuple[float, float]]:
    yield 0, frame.bottom
    for index, share in enumerate(shares):
        top = frame.down(100 * share)
        yield index / len(shares), top
        yield (index + 1) / len(shares), top
    yield 1, frame.bottom


def _mark(frame: Frame, row: int, name: str, value: float) -> Iterator[Markup]:
    """A line at ``value`` with its label in a row of its own, so that no two labels meet."""
    assert frame.x is not None
    share = frame.x.at(value)
    at, level = percent(share), _LABEL * (row + 1)
    flip = share > 0.6
    outside = value > frame.x.high
    if not outside:
        yield tag("line", class_="mark", x1=at, x2=at, y1=level - 9, y2=frame.bottom)
    text = f"{name} {words.ms(value)}{' →' if outside else ''}"
    dx, class_ = (-5, "end") if flip else (5, "start")
    yield tag("text", text, x=at, y=level, dx=dx, class_=class_)


def series(run: Run, most: int) -> Markup:
    """Samples in order: the range under each of ``most`` pixel columns, and its median."""
    values = milliseconds(process.samples_ns for process in run.processes)
    if not len(values):
        return figure("In order", words.NOT_MEASURED)
    drawn = columns(values, most)
    y = spanning([c.low for c in drawn] + [c.high for c in drawn])
    frame = Frame(x=Scale(0, max(1, len(values))), y=y, height=110, top=_LABEL + 8)
    chart = frame.draw(
        f"{words.plural(len(values), 'sample')} in order, from {words.ms(float(values.min()))} to "
        f"{words.ms(float(values.max()))} ms",
        stretch(frame.bottom, *_band(frame, drawn)),
        join(_borders(frame, run, values)),
    )
    axis = "ms (logarithmic)" if y.log else "ms"
    return figure(f"In order: {axis} by inference", chart)


def _band(frame: Frame, drawn: Sequence[Column]) -> Iterator[Markup]:
    count = len(drawn)
    at = [(i + 0.5) / count for i in range(count)]
    upper = [(x, frame.down(c.high) - 0.5) for x, c in zip(at, drawn, strict=True)]
    lower = [(x, frame.down(c.low) + 0.5) for x, c in zip(at, drawn, strict=True)]
    yield stretched("band", [*upper, *reversed(lower)], close=True)
    middle = [(x, frame.down(c.middle)) for x, c in zip(at, drawn, strict=True)]
    yield stretched("line", middle, close=False)


def _borders(frame: Frame, run: Run, values: Array) -> Iterator[Markup]:
    """Where one process ends and the next begins."""
    done = 0
    for number, process in enumerate(run.processes, start=1):
        at = percent(done / len(values))
        if number > 1:
            yield tag("line", class_="border", x1=at, x2=at, y1=4, y2=frame.bottom)
        if len(run.processes) <= _MOST_NAMED:
            name = f"process {number}" if len(run.processes) <= 3 else str(number)
            yield tag("text", name, x=at, dx=5, y=_LABEL, class_="start")
        done += len(process.samples_ns)


_PARTS = (("import", "import_ms"), ("load", "load_ms"), ("first inference", "first_ms"))


def starts(of: Sequence[ColdStart]) -> Markup:
    """One bar a fresh process, of its three parts."""
    longest = max((start.total_ms for start in of), default=0) or 1.0
    frame = Frame(x=Scale(0, longest * 1.02), y=None, height=18 * len(of), top=2)
    bars = join(
        bar for row, start in enumerate(of) for bar in _start_bar(frame, 4 + 18 * row, start)
    )
    name = "Cold starts: " + "; ".join(f"{words.ms(start.total_ms)} ms" for start in of)
    keys = [(f"part{i}", words_) for i, (words_, _) in enumerate(_PARTS)]
    return figure("Each fresh process, in ms", frame.draw(name, bars), legend(*keys))


def _start_bar(frame: Frame, top: int, start: ColdStart) -> Iterator[Markup]:
    assert frame.x is not None
    done = 0.0
    for index, (name, attribute) in enumerate(_PARTS):
        value = float(getattr(start, attribute))
        tip = tag("title", f"{name}: {words.ms(value)} ms")
        wide = frame.x.at(done + value) - frame.x.at(done)
        yield tag(
            "rect", tip, class_=f"part{index}", x=frame.across(done), width=percent(wide),
            y=top, height=12,
        )  # fmt: skip
        done += value


def sustained(run: Sustained) -> tuple[Markup, ...]:
    """Latency over time, and on the same axis below it what the sensors said."""
    p50 = _curve(run, "Latency: ms by second", (("line", run.p50_ms), ("line2", run.p90_ms)))
    keys = legend(("line", "p50 of each window"), ("line2", "p90"))
    sensors = (
        ("Clock: MHz by second", run.mhz),
        ("Temperature: °C by second", run.celsius),
        ("Power: W by second", run.watts),
    )
    below = (_curve(run, title, (("line3", v),)) for title, v in sensors if _known(v))
    return (tag("div", p50, keys), *below)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _curve(
    run: Sustained, title: str, lines: Sequence[tuple[str, Sequence[float | None]]]
) -> Markup:
    values = [value for _, line in lines for value in _known(line)]
    if not values:
        return figure(title, words.NOT_MEASURED)
    seconds = run.window_s * max(len(line) for _, line in lines)
    x = Scale(0, seconds if seconds > 0 else 1.0)
    frame = Frame(x=x, y=spanning(values, log=False), height=96, top=_LABEL + 8)
    strokes = (
        stretched(class_, piece, close=False)
        for class_, line in lines
        for piece in _pieces(frame, line)
    )
    name = f"{title}: median {words.ms(median(values))}, from {words.between(_ends(values))}"
    return figure(title, frame.draw(name, stretch(frame.bottom, *strokes), join(_fell(frame, run))))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _pieces(frame: Frame, line: Sequence[float | None]) -> Iterator[list[tuple[float, float]]]:
    """The stretches of ``line`` between readings that are missing; at most one point a pixel."""
    every = max(1, len(line) // 1000)
    piece: list[tuple[float, float]] = []
    for index in range(0, len(line), every):
        value = line[index]
        if value is not None:
            piece.append(((index + 0.5) / len(line), frame.down(value)))
        elif piece:
            yield piece
            piece = []
    yield piece


def _fell(frame: Frame, run: Sustained) -> Iterator[Markup]:
    assert frame.x is not None
    if run.throttled_at_s is not None:
        share = frame.x.at(run.throttled_at_s)
        at = percent(share)
        yield tag("line", class_="fell", x1=at, x2=at, y1=4, y2=frame.bottom)
        flip = share > 0.6
        dx, class_ = (-5, "end") if flip else (5, "start")
        yield tag("text", "fell off", x=at, y=_LABEL - 2, dx=dx, class_=class_)
