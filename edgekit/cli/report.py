"""``edgekit report``: results of ``edgekit profile`` as one page, and as Markdown and CSV.

    results -> read and checked -> comparable? -> everything is drawn -> everything is written

Results of one graph, or results by stage of vision-language bundles: never both in one report.

Nothing is written before all that can be refused has been: an output that exists, a result that
is none, environments that differ.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.arguments import path
from edgekit.cli.console import Console, size_text
from edgekit.errors import EdgekitError, InputError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from edgekit.profiling.compare import Measured
    from edgekit.profiling.result import ProfileResult

_DEFAULT = Path("report.html")
_STDOUT = Path("-")
_MOST_NAMED = 6  # differences in an error line; the page has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument(
        "results",
        nargs="+",
        type=path,
        metavar="RESULT",
        help="a file of edgekit profile, or a folder: all *.json in it",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="FILE",
        help=f"the page (default: ./{_DEFAULT}, unless only --markdown or --csv is asked for)",
    )
    parser.add_argument(
        "--markdown", type=path, metavar="FILE", help="a short table for a README; - prints it"
    )
    parser.add_argument("--csv", type=path, metavar="FILE", help="one row a run; - prints them")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace files that are there; put unlike environments on one page, which says so",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Read all, draw all, write all; then say what was found and where it is."""
    given = _files(arguments.results)
    outputs = _outputs(arguments, given)
    names = _once(given, console)
    found = _by_stage(names) if _are_by_stage(names) else _profiles(names, outputs, console)
    unlike = _unlike(found, force=arguments.force)
    for line in unlike:
        console.warn(f"unlike environments: {line}")
    drawn = {kind: found.drawers[kind](unlike) for kind in outputs}
    for kind, text in drawn.items():
        if outputs[kind] == _STDOUT:
            console.print(text.replace("\r\n", "\n").rstrip("\n"))
        else:
            _write(outputs[kind], text, force=arguments.force)
    _tell(console, found, unlike, outputs)


# ---- what was found --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Results of one kind, read, and what can be made of them.

    Attributes:
        results: by file, in the order to be shown.
        kinds: of each what it is figures of, where that alone tells some apart.
        drawers: by key of the outputs; takes what differs between the environments.
        sentences: what is said of each.
        documents: of each what ``--json`` says.
    """

    results: Mapping[Path, Measured]
    kinds: Sequence[str]
    drawers: Mapping[str, Callable[[Sequence[str]], str]]
    sentences: Sequence[str]
    documents: Sequence[Mapping[str, object]]


def _are_by_stage(names: Sequence[Path]) -> bool:
    """Whether all are results of vision-language bundles, which have a page of their own.

    Raises:
        UsageError: some are and some are not.
    """
    from edgekit.profiling.stages_file import SUFFIX

    kinds = {name.name.endswith(SUFFIX): name for name in reversed(names)}
    if len(kinds) > 1:
        raise UsageError(
            f"{kinds[True].name} is a result by stage and {kinds[False].name} is not: "
            "report them apart"
        )
    return True in kinds


def _profiles(names: Sequence[Path], outputs: Mapping[str, Path], console: Console) -> _Found:
    from edgekit.profiling.budget import read_result
    from edgekit.profiling.report import csv_report, html_report, markdown_report, words

    results = {name: read_result(name) for name in names}
    _say_what_is_empty(results, outputs, console)
    found = tuple(results.values())
    return _Found(
        results,
        kinds=[_kind(result) for result in found],
        drawers={
            "html": lambda unlike: html_report(found, unlike=unlike),
            "markdown": lambda unlike: markdown_report(found, unlike=unlike),
            "csv": lambda _: csv_report(found),
        },
        sentences=list(map(words.sentence, found, words.names(found, places=False))),
        documents=[
            {
                "model": result.model,
                "verdict": result.verdict,
                "complete": result.complete,
                "runs": len(result.runs),
                "sentence": words.sentence(result),
            }
            for result in found
        ],
    )


def _by_stage(names: Sequence[Path]) -> _Found:
    from edgekit.profiling.report import stages_csv, stages_html, stages_markdown, stages_words
    from edgekit.profiling.stages_file import read_stages

    results = {name: read_stages(name) for name in names}
    found = tuple(results.values())
    return _Found(
        results,
        kinds=["times"] * len(found),
        drawers={
            "html": lambda unlike: stages_html(found, unlike=unlike),
            "markdown": lambda unlike: stages_markdown(found, unlike=unlike),
            "csv": lambda _: stages_csv(found),
        },
        sentences=list(map(stages_words.sentence, found, stages_words.names(found, places=False))),
        documents=[
            {
                "model": result.model,
                "verdict": stages_words.verdict(result),
                "runs": len(result.runs),
                "sentence": stages_words.sentence(result),
            }
            for result in found
        ],
    )


def _kind(result: ProfileResult) -> str:
    """A count of an emulated core is not a slower or faster time."""
    from edgekit.profiling.report import words

    return f"instructions of {words.cores(result)}" if words.emulated(result) else "times"


# ---- files -----------------------------------------------------------------------------------


def _outputs(arguments: argparse.Namespace, given: Sequence[Path]) -> dict[str, Path]:
    """Where each form goes; refused before anything is read where it cannot go there."""
    asked = {"html": arguments.output, "markdown": arguments.markdown, "csv": arguments.csv}
    outputs = {kind: target for kind, target in asked.items() if target is not None}
    outputs = outputs or {"html": _DEFAULT}
    printed = [kind for kind, target in outputs.items() if target == _STDOUT]
    if "html" in printed:
        raise UsageError("the page is a file: give -o FILE")
    if printed and (arguments.json or len(printed) > 1):
        raise UsageError("stdout takes one document: of --json, --markdown - and --csv - give one")
    inputs = {os.path.realpath(name) for name in given}
    taken: set[str] = set()
    for target in (target for target in outputs.values() if target != _STDOUT):
        _check_output(target, inputs, taken, force=arguments.force)
        taken.add(os.path.realpath(target))
    return outputs


def _check_output(target: Path, inputs: set[str], taken: set[str], *, force: bool) -> None:
    real = os.path.realpath(target)
    if real in inputs:
        raise UsageError(f"{str(target)!r} is a result that is read: give another file to write")
    if real in taken:
        raise UsageError(f"{str(target)!r} is named for two outputs: give each its own file")
    if target.is_dir():
        raise UsageError(f"{str(target)!r} is a folder: give a file to write")
    if os.path.lexists(target) and not force:
        raise OutputExistsError(f"{str(target)!r} exists: give --force to replace it")


def _files(names: Sequence[Path]) -> list[Path]:
    """The names; for a folder all of its ``*.json``, sorted."""
    found = []
    for name in names:
        inside = sorted(name.glob("*.json")) if name.is_dir() else [name]
        if not inside:
            raise InputError(f"{str(name)!r} has no *.json: give results of edgekit profile --save")
        found += inside
    return found


def _once(names: Sequence[Path], console: Console) -> list[Path]:
    """Each file once, however often and by which way it was named."""
    first: dict[str, Path] = {}
    for name in names:
        before = first.setdefault(os.path.realpath(name), name)
        if before is not name:
            console.warn(f"{str(name)!r} is the same file as {str(before)!r}: shown once")
    return list(first.values())


def _say_what_is_empty(
    results: Mapping[Path, ProfileResult], outputs: Mapping[str, Path], console: Console
) -> None:
    for name, result in results.items():
        if not result.runs and not result.instructions and {"markdown", "csv"} & set(outputs):
            console.warn(f"{str(name)!r} has neither a time nor a count: no row is of it")


def _unlike(of: _Found, *, force: bool) -> tuple[str, ...]:
    """What differs from the environment of the first result, by file."""
    from edgekit.profiling.compare import differences

    (first_name, first), *others = of.results.items()
    lines = []
    for (name, other), kind in zip(others, of.kinds[1:], strict=True):
        found = (*_unlike_kinds(of.kinds[0], kind), *differences(first, other))
        if found and not force:
            more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            raise UsageError(
                f"{first_name} and {name} were measured in unlike environments "
                f"({'; '.join(found[:_MOST_NAMED])}{more}): "
                "report them apart, or give --force for one page that says so"
            )
        lines += [f"{first_name.name} / {name.name}: {text}" for text in found]
    return tuple(lines)


def _unlike_kinds(first: str, other: str) -> tuple[str, ...]:
    if first == other or "times" not in (first, other):
        return ()
    return (f"an emulated core beside a machine: {first} / {other}",)


def _write(target: Path, text: str, *, force: bool) -> None:
    """Beside the target and then into its place: there is never half a file."""
    target = Path(os.path.realpath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".report-", dir=target.parent)
    except OSError as error:
        raise EdgekitError(f"cannot write {str(target)!r}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        _place(Path(name), target, force=force)
    except FileExistsError:  # made while the page was drawn
        raise OutputExistsError(f"{str(target)!r} exists: give --force to replace it") from None
    except OSError as error:
        raise EdgekitError(f"cannot write {str(target)!r}: {error.strerror or error}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _place(new: Path, target: Path, *, force: bool) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    new.chmod(0o666 & ~umask)  # mkstemp gives it to its owner alone
    if force:
        new.replace(target)
    else:
        os.link(new, target)  # fails where a rename would replace


def _tell(
    console: Console, found: _Found, unlike: Sequence[str], outputs: Mapping[str, Path]
) -> None:
    files = {kind: target for kind, target in outputs.items() if target != _STDOUT}
    console.document(
        {
            "files": {kind: str(target) for kind, target in files.items()},
            "unlike_environments": list(unlike),
            "results": [
                {"file": str(name), **document}
                for name, document in zip(found.results, found.documents, strict=True)
            ],
        }
    )
    if len(files) < len(outputs):
        return  # what was printed is the result, and nothing else
    for sentence in found.sentences:
        console.paragraph(sentence)
    console.print()
    for target in files.values():
        console.print(f"{target}  {size_text(target.stat().st_size)}")
    if "html" in files:
        console.next(f"xdg-open {shlex.quote(str(files['html']))}")
