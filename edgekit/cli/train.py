"""``edgekit train``: a network of the zoo learns the classes of a data set.

Or a vision-language model to find things, and then to speak of them: ``--stage``.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.console import Console
from edgekit.cli.recipes import (
    SHARED,
    Values,
    add_run_arguments,
    check_trainer,
    make_recipe,
    recipe_file,
    report,
)
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.training.engine import Outcome
    from edgekit.training.recipe import Recipe

    _Ran = tuple[Outcome, Recipe, Path]

_DETECT = "detect"
_VALUES: Values = (
    *SHARED,
    ("label_smoothing", float, "spread over all classes, or words of a caption"),
    ("mixup", float, "alpha of its Beta distribution"),
    ("cutmix", float, "likewise"),
)
_OF_VLMS: Values = (
    ("stage", str, "detect, pretrain, vqa, caption, caption-cider, retrieval or nlvr2; "
                   "several as vqa+caption"),
    ("vocab", str, "vocab.txt; by default the one beside the weights, or the data's own"),
    ("dropout", float, "in the encoder"),
    ("head_dropout", float, "before the answers"),
    ("attention", str, "of pre-training: seq2seq or bidirectional"),
    ("captions", str, "whether a step predicts some words of a caption, masked, or all"),
    ("samples", int, "of caption-cider: captions of each image"),
    ("baseline", str, "which greedy ones or their mean are compared with"),
    ("answers", int, "most that the head of questions has"),
    ("min_score", float, "of a region: for scenes' to be kept, or as those of tsv: were"),
    ("detector", str, "file or run whose detector is taken (default: that of --weights)"),
    ("evaluated", int, "most items of a task that are looked at after an epoch"),
    ("candidates", int, "images that are searched then"),
)  # fmt: skip


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
    group = parser.add_argument_group("recipe of a vision-language model")
    for name, kind, text in _OF_VLMS:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text)
    group.add_argument(
        "--hide-regions", action="store_true", default=None, help="what words alone tell"
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Train, then say how good it is and what to do with it."""
    check_trainer(arguments.command)
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    from edgekit.models.minivlm.specs import VLMS

    model, stage = _said(arguments)
    if model in VLMS:
        return _run_vlm(arguments, stage, console)
    if stage:
        raise UsageError(
            f"--stage is of vision-language models ({', '.join(VLMS)}), not of {model}"
        )
    from edgekit.training.recipe import Recipe

    recipe, out = make_recipe(arguments, Recipe, _values())
    from edgekit.training.runs import train

    outcome = train(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    report(outcome, recipe, out, "train", console)
    return None


def _values() -> Values:
    return (*_VALUES, *_OF_VLMS, ("hide_regions", bool, ""))


def _said(arguments: argparse.Namespace) -> tuple[str, str]:
    """Model and stage, of the command line or of the recipe file."""
    from edgekit.training.recipe import read_values

    source = recipe_file(arguments)
    base = read_values(source) if source is not None else {}
    of_file = str(base.get("stage", _DETECT if "attribute_weight" in base else ""))
    return str(arguments.model or base.get("model", "")), arguments.stage or of_file


def _run_vlm(arguments: argparse.Namespace, stage: str, console: Console) -> None:
    if not stage:
        raise UsageError(
            f"{arguments.model or 'a vision-language model'} is trained in stages: --stage detect, "
            "then e.g. --stage vqa+caption+retrieval with --weights of the first"
        )
    outcome, recipe, out = _VLM_STAGES.get(stage, _speak)(arguments, console)
    then = ""
    if stage == _DETECT:
        then = f"edgekit train {recipe.model} --stage vqa+caption+retrieval --weights {{best}}"
        then += f" --data {shlex.quote(recipe.data)}" if recipe.data.startswith("scenes") else ""
    report(outcome, recipe, out, "train", console, then)


def _detect(arguments: argparse.Namespace, console: Console) -> _Ran:
    from edgekit.training.detection.recipe import DetectRecipe
    from edgekit.training.detection.runs import train_detector

    arguments.stage = None  # said by the kind of the recipe
    recipe, out = make_recipe(arguments, DetectRecipe, _values())
    outcome = train_detector(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    return outcome, recipe, out


def _speak(arguments: argparse.Namespace, console: Console) -> _Ran:
    from edgekit.training.vision_language.recipe import VlmRecipe
    from edgekit.training.vision_language.runs import train_vlm

    recipe, out = make_recipe(arguments, VlmRecipe, _values())
    outcome = train_vlm(
        recipe, out, resume=arguments.resume, force=arguments.force, progress=console.progress
    )
    return outcome, recipe, out


_VLM_STAGES = {_DETECT: _detect}
