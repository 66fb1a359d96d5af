"""Axes: from a value to a share of the length, and the round numbers to write beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)
_LEAST_ROOM = 1e-9  # nothing that is drawn here is known so finely
LOG_FROM = 6.0  # a spike beyond so many times the lowest value would flatten a linear axis


@dataclass(frozen=True)
class Scale:
    """From ``low`` to ``high``, linear or logarithmic; an empty range is widened."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.high - self.low >= _LEAST_ROOM:
            object.__setattr__(self, "high", self.low + max(1.0, 1e-3 * abs(self.low)))

    def at(self, value: float) -> float:
        """Where ``value`` is: 0 at ``low``, 1 at ``high``; what lies outside is put at the end."""
        low, high, value = (_log(v) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self, most: int = 5) -> tuple[float, ...]:
        """At most about ``most`` round values within."""
        return _log_ticks(self, most) if self.log else _linear_ticks(self, most)


def spanning(values: Iterable[float], *, zero: bool = False, log: bool | None = None) -> Scale:
    """A scale that holds all ``values`` with a little room.

    Args:
        values: what is to be shown.
        zero: begin at zero.
        log: logarithmic or not; None: when the values span more than ``LOG_FROM`` times.
    """
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if log is None:
        log = not zero and low > 0 and high > LOG_FROM * low
    if log:
        low, high = max(low, 1e-12), max(high, 1e-12)
        return Scale(low / 1.15, high * 1.15, log=True)
    low = min(0.0, low) if zero else low
    room = max(0.06 * (high - low) or abs(high) * 0.1 or 1.0, _LEAST_ROOM)
    return Scale(low if zero else max(low - room, min(0.0, low)), high + room)


def tick_text(value: float) -> str:
    """A tick's label: ``0.25``, ``10``, ``1.5k``."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"


def _log(value: float) -> float:
    return math.log(max(value, 1e-300))


def _linear_ticks(scale: Scale, most: int) -> tuple[float, ...]:
    span = scale.high - scale.low
    rough = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def _log_ticks(scale: Scale, most: int) -> tuple[float, ...]:
    """1, 2, 5 per decade; then only the decades; then every second of them, and so on."""
    powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    tens = [10.0**p for p in powers if scale.low <= 10.0**p <= scale.high]
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    inside = [value for value in fine if scale.low <= value <= scale.high]
    if len(inside) <= most + 1:
        return tuple(inside) or (scale.low, scale.high)
    chosen = tens if len(tens) > 1 else inside
    return tuple(chosen[:: max(1, math.ceil(len(chosen) / most))])
