"""What each task draws from the data for a step.

    pretrain    hidden words of a text and its tags, half of the time those of another image
    vqa         a question, and how right each answer is
    caption     a caption with hidden words
    cider       an image, and all that people said of it
    match       a caption of an image, and one that is wrong: half of the time another caption,
                half of the time another image
    nlvr2       a statement on two images

All that is drawn is seeded by the place in the run (``seeding.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgekit.errors import UsageError
from edgekit.training.seeding import IMAGE, generator
from edgekit.training.vision_language.masking import IGNORED, Hiding, hide_tokens
from edgekit.training.vision_language.source import Asked, Captioned, Paired, Told
from edgekit.training.vision_language.texts import Part, Texts, stack_regions

if TYPE_CHECKING:
    from edgekit.training.vision_language.recipe import VlmRecipe

_PRETRAINING = (0.15, 5)  # share of hidden tokens, and at most so many
_CAPTIONS = (0.15, 3)
_REPLACED = 0.5
_TRIES = 20  # to find something that differs

Drawn = Sequence[tuple[int, int]]  # items, each with its place in the run


@dataclass(frozen=True)
class Given:
    """What all tasks are made of.

    Attributes:
        told: the data of one split.
        texts: how they become tokens.
        answers: that can be given, in the order of the head.
        regions: most that are seen of an image.
        recipe: of the run.
    """

    told: Told
    texts: Texts
    answers: tuple[str, ...]
    regions: int
    recipe: VlmRecipe

    def see(self, images: Sequence[int]) -> Part:
        """Their regions."""
        hidden = self.recipe.hide_regions
        return stack_regions(self.told.images, images, self.regions, hidden=hidden)

    def draw(self, place: int, what: int) -> np.random.Generator:
        """For one item; ``what`` is the task's number."""
        return generator(self.recipe.seed, IMAGE, place, what)

    def hiding(self, share_and_most: tuple[float, int]) -> Hiding:
        """So many of the tokens."""
        vocabulary = self.texts.vocabulary
        return Hiding(*share_and_most, vocabulary.mask, vocabulary.size)


# ---- questions ---------------------------------------------------------------------------------


class Questions:
    """Task ``vqa``."""

    def __init__(self, given: Given) -> None:
        self.given, self.items = given, given.told.asked
        self.column = {answer: number for number, answer in enumerate(given.answers)}

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        items = [self.items[index] for index, _ in drawn]
        part = self.given.texts.stack([self.given.texts.question(one.question) for one in items])
        scores = torch.zeros(len(items), len(self.column))
        for row, item in zip(scores, items, strict=True):
            for answer in self.column.keys() & item.answers.keys():
                row[self.column[answer]] = item.answers[answer]
        return {**part, **self.given.see([one.image for one in items]), "scores": scores}


# ---- captions ----------------------------------------------------------------------------------


def _each_caption(told: Told) -> list[tuple[Captioned, str]]:
    return [(item, text) for item in told.captioned for text in item.captions]


class Captions:
    """Task ``caption``; where a recipe's ``captions`` are ``all``, none is hidden here."""

    def __init__(self, given: Given) -> None:
        self.given, self.items = given, _each_caption(given.told)

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        given = self.given
        items = [self.items[index] for index, _ in drawn]
        captions = [given.texts.caption(text) for _, text in items]
        tags = [given.texts.tags(given.told.tags(item)) for item, _ in items]
        part, places = given.texts.stack_captions(captions, tags)
        if given.recipe.captions == "masked":
            self._hide(part, captions, [place for _, place in drawn])
        seen = given.see([item.image for item, _ in items])
        return {**part, **seen, "places": torch.tensor(places)}

    def _hide(self, part: Part, captions: Sequence[Sequence[int]], places: Sequence[int]) -> None:
        """Words and the end of each, which has to be said, too."""
        rule = self.given.hiding(_CAPTIONS)
        open_ = [range(1, len(words)) for words in captions]
        draws = [self.given.draw(place, 0) for place in places]
        part["tokens"], part["targets"] = _hidden(part["tokens"], open_, rule, draws)


def _hidden(
    tokens: Tensor,
    open_: Sequence[Sequence[int]],
    rule: Hiding,
    draws: Sequence[np.random.Generator],
) -> tuple[Tensor, Tensor]:
    rows = [
        hide_tokens(row, places, rule, draw)
        for row, places, draw in zip(tokens.numpy(), open_, draws, strict=True)
    ]
    fed, targets = (np.stack(each) for each in zip(*rows, strict=True))
    return torch.from_numpy(fed), torch.from_numpy(targets)


class Rewarded:
    """Task ``cider``: references are padded with `IGNORED` to (B, references, T)."""

    def __init__(self, given: Given) -> None:
        self.given, self.items = given, given.told.captioned

    def references(self, item: Captioned) -> list[tuple[int, ...]]:
        """Words and end of each; without [CLS]."""
        return [self.given.texts.caption(text)[1:] for text in item.captions]

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        given = self.given
        items = [self.items[index] for index, _ in drawn]
        tags = [given.texts.tags(given.told.tags(item)) for item in items]
        part = given.texts.stack([given.texts.tagged(each) for each in tags])
        return {**part, **given.see([one.image for one in items]), "said": self._said(items)}

    def _said(self, items: Sequence[Captioned]) -> Tensor:
        most = max(len(item.captions) for item in items)
        shape = (len(items), most, self.given.texts.lengths.caption - 1)
        said = torch.full(shape, IGNORED)
        for row, item in zip(said, items, strict=True):
            for line, words in zip(row, self.references(item), strict=False):
                line[: len(words)] = torch.tensor(words)
        return said


# ---- matching ----------------------------------------------------------------------------------


class Matches:
    """Task ``match``: 2 B rows, the right ones first."""

    def __init__(self, given: Given) -> None:
        self.given, self.items = given, _each_caption(given.told)

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        right = [(self.items[index][0], self.items[index][1]) for index, _ in drawn]
        wrong = [self._wrong(index, self.given.draw(place, 1)) for index, place in drawn]
        part = self.of([*right, *wrong])
        labels = torch.tensor([1] * len(right) + [0] * len(wrong))
        return {**part, "labels": labels}

    def of(self, pairs: Sequence[tuple[Captioned, str]]) -> Part:
        """Captions, each beside an image and its tags."""
        texts, told = self.given.texts, self.given.told
        rows = [texts.pair(text, told.tags(item)) for item, text in pairs]
        return {**texts.stack(rows), **self.given.see([item.image for item, _ in pairs])}

    def _wrong(self, index: int, draw: np.random.Generator) -> tuple[Captioned, str]:
        """One of the two is of another image, of which this caption is not said."""
        item, text = self.items[index]
        for _ in range(_TRIES):
            other, said = self.items[int(draw.integers(len(self.items)))]
            apart = other.image != item.image
            if apart and text not in other.captions and said not in item.captions:
                break
        else:
            other, said = self._any_wrong(item, text)
        return (item, said) if draw.random() < _REPLACED else (other, text)

    def _any_wrong(self, item: Captioned, text: str) -> tuple[Captioned, str]:
        """The first that is wrong, where draws find none.

        Raises:
            UsageError: there is none.
        """
        for other, said in self.items:
            apart = other.image != item.image
            if apart and text not in other.captions and said not in item.captions:
                return other, said
        raise UsageError(
            f"all images have the caption {text!r:.60}: to learn what matches, captions of other "
            "images must differ"
        )


class Pairs:
    """Task ``nlvr2``: 2 B rows, the first images first."""

    def __init__(self, given: Given) -> None:
        self.given, self.items = given, given.told.paired

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        texts, images = self.given.texts, self.given.told.images
        items = [self.items[index] for index, _ in drawn]
        sides = [(item.images[side], item.caption) for side in (0, 1) for item in items]
        rows = [texts.pair(caption, images.tags(image)) for image, caption in sides]
        labels = torch.tensor([int(item.label) for item in items])
        seen = self.given.see([image for image, _ in sides])
        return {**texts.stack(rows), **seen, "labels": labels}


# ---- pre-training ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Both:
    """Two texts on an image: a caption and its tags, or a question and its answer.

    ``right`` is all that would be right in the place of the second.
    """

    image: int
    first: str
    second: tuple[str, ...]
    right: tuple[tuple[str, ...], ...]


class Pretraining:
    """Task ``pretrain``."""

    def __init__(self, given: Given) -> None:
        self.given = given
        told = given.told
        captions = [
            _Both(item.image, text, told.tags(item), (told.tags(item),))
            for item, text in _each_caption(told)
        ]
        answers = [
            _Both(item.image, item.question, (_best(item),), tuple((one,) for one in item.answers))
            for item in told.asked
        ]
        self.items = [*captions, *answers]
        self.kinds = (len(captions), len(answers))

    def part(self, drawn: Drawn) -> Part:
        """See the module."""
        given, texts = self.given, self.given.texts
        draws = [given.draw(place, 2) for _, place in drawn]
        items = [self.items[index] for index, _ in drawn]
        pairs = zip(drawn, draws, strict=True)
        seconds = [self._second(index, draw) for (index, _), draw in pairs]
        firsts = [texts.caption(item.first) for item in items]
        tags = [texts.tags(second) for second in seconds]
        part, places = self._stacked(firsts, tags)
        right = [item.second == second for item, second in zip(items, seconds, strict=True)]
        sizes = [
            (len(first), len(second), is_right)
            for first, second, is_right in zip(firsts, tags, right, strict=True)
        ]
        open_ = [self._open(*each, places) for each in sizes]
        rule = given.hiding(_PRETRAINING)
        part["tokens"], part["targets"] = _hidden(part["tokens"], open_, rule, draws)
        labels = torch.tensor([int(each) for each in right])
        seen = given.see([item.image for item in items])
        return {**part, **seen, "labels": labels, "places": torch.tensor(places)}

    def _second(self, index: int, draw: np.random.Generator) -> tuple[str, ...]:
        """The item's own, or that of another of its kind."""
        own = self.items[index].second
        if draw.random() >= _REPLACED:
            return own
        border = self.kinds[0]
        kind = (0, border) if index < border else (border, len(self.items))
        others = (self.items[int(draw.integers(*kind))].second for _ in range(_TRIES))
        right = self.items[index].right
        return next((other for other in others if other not in right), own)

    def _stacked(
        self, firsts: Sequence[Sequence[int]], tags: Sequence[Sequence[int]]
    ) -> tuple[Part, int]:
        """As a caption is written, or both texts one behind the other and 0 places."""
        texts = self.given.texts
        if self.given.recipe.attention == "seq2seq":
            return texts.stack_captions(firsts, tags)
        pairs = zip(firsts, tags, strict=True)
        return texts.stack([texts.vocabulary.pair(a[1:-1], b) for a, b in pairs]), 0

    def _open(self, first: int, second: int, right: bool, places: int) -> list[int]:
        """Places of words, without special tokens and without what is not of this image."""
        behind = places or first
        tags = range(behind, behind + second) if right else ()
        return [*range(1, first - 1), *tags]


def _best(item: Asked) -> str:
    return max(item.answers, key=lambda answer: item.answers[answer])


# ---- all ---------------------------------------------------------------------------------------

Task = Questions | Captions | Rewarded | Matches | Pairs | Pretraining
TASKS: Mapping[str, Callable[[Given], Task]] = {
    "pretrain": Pretraining,
    "vqa": Questions,
    "caption": Captions,
    "cider": Rewarded,
    "match": Matches,
    "nlvr2": Pairs,
}


def name_of(task: Task, index: int) -> str:
    """An item, for messages."""
    item: Any = task.items[index]
    item = item[0] if isinstance(item, tuple) else item
    image = item.images[0] if isinstance(item, Paired) else item.image
    return task.given.told.images.name(image)
