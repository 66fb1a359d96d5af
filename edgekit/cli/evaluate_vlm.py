"""``edgekit evaluate`` of a vision-language model: one column a runtime."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.cli.console import Console
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.training.vision_language.accuracy import VlmAccuracy

# Figure -> what the table calls it, and whether it is a share.
_SHOWN: Mapping[str, tuple[str, bool]] = {
    "mAP50": ("regions, mAP50", True),
    "attributes": ("attributes", True),
    "vqa": ("answers", True),
    "vqa_new": ("of questions that the training part has not", True),
    "vqa_chance": ("had it always said that part's usual answer", True),
    "caption_cider": ("captions, CIDEr-D (0 to 10)", False),
    "caption_exact": ("captions, word for word", True),
    "image_to_text": ("caption found by image", True),
    "text_to_image": ("image found by caption", True),
    "nlvr2": ("statements on two images", True),
}
_OF_CLASSIFIERS = ("knn", "linear_probe")


def evaluate_vlm_source(arguments: argparse.Namespace, console: Console) -> None:
    """Evaluate, then print a row a figure."""
    for name in _OF_CLASSIFIERS:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is for classifiers")
    from edgekit.training.vision_language.accuracy import Wanted, evaluate_vlm

    wanted = Wanted(
        arguments.data, arguments.train_split, arguments.evaluated, arguments.candidates
    )
    found = evaluate_vlm(
        arguments.source,
        wanted,
        weights=arguments.weights,
        runtimes=arguments.runtime,
        threads=arguments.threads,
        progress=console.progress,
    )
    for warning in dict.fromkeys(text for row in found for text in row.warnings):
        console.warn(warning)
    split = "trained on" if arguments.train_split else "held-out"
    console.document({"source": str(arguments.source), "split": split, "accuracy": found})
    console.table(("", *(row.runtime for row in found)), _rows(found))
    counts = ", ".join(f"{count:,} {name}" for name, count in found[0].items.items())
    console.print(f"\n{split}, {arguments.data}" + (f": {counts}" if counts else ""))
    console.next(_next(arguments))


def _rows(found: list[VlmAccuracy]) -> list[tuple[str, ...]]:
    rows = [
        (title, *(_text(row.figures.get(name), is_share) for row in found))
        for name, (title, is_share) in _SHOWN.items()
        if any(name in row.figures for row in found)
    ]
    agreed = dict.fromkeys(name for row in found for name in row.agreement)
    return rows + [
        (f"the same {name} as torch", *(_text(row.agreement.get(name), True) for row in found))
        for name in agreed
    ]


def _text(figure: float | None, is_share: bool) -> str:
    if figure is None:
        return "-"
    return f"{figure:.1%}" if is_share else f"{figure:.2f}"


def _next(arguments: argparse.Namespace) -> str:
    source = shlex.quote(str(arguments.source))
    from edgekit.bundle.assembly import is_assembly

    if is_assembly(arguments.source):
        return f"edgekit profile {source}"
    from edgekit.models.minivlm.network import read_facts
    from edgekit.training.run_folder import weights_of

    facts = read_facts(weights_of(arguments.source))
    if not facts.speaks:
        kind = arguments.data.partition(":")[0]
        data = shlex.quote(arguments.data) if kind == "scenes" else "tsv:FOLDER"
        return (
            f"edgekit train {facts.variant} --stage vqa+caption+retrieval --weights {source} "
            f"--data {data}"
        )
    return f"edgekit export {facts.variant} --weights {source} --target x86"
