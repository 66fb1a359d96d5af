"""Accuracy on what was not trained on: of weights in torch, and of a bundle in each runtime.

A bundle is asked as an app asks it: one image, one text, one answer at a time. Of drawn scenes each
runtime sees the pictures with its own detector; of ``tsv:`` all read the regions of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.assembly import Assembled, is_assembly, open_assembly
from edgekit.errors import InputError, UnknownNameError, UsageError
from edgekit.models.minivlm.network import VlmFacts, canvas_of, read_facts
from edgekit.models.minivlm.specs import Lengths
from edgekit.runtimes import is_available
from edgekit.runtimes.model import artifact_of
from edgekit.runtimes.vision_language.loaded import LoadedVlm, load_vlm
from edgekit.runtimes.vision_language.model import CAPTION, DETECTOR, MATCH, NLVR2, VQA
from edgekit.runtimes.vision_language.model import Seen as VlmSeen
from edgekit.training.data.scenes import COUNT, Scene, draw_scene, numbers_of, scene
from edgekit.training.detection.runs import KINDS as BOXES
from edgekit.training.detection.runs import evaluate_detector
from edgekit.training.run_folder import weights_of
from edgekit.training.vision_language import evaluation, figures, talk
from edgekit.training.vision_language.drawn import Look, Seen, told_of
from edgekit.training.vision_language.features import detector
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.recipe import STAGES, VlmRecipe
from edgekit.training.vision_language.runs import KINDS, open_tsv_of, vocabulary_of, with_min_score
from edgekit.training.vision_language.source import Told, VlmSplits
from edgekit.training.vision_language.start import Found, find
from edgekit.training.vision_language.tasks import Given
from edgekit.training.vision_language.texts import Texts
from edgekit.training.vision_language.writing import Special

Progress = Callable[[str], None]
_SAID_EVERY = 500
_T = TypeVar("_T")


@dataclass(frozen=True)
class VlmAccuracy:
    """What one way of running a network gets right.

    Attributes:
        runtime: ``torch``, or a runtime of the bundle.
        figures: see ``figures.py`` and ``evaluation.py``, and of a detector
            ``detection/evaluation.py``; only of what the weights were trained for and the data ask.
        items: how many ``questions``, ``captions``, ``candidates`` and ``statements`` they are of.
        agreement: share of ``answers``, ``captions`` and ``judgements`` that are torch's; nothing
            where no weights are at hand.
        warnings: what must be said beside the figures, e.g. that the weights are random.
    """

    runtime: str
    figures: Mapping[str, float]
    items: Mapping[str, int]
    agreement: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def is_vlm(source: Path) -> bool:
    """Whether a bundle or weights are a vision-language model's."""
    path = weights_of(source)
    is_file = path.suffix == ".safetensors" and path.is_file()
    return is_assembly(source) or (is_file and bool(read_facts(path).variant))


@dataclass(frozen=True)
class Wanted:
    """What is to be evaluated.

    Attributes:
        data: ``scenes``, ``scenes:COUNT``, ``tsv:FOLDER``; of a detector also ``coco:FOLDER``.
        trained_on: what was trained on, not what was held out.
        evaluated: most questions and captions,
        candidates: most images that are searched, each with as many captions.
    """

    data: str
    trained_on: bool = False
    evaluated: int = VlmRecipe.evaluated
    candidates: int = VlmRecipe.candidates


def evaluate_vlm(
    source: Path,
    wanted: Wanted,
    *,
    weights: Path | None = None,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    progress: Progress = lambda _: None,
) -> list[VlmAccuracy]:
    """Accuracy of weights in torch, or of a bundle in each of its runtimes that are here.

    Args:
        source: weights, a run, whose best they are, or a bundle of several graphs.
        wanted: what is to be evaluated.
        weights: of a bundle: what it was exported from; adds torch's figures and the agreement.
        runtimes: of a bundle: only these.
        threads: of each runtime.
        progress: told what is next.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``.
    """
    if not is_assembly(source):
        if weights or runtimes:
            raise UsageError("--weights and --runtime are for a bundle")
        return [_of_weights(weights_of(source), wanted, progress)[0]]
    with open_assembly(source) as bundle:
        names = list(runtimes) or _here(bundle, progress)
        for name in names:
            artifact_of(bundle.parts[DETECTOR], name)
        sha256 = bundle.assembly.weights.sha256
    rows, torchs = [], _Said()
    if weights is not None:
        path = weights_of(weights)
        first, torchs = _of_weights(path, wanted, progress, sha256)
        rows.append(first)
    for name in names:
        progress(f"evaluate {name}")
        with load_vlm(source, name, threads) as model:
            rows.append(_of_bundle(model, wanted, torchs, progress))
    return rows


def _here(bundle: Assembled, progress: Progress) -> list[str]:
    """The bundle's runtimes that this machine has; the others are named."""
    names = [artifact.runtime for artifact in bundle.parts[DETECTOR].manifest.artifacts]
    for name in names:
        if not is_available(name):
            progress(f"{name} is not on this machine")
    found = [name for name in names if is_available(name)]
    if not found:
        raise UsageError(
            "this machine has none of the bundle's runtimes: edgekit doctor tells more"
        )
    return found


# ---- data --------------------------------------------------------------------------------------


def _open(wanted: Wanted, look: Look, visual: int) -> VlmSplits:
    """The data; of drawn scenes only those that are evaluated are looked at."""
    kind, _, place = wanted.data.partition(":")
    if kind not in KINDS:
        hint = "Those have questions; others are of other networks."
        raise UnknownNameError("kind of vision-language data", kind, KINDS, hint)
    if kind == "tsv":
        return open_tsv_of(place, visual)
    trained, held_out = numbers_of(place)
    if not wanted.trained_on:  # which questions are new depends on what all are asked
        trained = range(max(len(trained), COUNT))
    splits = []
    for is_held_out, numbers in ((False, trained), (True, held_out)):
        looks = look if is_held_out != wanted.trained_on else _nothing
        splits.append(told_of(tuple(map(scene, numbers)), looks, held_out=is_held_out))
    return VlmSplits(splits[0], splits[1], talk.vocabulary())


def _nothing(_scenes: object) -> list[Seen]:
    """Seen by nobody: only what is asked of them is read."""
    return []


def _recipe(model: str, tasks: Sequence[str], wanted: Wanted) -> VlmRecipe:
    """Of a training for ``tasks``: as far as an evaluation reads it."""
    stages = {task: stage for stage, (task, _) in STAGES.items()}
    return VlmRecipe(
        model, wanted.data, stage="+".join(stages[task] for task in tasks),
        evaluated=wanted.evaluated, candidates=wanted.candidates,
    ).settled()  # fmt: skip


def _asked(told: Told, tasks: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
    """Those of ``tasks`` that the data ask."""
    has = {VQA: told.asked, CAPTION: told.captioned, MATCH: told.captioned, NLVR2: told.paired}
    found = tuple(task for task in tasks if has.get(task))
    if not found:
        known = ", ".join(tasks) or "no task"
        raise UsageError(f"the weights were trained for {known}; data {wanted.data!r} ask nothing")
    return found


# ---- what was said -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """Of one split; None of a task that is not evaluated."""

    answers: Sequence[str] | None = None
    captions: Sequence[tuple[int, ...]] | None = None
    matches: NDArray[np.floating] | None = None
    judged: Sequence[bool] | None = None

    def figures(self, given: Given, before: Told) -> dict[str, float]:
        """See ``figures.py``."""
        found: dict[str, float] = {}
        if self.answers is not None:
            asked = given.told.asked[: len(self.answers)]
            found |= figures.of_answers(self.answers, asked, before)
        if self.captions is not None:
            found |= figures.of_captions(self.captions, evaluation.references_of(given))
        if self.matches is not None:
            found |= figures.of_matches(self.matches, evaluation.candidates_of(given))
        if self.judged is not None:
            found |= figures.of_judged(self.judged, given.told.paired[: len(self.judged)])
        return found

    def items(self) -> dict[str, int]:
        """How much was said."""
        said = {
            "questions": self.answers, "captions": self.captions, "candidates": self.matches,
            "statements": self.judged,
        }  # fmt: skip
        return {name: len(each) for name, each in said.items() if each is not None}

    def agreement(self, other: _Said) -> dict[str, float]:
        """Share that ``other`` says, too; nothing of what it did not say."""
        pairs = {
            "answers": (self.answers, other.answers),
            "captions": (self.captions, other.captions),
            "judgements": (self.judged, other.judged),
        }
        return {
            name: float(np.mean([x == y for x, y in zip(a, b, strict=True)]))
            for name, (a, b) in pairs.items()
            if a is not None and b is not None
        }


# ---- in torch ----------------------------------------------------------------------------------


def _of_weights(
    path: Path, wanted: Wanted, progress: Progress, sha256: str = ""
) -> tuple[VlmAccuracy, _Said]:
    """Figures of a file's networks, and what they said; ``sha256`` is what it must have."""
    if not path.is_file():
        raise UsageError(f"no weights, run or bundle at {path}")
    facts = read_facts(path)
    if not facts.variant:
        raise UsageError(f"{path.name} does not say which network it is of: edgekit train does")
    found = find(facts.variant, str(path))
    if sha256 and sha256 != found.sha256:
        raise UsageError(
            f"the bundle was exported from other weights than {path}: agreement with them would "
            "say nothing of it"
        )
    progress("evaluate torch")
    row, said = VlmAccuracy("torch", {}, {}, {}), _Said()
    kind = wanted.data.partition(":")[0]
    if facts.speaks and (kind in KINDS or not facts.detects):
        row, said = _transformer(found, facts, wanted, progress)
    if facts.detects and kind in BOXES and found.whole is not None:
        seen = evaluate_detector(found.whole, facts, wanted.data, trained_on=wanted.trained_on)
        row = replace(row, figures={**row.figures, **seen})
    if not (facts.speaks or facts.detects):
        raise UsageError(f"{path.name} was trained for no task that can be evaluated")
    if not row.figures:
        kinds = (*(BOXES if facts.detects else ()), *(KINDS if facts.speaks else ()))
        raise UnknownNameError("kind of data", kind, dict.fromkeys(kinds))
    return row, said


def _transformer(
    found: Found, facts: VlmFacts, wanted: Wanted, progress: Progress
) -> tuple[VlmAccuracy, _Said]:
    spec, whole = found.spec, found.whole
    trained = [task for task in facts.tasks if task != "detect"]
    recipe = with_min_score(_recipe(spec.id, trained, wanted), found)
    data = _open(wanted, _with(found, recipe.min_score, progress), spec.tee.visual)
    told = data.train if wanted.trained_on else data.held_out
    tasks = _asked(told, trained, wanted)
    vocabulary = vocabulary_of(recipe, data, found)
    if facts.vocabulary not in ("", vocabulary.fingerprint):
        raise UsageError(
            "the weights were trained with other tokens than those found: put the vocab.txt of "
            "their run beside them"
        )
    texts = Texts(vocabulary, spec.lengths)
    given = Given(told, texts, facts.answers, spec.tee.regions, recipe)
    assert whole is not None  # of a file that says which network it is of
    objective = VlmObjective(
        whole.fusion, tasks, Special.of(vocabulary, spec.lengths.caption), recipe
    )
    with evaluation.quiet(objective):
        said = _Said(
            evaluation.answers_of(objective, given) if VQA in tasks else None,
            evaluation.captions_of(objective, given) if CAPTION in tasks else None,
            evaluation.matches_of(objective, given) if MATCH in tasks else None,
            evaluation.judged_of(objective, given) if NLVR2 in tasks else None,
        )
    return VlmAccuracy("torch", said.figures(given, data.train), said.items(), {}), said


def _with(found: Found, min_score: float, progress: Progress) -> Look:
    """A way to look at scenes with the weights' own detector."""
    if found.detector is None:
        return _blind
    own = found.detector
    canvas = canvas_of(found.spec, own.facts)
    return detector(own.tee, canvas, own.facts.objects, min_score, progress)


def _blind(_scenes: object) -> list[Seen]:
    raise UsageError(
        "data scenes are looked at by a detector, and that of these weights was never trained"
    )


# ---- a bundle ----------------------------------------------------------------------------------


def _of_bundle(model: LoadedVlm, wanted: Wanted, torchs: _Said, progress: Progress) -> VlmAccuracy:
    settings, facts = model.settings, model.bundle.assembly.model
    recipe = _recipe(facts.id, settings.tasks or (VQA,), wanted)
    data = _open(wanted, _look(model, progress), model.visual)
    told = data.train if wanted.trained_on else data.held_out
    tasks = _asked(told, settings.tasks, wanted)
    lengths = Lengths(
        settings.height, settings.width, settings.lengths[0], settings.lengths[-1],
        settings.caption, settings.tags,
    )  # fmt: skip
    given = Given(told, Texts(model.vocabulary, lengths), (), settings.regions, recipe)
    said = _Said(
        _answers(model, given, progress) if VQA in tasks else None,
        _captions(model, given, progress) if CAPTION in tasks else None,
        _matches(model, given, progress) if MATCH in tasks else None,
        _judged(model, given, progress) if NLVR2 in tasks else None,
    )
    return VlmAccuracy(
        model.runtime,
        said.figures(given, data.train),
        said.items(),
        said.agreement(torchs),
        model.warnings,
    )


def _look(model: LoadedVlm, progress: Progress) -> Look:
    """A way to look at scenes with the bundle's own detector."""

    def look(scenes: Sequence[Scene]) -> list[Seen]:
        seen = [model.look(draw_scene(one)) for one in _counted(scenes, "scenes", progress)]
        return [Seen(each.visual[: each.count], each.tags) for each in seen]

    return look


def _answers(model: LoadedVlm, given: Given, progress: Progress) -> list[str]:
    """One to each question; "" to one that the bundle refuses, e.g. as too long."""
    told, said = given.told, []
    for item in _counted(told.asked[: given.recipe.evaluated], "questions", progress):
        seen = model.told(told.images.regions(item.image), told.tags(item))
        try:
            said.append(model.ask(seen, item.question))
        except InputError:
            said.append("")
    return said


def _captions(model: LoadedVlm, given: Given, progress: Progress) -> list[tuple[int, ...]]:
    told, items = given.told, given.told.captioned[: given.recipe.evaluated]
    return [
        tuple(model.caption_tokens(model.told(told.images.regions(one.image), told.tags(one))))
        for one in _counted(items, "captions", progress)
    ]


def _matches(model: LoadedVlm, given: Given, progress: Progress) -> NDArray[np.floating]:
    items = evaluation.candidates_of(given)
    texts = [item.captions[0] for item in items]
    images, told = given.told.images, given.told
    rows = []
    for one in _counted(items, f"images, each with {len(texts)} captions", progress):
        seen = model.told(images.regions(one.image), told.tags(one))
        rows.append([_match(model, seen, text) for text in texts])
    return np.array(rows)


def _match(model: LoadedVlm, seen: VlmSeen, text: str) -> float:
    """Below all others for a text that the bundle refuses, e.g. as too long."""
    try:
        return model.match(seen, text)[0]
    except InputError:
        return -1.0


def _judged(model: LoadedVlm, given: Given, progress: Progress) -> list[bool]:
    images, items = given.told.images, given.told.paired[: given.recipe.evaluated]
    said = []
    for item in _counted(items, "statements", progress):
        first, second = (model.told(images.regions(n), images.tags(n)) for n in item.images)
        try:
            said.append(model.judge(first, second, item.caption) > 0.5)
        except InputError:  # too long
            said.append(not item.label)
    return said


def _counted(items: Sequence[_T], what: str, progress: Progress) -> Iterator[_T]:
    """Each of ``items``; says at times how many there were."""
    for number, item in enumerate(items):
        if number % _SAID_EVERY == 0:
            progress(f"{number} of {len(items)} {what}")
        yield item
