"""The charts of layers: time against MACs in the order of the graph, and the roofline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.profiling.report import words
from edgekit.profiling.report.html import Markup, join, tag
from edgekit.profiling.report.plot import Frame, figure, legend, percent, stretch, stretched
from edgekit.profiling.report.scale import spanning
from edgekit.profiling.result import LayerRun, LayerTime

NUMBERED = 5  # points of the roofline that are named below it
_HALF = 72  # pixels for each of the two halves


@dataclass(frozen=True)
class Rate:
    """A kernel that computes MACs, with what it achieves.

    Attributes:
        gmacs: 1e9 MACs per second.
        intensity: MACs per byte moved; None where the bytes are not known.
    """

    layer: LayerTime
    gmacs: float
    intensity: float | None


def rates(layers: Sequence[LayerTime]) -> list[Rate]:
    """Of the kernels whose MACs are known and not zero, slowest first."""
    known = [layer for layer in layers if layer.macs and layer.ms > 0]
    return [
        Rate(layer, (layer.macs or 0) / layer.ms / 1e6, _intensity(layer))
        for layer in sorted(known, key=lambda layer: -layer.ms)
    ]


def _intensity(layer: LayerTime) -> float | None:
    return layer.macs / layer.bytes_moved if layer.macs and layer.bytes_moved else None


def shares(layers: Sequence[LayerTime]) -> list[tuple[float, float]]:
    """Of the sum: (share of the time, share of the MACs) of each kernel."""
    time = sum(layer.ms for layer in layers) or 1.0
    macs = sum(layer.macs or 0 for layer in layers) or 1
    return [(layer.ms / time, (layer.macs or 0) / macs) for layer in layers]


def butterfly(of: LayerRun, most: int) -> Markup:
    """Kernels in order, the ``most`` slowest: time upwards, MACs downwards, as shares of all."""
    both = list(zip(of.layers, shares(of.layers), strict=True))
    bound = sorted((layer.ms for layer in of.layers), reverse=True)[:most][-1]
    drawn = [item for item in both if item[0].ms >= bound][:most]
    high = max(max(pair) for _, pair in drawn) or 1.0
    frame = Frame(x=None, y=None, height=2 * _HALF, top=4)
    wide = 1 / len(drawn)
    bars = join(
        bar for i, item in enumerate(drawn) for bar in _pair_of_bars(i * wide, wide, *item, high)
    )
    zero = frame.top + _HALF
    middle = tag("line", class_="axis", x1="0", x2="100%", y1=zero, y2=zero)
    all_of_them = len(drawn) == len(both)
    which = "Kernels" if all_of_them else f"The {len(drawn)} slowest of {len(both)} kernels"
    name = f"{which} in the order of the graph; the highest bar is {words.percent(high)}"
    keys = legend(("time", "share of the time, upwards"), ("macs", "share of the MACs, downwards"))
    return figure(name, frame.draw(name, bars, middle), keys)


def _pair_of_bars(
    left: float, wide: float, layer: LayerTime, pair: tuple[float, float], high: float
) -> Iterator[Markup]:
    time, macs = (max(0.0, _HALF * share / high) for share in pair)
    tip = tag(
        "title",
        f"{layer.kernel}: {words.ms(layer.ms)} ms, {words.percent(pair[0])} of the time, "
        f"{words.percent(pair[1])} of the MACs",
    )
    box = {"x": percent(left + wide * 0.1), "width": percent(wide * 0.8)}
    zero = 4 + _HALF
    yield tag(
        "g",
        tip,
        tag("rect", class_="time", y=round(zero - time, 1), height=round(time, 1), **box),
        tag("rect", class_="macs", y=zero, height=round(macs, 1), **box) if macs else None,
    )


def roofline(of: LayerRun, most: int) -> Markup | None:
    """Achieved rate against arithmetic intensity, or None where the bytes are not known.

    The roof is the best that this run achieved, in MACs and in bytes per second: nothing here
    knows the machine's own peak.
    """
    points = [(rate.intensity, rate) for rate in rates(of.layers) if rate.intensity]
    if len(points) < 2:
        return None
    best = max(rate.gmacs for _, rate in points)
    fastest = max(rate.gmacs / intensity for intensity, rate in points)  # 1e9 bytes per second
    x = spanning([intensity for intensity, _ in points], log=True)
    y = spanning([rate.gmacs for _, rate in points], log=True)
    frame = Frame(x=x, y=y, height=190, top=22)
    total = sum(layer.ms for layer in of.layers) or 1.0
    dots = join(
        _dot(frame, number, i, rate, total) for number, (i, rate) in _painted(points[:most])
    )
    chart = frame.draw(
        f"{words.plural(len(points), 'kernel')}: GMAC/s against MACs per byte; "
        f"the best reaches {words.ms(best)} GMAC/s",
        stretch(frame.bottom, stretched("roof", _roof(frame, best, fastest), close=False)),
        tag("text", f"best here: {words.ms(best)} GMAC/s", x="100%", y=14, class_="end"),
        dots,
    )
    named = tag(
        "ol",
        (
            tag("li", f"{_name(rate.layer)}: {words.ms(rate.layer.ms)} ms, "
                f"{words.ms(rate.gmacs)} GMAC/s at {words.ms(intensity)} MACs per byte")
            for intensity, rate in points[:NUMBERED]
        ),
        class_="named",
    )  # fmt: skip
    note = (
        f"The roof is the best this run achieved: {words.ms(best)} GMAC/s in one kernel, "
        f"{words.ms(fastest)} GB/s in one kernel. It is not the machine's peak. Bytes are weights, "
        "inputs and outputs once each; a larger dot takes more of the time."
    )
    title = "Roofline: achieved GMAC/s by MACs per byte, both logarithmic"
    return figure(title, chart, named, note=note)


_Point = tuple[float, Rate]


def _painted(points: Sequence[_Point]) -> Iterator[tuple[int, _Point]]:
    """Slowest first is how they are numbered; they are painted last, on top of the others."""
    yield from reversed(list(enumerate(points, start=1)))


def _name(layer: LayerTime) -> str:
    return layer.scope or ", ".join(layer.layers) or layer.kernel


def _roof(frame: Frame, best: float, fastest: float) -> list[tuple[float, float]]:
    assert frame.x is not None and frame.y is not None
    x, y = frame.x, frame.y
    ridge = best / fastest
    start = max(x.low, y.low / fastest)
    corners = [(start, fastest * start), (ridge, best), (x.high, best)]
    return [(x.at(i), frame.down(rate)) for i, rate in corners if i <= x.high]


def _dot(frame: Frame, number: int, intensity: float, rate: Rate, total: float) -> Markup:
    assert frame.x is not None
    share = rate.layer.ms / total
    radius = round(min(11.0, max(3.0, 28 * max(0.0, share) ** 0.5)), 1)
    at, down = frame.across(intensity), frame.down(rate.gmacs)
    named = number <= NUMBERED
    return tag(
        "g",
        tag("title", f"{_name(rate.layer)}: {words.percent(share)} of the time"),
        tag("circle", class_="dot named" if named else "dot", cx=at, cy=down,
            r=max(radius, 8.0) if named else radius),
        tag("text", str(number), class_="middle inside", x=at, y=down + 4) if named else None,
    )  # fmt: skip
