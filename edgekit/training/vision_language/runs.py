"""`train_vlm`: a recipe becomes a run in a folder (``edgekit/training/run_folder.py``).

The tokens are left in it, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.network import MiniVlm, VlmFacts, canvas_of, save_vlm
from edgekit.runtimes.vision_language.text import Vocabulary
from edgekit.training.data.loading import Plan
from edgekit.training.engine import Job, Outcome, make_accelerator, run_job
from edgekit.training.run_folder import VOCABULARY, check_folder, prepare, written
from edgekit.training.vision_language.batches import longest_of, training_batches
from edgekit.training.vision_language.cider import Cider
from edgekit.training.vision_language.drawn import open_scenes
from edgekit.training.vision_language.evaluation import evaluate
from edgekit.training.vision_language.features import detector
from edgekit.training.vision_language.figures import usual_answers
from edgekit.training.vision_language.objective import VlmObjective
from edgekit.training.vision_language.recipe import STAGES, VlmRecipe
from edgekit.training.vision_language.source import Told, VlmSplits
from edgekit.training.vision_language.start import Found, Start, begin, find
from edgekit.training.vision_language.tasks import TASKS, Given, Rewarded, Task, name_of
from edgekit.training.vision_language.texts import Texts
from edgekit.training.vision_language.tsv import open_tsv
from edgekit.training.vision_language.writing import Special

Progress = Callable[[str], None]
KINDS = ("scenes", "tsv")


def train_vlm(
    recipe: VlmRecipe,
    out: Path | str,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Train the transformer of a MiniVLM; see `edgekit.training.runs.train`.

    The weights that are kept are a whole MiniVLM's, with the detector of ``recipe.detector`` or
    ``recipe.weights``, or a drawn one, and say which. The figure that decides which epoch is the
    best is the first of the stage's, see ``evaluation.py``; of pre-training the last epoch is.
    """
    recipe, out = recipe.settled(), Path(out)
    check_folder(out, resume=resume, force=force)
    accelerator = make_accelerator(recipe)
    said = progress if accelerator.is_main_process else _nothing
    found = find(recipe.model, recipe.weights, recipe.detector)
    recipe = with_min_score(recipe, found)
    data = open_told(recipe, found, said)
    vocabulary = vocabulary_of(recipe, data, found)
    facts = replace(_facts(recipe, data, found), vocabulary=vocabulary.fingerprint)
    start = begin(found, facts, vocabulary.size, recipe.seed)
    for note in (*start.notes, *_lost(found, recipe)):
        said(note)
    made = _Made(recipe, data, vocabulary, facts, found, start)
    given = made.given(data.train)
    tasks = {name: TASKS[name](given) for name in recipe.tasks}
    objective = made.objective(start.module.fusion, _cider(tasks))
    job = _job(made, out, accelerator, said, tasks)
    if accelerator.is_main_process:
        prepare(out, recipe, anew=force and not resume)
        with written(out / VOCABULARY) as path:
            path.write_text("".join(f"{token}\n" for token in vocabulary.tokens), encoding="utf-8")
    accelerator.wait_for_everyone()
    return run_job(objective, start.module.fusion, job, accelerator)


def with_min_score(recipe: VlmRecipe, found: Found) -> VlmRecipe:
    """Scenes' regions are chosen as those that the weights were trained on."""
    if recipe.data.partition(":")[0] != "scenes" or recipe.min_score >= 0:
        return recipe
    inherited = _inherited(found)
    return replace(recipe, min_score=recipe.usual_min_score if inherited is None else inherited)


def _inherited(found: Found) -> float | None:
    """The score that the weights' regions had; None where no regions were chosen."""
    of_detector = found.detector.facts if found.detector is not None else found.facts
    for facts in (of_detector, found.facts):
        if facts.min_score or facts.speaks:
            return facts.min_score
    return None


def _nothing(_line: str) -> None:
    """Said by a process that does not speak."""


# ---- data --------------------------------------------------------------------------------------


def open_told(recipe: VlmRecipe, found: Found, progress: Progress) -> VlmSplits:
    """The data of a recipe: ``scenes``, ``scenes:COUNT`` or ``tsv:FOLDER``.

    Raises:
        UnknownNameError: no such kind.
        UsageError: the place holds no data, or broken ones; scenes without a trained detector, or
            whose ``min_score`` is open; or
            nothing to train or to evaluate a stage on.
    """
    kind, _, place = recipe.data.partition(":")
    if kind not in KINDS:
        raise UnknownNameError("kind of data", kind, KINDS, "A folder is tsv:FOLDER.")
    if kind == "scenes":
        opened = _scenes(place, found, recipe.min_score, progress)
    else:
        opened = open_tsv_of(place, found.spec.tee.visual)
    for name, told in (("train", opened.train), ("held-out", opened.held_out)):
        for task in recipe.tasks:
            if not _has(told, task):
                raise UsageError(
                    f"data {recipe.data!r} has no {_NEEDED[task]} to {_USES[name]}: --stage "
                    f"{recipe.stage} needs them"
                )
    return opened


def _scenes(place: str, found: Found, min_score: float, progress: Progress) -> VlmSplits:
    if found.detector is None:
        raise UsageError(
            "data scenes are looked at by a detector, and the weights have none that is trained: "
            f"edgekit train {found.spec.id} --stage detect --data scenes makes one for --weights "
            "or --detector"
        )
    own = found.detector
    canvas = canvas_of(found.spec, own.facts)
    look = detector(own.tee, canvas, own.facts.objects, min_score, progress)
    return open_scenes(place, look)


def open_tsv_of(place: str, visual: int) -> VlmSplits:
    """See `edgekit.training.vision_language.tsv.open_tsv`.

    Raises:
        UsageError: no folder is named, or it holds no such data.
    """
    if not place:
        raise UsageError("data 'tsv' needs its folder: tsv:FOLDER")
    return open_tsv(Path(place), visual)


_USES = {"train": "train on", "held-out": "evaluate with"}
_NEEDED = {
    "pretrain": "captions or questions", "vqa": "questions", "caption": "captions",
    "cider": "captions", "match": "captions", "nlvr2": "statements on two images",
}  # fmt: skip


def _has(told: Told, task: str) -> bool:
    items: Mapping[str, Sequence[Any]] = {
        "pretrain": told.captioned or told.asked, "vqa": told.asked, "nlvr2": told.paired,
    }  # fmt: skip
    return bool(items.get(task, told.captioned))


def vocabulary_of(recipe: VlmRecipe, data: VlmSplits, found: Found) -> Vocabulary:
    """That of the command line, of the weights' own run, or of the data."""
    beside = found.path.parent / VOCABULARY if found.path is not None else None
    if recipe.vocab:
        return Vocabulary.read(Path(recipe.vocab))
    if beside is not None and beside.is_file():
        return Vocabulary.read(beside)
    if data.words:
        return Vocabulary(data.words)
    raise UsageError(
        f"data {recipe.data!r} bring no vocabulary: name one with --vocab, BERT's vocab.txt or a "
        "list of your own words, a line each, [PAD], [UNK], [CLS], [SEP] and [MASK] among them"
    )


def _facts(recipe: VlmRecipe, data: VlmSplits, found: Found) -> VlmFacts:
    """What the weights will say of themselves."""
    answers: tuple[str, ...] = ()
    if "vqa" in recipe.tasks:
        answers = usual_answers(data.train, recipe.answers)
        if set(answers) <= set(found.facts.answers):
            answers = found.facts.answers  # of the file, so that its head fits
    inherited = _inherited(found) or 0.0
    facts = VlmFacts(
        recipe.model,
        recipe.trained_for,
        answers,
        min_score=inherited if recipe.min_score < 0 else recipe.min_score,
        image_norm=found.image_norm,
    )
    if found.detector is None:
        return facts
    own = found.detector.facts
    return replace(
        facts,
        tasks=("detect", *facts.tasks),
        objects=own.objects,
        attributes=own.attributes,
        canvas=own.canvas,
    )


def _lost(found: Found, recipe: VlmRecipe) -> Iterator[str]:
    """What to say of tasks that the weights were trained for, and will not be any more."""
    stages = {trained: stage for stage, (_, trained) in STAGES.items() if stage != "caption-cider"}
    lost = [task for task in found.facts.tasks if task in stages and task not in recipe.trained_for]
    if lost:
        both = "+".join([*(stages[task] for task in lost), *recipe.stages])
        yield (
            f"the weights were trained for {', '.join(lost)}, too, and will not be after this run: "
            f"--stage {both} trains for all"
        )


# ---- the run -----------------------------------------------------------------------------------


def _job(
    made: _Made, out: Path, accelerator: Any, progress: Progress, tasks: Mapping[str, Task]
) -> Job:
    recipe, longest = made.recipe, longest_of(tasks)
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(len(tasks[longest].items), recipe.batch_size, recipe.seed, rank, world)
    return Job(
        recipe,
        out,
        plan,
        batches=partial(training_batches, tasks, plan),
        on_batch=(),
        evaluate=made.evaluate,
        save=made.save,
        progress=progress,
        data={
            "told": _digest(made.data),
            "vocabulary": hashlib.sha256("\n".join(made.vocabulary.tokens).encode()).hexdigest(),
            "answers": list(made.facts.answers),
            "weights": made.found.sha256,
            "detector": made.found.detector.sha256 if made.found.detector is not None else "",
        },
        name_of=lambda index: name_of(tasks[longest], index),
        choose="pretrain" not in recipe.tasks,
    )


@dataclass(frozen=True)
class _Made:
    """What a run is made of, once everything is read."""

    recipe: VlmRecipe
    data: VlmSplits
    vocabulary: Vocabulary
    facts: VlmFacts
    found: Found
    start: Start

    def given(self, told: Told) -> Given:
        """For the tasks, of one split."""
        spec = self.start.module.spec
        texts = Texts(self.vocabulary, spec.lengths)
        return Given(told, texts, self.facts.answers, spec.tee.regions, self.recipe)

    def objective(self, fusion: Fusion, cider: Cider | None = None) -> VlmObjective:
        """To train ``fusion``, or to look at it."""
        special = Special.of(self.vocabulary, self.start.module.spec.lengths.caption)
        return VlmObjective(fusion, self.recipe.tasks, special, self.recipe, cider)

    def evaluate(self, kept: nn.Module) -> Mapping[str, float]:
        """Figures of the network on held-out data."""
        given = self.given(self.data.held_out)
        return evaluate(self.objective(_fusion(kept)), given, self.recipe.tasks, self.data.train)

    def save(self, kept: nn.Module, path: Path) -> None:
        """All of it, with the transformer that is given in the place of the start's."""
        whole = MiniVlm(self.start.module.spec, self.facts.heads())
        whole.tee.load_state_dict(self.start.module.tee.state_dict())
        whole.fusion.load_state_dict(kept.state_dict())
        save_vlm(whole, self.facts, path)


def _fusion(kept: nn.Module) -> Fusion:
    if not isinstance(kept, Fusion):
        raise UsageError(f"a transformer is trained here, not a {type(kept).__name__}")
    return kept


def _cider(tasks: Mapping[str, Task]) -> Cider | None:
    """Of the training captions, for captions that are rewarded."""
    task = tasks.get("cider")
    if not isinstance(task, Rewarded):
        return None
    references = [task.references(item) for item in task.items]
    cider = Cider(references)
    if not any(cider.score(each[0], each) for each in references):
        raise UsageError(
            "all training images have captions of the same words, of which CIDEr thinks nothing: "
            "there is nothing to learn from"
        )
    return cider


def _digest(data: VlmSplits) -> str:
    """Of all that is said, in its order, of which images, and of their regions' fingerprint."""
    found = hashlib.sha256()
    for told in (data.train, data.held_out):
        for item in (*told.captioned, *told.asked, *told.paired):
            found.update(f"{item}\n".encode())
        for index in range(len(told.images)):
            found.update(f"{told.images.name(index)} {told.images.tags(index)}\n".encode())
        found.update(told.images.fingerprint().encode())
    return found.hexdigest()
