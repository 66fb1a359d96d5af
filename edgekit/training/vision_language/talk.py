"""What is said of a drawn scene: its caption, its tags, questions with one right answer each.

    caption     a large red circle and a small blue square      from left to right
    tags        circle square                                   once each, from left to right
    questions   what color is the circle ?                      asked of one circle only
                how many things are there ?
                is there a red square ?                         as often yes as no
                what shape is left of the blue cross ?          of one such cross, and one thing
                                                                that is clearly to its left

One question in eight, by its words, is never asked of a scene that is trained on: an answer to it
cannot be remembered.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgekit.runtimes.vision_language.text import SPECIAL
from edgekit.training.data.scenes import COLOURS, SHAPES, SIZES, Scene, Thing

PLURALS = {shape: f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in SHAPES}
RELATIONS = ("left of", "right of", "above", "below")
_HELD_OUT = 8  # one question in so many
_APART = 6  # pixels between things of which one is said to be beside the other


@dataclass(frozen=True)
class Question:
    """One question: ``kind`` is the function that asked it."""

    kind: str
    text: str
    answer: str

    @property
    def is_held_out(self) -> bool:
        """Whether its words are kept for scenes that are not trained on."""
        return zlib.crc32(self.text.encode()) % _HELD_OUT == 0


def caption(scene: Scene) -> str:
    """All things, from left to right."""
    return " and ".join(f"a {thing.size} {thing.colour} {thing.shape}" for thing in _ordered(scene))


def tags(scene: Scene) -> tuple[str, ...]:
    """The shapes that are there, as a detector that is always right would name them."""
    return tuple(dict.fromkeys(thing.shape for thing in _ordered(scene)))


def _ordered(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: (thing.box[0] + thing.box[2], thing.box[1]))


# ---- questions ---------------------------------------------------------------------------------


def questions(scene: Scene, count: int, *, held_out: bool, seed: int = 0) -> tuple[Question, ...]:
    """Up to ``count`` questions, of as many kinds as there are.

    Args:
        scene: that they are of.
        count: fewer where no more can be asked.
        held_out: whether those that are never asked in training may be among them.
        seed: of the choice.
    """
    draw = random.Random(f"questions/{seed}/{scene.number}")
    kinds = [_kind(ask, scene, draw, held_out) for ask in draw.sample(_ASKED, len(_ASKED))]
    rounds = max((len(kind) for kind in kinds), default=0)
    turns = [kind[turn] for turn in range(rounds) for kind in kinds if turn < len(kind)]
    return tuple(turns[:count])


_Asked = Iterator[tuple[str, str]]  # text and answer


def _kind(
    ask: Callable[[Scene, random.Random], _Asked], scene: Scene, draw: random.Random, all_: bool
) -> list[Question]:
    """What may be asked of this kind, shuffled."""
    name = ask.__name__.strip("_")
    found = [Question(name, text, answer) for text, answer in ask(scene, draw)]
    allowed = [question for question in found if all_ or not question.is_held_out]
    return draw.sample(allowed, len(allowed))


def _color(scene: Scene, _draw: random.Random) -> _Asked:
    for shape in SHAPES:
        for size in ("", *SIZES):
            found = _such(scene, shape=shape, size=size)
            if len(found) == 1:
                yield f"what color is the {_phrase(size, shape)} ?", found[0].colour


def _size(scene: Scene, _draw: random.Random) -> _Asked:
    for shape in SHAPES:
        for colour in ("", *COLOURS):
            found = _such(scene, shape=shape, colour=colour)
            if len(found) == 1:
                yield f"what size is the {_phrase(colour, shape)} ?", found[0].size


def _shape(scene: Scene, _draw: random.Random) -> _Asked:
    for colour in COLOURS:
        for size in ("", *SIZES):
            found = _such(scene, colour=colour, size=size)
            if len(found) == 1:
                yield f"what shape is the {_phrase(size, colour, 'thing')} ?", found[0].shape


def _count(scene: Scene, _draw: random.Random) -> _Asked:
    yield "how many things are there ?", str(len(scene.things))
    for shape in SHAPES:
        yield f"how many {PLURALS[shape]} are there ?", str(len(_such(scene, shape=shape)))
    for colour in COLOURS:
        found = _such(scene, colour=colour)
        if found:  # else nearly all answers were 0
            yield f"how many {colour} things are there ?", str(len(found))


def _exists(scene: Scene, draw: random.Random) -> _Asked:
    """As many of what is there as of what is not, which shares its colour or shape."""
    there = {(thing.colour, thing.shape) for thing in scene.things}
    for colour, shape in sorted(there):
        yield f"is there a {colour} {shape} ?", "yes"
        near = [(c, s) for c in COLOURS for s in SHAPES if (c == colour) != (s == shape)]
        absent = draw.choice([pair for pair in near if pair not in there])
        yield f"is there a {' '.join(absent)} ?", "no"


def _beside(scene: Scene, _draw: random.Random) -> _Asked:
    for thing in scene.things:
        if len(_such(scene, colour=thing.colour, shape=thing.shape)) > 1:
            continue
        for relation in RELATIONS:
            found = _where(scene, thing, relation)
            if len(found) == 1:
                text = f"what shape is {relation} the {thing.colour} {thing.shape} ?"
                yield text, found[0].shape


_ASKED = (_color, _size, _shape, _count, _exists, _beside)
KINDS = tuple(ask.__name__.strip("_") for ask in _ASKED)


def _such(scene: Scene, *, shape: str = "", colour: str = "", size: str = "") -> list[Thing]:
    wanted = (shape, colour, size)
    return [
        thing
        for thing in scene.things
        if all(w in ("", has) for w, has in zip(wanted, _names(thing), strict=True))
    ]


def _names(thing: Thing) -> tuple[str, str, str]:
    return thing.shape, thing.colour, thing.size


def _phrase(*words: str) -> str:
    return " ".join(word for word in words if word)


def _where(scene: Scene, thing: Thing, relation: str) -> list[Thing]:
    """What is on that side of ``thing``; nothing where some other thing is neither there nor not.

    A thing is on a side if all of it is beyond the edge, and not if all of it is behind it.
    """
    others = [other for other in scene.things if other is not thing]
    gaps = [_beyond(other, thing, relation) for other in others]
    if any(-_APART < gap < _APART for gap in gaps):
        return []
    return [other for other, gap in zip(others, gaps, strict=True) if gap > 0]


def _beyond(other: Thing, thing: Thing, relation: str) -> float:
    """Pixels from the centre of ``thing`` to that of ``other``, towards the relation's side."""
    axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[
        relation
    ]
    return sign * (_centre(other)[axis] - _centre(thing)[axis])


def _centre(thing: Thing) -> tuple[float, float]:
    x1, y1, x2, y2 = thing.box
    return (x1 + x2) / 2, (y1 + y2) / 2


# ---- two scenes --------------------------------------------------------------------------------


def statement(left: Scene, right: Scene, seed: int = 0) -> tuple[str, bool]:
    """Something that is true of the two scenes, or not: as often the one as the other.

    Whether it is true cannot be told from one of them.
    """
    draw = random.Random(f"statement/{seed}/{left.number}/{right.number}")
    ask = draw.choice(_STATED)
    wanted = draw.random() < 0.5
    found = [(text, truth) for text, truth in ask(left, right) if truth == wanted]
    return draw.choice(found or [*ask(left, right)])


def _both(left: Scene, right: Scene) -> Iterator[tuple[str, bool]]:
    for shape in SHAPES:
        there = [bool(_such(scene, shape=shape)) for scene in (left, right)]
        if any(there):
            yield f"both images have a {shape}", all(there)


def _more(left: Scene, right: Scene) -> Iterator[tuple[str, bool]]:
    counts = len(left.things), len(right.things)
    yield "the left image has more things", counts[0] > counts[1]
    yield "the right image has more things", counts[1] > counts[0]
    yield "both images have as many things", counts[0] == counts[1]


_STATED = (_both, _more)


# ---- words -------------------------------------------------------------------------------------

_OTHER_WORDS = (
    "a and the is are there what color size shape how many thing things of left right above below "
    "both images image have has more as yes no 0 1 2 3 4 ?"
)
ANSWERS: tuple[str, ...] = ("yes", "no", *"01234", *COLOURS, *SHAPES, *SIZES)


def vocabulary() -> tuple[str, ...]:
    """Tokens of all that is said, as a vocab.txt has them: one a line."""
    words = (*_OTHER_WORDS.split(), *COLOURS, *SHAPES, *PLURALS.values(), *SIZES)
    return (*SPECIAL, *dict.fromkeys(words))
