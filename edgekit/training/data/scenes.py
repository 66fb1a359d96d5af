"""Drawn scenes: coloured shapes on a noisy ground, of which everything is known.

A vision-language model cannot be tried without pictures and words that belong together, and none
come with Python. A scene has one to four things that do not overlap; all of it follows from its
number, so nothing is downloaded, kept or shuffled.

    scenes          `COUNT` scenes to train on
    scenes:COUNT    so many

Those that are held out have numbers that no training set reaches.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from edgekit.errors import UsageError

SIDE = 128  # pixels of an image, both ways
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (45, 90, 220),
    "yellow": (236, 200, 40),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
}
SIZES = {"small": (20, 28), "large": (38, 48)}  # pixels a side, from and to
MOST = 4
COUNT = 2000
HELD_OUT_FROM, HELD_OUT = 1_000_000, 200  # numbers of the scenes that are not trained on
_TRIES = 200


@dataclass(frozen=True)
class Thing:
    """One thing: ``box`` is x1, y1, x2, y2 in pixels, the last two not part of it."""

    shape: str
    colour: str
    size: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """What is to be seen in image ``number``."""

    number: int
    ground: int
    things: tuple[Thing, ...]


def numbers_of(place: str) -> tuple[range, range]:
    """Of the scenes to train on and of those that are held out.

    Args:
        place: how many to train on; "" for `COUNT`.

    Raises:
        UsageError: it is no number, or none that is possible.
    """
    count = int(place) if place.isascii() and place.isdecimal() and len(place) < 8 else 0
    if place and not 2 <= count <= HELD_OUT_FROM:
        raise UsageError(
            f"data 'scenes:{place}': write scenes:COUNT, with 2 to {HELD_OUT_FROM:,} scenes to "
            "train on"
        )
    return range(count or COUNT), range(HELD_OUT_FROM, HELD_OUT_FROM + HELD_OUT)


def scene(number: int, seed: int = 0) -> Scene:
    """The scene of this number, the same each time."""
    draw = random.Random(f"scene/{seed}/{number}")
    things: list[Thing] = []
    for _ in range(draw.randint(1, MOST)):
        box, size = _free_box(draw, things)
        if box is not None:
            things.append(Thing(draw.choice(SHAPES), draw.choice([*COLOURS]), size, box))
    return Scene(number, draw.randint(90, 150), tuple(things))


def _free_box(
    draw: random.Random, things: list[Thing]
) -> tuple[tuple[int, int, int, int] | None, str]:
    size = draw.choice([*SIZES])
    side = draw.randint(*SIZES[size])
    for _ in range(_TRIES):
        x, y = draw.randint(2, SIDE - side - 2), draw.randint(2, SIDE - side - 2)
        if all(_apart(x, y, side, thing.box) for thing in things):
            return (x, y, x + side, y + side), size
    return None, size


def _apart(x: int, y: int, side: int, box: tuple[int, int, int, int], gap: int = 3) -> bool:
    x1, y1, x2, y2 = box
    return x > x2 + gap or x + side + gap < x1 or y > y2 + gap or y + side + gap < y1


def draw_scene(what: Scene) -> Image.Image:
    """An RGB image of `SIDE` x `SIDE` pixels."""
    noise = np.random.default_rng(what.number)
    ground = noise.integers(-10, 11, (SIDE, SIDE, 3)) + what.ground
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for thing in what.things:
        _DRAWN[thing.shape](pen, thing.box, COLOURS[thing.colour])
    return image


def _circle(pen: ImageDraw.ImageDraw, box: tuple[int, ...], colour: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    pen.ellipse((x1, y1, x2 - 1, y2 - 1), fill=colour)


def _square(pen: ImageDraw.ImageDraw, box: tuple[int, ...], colour: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)


def _triangle(pen: ImageDraw.ImageDraw, box: tuple[int, ...], colour: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    pen.polygon(((x1 + x2) // 2, y1, x2 - 1, y2 - 1, x1, y2 - 1), fill=colour)


def _cross(pen: ImageDraw.ImageDraw, box: tuple[int, ...], colour: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    third = (x2 - x1) // 3
    pen.rectangle((x1 + third, y1, x2 - third - 1, y2 - 1), fill=colour)
    pen.rectangle((x1, y1 + third, x2 - 1, y2 - third - 1), fill=colour)


_DRAWN = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}
