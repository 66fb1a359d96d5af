"""The drawn scenes as vision-language data: `talk.py` says what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.training.data.scenes import Scene, numbers_of, scene
from edgekit.training.vision_language import talk
from edgekit.training.vision_language.source import (
    Asked,
    Captioned,
    Floats,
    Paired,
    Told,
    VlmSplits,
)

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

    def fingerprint(self) -> str:
        """Nothing: regions follow from the scenes, the detector and the recipe's ``min_score``."""
        return ""


def open_scenes(place: str, look: Look) -> VlmSplits:
    """As many scenes as ``place`` says: see `edgekit.training.data.scenes.numbers_of`.

    Args:
        place: behind ``scenes:``.
        look: how regions are found in them.

    Raises:
        UsageError: it is no number, or none that is possible.
    """
    train, held_out = (tuple(map(scene, numbers)) for numbers in numbers_of(place))
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
