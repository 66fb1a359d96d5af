"""How good a network is on what it was not trained on.

The figures are those of ``figures.py``, and
words, match        of pre-training: hidden words, and pairs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.training.vision_language import figures
from edgekit.training.vision_language import tasks as drawn
from edgekit.training.vision_language.batches import on
from edgekit.training.vision_language.figures import Figures
from edgekit.training.vision_language.masking import IGNORED
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.source import Captioned, Told
from edgekit.training.vision_language.texts import Part
from edgekit.training.vision_language.writing import likeliest, words, write

_AT_ONCE = 256
_HIGHEST = {"caption_cider": 10.0}  # where 1 is not the most that can be


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
    with quiet(objective):
        found = [_FIGURES[name](objective, given, before) for name in names]
    joined: Figures = {key: value for each in found for key, value in each.items()}
    if len(found) == 1:
        return joined
    first = [next(iter(each.items())) for each in found]
    score = float(np.mean([value / _HIGHEST.get(name, 1.0) for name, value in first]))
    return {"score": score, **joined}


@contextmanager
def quiet(objective: VlmObjective) -> Iterator[None]:
    """In eval mode and without gradients, while it lasts."""
    was_training = objective.training
    objective.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        objective.train(was_training)


def _parts(
    objective: VlmObjective, make: Callable[[Sequence[int]], Part], count: int
) -> Iterator[Part]:
    """Of the items 0 to ``count``, some at once."""
    device = next(objective.parameters()).device
    for first in range(0, count, _AT_ONCE):
        yield on(make(range(first, min(count, first + _AT_ONCE))), device)


def _all(task: drawn.Task, objective: VlmObjective) -> Iterator[Part]:
    """All items of a task that are evaluated; a place of each seeds what is drawn for it."""
    count = min(len(task.items), objective.recipe.evaluated)
    yield from _parts(objective, lambda numbers: task.part([(n, n) for n in numbers]), count)


# ---- what it says ------------------------------------------------------------------------------


def answers_of(objective: VlmObjective, given: drawn.Given) -> list[str]:
    """The likeliest answer to each question."""
    task = drawn.Questions(given)
    return [
        given.answers[best]
        for part in _all(task, objective)
        for best in objective.answer(part).argmax(1).tolist()
    ]


def captions_of(objective: VlmObjective, given: drawn.Given) -> list[tuple[int, ...]]:
    """Captions written greedily, in tokens; without the end, which is no word."""
    special = objective.special
    return [
        tuple(token for token in row if token != special.sep)
        for part in _all(drawn.Rewarded(given), objective)
        for row in words(write(objective.fusion, part, special, likeliest), special)
    ]


def references_of(given: drawn.Given) -> list[list[tuple[int, ...]]]:
    """What people said of each image, as `captions_of`."""
    task = drawn.Rewarded(given)
    items = task.items[: given.recipe.evaluated]
    return [[row[:-1] for row in task.references(item)] for item in items]


def matches_of(objective: VlmObjective, given: drawn.Given) -> NDArray[np.float32]:
    """How well some images fit the first caption of each of them (images, captions)."""
    task = drawn.Matches(given)
    items = candidates_of(given)
    pairs = [(item, other.captions[0]) for item in items for other in items]
    parts = _parts(objective, lambda numbers: task.of([pairs[n] for n in numbers]), len(pairs))
    # Not the logarithm of a share, which is 0 and so equal for all that are far above 0.
    scores = torch.cat([logits[:, 1] - logits[:, 0] for logits in map(objective.matches, parts)])
    return scores.view(len(items), len(items)).cpu().numpy()


def judged_of(objective: VlmObjective, given: drawn.Given) -> list[bool]:
    """Whether each statement on two images is true."""
    parts = _all(drawn.Pairs(given), objective)
    return [bool(best) for part in parts for best in objective.judge(part).argmax(1).tolist()]


def candidates_of(given: drawn.Given) -> tuple[Captioned, ...]:
    """Images that are searched."""
    return given.told.captioned[: given.recipe.candidates]


# ---- figures of it -----------------------------------------------------------------------------


def _vqa(objective: VlmObjective, given: drawn.Given, before: Told) -> Figures:
    said = answers_of(objective, given)
    return figures.of_answers(said, given.told.asked[: len(said)], before)


def _caption(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    return figures.of_captions(captions_of(objective, given), references_of(given))


def _match(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    return figures.of_matches(matches_of(objective, given), candidates_of(given))


def _nlvr2(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    said = judged_of(objective, given)
    return figures.of_judged(said, given.told.paired[: len(said)])


def _pretrain(objective: VlmObjective, given: drawn.Given, _before: Told) -> Figures:
    task, hits = drawn.Pretraining(given), {"words": [0, 0], "match": [0, 0]}
    for part in _all(task, objective):
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
