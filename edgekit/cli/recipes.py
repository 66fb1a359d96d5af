"""The values of a recipe as options, for `edgekit train` and `edgekit distill`."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from edgekit import optional
from edgekit.cli.arguments import path, positive
from edgekit.cli.console import Console
from edgekit.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from edgekit.training.engine import Outcome
    from edgekit.training.recipe import Recipe

Kind = TypeVar("Kind", bound="Recipe")
# Name, type, and what help says of it.
Values = tuple[tuple[str, Callable[[str], Any], str], ...]

SHARED: Values = (
    ("epochs", positive, "passes over the images"),
    ("batch_size", positive, "images a step, over all processes"),
    ("lr", float, "highest learning rate"),
    ("optimizer", str, "sgd or adamw"),
    ("schedule", str, "cosine, cosine-by-epoch, linear, constant, steps or steps-by-quarter"),
    ("weight_decay", float, "of all parameters"),
    ("warmup_epochs", float, "over which the learning rate rises"),
    ("warmup_lr", float, "from which it rises"),
    ("clip_norm", float, "of the gradients"),
    ("ema", float, "decay of averaged weights, which are then what is saved"),
    ("augment", str, "how images are varied; by default as suits the data"),
    ("precision", str, "no, bf16 or fp16"),
    ("seed", int, "of everything drawn"),
    ("workers", int, "processes that read images"),
    ("on_corrupt", str, "skip or fail"),
    ("save_minutes", float, "how much work a killed run can lose"),
)
_CONTEXT = ("model", "data", "weights", "drop_head")


def add_run_arguments(parser: argparse.ArgumentParser, values: Values) -> None:
    """What both verbs take."""
    parser.add_argument("model", nargs="?", help="an id of `edgekit models`")
    parser.add_argument("--data", help="digits, or imagefolder:, shards:, hf: or hf-stream:FOLDER; "
                        "of a vision-language model scenes, coco:FOLDER or tsv:FOLDER")  # fmt: skip
    parser.add_argument("--imgsz", type=positive, metavar="PIXELS", help="side of the images")
    parser.add_argument("-o", "--output", type=path, help="the run's folder (default: runs/MODEL)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--force", action="store_true", help="throw away the run that is there")
    parser.add_argument("--recipe", type=path, metavar="FILE", help="recipe.toml of another run")
    group = parser.add_argument_group("recipe")
    for name, kind, text in values:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text)


def check_trainer(verb: str) -> None:
    """Answer with the pip line where this is a board, before an import fails."""
    for package in ("torch", "safetensors"):
        if not optional.is_installed(package):
            remedy = optional.pip_line("train")
            raise MissingDependencyError(f"edgekit {verb}", package, remedy)


def make_recipe(
    arguments: argparse.Namespace, kind: type[Kind], values: Values
) -> tuple[Kind, Path]:
    """What the command line says, on what a recipe file says, on the defaults; and the folder.

    Raises:
        UsageError: no model or no data, or nothing to resume.
    """
    check_trainer(arguments.command)
    from edgekit.models.zoo import get_variant
    from edgekit.training.published import published_recipe
    from edgekit.training.recipe import read_recipe

    source = recipe_file(arguments)
    base = read_recipe(source, kind) if source else {}
    if arguments.resume and arguments.command == "distill" and "method" not in base:
        raise UsageError(f"{source} is a recipe of edgekit train, not of edgekit distill")
    model = arguments.model or base.get("model")
    if getattr(arguments, "published", False) and model:
        base = {**published_recipe(model), **base}
    said = {name: getattr(arguments, name) for name, _, _ in values}
    said |= {name: getattr(arguments, name, None) for name in _CONTEXT}
    said["image_size"] = arguments.imgsz
    found = {**base, **{name: value for name, value in said.items() if value is not None}}
    for name, what in (("model", "a model: an id of `edgekit models`"), ("data", "--data")):
        if name not in found:
            raise UsageError(f"a run needs {what}, or a --recipe that has it")
    if _has_no_size(kind):
        found.setdefault("image_size", get_variant(found["model"]).image_size)
    _check_known(found, kind)
    recipe = cast(Kind, kind(**found).settled())
    return recipe, arguments.output or Path("runs") / recipe.model


def recipe_file(arguments: argparse.Namespace) -> Path | None:
    """The recipe that the command line names, or that of the run which it goes on with.

    Raises:
        UsageError: nothing to resume.
    """
    from edgekit.training.run_folder import RECIPE

    source: Path | None = arguments.recipe
    if source is None and arguments.resume:
        source = (arguments.output or Path("runs") / (arguments.model or "MODEL")) / RECIPE
    if arguments.recipe is None and source is not None and not source.is_file():
        raise UsageError(f"no run in {source.parent} to resume: name it with -o")
    return source


def _has_no_size(kind: type[Recipe]) -> bool:
    """Whether a recipe of this kind must be told the size of its images."""
    sizes = (field.default for field in dataclasses.fields(kind) if field.name == "image_size")
    return any(default is dataclasses.MISSING for default in sizes)


def _check_known(found: dict[str, Any], kind: type[Recipe]) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    for name in found:
        if name not in known:
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing to {found['model']}: it is of "
                "another kind of model, or of another stage"
            )


def _shown(name: str, value: float) -> str:
    """Shares are figures up to 1; CIDEr's go up to 10."""
    return f"{value:.3f}" if name.endswith("cider") else f"{value:.2%}"


def report(
    outcome: Outcome, recipe: Recipe, out: Path, verb: str, console: Console, then: str = ""
) -> None:
    """How a run ended, and what to type next: ``then``, or how its weights are exported."""
    from edgekit.training.run_folder import BEST, CORRUPT

    if not outcome.is_main:
        return
    facts = {**dataclasses.asdict(outcome), "corrupt": sorted(outcome.corrupt)}
    console.document({"path": str(out), "recipe": recipe, **facts})
    if outcome.interrupted:
        console.print(f"stopped after {outcome.steps} steps, all of them saved")
        console.next(f"edgekit {verb} --resume -o {shlex.quote(str(out))}")
        raise KeyboardInterrupt  # what was typed behind this must not go on with half a training
    for name, value in outcome.figures.items():
        console.print(f"{name} of the last epoch, on held-out images: {_shown(name, value)}")
    if outcome.best is not None:
        first = next(iter(outcome.figures), "figure")
        best = _shown(first, outcome.best)
        console.print(f"best {first}, by which its epoch was chosen: {best}, in {out / BEST}")
    if outcome.corrupt:
        console.warn(f"{len(outcome.corrupt)} images could not be read: {out / CORRUPT}")
    if verb == "distill" and outcome.figures:  # only images with classes have figures
        data = shlex.quote(recipe.data)
        console.next(f"edgekit evaluate {shlex.quote(str(out))} --data {data} --knn --linear-probe")
        return
    best = shlex.quote(str(out / BEST))
    console.next(
        then.format(best=best) or f"edgekit export {recipe.model} --weights {best} --target arm"
    )
