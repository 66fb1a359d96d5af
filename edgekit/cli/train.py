"""``edgekit train``: a network of the zoo learns the classes of a data set."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cli.arguments import path, positive
from edgekit.cli.console import Console
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.training.recipe import Recipe

# Options that are values of the recipe, with their types and what help says of them.
_VALUES: tuple[tuple[str, Any, str], ...] = (
    ("epochs", positive, "passes over the images"),
    ("batch_size", positive, "images a step, over all processes"),
    ("lr", float, "highest learning rate"),
    ("optimizer", str, "sgd or adamw"),
    ("schedule", str, "cosine or constant"),
    ("weight_decay", float, "of all parameters"),
    ("warmup_epochs", float, "over which the learning rate rises"),
    ("label_smoothing", float, "spread over all classes"),
    ("mixup", float, "alpha of its Beta distribution"),
    ("cutmix", float, "likewise"),
    ("clip_norm", float, "of the gradients"),
    ("ema", float, "decay of averaged weights, which are then what is saved"),
    ("augment", str, "how images are varied; by default as suits the data"),
    ("precision", str, "no, bf16 or fp16"),
    ("seed", int, "of everything drawn"),
    ("workers", int, "processes that read images"),
    ("on_corrupt", str, "skip or fail"),
    ("save_minutes", float, "how much work a killed run can lose"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("model", nargs="?", help="an id of `edgekit models`")
    parser.add_argument("--data", help="digits, or imagefolder:ROOT")
    parser.add_argument("--imgsz", type=positive, metavar="PIXELS", help="side of the images")
    parser.add_argument("--weights", help="to start from (default: random)")
    parser.add_argument(
        "--drop-head", action="store_true", default=None, help="take the weights' body only"
    )
    parser.add_argument("-o", "--output", type=path, help="the run's folder (default: runs/MODEL)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--force", action="store_true", help="throw away the run that is there")
    parser.add_argument("--recipe", type=path, metavar="FILE", help="recipe.toml of another run")
    group = parser.add_argument_group("recipe")
    for name, kind, text in _VALUES:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Train, then say how good it is and what to do with it."""
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    from edgekit.training.recipe import read_recipe

    there = arguments.output / "recipe.toml" if arguments.output else None
    source = arguments.recipe or (there if arguments.resume and there else None)
    recipe = make_recipe(arguments, read_recipe(source) if source else {})
    out = arguments.output or Path("runs") / recipe.model
    from edgekit.training.classifier import train_classifier

    outcome = train_classifier(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    if not outcome.is_main:
        return
    console.document({"path": str(out), "recipe": recipe, **_facts(outcome)})
    if outcome.interrupted:
        console.print(f"stopped after {outcome.steps} steps, all of them saved")
        console.next(f"edgekit train --resume -o {shlex.quote(str(out))}")
        return
    for name, value in outcome.figures.items():
        console.print(f"{name} of the last epoch, on held-out images: {value:.2%}")
    console.print(f"best: {outcome.best:.2%}, in {out / 'best.safetensors'}")
    if outcome.corrupt:
        console.warn(f"{len(outcome.corrupt)} images could not be read: {out / 'corrupt.txt'}")
    best = shlex.quote(str(out / "best.safetensors"))
    console.next(f"edgekit export {recipe.model} --weights {best} --target arm")


def make_recipe(arguments: argparse.Namespace, base: dict[str, Any]) -> Recipe:
    """What the command line says, on what a recipe file says, on the defaults.

    Raises:
        UsageError: no model or no data.
    """
    from edgekit.models.zoo import get_variant
    from edgekit.training.recipe import Recipe

    said = {name: getattr(arguments, name) for name, _, _ in _VALUES}
    said |= {
        "model": arguments.model,
        "data": arguments.data,
        "image_size": arguments.imgsz,
        "weights": arguments.weights,
        "drop_head": arguments.drop_head,
    }
    values = {**base, **{name: value for name, value in said.items() if value is not None}}
    for name, what in (("model", "a model: an id of `edgekit models`"), ("data", "--data")):
        if name not in values:
            raise UsageError(f"edgekit train needs {what}, or a --recipe that has it")
    values.setdefault("image_size", get_variant(values["model"]).image_size)
    recipe = Recipe(**values)
    recipe.check()
    return recipe


def _facts(outcome: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(outcome), "corrupt": sorted(outcome.corrupt)}
