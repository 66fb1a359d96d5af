"""Published figures beside counted ones, each judged by its own rounding and its own unit.

agrees       equal to the last digit that was published: "4 M" is 3.5 to 4.5 M
truncated    the counted figure cut off instead of rounded: 12.74 M published as 12 M
other unit   equal to another count than its name says: FLOPs that are multiply-adds
differs      none of these: flagged
not compared published for another input, or no count at all (an accuracy)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from edgekit.bundle import Figure

AGREES, TRUNCATED, OTHER_UNIT, DIFFERS, NOT_COMPARED = OUTCOMES = (
    "agrees", "truncated", "other unit", "differs", "not compared"
)  # fmt: skip

NO_COUNT = "no count"

# What a metric's name means -> the counts it is compared with, the one that it names first.
_NAMES: dict[str, tuple[str, ...]] = {
    "params": ("params",),
    "parameters": ("params",),
    "macs": ("macs", "madds"),
    "madds": ("madds", "macs"),
    "mult-adds": ("madds", "macs"),
    "multiply-adds": ("madds", "macs"),
    "flops (multiply-adds)": ("madds", "macs"),
    "flops": ("flops", "madds", "macs"),
}
_SHOWN = {"params": "params", "macs": "MACs", "madds": "MAdds", "flops": "FLOPs"}

_UNITS = {"": 0, "k": 3, "m": 6, "million": 6, "g": 9, "b": 9, "billion": 9}
_FIGURE = re.compile(r"(?P<number>\d{1,3}(?:,\d{3})+|\d{1,18}(?:\.\d{1,9})?)\s*(?P<unit>[a-z]*)")
_AT = re.compile(r"(?P<name>.+) at (?P<pixels>\d{1,5}) pixels")


class Totals(Protocol):
    """What counts and a manifest's facts both have."""

    @property
    def params(self) -> int:
        """Parameters."""

    @property
    def macs(self) -> int:
        """Of convolution, linear and matmul."""

    @property
    def elementwise_multiplies(self) -> int:
        """Of coefficients and feature maps."""

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies."""

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""


@dataclass(frozen=True)
class Comparison:
    """One published figure. ``counted`` is None where it was not compared."""

    metric: str
    value: str
    source: str
    counted: int | None
    outcome: str
    note: str


@dataclass(frozen=True)
class Interval:
    """A published count: ``value`` in units of ``step``, the last digit that was published."""

    value: Decimal
    step: Decimal

    def rounds(self, count: int) -> bool:
        """Whether ``count`` lies within half a step; both ends count as in it."""
        return abs(count - self.value) * 2 <= self.step

    def truncates(self, count: int) -> bool:
        """Whether ``count`` with the digits behind the last one cut off is the value."""
        return count // self.step * self.step == self.value


@dataclass(frozen=True)
class Counted:
    """What was counted, as far as it bears on whether a figure is about it.

    Attributes:
        totals: of the model as defined.
        pixels: side of the input.
        published_pixels: of the figures that name no size.
        same_outputs: as wide as published.
    """

    totals: Totals
    pixels: int
    published_pixels: int
    same_outputs: bool


def compare(figure: Figure, counted: Counted) -> Comparison:
    """Judge one published figure; ``MACs at 96 pixels`` is for that side of the input."""
    metric, at = _split(figure.metric)
    names, published = _NAMES.get(metric), parse(figure.value)
    if names is None or published is None:
        return _not_compared(figure, NO_COUNT)
    if not counted.same_outputs:
        return _not_compared(figure, "for another number of outputs than counted")
    at = at or counted.published_pixels
    if at != counted.pixels and names != ("params",):
        return _not_compared(figure, f"for {at} x {at}, counted at {counted.pixels}")
    return _judge(figure, published, names, counted.totals)


def parse(text: str) -> Interval | None:
    """``"1.95 M"``, ``"600k"``, ``"5,314,080"``; None for what is no count, e.g. ``"51.4 %"``."""
    found = _FIGURE.fullmatch(text.strip().lower().removeprefix("~").strip())
    if found is None or found["unit"] not in _UNITS:
        return None
    number = Decimal(found["number"].replace(",", ""))
    unit = Decimal(10) ** _UNITS[found["unit"]]
    decimals = len(found["number"].partition(".")[2])
    return Interval(number * unit, unit / Decimal(10) ** decimals)


def _split(metric: str) -> tuple[str, int]:
    """The metric's plain name, and the pixels it is for, or 0."""
    name = metric.strip().lower()
    found = _AT.fullmatch(name)
    return (found["name"], int(found["pixels"])) if found else (name, 0)


def _judge(
    figure: Figure, published: Interval, names: tuple[str, ...], totals: Totals
) -> Comparison:
    counted = {name: int(getattr(totals, name)) for name in names}
    own = names[0]
    if published.rounds(counted[own]):
        return _comparison(figure, counted[own], AGREES, "to the last digit published")
    for name in names[1:]:
        if published.rounds(counted[name]):
            return _comparison(figure, counted[name], OTHER_UNIT, _is_the(figure, name))
    if published.truncates(counted[own]):
        note = f"{figure.value} is this figure truncated, not rounded"
        return _comparison(figure, counted[own], TRUNCATED, note)
    for name in names[1:]:
        if published.truncates(counted[name]):
            note = f"{_is_the(figure, name)}, truncated, not rounded"
            return _comparison(figure, counted[name], OTHER_UNIT, note)
    return _comparison(figure, counted[own], DIFFERS, _difference(published, counted[own]))


def _is_the(figure: Figure, name: str) -> str:
    return f"published as {figure.metric}, it is the number of {_SHOWN[name]}"


def _difference(published: Interval, counted: int) -> str:
    by = f"{(Decimal(counted) - published.value) / published.value:+.1%}" if published.value else ""
    low, high = (published.value + sign * published.step / 2 for sign in (-1, 1))
    return f"off by {by or counted}: rounding allows {low:,.0f} to {high:,.0f}"


def _comparison(figure: Figure, counted: int, outcome: str, note: str) -> Comparison:
    return Comparison(figure.metric, figure.value, figure.source, counted, outcome, note)


def _not_compared(figure: Figure, note: str) -> Comparison:
    return Comparison(figure.metric, figure.value, figure.source, None, NOT_COMPARED, note)
