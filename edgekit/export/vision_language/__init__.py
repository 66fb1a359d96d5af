"""MiniVLM as one bundle of several graphs.

    MiniVlm --graphs--> detector, box-head, fusion-35, fusion-128, judge, context, step
                |         each through pipeline.py: passes, artifacts, parity, a bundle of its own
    torch stages, drawn images --recorded--> the inputs that each graph is proven on
                |
    the whole, in each runtime --compared--> same regions, same captions, same answers
                v
    assembly.json, vocabulary, embeddings

What is looked up (embeddings) and what has no static number of results (proposals, NMS) is in no
graph; RoIAlign is not either, since TFLite has no such operator and numpy needs a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bundle import PARITY_TOLERANCE
from edgekit.bundle.assembly import (
    VISION_LANGUAGE,
    Agreement,
    Assembly,
    VlmSettings,
    assembling,
    finish_assembly,
    open_assembly,
)
from edgekit.bundle.writing import check_placing
from edgekit.errors import UnknownNameError, UsageError
from edgekit.export.pipeline import Order, export_source, make_order
from edgekit.export.sources import Progress, part_source
from edgekit.export.vision_language.agreement import compare
from edgekit.export.vision_language.files import card, model_facts, shared_files
from edgekit.export.vision_language.vocabulary import vocabulary_of
from edgekit.export.vision_language.whole import Whole
from edgekit.models.minivlm.network import CreatedVlm, create_vlm
from edgekit.models.minivlm.specs import get_vlm
from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD
from edgekit.runtimes.model import artifact_of
from edgekit.runtimes.vision_language.loaded import LoadedVlm
from edgekit.runtimes.vision_language.model import CAPTION, DETECTOR, MATCH, NLVR2, VQA

__all__ = ["VlmExport", "export_vlm", "settings_of"]


@dataclass(frozen=True)
class VlmExport:
    """Where the bundle is, what it says of itself, and what the user must be told.

    ``needs_finish``: the device compiles its graphs, by ``edgekit finish``.
    """

    path: Path
    assembly: Assembly
    warnings: tuple[str, ...] = ()
    needs_finish: bool = False


def export_vlm(
    model_id: str,
    target: str,
    *,
    weights: str = "auto",
    vocabulary: str | Path | None = None,
    out: str | Path | None = None,
    canvas: tuple[int, int] | None = None,
    min_score: float | None = None,
    tasks: Collection[str] = (),
    skip: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
) -> VlmExport:
    """Export a vision-language model as one bundle for ``target``.

    Args:
        model_id: a row of `edgekit.models.minivlm.specs.VLMS`.
        target: a row of ``edgekit targets``.
        weights: ``auto``, ``random``, or a file that ``edgekit train`` wrote, as path or address.
        vocabulary: ``vocab.txt`` that the weights were trained with; by default the one beside the
            file of weights, or letters for random ones.
        out: folder of the bundle; ``./<model>-<target>`` when None.
        canvas: height and width that images are fitted into, when not the row's.
        min_score: a region's best class must be this likely; by default as in the training.
        tasks: ``vqa``, ``caption``, ``match``, ``nlvr2``: graphs for these alone, of those that
            the weights were trained for; all when empty.
        skip: runtimes to leave out.
        force: replace ``out`` if it is a bundle.
        seed: of random weights.
        precision: ``fp32``.
        progress: called with one line per stage.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``; nothing is written then.
    """
    spec = get_vlm(model_id)
    _check_canvas(canvas or (spec.lengths.height, spec.lengths.width))
    _check_tasks(tasks)
    order = make_order(model_id, target, out, skip, force, precision, progress)
    check_placing(order.out)
    weights = _of_run(weights)
    progress(f"build {model_id}, weights {weights}")
    created = create_vlm(model_id, weights, seed=seed)
    lengths = created.spec.lengths
    _check_canvas(canvas or (lengths.height, lengths.width))
    words = vocabulary_of(created, weights, vocabulary)
    tolerance = PARITY_TOLERANCE[order.precision]
    whole = Whole(created, words, settings_of(created, canvas, min_score, tasks), tolerance)
    with assembling(order.out, force=force) as folder:

        def said(line: str) -> None:
            progress(line.replace(str(folder), str(order.out)))

        for number, (name, module) in enumerate(whole.graphs.items(), 1):
            progress(f"-- {name}, {number} of {len(whole.graphs)}")
            source = part_source(
                module, whole.samples[name], whole.outputs[name],
                name=f"{model_id}-{name}", weights=whole.weights,
            )  # fmt: skip
            part = export_source(
                source, replace(order, out=folder / name, force=False, progress=said)
            )
            whole.parts[name] = part.manifest
        _write_whole(folder, whole, order)
    with open_assembly(order.out) as bundle:
        notes = (created.weights.note, created.weights.why, _of_nothing(bundle.assembly.settings))
        warnings = tuple(text for text in notes if text)
        first = bundle.parts[DETECTOR].manifest.artifacts[0]
        return VlmExport(order.out, bundle.assembly, warnings, first.runtime == "tensorrt")


def _of_run(weights: str) -> str:
    """The best weights of a training's folder; anything else as it is."""
    best = Path(weights) / "best.safetensors"
    return str(best) if best.is_file() else weights


def _of_nothing(settings: VlmSettings) -> str:
    """What to say of weights that can do nothing in a bundle."""
    if settings.tasks:
        return ""
    return "the weights were not trained for any task: the bundle only finds regions"


def _check_canvas(canvas: tuple[int, int]) -> None:
    height, width = canvas
    if height % 64 or width % 64 or not 64 <= min(canvas) <= max(canvas) <= 2048:
        raise UsageError(
            f"a canvas of {height} x {width}: both are multiples of 64 (the coarsest map's "
            "stride), from 64 to 2048"
        )


_TASKS = (VQA, CAPTION, MATCH, NLVR2)


def _check_tasks(tasks: Collection[str]) -> None:
    for task in tasks:
        if task not in _TASKS:
            raise UnknownNameError("task", task, _TASKS)


def settings_of(
    created: CreatedVlm,
    canvas: tuple[int, int] | None = None,
    min_score: float | None = None,
    tasks: Collection[str] = (),
) -> VlmSettings:
    """What stands between the graphs of a network.

    Raises:
        UsageError: the weights were not trained for one of ``tasks``.
    """
    untrained = [task for task in tasks if task not in created.facts.tasks]
    if untrained:
        known = ", ".join(created.facts.tasks) or "nothing"
        raise UsageError(f"the weights were not trained for {untrained[0]}: for {known}")
    spec = created.spec
    tee, fusion, lengths = spec.tee, spec.fusion, spec.lengths
    height, width = canvas or (lengths.height, lengths.width)
    least = created.facts.min_score if min_score is None else min_score
    return VlmSettings(
        height, width, IMAGENET_MEAN, IMAGENET_STD, tee.anchors, tee.candidates, tee.proposals,
        tee.proposal_iou, tee.pooled, tee.samples, tee.regions, tee.region_iou, least,
        (lengths.short, lengths.long), lengths.caption, lengths.tags, fusion.layers, fusion.heads,
        fusion.width // fusion.heads,
        tuple(task for task in _TASKS if task in (tasks or _TASKS) and task in created.facts.tasks),
    )  # fmt: skip


def _write_whole(folder: Path, whole: Whole, order: Order) -> None:
    """The shared files; then the whole is opened with each runtime and compared."""
    files = shared_files(whole)
    runtimes = [name for name in order.target.runtimes if name not in order.skip]
    draft = _assembly(whole, order)
    finish_assembly(folder, draft, files)
    agreement: dict[str, Agreement] = {}
    for runtime in runtimes:
        with open_assembly(folder) as bundle:
            if artifact_of(bundle.parts[DETECTOR], runtime).parity is None:
                continue  # of a runtime that only a board has
            order.progress(f"{runtime}: compare the whole with torch")
            with LoadedVlm(bundle, runtime, 1) as model:
                model.settings = whole.settings_compared
                agreement[runtime] = compare(
                    runtime, model, whole.images, whole.seen, whole.steady, whole.told,
                    tolerance=2 * whole.tolerance,  # a region goes through two graphs
                )  # fmt: skip
    files["README.md"] = card(whole, agreement).encode()
    finish_assembly(folder, replace(draft, agreement=agreement), files)


def _assembly(whole: Whole, order: Order) -> Assembly:
    return Assembly(
        VISION_LANGUAGE, model_facts(whole), whole.weights, order.target.name, order.precision,
        whole.settings, {}, {}, {},
    )  # fmt: skip
