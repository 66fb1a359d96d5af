"""``edgekit export minivlm``: a vision-language model as one bundle of several graphs."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from edgekit.cli.console import Console, count_text, size_text
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.bundle.assembly import Agreement, Assembled
    from edgekit.export.vision_language import VlmExport

# What the parser sets when an option of it is not given.
UNSET: dict[str, object] = {"vocab": None, "canvas": None, "min_score": None, "tasks": ()}


def add_vlm_arguments(group: argparse._ArgumentGroup) -> None:
    """Options of this kind of model alone; ``--weights`` and ``--seed`` are the zoo's."""
    group.add_argument(
        "--vocab",
        metavar="FILE",
        help="vocab.txt that the weights were trained with (default: the one beside them)",
    )
    group.add_argument(
        "--canvas",
        type=_canvas,
        metavar="HxW",
        help="what images are fitted into, in multiples of 64 (default: the detector's)",
    )
    group.add_argument(
        "--min-score",
        type=_share,
        metavar="S",
        help="of a region's class, 0 to 1 (default: as trained)",
    )

    group.add_argument(
        "--tasks",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="TASK,...",
        help="vqa, caption, match, nlvr2: graphs for these alone (default: all that were trained)",
    )


def _canvas(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: HxW as in 384x512")
    return int(height), int(width)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 to 1")
    return value


def run_vlm(arguments: argparse.Namespace, console: Console) -> None:
    """Export, then print what each graph is and how far the whole is from its source."""
    for name in ("num_classes", "imgsz", "drop_head", "fc_squeeze", "batch"):
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is not for a vision-language model")
    from edgekit.bundle.assembly import open_assembly
    from edgekit.export.vision_language import export_vlm

    result = export_vlm(
        arguments.model,
        arguments.target,
        weights=arguments.weights or "auto",
        vocabulary=arguments.vocab,
        out=arguments.output,
        canvas=arguments.canvas,
        min_score=arguments.min_score,
        tasks=arguments.tasks,
        skip=arguments.skip,
        force=arguments.force,
        seed=arguments.seed or 0,
        precision=arguments.precision,
        progress=console.progress,
    )
    with open_assembly(result.path) as bundle:
        console.document(
            {
                "path": str(result.path),
                "assembly": result.assembly,
                "parts": {name: part.manifest for name, part in bundle.parts.items()},
            }
        )
        _print_parts(bundle, console)
    _print_whole(result, console)
    console.next(_next_command(result))


def _print_parts(bundle: Assembled, console: Console) -> None:
    rows = []
    for name, part in bundle.parts.items():
        for artifact in part.manifest.artifacts:
            size = size_text(sum(part.manifest.files[file].bytes for file in artifact.files))
            error = "on the device"
            if artifact.parity is not None:
                error = f"{max(artifact.parity.max_relative_error.values()):.1e}"
            macs = _macs(part.manifest.model.macs)
            rows.append((name, artifact.runtime, size, macs, error))
    console.table(("graph", "runtime", "size", "MACs", "max error against torch"), rows)


def _macs(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 10**9 else count_text(count)


def _print_whole(result: VlmExport, console: Console) -> None:
    model, settings = result.assembly.model, result.assembly.settings
    console.print(
        f"\n{model.id}: {count_text(model.params)} params, {_macs(model.macs)} MACs for an "
        f"image and a question of up to {settings.lengths[0]} tokens"
    )
    for runtime, found in result.assembly.agreement.items():
        console.print(f"{runtime}, the whole against torch: {_agreement_text(found)}")
    console.print(f"weights: {result.assembly.weights.source}")
    for warning in result.warnings:
        console.warn(warning)


def _agreement_text(found: Agreement) -> str:
    said = [
        f"{found.regions:.1%} of {found.count} regions the same ({found.steady:.1%} are steady: "
        f"no rounding moves them), their features {found.features:.1e}"
    ]
    for what, count in (("captions", found.captions), ("answers", found.answers)):
        if count is not None:
            said.append(f"{count} of {found.images} {what} the same")
    return ", ".join(said)


def _next_command(result: VlmExport) -> str:
    bundle, tasks = shlex.quote(str(result.path)), result.assembly.settings.tasks
    if result.needs_finish:
        there = shlex.quote(result.path.resolve().name)
        return f"copy {bundle} to the board, and there: edgekit finish {there}"
    wanted = {"vqa": '--ask "what is this?"', "caption": "--caption", "match": '--match "a dog"'}
    option = next((wanted[task] for task in tasks if task in wanted), "")
    return f"edgekit run {bundle} photo.jpg {option}".rstrip()
