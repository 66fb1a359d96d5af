"""``edgekit targets``: what each target gets, and what this machine lacks to make it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable

from edgekit import optional
from edgekit.cli.console import Console
from edgekit.runtimes import RUNTIMES
from edgekit.targets import TARGETS, Target

# Packages that exporting needs on this machine, whatever the target; then per runtime.
_EXPORT = ("torch", "onnx", "onnxscript", "onnx_ir", "onnxruntime")
_LOWERING = {
    "onnxruntime": (),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert", "flatbuffers"),
    "tensorrt": (),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments of its own."""


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Print what every target gets, then what is missing here and the boards that are refused."""
    served = [row for row in TARGETS.values() if not row.refused]
    missing = {row.name: _missing(row) for row in served}
    console.document([_document(row, missing.get(row.name, ())) for row in TARGETS.values()])
    console.table(
        ("target", "device", "runtimes, in the order load tries them", "export from here"),
        [_row(row, missing[row.name]) for row in served],
    )
    console.print()
    for needs in dict.fromkeys(row.needs for row in served if row.needs):
        names = ", ".join(row.name for row in served if row.needs == needs)
        console.paragraph(f"{names}: needs {needs} on the device")
    for note in _runtime_notes(served):
        console.paragraph(note)
    for row in TARGETS.values():
        if row.refused:
            console.paragraph(f"{row.name} ({row.title}) is refused: {row.refused}")
    lines = dict.fromkeys(optional.pip_line(extra) for extra in _extras(missing.values()))
    for line in lines:
        console.print(f"to install what is missing here: {line}")
    ready = [name for name, packages in missing.items() if not packages]
    console.next(f"edgekit export micronet-m1 --target {ready[0]}" if ready else "edgekit doctor")


def _row(row: Target, missing: Iterable[str]) -> tuple[str, ...]:
    lacks = ", ".join(missing)
    return (
        row.name,
        row.title,
        ", ".join(RUNTIMES[name].title for name in row.runtimes),
        f"lacks {lacks}" if lacks else "ready",
    )


def _missing(row: Target) -> tuple[str, ...]:
    wanted = [*_EXPORT, *(name for runtime in row.runtimes for name in _LOWERING[runtime])]
    return tuple(name for name in dict.fromkeys(wanted) if not optional.is_installed(name))


def _extras(missing: Iterable[tuple[str, ...]]) -> list[str]:
    return sorted({optional.EXTRAS[name][1] for names in missing for name in names})


def _runtime_notes(rows: Iterable[Target]) -> list[str]:
    used = dict.fromkeys(name for row in rows for name in row.runtimes)
    return [
        f"{RUNTIMES[name].title}: {RUNTIMES[name].note}" for name in used if RUNTIMES[name].note
    ]


def _document(row: Target, missing: Iterable[str]) -> dict[str, object]:
    return {**dataclasses.asdict(row), "missing_here": list(missing)}
