"""`train_detector`: a recipe becomes a run in a folder (``edgekit/training/run_folder.py``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.minivlm.network import MiniVlm, VlmFacts, canvas_of, save_vlm
from edgekit.models.minivlm.specs import get_vlm
from edgekit.models.minivlm.tee import Tee
from edgekit.training.data.loading import Plan, worker_count
from edgekit.training.detection.coco import open_coco
from edgekit.training.detection.drawn import open_scenes
from edgekit.training.detection.evaluation import figures, judge
from edgekit.training.detection.loading import (
    Normalise,
    Views,
    evaluation_batches,
    training_batches,
)
from edgekit.training.detection.objective import Detect
from edgekit.training.detection.recipe import DetectRecipe, canvas
from edgekit.training.detection.source import DetectionSource, DetectionSplits
from edgekit.training.detection.start import Start, begin
from edgekit.training.engine import Evaluate, Job, Outcome, make_accelerator
from edgekit.training.run_folder import VOCABULARY, check_folder, written
from edgekit.training.runs import run_in_folder, tell_unreadable

Progress = Callable[[str], None]

_EVALUATED_AT_ONCE = 16
KINDS: Mapping[str, Callable[[str], DetectionSplits]] = {"coco": open_coco, "scenes": open_scenes}


def open_boxes(spec: str) -> DetectionSplits:
    """The data set that ``spec`` names: ``coco:FOLDER``, ``scenes`` or ``scenes:COUNT``.

    Raises:
        UnknownNameError: no such kind.
        UsageError: the place is missing or holds no data set, or a broken one.
    """
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        raise UnknownNameError("kind of data with boxes", kind, KINDS, "A folder is coco:FOLDER.")
    return KINDS[kind](place)


def train_detector(
    recipe: DetectRecipe,
    out: Path | str,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Train the detector of a MiniVLM; see `edgekit.training.runs.train`.

    The weights that are kept are a whole MiniVLM's, of which the transformer is that of
    ``recipe.weights``, or as drawn: the next training begins with them. Their facts name the
    classes and attributes of the data, and what the transformer was trained for. The figure that
    decides which epoch is the best is mAP50 on the held-out images.
    """
    recipe, out = recipe.settled(), Path(out)
    check_folder(out, resume=resume, force=force)
    splits = open_boxes(recipe.data)
    accelerator = make_accelerator(recipe)
    sides = canvas(get_vlm(recipe.model), recipe.image_size)
    facts = VlmFacts(
        recipe.model, (), (), splits.train.objects, splits.train.attributes, canvas=sides
    )
    start = begin(get_vlm(recipe.model), facts, recipe.weights, recipe.seed)
    job = _job(recipe, out, splits, start, accelerator, progress)
    fitted_into = f"images are fitted into {sides[0]} x {sides[1]} pixels"
    rounded = () if recipe.image_size == max(sides) else (f"{fitted_into}, multiples of 64",)
    for note in (*splits.notes, *start.notes, *rounded):
        job.progress(note)
    tee = start.module.tee
    _set_momentum(tee, recipe.usual().norm_momentum)
    objective = Detect(tee, sides, recipe.usual().sampling, recipe.attribute_weight)
    return run_in_folder(objective, tee, job, accelerator, anew=force and not resume)


def _set_momentum(tee: Tee, share: float) -> None:
    for module in tee.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = share


def _job(
    recipe: DetectRecipe,
    out: Path,
    splits: DetectionSplits,
    start: Start,
    accelerator: Any,
    progress: Progress,
) -> Job:
    source = splits.train
    sides = canvas(start.module.spec, recipe.image_size)
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(len(source), recipe.batch_size, recipe.seed, rank, world)
    views = Views(sides, (recipe.smallest, recipe.largest), recipe.flip)
    workers = worker_count(recipe.workers, source)
    return Job(
        recipe,
        out,
        plan,
        batches=partial(training_batches, source, plan, views, workers=workers),
        on_batch=[Normalise()],
        evaluate=_evaluate(recipe, splits.held_out, sides, progress),
        save=_save(start),
        progress=progress if accelerator.is_main_process else lambda _: None,
        data={
            "images": len(source),
            "objects": list(source.objects),
            "attributes": list(source.attributes),
            "annotations": _digest(source),
            "weights": start.sha256,
        },
        name_of=source.name,
    )


def _evaluate(
    recipe: DetectRecipe, held_out: DetectionSource, sides: tuple[int, int], progress: Progress
) -> Evaluate:
    def evaluate(kept: nn.Module) -> Mapping[str, float]:
        batches = evaluation_batches(
            held_out,
            sides,
            batch_size=_EVALUATED_AT_ONCE,
            workers=worker_count(recipe.workers, held_out),
        )
        judged = judge(_detector(kept), batches)
        tell_unreadable(judged.unreadable, recipe, progress)
        return figures(judged)

    return evaluate


def evaluate_detector(
    network: MiniVlm, facts: VlmFacts, data: str, *, trained_on: bool = False
) -> Mapping[str, float]:
    """Figures of a trained detector, see `edgekit.training.detection.evaluation`.

    Args:
        network: with the detector.
        facts: its names.
        data: see `open_boxes`.
        trained_on: of the images that were trained on, not of those held out.

    Raises:
        UsageError: the data have other classes or attributes.
    """
    splits = open_boxes(data)
    source = splits.train if trained_on else splits.held_out
    if (source.objects, source.attributes) != (facts.objects, facts.attributes):
        raise UsageError(f"data {data!r} have other classes or attributes than the detector")
    recipe = DetectRecipe(network.spec.id, data).settled()
    sides = canvas_of(network.spec, facts)
    return _evaluate(recipe, source, sides, lambda _: None)(network.tee)


def _save(start: Start) -> Callable[[nn.Module, Path], None]:
    """Writes all of a start, with the detector that it is given in the place of its own."""
    whole = MiniVlm(start.module.spec, start.facts.heads())
    whole.fusion.load_state_dict(start.module.fusion.state_dict())
    tokens = start.vocabulary.read_bytes() if start.vocabulary is not None else None

    def save(kept: nn.Module, path: Path) -> None:
        whole.tee.load_state_dict(kept.state_dict())
        if tokens is not None:
            with written(path.parent / VOCABULARY) as beside:
                beside.write_bytes(tokens)
        save_vlm(whole, start.facts, path)

    return save


def _detector(kept: nn.Module) -> Tee:
    if not isinstance(kept, Tee):
        raise UsageError(f"a detector is trained here, not a {type(kept).__name__}")
    return kept


def _digest(source: DetectionSource) -> str:
    """Of all that is said of all images, in their order."""
    found = hashlib.sha256()
    for index in range(len(source)):
        found.update(f"{source.annotated(index)}\n".encode())
    return found.hexdigest()
