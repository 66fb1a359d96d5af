"""``edgekit evaluate``: accuracy of trained weights, or of a bundle in each of its runtimes."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from edgekit.cli.arguments import path, positive
from edgekit.cli.console import Console
from edgekit.cli.evaluate_vlm import evaluate_vlm_source
from edgekit.cli.recipes import check_trainer
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.training.evaluation import Accuracy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("source", type=path, help="weights that edgekit saved, a run, or a bundle")
    parser.add_argument(
        "--data",
        required=True,
        help="digits, or imagefolder:, shards:, hf: or hf-stream:FOLDER; of a vision-language "
        "model scenes or tsv:FOLDER, of its detector scenes or coco:FOLDER",
    )
    parser.add_argument("--train-split", action="store_true", help="on what was trained on")
    bundle = parser.add_argument_group("a bundle")
    bundle.add_argument(
        "--weights",
        type=path,
        metavar="FILE",
        help="what it was exported from: adds torch's accuracy and the agreement with it",
    )
    bundle.add_argument("--runtime", action="append", default=[], help="only this (repeatable)")
    bundle.add_argument("--threads", type=positive, default=1, help="of each (default: 1)")
    weights = parser.add_argument_group("features of weights, instead of their classes")
    weights.add_argument(
        "--knn", action="store_true", help="1 and 20 nearest neighbours, before and behind the head"
    )
    weights.add_argument(
        "--linear-probe", action="store_true", help="a linear layer, at three learning rates"
    )
    weights.add_argument(
        "--probe-epochs", type=positive, default=100, help="of the linear probe (default: 100)"
    )
    vlm = parser.add_argument_group("a vision-language model")
    vlm.add_argument(
        "--evaluated", type=positive, default=2000, help="most questions, captions (default: 2000)"
    )
    vlm.add_argument(
        "--candidates",
        type=positive,
        default=50,
        help="most images that are searched, each with as many captions (default: 50)",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Evaluate, then print one row a runtime, or one a way to use the features."""
    check_trainer("evaluate")
    # Late: torch takes seconds to import, and a wrong argument must not wait for it.
    from edgekit.training.evaluation import evaluate
    from edgekit.training.run_folder import weights_of
    from edgekit.training.vision_language.accuracy import is_vlm

    if is_vlm(arguments.source):
        evaluate_vlm_source(arguments, console)
        return
    arguments.source = weights_of(arguments.source)
    if arguments.knn or arguments.linear_probe:
        _features(arguments, console)
        return

    found = evaluate(
        arguments.source,
        arguments.data,
        weights=arguments.weights,
        runtimes=arguments.runtime,
        threads=arguments.threads,
        trained_on=arguments.train_split,
        progress=console.progress,
    )
    split = "trained on" if arguments.train_split else "held-out"
    console.document({"source": str(arguments.source), "split": split, "accuracy": found})
    console.table(
        ("runtime", "top-1", "top-5", "images", "less torch's top-1", "agrees with torch"),
        [_row(each) for each in found],
    )
    console.print(f"\n{found[0].images} {split} images of {arguments.data}")
    if found[0].unreadable:
        console.warn(f"{found[0].unreadable} images could not be read and are not counted")
    console.next(_next(arguments))


def _features(arguments: argparse.Namespace, console: Console) -> None:
    from edgekit.training.evaluation import is_weights

    if arguments.train_split:
        raise UsageError("--knn and --linear-probe compare both parts: leave out --train-split")
    if not is_weights(arguments.source) or arguments.weights or arguments.runtime:
        raise UsageError("--knn and --linear-probe are for weights, not for a bundle")
    from edgekit.training.features import evaluate_features

    found = evaluate_features(
        arguments.source,
        arguments.data,
        knn=arguments.knn,
        probe_epochs=arguments.probe_epochs if arguments.linear_probe else 0,
        progress=console.progress,
    )
    console.document({"source": str(arguments.source), "figures": found})
    console.table(
        ("features", "how", "top-1"), [(row.features, row.how, f"{row.top1:.2%}") for row in found]
    )
    console.next(_next(arguments))


def _row(found: Accuracy) -> tuple[str, ...]:
    return (
        found.runtime,
        f"{found.top1:.2%}",
        "-" if found.top5 is None else f"{found.top5:.2%}",
        str(found.images),
        "-" if found.delta is None else f"{100 * found.delta:+.2f}",
        "-" if found.agreement is None else f"{found.agreement:.2%}",
    )


def _next(arguments: argparse.Namespace) -> str:
    source = shlex.quote(str(arguments.source))
    from edgekit.training.evaluation import is_weights

    if not is_weights(arguments.source):
        return f"edgekit profile {source}"
    from edgekit.models.checkpoint import read_recorded

    model_id = read_recorded(arguments.source).variant
    return f"edgekit export {model_id} --weights {source} --target x86"
