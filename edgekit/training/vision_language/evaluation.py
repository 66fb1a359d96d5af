"""How good a network is on what it was not trained on.

vqa                 mean score of the answer that is given, and of questions never asked before
vqa_chance          of the answer that is right most often in training, whatever is asked
caption_cider       CIDEr-D of captions written greedily; caption_exact, whether they are said
image_to_text       share of images whose first caption of all is theirs; text_to_image
nlvr2               share of statements judged rightly
words, match        of pre-training: hidden words, and pairs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from edgekit.training.vision_language import tasks as drawn
from edgekit.training.vision_language.batches import on
from edgekit.training.vision_language.cider import Cider
from edgekit.training.vision_language.masking import IGNORED
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.source import Told
from edgekit.training.vision_language.texts import Part
from edgekit.training.vision_language.writing import likeliest, words, write

_AT_ONCE = 256
_HIGHEST = {"caption_cider": 10.0}  # where 1 is not the most that can be
Figures = dict[str, float]


def evaluate(
    objective: VlmObjective, given: drawn.Given, names: Sequence[str], before: Told
) -> Figures:
    """Figures of a network; of several tasks ``score``, the mean of their first ones, comes first.

    Args:
        objective: with the network.
        given: held-out data.
        names: tasks, of `edgekit.training.vision_language.tasks.TASKS`.
        before: the data that it was trained on.
    """
    with _quiet(objective), torch.no_grad():
        found = [_FIGURES[name](objective, given, before) for name in names]
    joined: Figures = {key: value for figures in found for key, value in figures.items()}
    if len(found) == 1:
        return joined
    first = [next(iter(each.items())) for each in found]
    score = float(np.mean([value / _HIGHEST.get(name, 1.0) for name, value in first]))
    return {"score": score, **joined}


@contextmanager
def _quiet(objective: VlmObjective) -> Iterator[None]:
    """In eval mode, while it lasts."""
    was_training = objective.training
    objective.eval()
    try:
        yield
    finally:
        objective.train(was_training)


def _parts(
    objective: VlmObjective, make: Callable[[Sequence[int]], Part], count: int
) -> Iterator[tuple[Part, Sequence[int]]]:
    """Of the items 0 to ``count``, some at once, with their numbers."""
    device = next(objective.parameters()).device
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(count, first + _AT_ONCE))
        yield on(make(numbers), device), numbers


def _all(task: drawn.Task, objective: VlmObjective) -> Iterator[tuple[Part, Sequence[int]]]:
    """All items of a task that are evaluated; a place of each seeds what is drawn for it."""
    count = min(len(task.items), objective.recipe.evaluated)
    yield from _parts(objective, lambda numbers: task.part([(n, n) for n in numbers]), count)


# ---- questions ---------------------------------------------------------------------------------


def _vqa(objective: VlmObjective, given: drawn.Given, before: Told) -> Figures:
    task = drawn.Questions(given)
    pairs = [
        (given.answers[best], task.items[number].answers)
        for part, numbers in _all(task, objective)
        for best, number in zip(objective.answer(part).argmax(1).tolist(), numbers, strict=True)
    ]
    scores = np.array([answers.get(best, 0.0) for best, answers in pairs])
    asked = {item.question for item in before.asked}
    new = np.array([item.question not in asked for item in task.items[: len(scores)]])
    usual = usual_answers(before, 1)[0]
    figures = {
        "vqa": float(scores.mean()),
        "vqa_chance": float(np.mean([answers.get(usual, 0.0) for _, answers in pairs])),
    }
    return {**figures, "vqa_new": float(scores[new].mean())} if new.any() else figures


def usual_answers(told: Told, most: int) -> tuple[str, ...]:
    """The answers with the highest sums of scores, the first in the alphabet of equal ones."""
    scores: dict[str, float] = {}
    for item in told.asked:
        for answer, score in item.answers.items():
            scores[answer] = scores.get(answer, 0.0) + score
    return tuple(sorted(scores, key=lambda answer: (-scores[answer], answer))[:most])


# ---- captions ----------------------------------------------------------------------------------


def _caption(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    task = drawn.Rewarded(given)
    count = min(len(task.items), objective.recipe.evaluated)
    references = [task.references(item) for item in task.items[:count]]
    said = [
        tuple(row)
        for part, _ in _all(task, objective)
        for row in words(
            write(objective.fusion, part, objective.special, likeliest), objective.special
        )
    ]
    # Without the end, which is no word: as published figures are.
    bare = [[row[:-1] for row in each] for each in references]
    cider = Cider(bare)
    end = objective.special.sep
    scores = [
        cider.score(row[:-1] if row[-1:] == (end,) else row, each)
        for row, each in zip(said, bare, strict=True)
    ]
    exact = [row in each for row, each in zip(said, references, strict=True)]
    return {"caption_cider": float(np.mean(scores)), "caption_exact": float(np.mean(exact))}


# ---- pairs -------------------------------------------------------------------------------------


def _match(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    """Each of some images beside the first caption of each of them."""
    task = drawn.Matches(given)
    items = given.told.captioned[: objective.recipe.candidates]
    pairs = [(item, other.captions[0]) for item in items for other in items]
    scores = torch.cat(
        [
            objective.matches(part).log_softmax(1)[:, 1]
            for part, _ in _parts(
                objective, lambda numbers: task.of([pairs[n] for n in numbers]), len(pairs)
            )
        ]
    ).view(len(items), len(items))
    said = [[other.captions[0] in item.captions for other in items] for item in items]
    right = torch.tensor(said, device=scores.device)  # an equal caption of another image is right
    return {
        "image_to_text": _first_is_right(scores, right),
        "text_to_image": _first_is_right(scores.T, right.T),
    }


def _first_is_right(scores: Tensor, right: Tensor) -> float:
    best = scores.argmax(1, keepdim=True)
    return float(right.gather(1, best).float().mean())


def _nlvr2(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    task = drawn.Pairs(given)
    right = [objective.judge(part).argmax(1) == part["labels"] for part, _ in _all(task, objective)]
    return {"nlvr2": float(torch.cat(right).float().mean())}


def _pretrain(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    task, hits = drawn.Pretraining(given), {"words": [0, 0], "match": [0, 0]}
    for part, _ in _all(task, objective):
        hidden = objective.encode(part)
        chosen = part["targets"] != IGNORED
        said = objective.fusion.words(hidden[:, : chosen.shape[1]][chosen]).argmax(1)
        match = objective.fusion.match(objective.fusion.bert.pool(hidden)).argmax(1)
        for name, found, wanted in (
            ("words", said, part["targets"][chosen]),
            ("match", match, part["labels"]),
        ):
            hits[name][0] += int((found == wanted).sum())
            hits[name][1] += len(wanted)
    return {name: right / max(1, count) for name, (right, count) in hits.items()}


_FIGURES: Mapping[str, Callable[[VlmObjective, drawn.Given, Told], Figures]] = {
    "pretrain": _pretrain,
    "vqa": _vqa,
    "caption": _caption,
    "cider": _caption,
    "match": _match,
    "nlvr2": _nlvr2,
}
