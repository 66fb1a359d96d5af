"""The main path: source -> passes -> one artifact per runtime -> parity -> bundle.

zoo id, nn.Module or .onnx file
  |  sources.py       trace or read, and run the reference on seeded inputs
  |  passes/          exact rewrites every runtime shares: the canonical graph
  |  passes/          per runtime, the form that is fast on the target
  |  batch.py         the axis of the images set free, where that is asked for
  |  lowerings.py     files
  |  parity.py        run them and compare, or no bundle
  v  bundle           written at once or not at all
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgekit.bundle import (
    PARITY_TOLERANCE,
    Artifact,
    Manifest,
    Parity,
    PassRecord,
    Skipped,
    golden_bytes,
    open_bundle,
    write_bundle,
)
from edgekit.bundle.counts import COUNTS
from edgekit.bundle.writing import check_destination
from edgekit.errors import (
    BundleError,
    EdgekitError,
    GraphError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgekit.export import parity
from edgekit.export.batch import Batch, check_batch, with_dynamic_batch
from edgekit.export.lowerings import LOWERINGS
from edgekit.export.model_card import model_card
from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.precision import check_fp32
from edgekit.export.sources import (
    OPSET,
    ImageFacts,
    Progress,
    Source,
    module_source,
    onnx_source,
    zoo_source,
)
from edgekit.export.tools import tool_versions
from edgekit.export.user_onnx import InputShapes
from edgekit.models.building import select_variant
from edgekit.profiling.counts import Counts, count_graph
from edgekit.profiling.counts_file import BundleCounts, counts_bytes
from edgekit.runtimes import open_session
from edgekit.targets import GraphChoices, Target, get_target

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle is, what it says of itself, and what the user must be told."""

    path: Path
    manifest: Manifest
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What the user asked for, apart from the model."""

    target: Target
    out: Path
    skip: frozenset[str]
    force: bool
    precision: str
    progress: Progress


@dataclass(frozen=True)
class Built:
    """One runtime's artifact, its files, and what its graph computes."""

    artifact: Artifact
    files: Mapping[str, bytes]
    counts: Counts


def export_zoo(
    model_id: str,
    target: str,
    *,
    weights: str = "auto",
    out: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    skip: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    drop_head: bool = False,
    fc_squeeze: int | None = None,
    batch: Batch = 1,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
) -> ExportResult:
    """Export a network of the zoo as a bundle for ``target``.

    Args:
        model_id: a row of ``edgekit models``.
        target: a row of ``edgekit targets``.
        weights: ``auto``, a file, a URL, ``hf://owner/repo/file``, ``official`` or ``random``; the
            middle three with ``#part`` for a part of the file.
        out: the bundle, a folder or a ``*.edgekit`` file; ``./<model>-<target>`` when None.
        num_classes: width of the classifier, when not the published one.
        image_size: side of the square input, in pixels, when not the published one.
        skip: runtimes to leave out.
        force: replace ``out`` if it is a bundle.
        seed: of random weights, and of a random head.
        drop_head: take the checkpoint's body only, and draw a head at random.
        fc_squeeze: 8 or 16, of DCD's MobileNetV2: 8 is the row whose id ends in ``-fs8``.
        batch: images that it takes at once; ``"dynamic"`` is any number, for the runtimes whose
            files can: ONNX Runtime's and OpenVINO's.
        precision: ``fp32``.
        progress: called with one line per stage.

    Raises:
        EdgekitError: any of the tree in ``edgekit.errors``; nothing is written then.
    """
    model_id = select_variant(model_id, fc_squeeze).id
    order = make_order(model_id, target, out, skip, force, precision, progress)
    check_batch(batch, order.target, order.skip)
    source = zoo_source(
        model_id,
        weights=weights,
        num_classes=num_classes,
        image_size=image_size,
        seed=seed,
        drop_head=drop_head,
        batch=batch,
        progress=progress,
    )
    return export_source(source, order)


def export_onnx(
    path: str | Path,
    target: str,
    *,
    out: str | Path | None = None,
    input_shapes: InputShapes | None = None,
    image: ImageFacts | None = None,
    skip: Collection[str] = (),
    force: bool = False,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
) -> ExportResult:
    """Export a user's ``.onnx`` file as a bundle for ``target``; see ``export_zoo``.

    Args:
        path: the file; untrusted.
        target: a row of ``edgekit targets``.
        out: the bundle; ``./<file stem>-<target>`` when None.
        input_shapes: fixed shapes for dynamic inputs, by name, or by "" for the only input.
        image: mean, std and labels, when the model takes one image.
        skip: runtimes to leave out.
        force: replace ``out`` if it is a bundle.
        precision: ``fp32``.
        progress: called with one line per stage.
    """
    path, image = Path(path), image or ImageFacts()
    image.check()
    order = make_order(path.stem, target, out, skip, force, precision, progress)
    source = onnx_source(path, input_shapes=input_shapes or {}, image=image, progress=progress)
    return export_source(source, order)


def export_model(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    *,
    target: str,
    out: str | Path | None = None,
    name: str | None = None,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    image: ImageFacts | None = None,
    skip: Collection[str] = (),
    force: bool = False,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
) -> ExportResult:
    """Export your own ``torch.nn.Module`` as a bundle for ``target``; see ``export_zoo``.

    Args:
        module: traced in eval mode.
        example_inputs: one tensor or several; their shapes become the bundle's.
        target: a row of ``edgekit targets``.
        out: the bundle; ``./<name>-<target>`` when None.
        name: model id of the bundle; the class name in lower case when None.
        input_names: ``input`` or ``input_0, input_1 ...`` when empty.
        output_names: ``output`` or ``output_0 ...`` when empty.
        image: mean, std and labels, when the model takes one image.
        skip: runtimes to leave out.
        force: replace ``out`` if it is a bundle.
        precision: ``fp32``.
        progress: called with one line per stage.
    """
    examples = _as_tuple(example_inputs)
    name, image = name or type(module).__name__.lower(), image or ImageFacts()
    image.check()
    order = make_order(name, target, out, skip, force, precision, progress)
    source = module_source(
        module,
        examples,
        name=name,
        input_names=input_names,
        output_names=output_names,
        image=image,
        progress=progress,
    )
    return export_source(source, order)


def export_source(source: Source, order: Order) -> ExportResult:
    """Passes, lowerings, parity, bundle."""
    check_fp32(source.graph)
    order.progress(f"{len(CANONICAL)} graph passes")
    graph, records = run_passes(source.graph, CANONICAL)
    wanted = [runtime for runtime in order.target.runtimes if runtime not in order.skip]
    built = [_build(runtime, graph, source, order) for runtime in wanted]
    files = _with_distinct_names(built)
    manifest = _manifest(source, order, records, [item.artifact for item in files])
    contents = {name: data for item in files for name, data in item.files.items()}
    contents[manifest.golden] = golden_bytes(
        source.reference.inputs[0], source.reference.outputs[0]
    )
    if manifest.labels:
        contents[manifest.labels] = "".join(f"{label}\n" for label in source.labels).encode()
    contents[COUNTS] = _counts(source, built)
    contents["README.md"] = model_card(manifest).encode()
    order.progress(f"write {order.out}")
    write_bundle(order.out, manifest, contents, force=order.force)
    # Read back through the door that users take, checksums and all.
    with open_bundle(order.out) as bundle:
        return ExportResult(order.out, bundle.manifest, source.warnings)


def make_order(
    name: str,
    target: str,
    out: str | Path | None,
    skip: Collection[str],
    force: bool,
    precision: str,
    progress: Progress,
) -> Order:
    """Check everything that can be checked before the slow part starts.

    Raises:
        UnknownNameError, UsageError, OutputExistsError, BundleError: what cannot be exported, or
            where it cannot be written.
    """
    row = get_target(target)
    skip = frozenset([skip] if isinstance(skip, str) else skip)
    if precision not in PARITY_TOLERANCE:
        raise UnknownNameError("precision", precision, PARITY_TOLERANCE)
    for runtime in sorted(skip):
        if runtime not in row.runtimes:
            raise UnknownNameError(f"runtime of target {target}", runtime, row.runtimes)
    if skip >= set(row.runtimes):
        raise UsageError(
            f"skip (--skip) leaves nothing of target {target}: {', '.join(row.runtimes)}"
        )
    if out is not None and not str(out):
        raise UsageError("the output is an empty path: leave it out for ./MODEL-TARGET")
    out = Path(f"{name}-{target}" if out is None else out)
    check_destination(out, force=force)
    _check_writable(out)
    return Order(row, out, skip, force, precision, progress)


def _check_writable(out: Path) -> None:
    """Find out now, by a file that has no name, whether ``out`` can be written after the work."""
    folder = Path(os.path.realpath(out)).parent
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BundleError(
            f"cannot write {str(out)!r}: {folder}: {error.strerror or error}: "
            "give another -o (in Python, out)"
        ) from error


def _build(runtime: str, graph: ir.Model, source: Source, order: Order) -> Built:
    """Shape the graph for ``runtime``, write its files in memory, and prove them."""
    order.progress(f"{runtime}: lower")
    lowering = LOWERINGS[runtime]
    try:
        choices = order.target.choices.get(runtime, GraphChoices())
        shaped, records = run_passes(graph, choice_passes(choices))
        files = lowering.lower(with_dynamic_batch(shaped) if source.dynamic_batch else shaped)
        proven = None
        if lowering.host_runs:
            order.progress(f"{runtime}: compare with {source.reference.name}")
            proven = _prove(runtime, files, source, order.precision)
        checks = lowering.check(files)
    except (BundleError, GraphError, MissingDependencyError) as error:
        _add_way_out(error, runtime, order)
        raise
    counts = count_graph(shaped)
    artifact = Artifact(
        runtime=runtime,
        files=tuple(files),
        passes=records,
        parity=proven,
        macs=counts.macs,
        checks=checks,
    )
    return Built(artifact, files, counts)


def _counts(source: Source, built: Sequence[Built]) -> bytes:
    """``counts.json``: of the model as defined, with its own parameters, and of each artifact."""
    artifacts = {item.artifact.runtime: item.counts for item in built}
    return counts_bytes(BundleCounts(source.counts, artifacts))


def _prove(runtime: str, files: Mapping[str, bytes], source: Source, precision: str) -> Parity:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        paths = [Path(folder) / name for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.write_bytes(data)
        with open_session(runtime, paths, source.inputs, source.outputs) as session:
            figures = parity.measure(
                session.run, source.reference, tolerance=PARITY_TOLERANCE[precision]
            )
    return parity.check(runtime, figures)


def _add_way_out(error: EdgekitError, runtime: str, order: Order) -> None:
    """Let ``error`` tell that the target's other artifacts can be had without this one."""
    others = [name for name in order.target.runtimes if name not in order.skip | {runtime}]
    if others:
        hint = f"--skip {runtime} or skip={[runtime]} writes the others: {', '.join(others)}"
        error.args = (f"{error} ({hint})",)


def _with_distinct_names(built: Sequence[Built]) -> list[Built]:
    """Two runtimes share a file when its bytes are equal; otherwise each gets its own name."""
    taken: dict[str, bytes] = {}
    distinct = []
    for item in built:
        names = {
            name: _free_name(name, data, item.artifact.runtime, taken)
            for name, data in item.files.items()
        }
        files = {names[name]: data for name, data in item.files.items()}
        taken.update(files)
        distinct.append(
            replace(item, artifact=replace(item.artifact, files=tuple(files)), files=files)
        )
    return distinct


def _free_name(name: str, data: bytes, runtime: str, taken: Mapping[str, bytes]) -> str:
    if taken.get(name, data) == data:
        return name
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{runtime}{dot}{suffix}"


def _manifest(
    source: Source,
    order: Order,
    records: tuple[PassRecord, ...],
    artifacts: Sequence[Artifact],
) -> Manifest:
    return Manifest(
        model=source.facts,
        weights=source.weights,
        target=order.target.name,
        precision=order.precision,
        opset=OPSET,
        inputs=source.inputs,
        outputs=source.outputs,
        preprocessing=source.preprocessing,
        labels="labels.txt" if source.labels else None,
        golden="golden.npz",
        passes=records,
        artifacts=tuple(artifacts),
        skipped=tuple(Skipped(name, "left out by --skip") for name in sorted(order.skip)),
        tools=tool_versions(artifact.runtime for artifact in artifacts),
        files={},
    )


def _as_tuple(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    if isinstance(example_inputs, Sequence):
        return tuple(example_inputs)
    return (example_inputs,)
