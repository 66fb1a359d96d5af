"""`edgekit train` and `edgekit distill`: a recipe becomes a run in a folder (``run_folder.py``)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from edgekit.errors import CheckpointError, InputError, UsageError
from edgekit.models.building import create
from edgekit.models.checkpoint import save_checkpoint
from edgekit.models.preparation import variant_preprocessing
from edgekit.models.zoo import Variant, get_variant
from edgekit.training.augment import PATCH_AREA, Augment, Crops, OnBatch, get_augment
from edgekit.training.data import ImageSource, Splits, open_data
from edgekit.training.data.loading import Plan, training_batches, worker_count
from edgekit.training.engine import Evaluate, Job, Outcome, make_accelerator, run_job
from edgekit.training.evaluation import evaluate_network, figures
from edgekit.training.neighbours import neighbours
from edgekit.training.networks import (
    Renormalised,
    fresh,
    load_teacher,
    without_head,
)
from edgekit.training.recipe import DistillRecipe, Recipe
from edgekit.training.run_folder import check_folder, prepare
from edgekit.training.self_supervised import MOCO_FEWEST, MoCo, Queue, Seed
from edgekit.training.supervised import Supervised

Progress = Callable[[str], None]

_MOCO_WIDTH = 128
_SETTLED = 100  # steps; a statistic that is a tenth new each step has then forgotten the start
_PATCH_SHARE = 96 / 224  # of SEED's
# Without classes images are varied harder: MoCo-v2's row for photographs.
_HARDER = {"photos": "moco-v2", "glyphs": "glyphs-hard"}


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Train as ``recipe`` says and leave everything in ``out``.

    Args:
        recipe: of the run.
        out: a folder; made if it is not there.
        resume: go on with the run that is in it, to the same bits as if it had never stopped.
        force: throw away the run that is in it.
        progress: called with one line per epoch, and every ten seconds.

    Ctrl-C ends it behind a step, with all that is done saved: ``Outcome.interrupted``.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``.
    """
    recipe, out = recipe.settled(), Path(out)
    variant = get_variant(recipe.model)
    check_folder(out, resume=resume, force=force)
    splits = open_data(recipe.data)
    if len(splits.train.labels) < 2:
        raise UsageError(
            f"data {recipe.data!r} has {len(splits.train.labels)} classes, and a classifier tells "
            "two or more apart; edgekit distill needs none"
        )
    accelerator = make_accelerator(recipe)
    network = _classifier(variant, recipe, len(splits.train.labels))
    rule = variant_preprocessing(variant, recipe.image_size)

    def evaluate(kept: nn.Module) -> Mapping[str, float]:
        found = evaluate_network(kept, splits.held_out, rule, workers=recipe.workers)
        tell_unreadable(found.unreadable, recipe, progress)
        return figures(found)

    row = get_augment(recipe.augment or splits.train.augment)
    crops = (Crops(row, recipe.image_size),)
    job = _job(recipe, out, splits, accelerator, crops, evaluate, progress)
    return run_in_folder(
        Supervised(network, recipe), network, job, accelerator, anew=force and not resume
    )


def tell_unreadable(count: int, recipe: Recipe, progress: Progress) -> None:
    """Say how many held-out images could not be read.

    Raises:
        InputError: there are some, and the recipe wants none.
    """
    what = f"{count} of the images to evaluate with cannot be read"
    if not count:
        return
    if recipe.on_corrupt == "fail":
        raise InputError(f"{what} (--on-corrupt skip evaluates without them)")
    progress(what)


def _classifier(variant: Variant, recipe: Recipe, classes: int) -> nn.Module:
    """As its authors begin, or with the weights of another training."""
    if recipe.weights == "random":
        if recipe.drop_head:
            raise UsageError("--drop-head is for --weights: random ones have no head to drop")
        return fresh(variant, classes, recipe.image_size, recipe.seed)
    try:
        created = create(
            variant.id,
            recipe.weights,
            num_classes=classes,
            image_size=recipe.image_size,
            seed=recipe.seed,
            drop_head=recipe.drop_head,
        )
    except CheckpointError as error:
        # How many classes there are is said by the data.
        said = re.sub(r"(use --num-classes \d+|leave out --num-classes), or", "use", str(error))
        raise CheckpointError(said) from error
    if created.weights.why or (created.weights.random and not recipe.drop_head):
        raise CheckpointError(f"{created.weights.why or created.weights.note}.")
    return created.module


def distill(
    recipe: DistillRecipe,
    out: Path | str,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Train a network without classes, by SEED or MoCo-v2; see `train`.

    Where the images have classes, they are used for k-NN figures of the features after each epoch,
    and for nothing else: the epoch that is kept is the last.
    """
    recipe, out = recipe.settled(), Path(out)
    variant = get_variant(recipe.model)
    check_folder(out, resume=resume, force=force)
    splits = open_data(recipe.data)
    accelerator = make_accelerator(recipe)
    objective, network, facts = _METHODS[recipe.method](variant, recipe, accelerator, progress)
    rule = variant_preprocessing(variant, recipe.image_size)

    def evaluate(kept: nn.Module) -> Mapping[str, float]:
        if not splits.held_out.labels:
            return {}
        found = neighbours(
            without_head(kept, variant), splits, rule, while_training=True, workers=recipe.workers
        )
        tell_unreadable(found.unreadable, recipe, progress)
        return found.top1

    seen = recipe.epochs * len(splits.train)
    if recipe.queue > seen and accelerator.is_main_process:
        progress(f"a queue of {recipe.queue} is never filled: {seen} images are seen in all")
    own = splits.train.augment
    row = recipe.augment or _HARDER.get(own, own)
    crops = _crops(recipe, get_augment(row))
    job = _job(recipe, out, splits, accelerator, crops, evaluate, progress, facts)
    return run_in_folder(objective, network, job, accelerator, anew=force and not resume)


# What is trained, the part of it that is kept, and facts that must not change while it is resumed.
_Method = tuple[nn.Module, nn.Module, Mapping[str, str]]


def _crops(recipe: DistillRecipe, row: Augment) -> tuple[Crops, ...]:
    """One view for SEED, and its patches; for MoCo-v2 two."""
    whole = Crops(row, recipe.image_size, 2 if recipe.method == "moco-v2" else 1)
    if not recipe.patches:
        return (whole,)
    size = recipe.patch_size or round(recipe.image_size * _PATCH_SHARE)
    return (whole, Crops(replace(row, area=PATCH_AREA), size, recipe.patches))


def _seed(variant: Variant, recipe: DistillRecipe, accelerator: Any, progress: Progress) -> _Method:
    found = load_teacher(recipe.teacher, recipe.teacher_model, recipe.image_size)
    if accelerator.is_main_process:
        progress(f"teacher: {found.what}")
    teacher = Renormalised(found.embedding, of=variant, to=found.variant)
    if recipe.embedding not in (0, found.width):
        raise UsageError(
            f"the teacher's embedding has {found.width} numbers and the student's is to have "
            f"{recipe.embedding}: leave out --embedding"
        )
    student = fresh(variant, found.width, recipe.image_size, recipe.seed, head="projection")
    objective = Seed(
        student,
        teacher.to(accelerator.device),
        [Queue(recipe.queue, found.width, recipe.seed) for _ in range(2 if recipe.patches else 1)],
        student_temperature=recipe.temperature,
        teacher_temperature=recipe.teacher_temperature,
        gather=accelerator.gather,
    )
    return objective, student, {"teacher": found.sha256}


def _moco(
    variant: Variant, recipe: DistillRecipe, accelerator: Any, _progress: Progress
) -> _Method:
    share = recipe.batch_size // accelerator.num_processes
    if share < MOCO_FEWEST:
        raise UsageError(
            f"MoCo-v2 normalises in groups and needs {MOCO_FEWEST} images a process, not {share}: "
            "use a larger --batch-size"
        )
    width = recipe.embedding or _MOCO_WIDTH
    network = fresh(variant, width, recipe.image_size, recipe.seed, head="projection")
    objective = MoCo(
        network,
        Queue(recipe.queue, width, recipe.seed),
        temperature=recipe.temperature,
        momentum=recipe.key_momentum,
        gather=accelerator.gather,
    )
    return objective, network, {}


_METHODS = {"seed": _seed, "moco-v2": _moco}


# ---- what both share ---------------------------------------------------------------------------


def _job(
    recipe: Recipe,
    out: Path,
    splits: Splits,
    accelerator: Any,
    crops: Sequence[Crops],
    evaluate: Evaluate,
    progress: Progress,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> Job:
    variant = get_variant(recipe.model)
    source = splits.train
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(len(source), recipe.batch_size, recipe.seed, rank, world, source.blocks)
    batches = partial(
        training_batches,
        source,
        plan,
        crops,
        workers=worker_count(recipe.workers, source),
    )
    # An embedding has no classes, whatever its images have.
    labels = () if isinstance(recipe, DistillRecipe) else source.labels
    data = {
        "images": len(source), "labels": list(source.labels), "names": _digest(source), **facts,
    }  # fmt: skip
    return Job(
        recipe,
        out,
        plan,
        batches=batches,
        on_batch=[OnBatch(kind.row, variant.mean, variant.std) for kind in crops],
        evaluate=evaluate,
        save=lambda network, path: save_checkpoint(
            network, variant.id, path, labels=labels, image_size=recipe.image_size
        ),
        progress=progress if accelerator.is_main_process else lambda _: None,
        data=data,
        name_of=source.name,
        choose=not isinstance(recipe, DistillRecipe),
    )


def _digest(source: ImageSource) -> str:
    """Of the names and classes of all images, in their order."""
    found = hashlib.sha256()
    for index in range(len(source)):
        found.update(f"{source.name(index)}\n{source.label(index)}\n".encode())
    return found.hexdigest()


def run_in_folder(
    objective: nn.Module, network: nn.Module, job: Job, accelerator: Any, *, anew: bool
) -> Outcome:
    """`run_job` in a folder that says what runs there; ``anew`` without a run that was there."""
    if accelerator.is_main_process:
        prepare(job.out, job.recipe, anew=anew)
        steps = job.recipe.epochs * job.plan.steps
        if steps < _SETTLED:
            job.progress(
                f"{steps} steps in all: BatchNorm's running statistics may take {_SETTLED} to "
                "follow the weights, and until then figures can be at chance"
            )
    accelerator.wait_for_everyone()
    return run_job(objective, network, job, accelerator)
