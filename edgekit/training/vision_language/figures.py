"""Figures of what was said of held-out data, whoever said it: torch, or a bundle in a runtime.

vqa                 mean score of the answer that is given
vqa_new             of questions that the data's training part does not ask
vqa_chance          of the answer that is right most often there, whatever is asked
caption_cider       CIDEr-D of captions written greedily; caption_exact, whether they are said
image_to_text       share of images whose first caption of all is theirs; text_to_image
nlvr2               share of statements judged rightly
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.training.vision_language.cider import Cider, Words
from edgekit.training.vision_language.source import Asked, Captioned, Paired, Told

Figures = dict[str, float]


def of_answers(said: Sequence[str], asked: Sequence[Asked], before: Told) -> Figures:
    """Of one answer to each question.

    Args:
        said: answers; "" for none.
        asked: the questions.
        before: the part of the data that is to be trained on; possibly without questions.
    """
    scores = [item.answers.get(answer, 0.0) for answer, item in zip(said, asked, strict=True)]
    known = {item.question for item in before.asked}
    pairs = zip(scores, asked, strict=True)
    new = [score for score, item in pairs if item.question not in known]
    figures = {"vqa": float(np.mean(scores))}
    for usual in usual_answers(before, 1):
        figures["vqa_chance"] = float(np.mean([item.answers.get(usual, 0.0) for item in asked]))
    if not known:
        return figures
    return {**figures, "vqa_new": float(np.mean(new))} if new else figures


def usual_answers(told: Told, most: int) -> tuple[str, ...]:
    """The answers with the highest sums of scores, the first in the alphabet of equal ones."""
    scores: dict[str, float] = {}
    for item in told.asked:
        for answer, score in item.answers.items():
            scores[answer] = scores.get(answer, 0.0) + score
    return tuple(sorted(scores, key=lambda answer: (-scores[answer], answer))[:most])


def of_captions(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> Figures:
    """Of one caption of each image.

    Args:
        said: words, or tokens; without the end, as published figures are.
        references: of each image; likewise.
    """
    cider = Cider(references)
    pairs = list(zip(said, references, strict=True))
    exact = [any([*words] == [*each] for each in theirs) for words, theirs in pairs]
    return {
        "caption_cider": float(np.mean([cider.score(words, theirs) for words, theirs in pairs])),
        "caption_exact": float(np.mean(exact)),
    }


def of_matches(scores: NDArray[np.floating], items: Sequence[Captioned]) -> Figures:
    """Of some images beside the first caption of each of them.

    Args:
        scores: (images, captions), higher where they belong together.
        items: the images; an equal caption of another one is right.
    """
    right = np.array(
        [
            [other.image == item.image or other.captions[0] in item.captions for other in items]
            for item in items
        ]
    )
    return {
        "image_to_text": _first_is_right(scores, right),
        "text_to_image": _first_is_right(scores.T, right.T),
    }


def of_judged(said: Sequence[bool], items: Sequence[Paired]) -> Figures:
    """Of statements on two images."""
    return {"nlvr2": float(np.mean([a == b.label for a, b in zip(said, items, strict=True)]))}


def _first_is_right(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    return float(right[np.arange(len(right)), scores.argmax(1)].mean())
