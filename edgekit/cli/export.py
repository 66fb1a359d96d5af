"""``edgekit export``: a network of the zoo or a user's ``.onnx`` as a bundle for one target."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli import export_vlm
from edgekit.cli.arguments import add_fc_squeeze, batch, named_shape, path, positive, rgb
from edgekit.cli.console import Console, count_text, size_text
from edgekit.errors import BundleError, InputError, UsageError
from edgekit.models.minivlm.specs import VLMS
from edgekit.targets import get_target

if TYPE_CHECKING:
    from edgekit.bundle import Artifact, Manifest
    from edgekit.export.pipeline import ExportResult

# Options that speak of one kind of source only, with what the parser sets when they are not given.
_ZOO_ONLY: dict[str, object] = {
    "weights": None,
    "num_classes": None,
    "imgsz": None,
    "seed": None,
    "drop_head": False,
    "fc_squeeze": None,
    "batch": None,
}
_ONNX_ONLY: dict[str, object] = {"input_shape": [], "mean": None, "std": None, "labels": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("model", help="an id of `edgekit models`, or your own FILE.onnx")
    parser.add_argument("--target", required=True, help="a row of `edgekit targets`")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        help="the bundle: a folder, or one file ending in .edgekit (default: ./MODEL-TARGET)",
    )
    parser.add_argument("--force", action="store_true", help="replace the bundle that is there")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="RUNTIME",
        help="leave this runtime's artifact out (repeatable)",
    )
    parser.add_argument("--precision", default="fp32", help="fp32, the default")
    _add_zoo_arguments(parser.add_argument_group("a network of the zoo"))
    export_vlm.add_vlm_arguments(parser.add_argument_group("a vision-language model"))
    _add_onnx_arguments(parser.add_argument_group("your own FILE.onnx"))


def _add_zoo_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weights",
        metavar="W",
        help="auto, FILE, URL, hf://owner/repo/file, official or random (default: auto); "
        "FILE#PART takes one part of a file, e.g. its student",
    )
    group.add_argument("--num-classes", type=positive, metavar="N", help="width of your own head")
    group.add_argument("--imgsz", type=positive, metavar="PIXELS", help="side of the input")
    group.add_argument("--seed", type=int, metavar="N", help="of random weights (default: 0)")
    group.add_argument(
        "--drop-head",
        action="store_true",
        help="take the checkpoint's body only, and draw a head at random",
    )
    add_fc_squeeze(group)
    group.add_argument(
        "--batch",
        type=batch,
        metavar="N",
        help="images at once; dynamic is any number, where the runtime's files can (default: 1)",
    )


def _add_onnx_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input-shape",
        action="append",
        default=[],
        type=named_shape,
        metavar="[NAME:]N,C,H,W",
        help="shape of a dynamic input (repeatable)",
    )
    group.add_argument("--mean", type=rgb, metavar="R,G,B", help="of the image, on 0..1")
    group.add_argument("--std", type=rgb, metavar="R,G,B", help="of the image, on 0..1")
    group.add_argument("--labels", type=Path, metavar="FILE", help="one class name a line")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Export, then print what each artifact is and how far it is from its source."""
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    if arguments.model in VLMS:
        _refuse(arguments, _ONNX_ONLY, "is for your own FILE.onnx, not for a network of the zoo")
        get_target(arguments.target)
        _check_exporter()
        export_vlm.run_vlm(arguments, console)
        return
    _refuse(arguments, export_vlm.UNSET, f"is for a vision-language model: {', '.join(VLMS)}")
    exporter = _export_onnx if _is_file(arguments.model) else _export_zoo
    result = exporter(arguments, console)
    console.document({"path": str(result.path), "manifest": result.manifest})
    console.table(
        ("runtime", "files", "size", "max error", "allowed", "against"),
        [_row(artifact, result.manifest) for artifact in result.manifest.artifacts],
    )
    _print_facts(result, console)
    console.next(_next_command(result))


def _is_file(model: str) -> bool:
    return model.endswith(".onnx") or "/" in model or Path(model).is_file()


def _export_zoo(arguments: argparse.Namespace, console: Console) -> ExportResult:
    _refuse(arguments, _ONNX_ONLY, "is for your own FILE.onnx, not for a network of the zoo")
    from edgekit.models.zoo import get_variant

    get_variant(arguments.model)
    get_target(arguments.target)
    _check_exporter()
    from edgekit.export.pipeline import export_zoo

    return export_zoo(
        arguments.model,
        arguments.target,
        weights=arguments.weights or "auto",
        out=arguments.output,
        num_classes=arguments.num_classes,
        image_size=arguments.imgsz,
        skip=arguments.skip,
        force=arguments.force,
        seed=arguments.seed or 0,
        drop_head=arguments.drop_head,
        fc_squeeze=arguments.fc_squeeze,
        batch=arguments.batch or 1,
        precision=arguments.precision,
        progress=console.progress,
    )


def _export_onnx(arguments: argparse.Namespace, console: Console) -> ExportResult:
    _refuse(arguments, _ZOO_ONLY, "is for a network of the zoo, not for your own FILE.onnx")
    file = Path(arguments.model)
    if file.suffix != ".onnx":
        raise UsageError(
            f"{arguments.model!r} is no .onnx file: give an id of `edgekit models` with "
            "--weights FILE, or export your own module with edgekit.export_model"
        )
    get_target(arguments.target)
    _check_exporter()
    from edgekit.export.pipeline import export_onnx
    from edgekit.export.sources import ImageFacts

    labels = _read_labels(arguments.labels) if arguments.labels else ()
    return export_onnx(
        file,
        arguments.target,
        out=arguments.output,
        input_shapes=dict(arguments.input_shape),
        image=ImageFacts(mean=arguments.mean, std=arguments.std, labels=labels),
        skip=arguments.skip,
        force=arguments.force,
        precision=arguments.precision,
        progress=console.progress,
    )


def _check_exporter() -> None:
    """Answer with the pip line where this is a board, before an import fails."""
    from edgekit import optional

    for package in ("torch", "onnx", "onnxscript", "onnx_ir"):
        optional.require(package, "edgekit export")


def _refuse(arguments: argparse.Namespace, unset: dict[str, object], why: str) -> None:
    for name, default in unset.items():
        if getattr(arguments, name) != default:
            raise UsageError(f"--{name.replace('_', '-')} {why}")


def _read_labels(path: Path) -> tuple[str, ...]:
    from edgekit.bundle.reading import parse_labels

    try:
        return parse_labels(path.name, path.read_bytes())
    except OSError as error:
        raise InputError(f"--labels {path}: cannot be read: {error.strerror or error}") from error
    except BundleError as error:
        raise UsageError(f"--labels {error}") from error


def _row(artifact: Artifact, manifest: Manifest) -> tuple[str, ...]:
    size = size_text(sum(manifest.files[name].bytes for name in artifact.files))
    files = ", ".join(artifact.files)
    if artifact.parity is None:
        return (artifact.runtime, files, size, "-", "-", "to be proven on the device")
    parity = artifact.parity
    worst = max(parity.max_relative_error.values())
    against = f"{parity.reference}, {parity.inputs} inputs"
    return (artifact.runtime, files, size, f"{worst:.1e}", f"{parity.tolerance:.0e}", against)


def _print_facts(result: ExportResult, console: Console) -> None:
    manifest = result.manifest
    model = manifest.model
    console.print(
        f"\n{model.id}: {count_text(model.params)} params, {count_text(model.macs)} MACs, "
        f"{count_text(model.madds)} MAdds, {count_text(model.flops)} FLOPs"
    )
    for artifact in manifest.artifacts:
        for what, outcome in artifact.checks.items():
            console.print(f"{artifact.runtime}, {what}: {outcome}")
        if artifact.macs != model.macs * manifest.batch:
            each = " an image" if manifest.batch > 1 else ""
            macs = count_text(artifact.macs // manifest.batch)
            console.print(f"{artifact.runtime}: its graph does {macs} MACs{each}")
    for skipped in manifest.skipped:
        console.print(f"{skipped.runtime}: {skipped.reason}")
    for record in (*manifest.passes, *(p for a in manifest.artifacts for p in a.passes)):
        if record.modified or record.notes:
            console.note(f"pass {record.name}: {record.modified} changed")
        for note in record.notes:
            console.note(f"  {note}")
    console.print(f"weights: {manifest.weights.source}")
    for warning in result.warnings:
        console.warn(warning)


def _next_command(result: ExportResult) -> str:
    bundle, manifest = shlex.quote(str(result.path)), result.manifest
    if manifest.artifacts[0].runtime == "tensorrt":
        there = shlex.quote(result.path.resolve().name)
        return f"copy {bundle} to the board, and there: edgekit finish {there}"
    tensors = "input.npy" if len(manifest.inputs) == 1 else "inputs.npz"
    takes_a_photo = manifest.preprocessing is not None and manifest.batch == 1
    return f"edgekit run {bundle} {'photo.jpg' if takes_a_photo else tensors}"
