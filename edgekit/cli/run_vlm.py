"""``edgekit run BUNDLE photo.jpg --ask "..."``: a vision-language bundle."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any

from edgekit.cli.console import Console
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.runtimes.vision_language.loaded import LoadedVlm
    from edgekit.runtimes.vision_language.model import Seen

_SHOWN = 10  # regions, where nothing else is asked for
UNSET: dict[str, object] = {
    "ask": None, "caption": False, "match": None, "judge": None, "second": None,
}  # fmt: skip


class _Once(argparse.Action):
    """Refuses a second value, which would silently take the place of the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: ask one question a run")
        setattr(namespace, self.dest, values)


def add_vlm_arguments(group: argparse._ArgumentGroup) -> None:
    """Options of this kind of bundle alone."""
    group.add_argument(
        "--ask",
        action=_Once,
        metavar="QUESTION",
        help="answer a question about the image",
    )
    group.add_argument("--caption", action="store_true", help="describe the image")
    group.add_argument(
        "--match",
        action="append",
        metavar="TEXT",
        help="how likely the text is about the image (repeatable)",
    )
    group.add_argument(
        "--judge",
        metavar="STATEMENT",
        help="how likely a statement on the image and that of --second is true",
    )
    group.add_argument("--second", metavar="IMAGE", help="the other image of --judge")


def run_vlm(arguments: argparse.Namespace, console: Console) -> None:
    """Look at the image once, then do all that is asked for; regions if nothing is."""
    if arguments.save:
        raise UsageError("--save is for bundles of one graph; --json has all that is said")
    if (arguments.judge is None) != (arguments.second is None):
        raise UsageError("--judge STATEMENT and --second IMAGE go together")
    from edgekit.runtimes.vision_language.loaded import load_vlm

    with load_vlm(arguments.bundle, arguments.runtime, arguments.threads) as model:
        for warning in model.warnings:
            console.warn(warning)
        seen = model.look(arguments.input)
        times = dict(model.times)
        said = _say(arguments, model, seen, times)
    if not seen.count:
        console.warn("no regions were found: what is said is from the text alone")
    console.document(
        {
            "bundle": str(arguments.bundle),
            "input": str(arguments.input),
            "runtime": model.runtime,
            "warnings": model.warnings,
            "regions": _regions(seen),
            **said,
            "milliseconds": {name: sum(each) for name, each in times.items()},
        }
    )
    _print(said, seen, console)
    stages = ", ".join(f"{name} {sum(each):.1f}" for name, each in times.items())
    console.print(f"\n{model.runtime}, first run, ms: {stages}")
    console.next(f"edgekit profile {shlex.quote(str(arguments.bundle))}")


def _say(
    arguments: argparse.Namespace, model: LoadedVlm, seen: Seen, times: dict[str, list[float]]
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if arguments.ask is not None:
        answers = model.answers(seen, arguments.ask, arguments.top)
        said["answers"] = [{"answer": text, "score": score} for text, score in answers]
        _add(times, model.times)
    if arguments.caption:
        said["caption"] = model.caption(seen)
        _add(times, model.times)
    if arguments.match:
        scores = model.match(seen, arguments.match)
        pairs = zip(arguments.match, scores, strict=True)
        said["match"] = [{"text": text, "score": score} for text, score in pairs]
        _add(times, model.times)
    if arguments.judge is not None:
        other = model.look(arguments.second)
        _add(times, model.times)
        score = model.judge(seen, other, arguments.judge)
        said["judge"] = [{"text": arguments.judge, "score": score}]
        _add(times, model.times)
    return said


def _add(times: dict[str, list[float]], more: dict[str, list[float]]) -> None:
    for stage, each in more.items():
        times.setdefault(stage, []).extend(each)


def _regions(seen: Seen) -> list[dict[str, Any]]:
    rows = zip(seen.boxes, seen.scores, seen.objects, strict=True)
    return [
        {"box": [round(float(n), 2) for n in box], "score": float(score), "object": name}
        for box, score, name in rows
    ]


def _print(said: dict[str, Any], seen: Seen, console: Console) -> None:
    if "answers" in said:
        rows = [(f"{each['score']:.4f}", each["answer"]) for each in said["answers"]]
        console.table(("score", "answer"), rows)
    if "caption" in said:
        console.print(said["caption"] or "(the model ended the caption before its first word)")
    for task in ("match", "judge"):
        if task in said:
            rows = [(f"{each['score']:.4f}", json.dumps(each["text"])) for each in said[task]]
            console.table(("score", "text"), rows)
    if not said:
        rows = [
            (f"{each['score']:.4f}", each["object"], *(f"{n:.0f}" for n in each["box"]))
            for each in _regions(seen)[:_SHOWN]
        ]
        console.table(("score", "region", "x1", "y1", "x2", "y2"), rows)
