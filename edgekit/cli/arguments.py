"""Argument types that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


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


def path(text: str) -> Path:
    """A path. The empty one would be the current folder, which nobody means."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path names nothing")
    return Path(text)
