"""``edgekit doctor``: what is installed, which runtimes work here, what to install."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit import __version__, optional
from edgekit.cli.console import Console
from edgekit.runtimes import RuntimeStatus, status
from edgekit.runtimes.selfcheck import why_broken

_BASE = ("numpy", "pillow")


@dataclass(frozen=True)
class Checked:
    """A runtime as found here. ``problem`` is "" when it opened and ran a model."""

    runtime: str
    version: str
    problem: str
    remedy: str
    note: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments of its own."""


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Look at the machine, the packages and the runtimes, and say what to install."""
    machine = dict(_machine())
    packages = {name: optional.version(name) or "" for name in (*_BASE, *optional.EXTRAS)}
    runtimes = [_check(row, console) for row in status() if row.runtime.imports]
    console.document({"machine": machine, "packages": packages, "runtimes": runtimes})
    for name, value in machine.items():
        console.print(f"{name:<9} {value}")
    console.print()
    console.table(
        ("package", "version", "role"),
        [(name, version or "-", _role(name)) for name, version in packages.items()],
    )
    console.print()
    console.table(
        ("runtime", "version", "here", "note"),
        [(row.runtime, row.version or "-", _verdict(row), row.note) for row in runtimes],
    )
    _print_remedies(packages, runtimes, console)
    console.next("edgekit targets")


def _check(row: RuntimeStatus, console: Console) -> Checked:
    console.progress(f"check {row.runtime.name}")
    problem = why_broken(row.runtime.name) if row.installed else "not installed"
    remedy = (row.remedy or row.runtime.remedy) if problem else ""
    return Checked(row.runtime.name, row.version, problem, remedy, row.runtime.note)


def _verdict(row: Checked) -> str:
    if not row.problem:
        return "works"
    return row.problem if row.problem == "not installed" else "BROKEN"


def _role(package: str) -> str:
    return f"[{optional.EXTRAS[package][1]}]" if package in optional.EXTRAS else "base"


def _print_remedies(packages: dict[str, str], runtimes: list[Checked], console: Console) -> None:
    console.print()
    for row in runtimes:
        if row.problem not in ("", "not installed"):
            console.paragraph(f"{row.runtime} is installed and does not work: {row.problem}")
    absent = [name for name, version in packages.items() if not version]
    lines = [(row.runtime, row.remedy) for row in runtimes if row.remedy]
    lines += [
        (name, optional.pip_line(optional.EXTRAS[name][1]))
        for name in absent
        if name in optional.EXTRAS and name not in {"onnxruntime", "openvino", "ai_edge_litert"}
    ]
    for remedy in dict.fromkeys(remedy for _, remedy in lines):
        names = ", ".join(name for name, other in lines if other == remedy)
        console.print(f"for {names}: {remedy}")


def _machine() -> Iterator[tuple[str, str]]:
    yield "edgekit", __version__
    yield "python", f"{platform.python_version()} at {sys.executable}"
    yield "system", platform.platform()
    yield "cpu", f"{_cpu()}, {os.cpu_count()} cores, {platform.machine()}"
    yield "board", _first_line(Path("/proc/device-tree/model")) or "-"
    yield "gpu", _gpu() or "none found"
    cache = os.environ.get("EDGEKIT_CACHE") or Path("~/.cache/edgekit").expanduser()
    yield "cache", str(cache)
    offline = os.environ.get("EDGEKIT_OFFLINE", "0") not in ("", "0")
    yield "network", "off (EDGEKIT_OFFLINE)" if offline else "allowed"


def _cpu() -> str:
    """The CPU's name as Linux knows it; ARM kernels give none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown CPU"


def _gpu() -> str:
    """NVIDIA GPUs as the driver's own tool names them. On a Jetson the board says it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(answer.stdout.splitlines()) if answer.returncode == 0 else ""


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n")
    except OSError:
        return ""
