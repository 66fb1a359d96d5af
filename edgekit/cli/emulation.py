"""``edgekit profile --emulate CORE``: its arguments, and the table of counts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgekit.cli.arguments import path
from edgekit.cli.console import Console
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.profiling.request import Request
    from edgekit.profiling.result import ProfileResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--emulate and --sysroot."""
    group = parser.add_argument_group("an ARM core without a board")
    group.add_argument(
        "--emulate",
        metavar="CORE",
        help="count the instructions of an inference on e.g. cortex-a72, instead of any time",
    )
    group.add_argument(
        "--sysroot",
        type=path,
        metavar="DIR",
        help="the AArch64 system to use (default: EDGEKIT_SYSROOT, or the cache's)",
    )


def measure(request: Request, arguments: argparse.Namespace, console: Console) -> ProfileResult:
    """Count on the emulated core that the arguments name."""
    from edgekit.profiling.emulation.emulated import profile_emulated

    if arguments.references:
        raise UsageError("--emulate does not go with --references: an emulated core has no time")
    return profile_emulated(
        request, arguments.emulate, sysroot=arguments.sysroot, progress=console.progress
    )


def print_instructions(result: ProfileResult, console: Console) -> None:
    """One row a core and runtime."""
    if not result.instructions:
        return
    console.print()
    console.table(
        ("emulated core", "runtime", "instructions (a count, not a time)", "spread"),
        [
            (row.core, row.runtime, f"{row.per_inference:,.0f} an inference", f"{row.spread:.4%}")
            for row in result.instructions
        ],
    )
