"""``edgekit finish``: on the board, build the TensorRT plan of a bundle and self-test it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from edgekit.cli.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("bundle", type=Path, help="a bundle made for a jetson target")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Build, self-test against the golden output, cache; then say where the plan is."""
    from edgekit.runtimes.trt import finish_bundle

    finished = finish_bundle(arguments.bundle)
    facts = dataclasses.asdict(finished)
    console.document(facts)
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}")
    console.next(f"edgekit run {arguments.bundle} photo.jpg --runtime tensorrt")
