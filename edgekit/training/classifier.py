"""`edgekit train`: a network of the zoo learns the classes of a data set.

OUT/recipe.toml         everything the run depends on
OUT/best.safetensors    weights of the best epoch, with their classes and image size
OUT/last.safetensors    of the last
OUT/metrics.jsonl       a line an epoch
OUT/state.safetensors   what --resume goes on from
OUT/corrupt.txt         images that could not be read, if there were any
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from edgekit.errors import CheckpointError, UsageError
from edgekit.models.building import create
from edgekit.models.checkpoint import build_network, save_checkpoint
from edgekit.models.preparation import variant_preprocessing
from edgekit.models.zoo import Variant, get_variant
from edgekit.training.augment import OnBatch, get_augment
from edgekit.training.data import Splits, open_data
from edgekit.training.data.loading import Plan, training_batches, worker_count
from edgekit.training.engine import Job, Outcome, check_folder, make_accelerator, train
from edgekit.training.evaluation import evaluate_network, figures
from edgekit.training.recipe import Recipe, write_recipe
from edgekit.training.supervised import Supervised

RECIPE, CORRUPT = "recipe.toml", "corrupt.txt"
Progress = Callable[[str], None]


def train_classifier(
    recipe: Recipe,
    out: Path,
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

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``.
    """
    recipe.check()
    variant = get_variant(recipe.model)
    check_folder(out, resume=resume, force=force)
    splits = open_data(recipe.data)
    if not splits.train.labels:
        raise UsageError(f"data {recipe.data!r} has no classes: use edgekit distill")
    accelerator = make_accelerator(recipe)
    row = get_augment(recipe.augment or splits.train.augment)
    plan = Plan(
        len(splits.train),
        recipe.batch_size,
        recipe.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )
    network = _network(variant, recipe, len(splits.train.labels))
    if accelerator.is_main_process:
        _prepare(out, recipe, force=force and not resume)
    accelerator.wait_for_everyone()
    rule = variant_preprocessing(variant, recipe.image_size)
    job = Job(
        recipe,
        out,
        plan,
        batches=lambda first, last: training_batches(
            splits.train,
            plan,
            row,
            recipe.image_size,
            first=first,
            last=last,
            workers=worker_count(recipe.workers, splits.train),
        ),
        on_batch=OnBatch(row, variant.mean, variant.std),
        evaluate=lambda kept: figures(evaluate_network(kept, splits.held_out, rule)),
        save=partial(_save, variant=variant, recipe=recipe, splits=splits),
        progress=progress if accelerator.is_main_process else lambda _: None,
    )
    outcome = train(Supervised(network, recipe), network, job, accelerator)
    if accelerator.is_main_process and outcome.corrupt:
        (out / CORRUPT).write_text("".join(f"{line}\n" for line in sorted(outcome.corrupt)))
    return outcome


def _network(variant: Variant, recipe: Recipe, classes: int) -> nn.Module:
    """As its authors begin, or with the weights of another training."""
    if recipe.weights == "random":
        torch.manual_seed(recipe.seed)
        return build_network(variant, classes, recipe.image_size)
    created = create(
        variant.id,
        recipe.weights,
        num_classes=classes,
        image_size=recipe.image_size,
        seed=recipe.seed,
        drop_head=recipe.drop_head,
    )
    if created.weights.random and not recipe.drop_head:
        raise CheckpointError(f"{created.weights.why or created.weights.note}.")
    return created.module


def _prepare(out: Path, recipe: Recipe, *, force: bool) -> None:
    """The folder, and the recipe in it, before anything else."""
    try:
        if force and out.exists():
            _remove_run(out)
        out.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, out / RECIPE)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error


# What a run leaves, and so what --force may remove: never a file of somebody else's.
_OF_A_RUN = (
    RECIPE,
    CORRUPT,
    "best.safetensors",
    "last.safetensors",
    "metrics.jsonl",
    "state.safetensors",
)


def _remove_run(out: Path) -> None:
    for name in _OF_A_RUN:
        (out / name).unlink(missing_ok=True)
    if (out / "events").is_dir():
        shutil.rmtree(out / "events")


def _save(
    network: nn.Module, path: Path, *, variant: Variant, recipe: Recipe, splits: Splits
) -> None:
    save_checkpoint(
        network, variant.id, path, labels=splits.train.labels, image_size=recipe.image_size
    )
