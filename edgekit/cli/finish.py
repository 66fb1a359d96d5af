"""``edgekit finish``: on the board, build the TensorRT plan of a bundle and self-test it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cli.console import Console

if TYPE_CHECKING:
    from edgekit.runtimes.finish import FinishReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("bundle", type=Path, help="a bundle made for a jetson target")
    parser.add_argument(
        "--force",
        action="store_true",
        help="build even if the plan is cached, e.g. after a change of the power mode",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Build, prove against the golden output, cache; then say what was done."""
    from edgekit.bundle.assembly import is_assembly
    from edgekit.runtimes.finish import finish_bundle

    if is_assembly(arguments.bundle):
        _finish_parts(arguments, console)
        return
    report = finish_bundle(arguments.bundle, force=arguments.force, progress=console.progress)
    console.document(report)
    _print_report(report, console)
    console.next(f"edgekit run {shlex.quote(str(arguments.bundle))} photo.jpg --runtime tensorrt")


def _finish_parts(arguments: argparse.Namespace, console: Console) -> None:
    """Of a bundle of several graphs: each of them."""
    from edgekit.bundle.assembly import open_assembly
    from edgekit.runtimes.finish import finish_bundle

    with open_assembly(arguments.bundle) as bundle:
        names = list(bundle.parts)
    reports = {}
    for name in names:
        console.progress(f"-- {name}")
        path = arguments.bundle / name
        reports[name] = finish_bundle(path, force=arguments.force, progress=console.progress)
    console.document(reports)
    for name, report in reports.items():
        console.print(f"{name}\n")
        _print_report(report, console)
        console.print()
    console.next(f"edgekit run {shlex.quote(str(arguments.bundle))} photo.jpg --runtime tensorrt")


def _print_report(report: FinishReport, console: Console) -> None:
    console.table(
        ("output", "max error", "allowed"),
        [
            (name, f"{error:.1e}", f"{report.tolerance:.0e}")
            for name, error in report.self_test.items()
        ],
    )
    _print_facts(report, console)


def _print_facts(report: FinishReport, console: Console) -> None:
    where = report.plan or "not kept: the cache cannot be written"
    console.print(f"\nplan: {where} ({'built now' if report.built else 'from the cache'})")
    console.print(f"{report.tensorrt}, {report.layers} layers, CUDA graph: {report.cuda_graph}")
    console.print(
        f"{report.gpu}, compute capability {report.compute_capability}, CUDA {report.driver}"
    )
    for note in report.notes:
        console.print(note)
