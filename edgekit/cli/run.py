"""``edgekit run``: an image, or tensors from a file, through a bundle."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli import run_vlm
from edgekit.cli.arguments import positive
from edgekit.cli.console import Console
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.runtimes.model import Model
    from edgekit.runtimes.session import Array


Classes = Sequence[tuple[str, float]]  # label and score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("bundle", type=Path, help="a bundle, or a bare .onnx, .tflite or .xml file")
    parser.add_argument(
        "input", type=Path, help="an image; or .npy/.npz, fed as it is without preprocessing"
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="classes to print (default: 5)"
    )
    parser.add_argument(
        "--runtime", help="onnxruntime, openvino, litert or tensorrt (default: the bundle's first)"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="compute threads (default: 1)"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.npz", help="write the outputs there")
    parser.add_argument("--force", action="store_true", help="replace FILE.npz")
    run_vlm.add_vlm_arguments(parser.add_argument_group("a vision-language bundle"))


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Run once and print classes, or what the outputs look like."""
    from edgekit.bundle.assembly import is_assembly
    from edgekit.bundle.manifest import MANIFEST
    from edgekit.runtimes.model import load
    from edgekit.runtimes.tensor_files import SUFFIXES, check_free, read_tensors, save_tensors

    if is_assembly(arguments.bundle):
        run_vlm.run_vlm(arguments, console)
        return
    for name, default in run_vlm.UNSET.items():
        if getattr(arguments, name) != default and (arguments.bundle / MANIFEST).exists():
            raise UsageError(
                f"--{name} is for a vision-language bundle whole, and {str(arguments.bundle)!r} is "
                "of one graph"
            )
    if arguments.save:
        check_free(arguments.save, force=arguments.force)
    with load(arguments.bundle, arguments.runtime, arguments.threads) as model:
        for warning in model.warnings:
            console.warn(warning)
        is_tensors = arguments.input.suffix in SUFFIXES
        inputs = (
            read_tensors(arguments.input, model.session.inputs)
            if is_tensors
            else model.preprocess(arguments.input)
        )
        outputs = model.run(inputs)
        if arguments.save:
            save_tensors(arguments.save, outputs, force=arguments.force)
        images = _classify(model, outputs, arguments.top) if model.is_classifier else []
        summaries = {name: _summary(value) for name, value in outputs.items()}
        engine = model.session.describe()
    console.document(
        {
            "bundle": str(arguments.bundle),
            "input": str(arguments.input),
            "engine": engine,
            "warnings": model.warnings,
            "classes": _documents(images),
            "outputs": summaries,
            "saved": str(arguments.save) if arguments.save else None,
        }
    )
    _print_classes(images, console)
    if images and is_tensors:
        console.print()
    if is_tensors or not images:
        _print_summaries(summaries, console)
    console.print("\n" + ", ".join(f"{key} {value}" for key, value in engine.items()))
    if arguments.save:
        console.print(f"saved {arguments.save}")
    console.next(_next_command(arguments, model, is_tensors=is_tensors))


@dataclass(frozen=True)
class Summary:
    """What one output looks like. NaN and Inf are counted, and left out of the range."""

    dtype: str
    shape: tuple[int, ...]
    min: float | None
    max: float | None
    mean: float | None
    not_finite: int


def _summary(value: Array) -> Summary:
    import numpy as np

    finite = value[np.isfinite(value)]
    some = finite.size > 0
    return Summary(
        dtype=str(value.dtype),
        shape=value.shape,
        min=float(finite.min()) if some else None,
        max=float(finite.max()) if some else None,
        mean=float(finite.mean(dtype=np.float64)) if some else None,
        not_finite=int(value.size - finite.size),
    )


def _classify(model: Model, outputs: Mapping[str, Array], top: int) -> list[Classes]:
    """The classes of each image, the best first."""
    ((name, scores),) = outputs.items()
    if scores.ndim < 2:
        return [model.classify(outputs, top)]
    return [model.classify({name: scores[i : i + 1]}, top) for i in range(len(scores))]


def _documents(images: Sequence[Classes]) -> list[dict[str, object]]:
    """One a class; with the number of its image where there are several."""
    several = len(images) > 1
    return [
        {**({"image": number} if several else {}), "label": label, "score": score}
        for number, classes in enumerate(images)
        for label, score in classes
    ]


def _print_classes(images: Sequence[Classes], console: Console) -> None:
    rows = [
        (str(number), f"{score:.4f}", label)
        for number, classes in enumerate(images)
        for label, score in classes
    ]
    if len(images) > 1:
        console.table(("image", "score", "class"), rows)
    elif rows:
        console.table(("score", "class"), [row[1:] for row in rows])


def _print_summaries(summaries: Mapping[str, Summary], console: Console) -> None:
    console.table(
        ("output", "dtype", "shape", "min", "max", "mean", "NaN or Inf"),
        [
            (
                name,
                facts.dtype,
                " x ".join(map(str, facts.shape)),
                *(
                    "-" if figure is None else f"{figure:.6g}"
                    for figure in (facts.min, facts.max, facts.mean)
                ),
                str(facts.not_finite),
            )
            for name, facts in summaries.items()
        ],
    )


def _next_command(arguments: argparse.Namespace, model: Model, *, is_tensors: bool) -> str:
    if model.is_classifier and not is_tensors:
        call = f"predict({_quoted(arguments.input)})"
    else:
        names = ", ".join(f"{_quoted(spec.name)}: array" for spec in model.session.inputs)
        call = f"run({{{names}}})"
    return f"in Python: import edgekit; edgekit.load({_quoted(arguments.bundle)}).{call}"


def _quoted(text: object) -> str:
    """A Python string in double quotes."""
    return json.dumps(str(text), ensure_ascii=False)
