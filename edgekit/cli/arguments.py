"""Argument types that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def batch(text: str) -> int | Literal["dynamic"]:
    """A whole number of at least 1, or ``dynamic``."""
    if text == "dynamic":
        return "dynamic"
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        message = f"{text!r} is no batch: give a positive whole number, or dynamic"
        raise argparse.ArgumentTypeError(message) from None


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``image:1,3,224,224``, or ``1,3,224,224`` for the only input, whose name is then ""."""
    name, _, sizes = text.rpartition(":")
    try:
        return name, tuple(positive(size) for size in sizes.split(","))
    except argparse.ArgumentTypeError:
        message = f"{text!r} is not a shape like 1,3,224,224 or image:1,3,224,224"
        raise argparse.ArgumentTypeError(message) from None


def rgb(text: str) -> tuple[float, float, float]:
    """Three numbers, one a channel."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
        if not all(map(math.isfinite, (red, green, blue))):
            raise ValueError
    except ValueError:
        message = f"{text!r} is not three numbers like 0.485,0.456,0.406"
        raise argparse.ArgumentTypeError(message) from None
    return red, green, blue


def comma_list(kind: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """``a,b`` as a tuple of what ``kind`` makes of each."""

    def read(text: str) -> tuple[T, ...]:
        words = [word.strip() for word in text.split(",")]
        if not all(words):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list like a,b")
        return tuple(kind(word) for word in words)

    return read


def rate(text: str) -> float:
    """Times a second, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate like 30, in starts a second")
    return value


def duration(text: str) -> float:
    """Seconds of ``60``, ``90s``, ``5m`` or ``1h``, above 0."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text, re.ASCII)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 60, 90s or 5m")
    return value


def path(text: str) -> Path:
    """A path. The empty one would be the current folder, which nobody means."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path names nothing")
    return Path(text)


def add_fc_squeeze(group: argparse._ArgumentGroup) -> None:
    """The choice that networks of one id in the literature differ in; 8 is a row of its own."""
    group.add_argument(
        "--fc-squeeze",
        type=positive,
        metavar="N",
        help="of dcd-mobilenetv2-*: 8, or 16 (default: 16)",
    )
