"""The drawn scenes as a detector's data: a shape is a class and its colour an attribute.

    scenes          `COUNT` scenes to train on
    scenes:COUNT    so many

Those that are held out have numbers that no training set reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.training.data.scenes import COLOURS, SHAPES, draw_scene, scene
from edgekit.training.detection.source import DetectionSplits, Objects, packed

if TYPE_CHECKING:
    from PIL import Image

COUNT = 2000
HELD_OUT_FROM, HELD_OUT = 1_000_000, 200  # numbers of the scenes that are not trained on

_CLASS = {shape: number for number, shape in enumerate(SHAPES, 1)}
_ATTRIBUTE = {colour: number for number, colour in enumerate(COLOURS)}


@dataclass(frozen=True)
class Drawn:
    """Scenes ``first`` to ``first + count - 1``."""

    first: int
    count: int
    objects: tuple[str, ...] = SHAPES
    attributes: tuple[str, ...] = tuple(COLOURS)
    in_memory: bool = True

    def __len__(self) -> int:
        """How many scenes."""
        return self.count

    def read(self, index: int) -> tuple[Image.Image, Objects]:
        """Draw one."""
        what = scene(self.first + index)
        found = packed(
            [thing.box for thing in what.things],
            [_CLASS[thing.shape] for thing in what.things],
            [(_ATTRIBUTE[thing.colour],) for thing in what.things],
        )
        return draw_scene(what), found

    def name(self, index: int) -> str:
        """Its number."""
        return f"scene {self.first + index}"

    def annotated(self, index: int) -> str:
        """Nothing but its number decides what is in it."""
        return self.name(index)


def open_scenes(place: str) -> DetectionSplits:
    """As many scenes as ``place`` says; "" for `COUNT`.

    Raises:
        UsageError: it is no number, or none that is possible.
    """
    count = int(place) if place.isascii() and place.isdecimal() and len(place) < 8 else 0
    if place and not 2 <= count <= HELD_OUT_FROM:
        raise UsageError(
            f"data 'scenes:{place}': write scenes:COUNT, with 2 to {HELD_OUT_FROM:,} scenes to "
            "train on"
        )
    return DetectionSplits(Drawn(0, count or COUNT), Drawn(HELD_OUT_FROM, HELD_OUT))
