"""The drawn scenes as a detector's data: a shape is a class and its colour an attribute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.training.data.scenes import COLOURS, SHAPES, draw_scene, numbers_of, scene
from edgekit.training.detection.source import DetectionSplits, Objects, packed

if TYPE_CHECKING:
    from PIL import Image

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
    """As many scenes as ``place`` says: see `edgekit.training.data.scenes.numbers_of`.

    Raises:
        UsageError: it is no number, or none that is possible.
    """
    train, held_out = (Drawn(each.start, len(each)) for each in numbers_of(place))
    return DetectionSplits(train, held_out)
