"""``edgekit count``: what a model computes and moves, in MACs, FLOPs and bytes; never a time."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.arguments import add_fc_squeeze, named_shape, positive
from edgekit.cli.console import Console, shape_text, size_text
from edgekit.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle, Figure, Manifest
    from edgekit.profiling.counts import Counts, LayerCount, TypeCount
    from edgekit.profiling.published import Comparison, Totals

_BAR = 20  # characters of the largest share

_DEFINITIONS = (
    "MACs: multiply-accumulates of convolution, linear and matmul. Element-wise multiplies: of "
    "coefficients and feature maps. MAdds = MACs + element-wise multiplies. FLOPs = 2 x MACs + "
    "element-wise multiplies. Peak activations: nodes one after the other, nothing in place; "
    "an estimate. Bytes moved: weights, and what each node reads and writes. "
    "Intensity = FLOPs / bytes moved. docs/counting.md has the rules."
)
_APART = {
    "activation": "activation, x * gate(x)",
    "product": "other product of computed values",
    "scaling": "scaling by a constant",
}


@dataclass(frozen=True)
class Subject:
    """What is counted. ``counts`` is None where only totals are known."""

    name: str
    input_shapes: Mapping[str, tuple[int, ...]]
    totals: Totals
    counts: Counts | None
    artifacts: Mapping[str, Counts] = field(default_factory=dict)
    published: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    next: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument(
        "subject",
        metavar="MODEL",
        help="an id of `edgekit models`, your own FILE.onnx, or a bundle",
    )
    parser.add_argument("--per-layer", action="store_true", help="one line for each layer")
    parser.add_argument(
        "--runtime", help="of a bundle: tables of this runtime's graph, not of the model as defined"
    )
    zoo = parser.add_argument_group("a network of the zoo")
    zoo.add_argument("--num-classes", type=positive, metavar="N", help="width of your own head")
    zoo.add_argument("--imgsz", type=positive, metavar="PIXELS", help="side of the input")
    add_fc_squeeze(zoo)
    parser.add_argument_group("your own FILE.onnx").add_argument(
        "--input-shape",
        action="append",
        default=[],
        type=named_shape,
        metavar="[NAME:]N,C,H,W",
        help="shape of a dynamic input (repeatable)",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Count, then print totals, operator types, what is in no total, and published figures."""
    subject = _subject(arguments, console)
    console.document(_document(subject))
    _print_totals(subject, console)
    shown, whose = _shown(subject, arguments.runtime)
    if shown is not None:
        _print_types(shown, whose, console)
        if arguments.per_layer:
            _print_layers(shown, whose, console)
        _print_apart(shown, console)
    _print_published(subject, console)
    _print_notes(subject, shown, console)
    console.next(subject.next if arguments.per_layer or shown is None else _per_layer(arguments))


def _per_layer(arguments: argparse.Namespace) -> str:
    """The same command, layer by layer."""
    words = ["edgekit", "count", arguments.subject]
    for name in ("runtime", "num_classes", "imgsz", "fc_squeeze"):
        value = getattr(arguments, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    for name, shape in arguments.input_shape:
        sizes = ",".join(map(str, shape))
        words += ["--input-shape", f"{name}:{sizes}" if name else sizes]
    return shlex.join([*words, "--per-layer"])


# ---- what is counted -------------------------------------------------------------------------


def _subject(arguments: argparse.Namespace, console: Console) -> Subject:
    from edgekit.models.zoo import VARIANTS

    text, path = arguments.subject, Path(arguments.subject)
    if not text:
        raise UsageError("an empty name counts nothing: give an id of `edgekit models` or a path")
    if text not in VARIANTS:
        _refuse(arguments, ("imgsz", "num_classes", "fc_squeeze"), "is for a network of the zoo")
    if text in VARIANTS or not (path.suffix == ".onnx" or _is_path(text, path)):
        return _zoo(arguments, console)
    if path.suffix == ".onnx":
        return _onnx(arguments, path, console)
    _refuse(arguments, ("input_shape",), "is for your own FILE.onnx")
    if path.is_file() and path.suffix != ".edgekit":
        raise UsageError(
            f"{text!r} cannot be counted: give an id of `edgekit models`, a .onnx file or a "
            "bundle; your own module: edgekit.export_model, then count the bundle"
        )
    return _bundle(arguments, path)


def _is_path(text: str, path: Path) -> bool:
    return "/" in text or path.suffix == ".edgekit" or path.exists()


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} {why}; see edgekit count --help")


def _check_reader() -> None:
    """Answer with the pip line where this is a board, before an import fails."""
    from edgekit import optional

    for package in ("torch", "onnx", "onnxscript", "onnx_ir"):
        optional.require(package, "counting what is no bundle")


def _zoo(arguments: argparse.Namespace, console: Console) -> Subject:
    from edgekit.bundle import Figure
    from edgekit.models.zoo import get_variant

    variant = get_variant(arguments.subject)
    _refuse(arguments, ("input_shape",), "is for your own FILE.onnx")
    _refuse(arguments, ("runtime",), "is for a bundle")
    _check_reader()
    from edgekit.export.counting import count_zoo
    from edgekit.models.building import select_variant

    variant = select_variant(variant.id, arguments.fc_squeeze)
    counted = count_zoo(
        variant.id,
        num_classes=arguments.num_classes,
        image_size=arguments.imgsz,
        progress=console.progress,
    )
    figures = [Figure(p.metric, p.value, p.source) for p in variant.published]
    size, classes = arguments.imgsz or variant.image_size, arguments.num_classes
    return Subject(
        name=variant.id,
        input_shapes=counted.input_shapes,
        totals=counted.counts,
        counts=counted.counts,
        published=_compare(variant.id, figures, counted.counts, size, classes),
        notes=(f"approximate: {variant.approximate}",) if variant.approximate else (),
        next=f"edgekit export {variant.id} --target x86",
    )


def _onnx(arguments: argparse.Namespace, path: Path, console: Console) -> Subject:
    _refuse(arguments, ("runtime",), "is for a bundle")
    _check_reader()
    from edgekit.export.counting import count_onnx
    from edgekit.profiling.counts import printable

    counted = count_onnx(path, input_shapes=dict(arguments.input_shape), progress=console.progress)
    return Subject(
        name=printable(path.stem),
        input_shapes=counted.input_shapes,
        totals=counted.counts,
        counts=counted.counts,
        notes=("params are the file's floating-point constants: it names no parameters",),
        next=f"edgekit export {shlex.quote(str(path))} --target x86",
    )


def _bundle(arguments: argparse.Namespace, path: Path) -> Subject:
    from edgekit.bundle import open_bundle
    from edgekit.profiling.counts_file import read_counts

    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        runtimes = [artifact.runtime for artifact in manifest.artifacts]
        if arguments.runtime and arguments.runtime not in runtimes:
            raise UnknownNameError("runtime of the bundle", arguments.runtime, runtimes)
        counts = read_counts(bundle)
        artifacts, note = (counts.artifacts, "") if counts else _of_old_bundle(bundle)
    return Subject(
        name=manifest.model.id,
        input_shapes={spec.name: spec.shape for spec in manifest.inputs},
        totals=manifest.model,
        counts=counts.model if counts else None,
        artifacts=artifacts,
        published=_published_of(manifest),
        notes=tuple(text for text in (note, _batch_note(manifest), *manifest.model.notes) if text),
        next=f"edgekit profile {shlex.quote(str(path))}",
    )


def _batch_note(manifest: Manifest) -> str:
    """What is counted where the bundle takes more than the one image of the model as defined."""
    if manifest.batch > 1:
        return f"as defined is one image, and the artifacts' graphs are of {manifest.batch} at once"
    free = manifest.inputs[0].shape[:1] == (-1,)
    return "the batch is free, and one image is counted" if free else ""


def _of_old_bundle(bundle: Bundle) -> tuple[Mapping[str, Counts], str]:
    """What can be known of a bundle without ``counts.json``, and a line that says so."""
    from edgekit import optional

    why = "the bundle has no counts.json that this edgekit reads: the totals are its manifest's"
    if not optional.is_installed("onnx_ir"):
        return {}, f"{why}, and nothing is known of its layers; export it again for more"
    from edgekit.export.counting import count_artifacts

    artifacts = count_artifacts(bundle)
    found = ", ".join(artifacts)
    return artifacts, f"{why}; layers are of the rewritten graphs of: {found or 'none'}"


def _published_of(manifest: Manifest) -> tuple[Comparison, ...]:
    """Figures of the manifest, each as far as the bundle's sizes are those that they are for."""
    image = manifest.inputs[0].shape
    size = image[-1] if image else 0
    outputs = manifest.outputs[0].shape
    classes = outputs[-1] if outputs else 0
    model = manifest.model
    return _compare(model.id, model.published, model, size, classes)


def _compare(
    model_id: str, figures: Sequence[Figure], totals: Totals, size: int, classes: int | None
) -> tuple[Comparison, ...]:
    from edgekit.models.zoo import VARIANTS
    from edgekit.profiling.published import Counted, compare

    row = VARIANTS.get(model_id)
    counted = Counted(
        totals=totals,
        pixels=size,
        published_pixels=row.image_size if row else size,
        same_outputs=row is None or classes in (None, row.num_classes),
    )
    return tuple(compare(figure, counted) for figure in figures)


# ---- JSON ------------------------------------------------------------------------------------


def _document(subject: Subject) -> dict[str, object]:
    totals = subject.totals
    return {
        "model": subject.name,
        "input_shapes": subject.input_shapes,
        "params": totals.params,
        "macs": totals.macs,
        "elementwise_multiplies": totals.elementwise_multiplies,
        "madds": totals.madds,
        "flops": totals.flops,
        **_details(subject.counts),
        "artifacts": {
            runtime: {
                "params": counts.params,
                "macs": counts.macs,
                "elementwise_multiplies": counts.elementwise_multiplies,
                "madds": counts.madds,
                "flops": counts.flops,
                **_details(counts),
            }
            for runtime, counts in subject.artifacts.items()
        },
        "published": subject.published,
        "notes": subject.notes,
    }


def _details(counts: Counts | None) -> dict[str, object]:
    """What needs the graph; the same keys where it is not known, and nothing behind them."""
    return {
        "weight_bytes": counts and counts.weight_bytes,
        "activation_bytes": counts and counts.activation_bytes,
        "peak_activation_bytes": counts and counts.peak_activation_bytes,
        "peak_at": counts and counts.peak_at,
        "intensity": counts and counts.intensity,
        "by_type": counts.by_type if counts else [],
        "layers": [_layer(layer) for layer in counts.layers] if counts else [],
        "apart": counts.apart if counts else [],
        "not_counted": counts.not_counted if counts else [],
        "missing": counts.missing if counts else [],
    }


def _layer(layer: LayerCount) -> dict[str, object]:
    return {**asdict(layer), "bytes_moved": layer.bytes_moved}


# ---- tables ----------------------------------------------------------------------------------


def _print_totals(subject: Subject, console: Console) -> None:
    inputs = "; ".join(
        f"{name} {shape_text(shape)}" for name, shape in subject.input_shapes.items()
    )
    console.print(f"{subject.name}, {inputs}\n")
    others = {
        f"in {runtime}'s graph": counts
        for runtime, counts in subject.artifacts.items()
        if subject.counts is None or counts.nodes != subject.counts.nodes
    }
    columns = [_column(subject.totals, subject.counts)]
    columns += [_column(counts, counts) for counts in others.values()]
    rows = [(name, *cells) for name, *cells in zip(_ROWS, *columns, strict=True)]
    console.table(("", "as defined", *others), rows)
    console.print()
    console.paragraph(_DEFINITIONS)


_ROWS = (
    "params", "weights", "MACs", "element-wise multiplies", "MAdds", "FLOPs", "peak activations",
    "bytes moved", "intensity",
)  # fmt: skip


def _column(totals: Totals, counts: Counts | None) -> tuple[str, ...]:
    return (
        f"{totals.params:,}",
        size_text(counts.weight_bytes) if counts else "-",
        f"{totals.macs:,}",
        f"{totals.elementwise_multiplies:,}",
        f"{totals.madds:,}",
        f"{totals.flops:,}",
        *_memory(counts),
    )


def _memory(counts: Counts | None) -> tuple[str, str, str]:
    """Peak, bytes moved and intensity, as far as they are known."""
    if counts is None or counts.peak_activation_bytes is None or counts.activation_bytes is None:
        return "-", "-", "-"
    moved = counts.weight_bytes + counts.activation_bytes
    intensity = f"{counts.intensity:.2f} FLOPs/B"
    return size_text(counts.peak_activation_bytes), size_text(moved), intensity


def _shown(subject: Subject, runtime: str | None) -> tuple[Counts | None, str]:
    """The graph that the tables are of, and how it is called."""
    if runtime is None and subject.counts is not None:
        return subject.counts, "as defined"
    name = runtime or next(iter(subject.artifacts), "")
    counts = subject.artifacts.get(name)
    return counts, f"in {name}'s graph"


def _print_types(counts: Counts, whose: str, console: Console) -> None:
    console.print()
    telling = [row for row in counts.by_type if row.madds]
    rest = [row for row in counts.by_type if not row.madds]
    rows = [_type_row(row.op_type, [row], counts) for row in telling]
    if rest:
        rows.append(_type_row(f"{len(rest)} other{'s' * (len(rest) > 1)}", rest, counts))
    console.table(
        (f"operator, {whose}", "nodes", "MACs", "share", "element-wise", "params", "weights"), rows
    )


def _type_row(name: str, rows: Sequence[TypeCount], counts: Counts) -> tuple[str, ...]:
    macs = sum(row.macs for row in rows)
    return (
        name,
        f"{sum(row.nodes for row in rows)}",
        f"{macs:,}",
        _share(macs, counts.macs),
        f"{sum(row.elementwise_multiplies for row in rows):,}",
        f"{sum(row.params for row in rows):,}",
        size_text(sum(row.weight_bytes for row in rows)),
    )


def _print_layers(counts: Counts, whose: str, console: Console) -> None:
    console.print(f"\nlayers, {whose}")
    largest = max((layer.madds for layer in counts.layers), default=0)
    console.table(
        _LAYER_COLUMNS, [_layer_row(layer, counts.madds, largest) for layer in counts.layers]
    )


_LAYER_COLUMNS = (
    "layer", "operator", "output", "MACs", "element-wise", "share of MAdds", "", "params", "moved"
)  # fmt: skip


def _layer_row(layer: LayerCount, whole: int, largest: int) -> tuple[str, ...]:
    return (
        layer.scope or layer.name,
        layer.op_type,
        "x".join(map(str, layer.output_shape)),
        f"{layer.macs:,}",
        f"{layer.elementwise_multiplies:,}",
        _share(layer.madds, whole),
        "#" * round(_BAR * layer.madds / largest),
        f"{layer.params:,}",
        size_text(layer.bytes_moved),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _print_apart(counts: Counts, console: Console) -> None:
    if counts.apart:
        console.print()
        console.table(
            ("multiplies in no total", "operator", "nodes", "multiplies"),
            [
                (_APART.get(row.kind, row.kind), row.op_type, f"{row.nodes}", f"{row.multiplies:,}")
                for row in counts.apart
            ],
        )
    if counts.not_counted:
        console.print()
        console.paragraph(f"not counted: {', '.join(counts.not_counted)}")


def _print_published(subject: Subject, console: Console) -> None:
    from edgekit.profiling.published import NO_COUNT

    rows = [row for row in subject.published if row.note != NO_COUNT]
    if not rows:
        return
    console.print()
    console.table(
        ("published", "figure", "counted", "", "source"),
        [
            (row.metric, row.value, _counted(row), f"{row.outcome}: {row.note}", row.source)
            for row in rows
        ],
    )


def _counted(row: Comparison) -> str:
    return "-" if row.counted is None else f"{row.counted:,}"


def _print_notes(subject: Subject, shown: Counts | None, console: Console) -> None:
    from edgekit.profiling.published import DIFFERS

    for note in subject.notes:
        console.print()
        console.paragraph(note)
    if shown is not None and shown.missing:
        console.warn(f"the MACs are a lower bound: without those of {', '.join(shown.missing)}")
    for row in subject.published:
        if row.outcome == DIFFERS:
            console.warn(
                f"{row.metric} published as {row.value} ({row.source}), counted "
                f"{row.counted:,}: {row.note}"
            )
