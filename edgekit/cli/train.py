"""``edgekit train``: a network of the zoo learns the classes of a data set."""

from __future__ import annotations

import argparse

from edgekit.cli.console import Console
from edgekit.cli.recipes import SHARED, Values, add_run_arguments, make_recipe, report

_VALUES: Values = (
    *SHARED,
    ("label_smoothing", float, "spread over all classes"),
    ("mixup", float, "alpha of its Beta distribution"),
    ("cutmix", float, "likewise"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    add_run_arguments(parser, _VALUES)
    parser.add_argument(
        "--published",
        action="store_true",
        help="where nothing else is said, as the network's authors trained it on ImageNet",
    )
    parser.add_argument("--weights", help="to start from (default: random)")
    parser.add_argument(
        "--drop-head", action="store_true", default=None, help="take the weights' body only"
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Train, then say how good it is and what to do with it."""
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    from edgekit.training.recipe import Recipe

    recipe, out = make_recipe(arguments, Recipe, _VALUES)
    from edgekit.training.runs import train

    outcome = train(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    report(outcome, recipe, out, "train", console)
