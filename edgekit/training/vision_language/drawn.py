"""The drawn scenes as vision-language data: `talk.py` says what is asked of them.

    scenes          `COUNT` scenes to train on
    scenes:COUNT    so many

Those that are held out have numbers that no training set reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.errors import UsageError
from edgekit.training.data.scenes import Scene, scene
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.source import (
    Asked,
    Captioned,
    Floats,
    Paired,
    Told,
    VlmSplits,
)

COUNT = 2000
HELD_OUT_FROM, HELD_OUT = 1_000_000, 200  # numbers of the scenes that are not trained on
QUESTIONS = 8  # of a scene


@dataclass(frozen=True)
class Seen:
    """What a detector saw of one image: regions (R, visual), and their names, the surest first."""

    regions: Floats
    tags: tuple[str, ...]


Look = Callable[[Sequence[Scene]], Sequence[Seen]]


@dataclass(frozen=True)
class DrawnImages:
    """Scenes that were looked at."""

    scenes: tuple[Scene, ...]
    seen: tuple[Seen, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """Its number."""
        return f"scene {self.scenes[index].number}"

    def regions(self, index: int) -> Floats:
        """See `edgekit.training.vision_language.source.Images`."""
        return self.seen[index].regions

    def tags(self, index: int) -> tuple[str, ...]:
        """What the detector named."""
        return self.seen[index].tags


def open_scenes(place: str, look: Look) -> VlmSplits:
    """As many scenes as ``place`` says; "" for `COUNT`.

    Args:
        place: behind ``scenes:``.
        look: how regions are found in them.

    Raises:
        UsageError: it is no number, or none that is possible.
    """
    count = int(place) if place.isascii() and place.isdecimal() and len(place) < 8 else 0
    if place and not 2 <= count <= HELD_OUT_FROM:
        raise UsageError(
            f"data 'scenes:{place}': write scenes:COUNT, with 2 to {HELD_OUT_FROM:,} scenes to "
            "train on"
        )
    train = tuple(scene(number) for number in range(count or COUNT))
    held_out = tuple(scene(HELD_OUT_FROM + number) for number in range(HELD_OUT))
    return VlmSplits(
        told_of(train, look, held_out=False),
        told_of(held_out, look, held_out=True),
        talk.vocabulary(),
    )


def told_of(scenes: Sequence[Scene], look: Look, *, held_out: bool) -> Told:
    """All that is said of ``scenes``; each also stands beside the next in a pair."""
    captioned = [Captioned(at, (talk.caption(one),)) for at, one in enumerate(scenes)]
    asked = [
        Asked(at, question.text, {question.answer: 1.0})
        for at, one in enumerate(scenes)
        for question in talk.questions(one, QUESTIONS, held_out=held_out)
    ]
    pairs = [(at, (at + 1) % len(scenes)) for at in range(len(scenes))]
    paired = [Paired((a, b), *talk.statement(scenes[a], scenes[b])) for a, b in pairs]
    images = DrawnImages(tuple(scenes), tuple(look(scenes)))
    return Told(images, tuple(captioned), tuple(asked), tuple(paired))
