"""``edgekit distill``: a network learns without classes, from a teacher or from itself."""

from __future__ import annotations

import argparse

from edgekit.cli.arguments import positive
from edgekit.cli.console import Console
from edgekit.cli.recipes import SHARED, Values, add_run_arguments, make_recipe, report

_VALUES: Values = (
    *SHARED,
    ("method", str, "seed or moco-v2 (default: seed)"),
    ("teacher", str, "weights of the teacher: a file, FILE#PART, a URL or hf://"),
    ("teacher_model", str, "its network, where the weights do not say it"),
    ("embedding", positive, "width of the projection (default: the teacher's, or 128)"),
    ("patches", int, "small crops of an image beside the whole one (SEED's: 6)"),
    ("patch_size", positive, "side of a patch in pixels (default: 96 of 224)"),
    ("queue", positive, "embeddings to compare with (default: 65536)"),
    ("temperature", float, "of the student (default: 0.2)"),
    ("teacher_temperature", float, "of the teacher (default: 0.01)"),
    ("key_momentum", float, "of MoCo's second network (default: 0.999)"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    add_run_arguments(parser, _VALUES)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Train, then say how good its features are and what to do with them."""
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    from edgekit.training.recipe import DistillRecipe

    recipe, out = make_recipe(arguments, DistillRecipe, _VALUES)
    from edgekit.training.runs import distill

    outcome = distill(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    report(outcome, recipe, out, "distill", console)
