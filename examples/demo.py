"""``make demo``: train MicroNet-M1 on scanned digits, and see what arrives on x86, ARM and Jetson.

It types the commands a user would type, in processes of their own, and shows each of them: train,
export for three targets, evaluate every artifact on digits that were held out, profile, report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL, DATA = "micronet-m1", "digits"
TARGETS = ("x86", "arm", "jetson")
OUT = Path("out") / "demo"
RUN, RUNS, REPORT = OUT / "run", OUT / "results", OUT / "report.html"
WEIGHTS = RUN / "best.safetensors"


@dataclass(frozen=True)
class Row:
    """One artifact: how far from torch, and what it gets right."""

    target: str
    runtime: str
    error: str
    top1: str
    agreement: str


def main() -> int:
    """Train, export, evaluate, measure; print the table of results."""
    started = time.monotonic()
    edgekit(*train())
    manifests = {target: edgekit(*export(target))["manifest"] for target in TARGETS}
    rows = [row for target in TARGETS for row in results(target, manifests[target])]
    edgekit(*profile())
    newest = max(RUNS.glob("*.json"), key=lambda file: file.stat().st_mtime)
    edgekit("report", str(newest), "-o", str(REPORT), "--force")
    print(f"\n{MODEL}, trained here on {DATA}, {time.monotonic() - started:.0f} s in all\n")
    print(f"{'target':<8}{'runtime':<13}{'error vs torch':<16}{'top-1':<9}agrees with torch")
    for row in rows:
        print(f"{row.target:<8}{row.runtime:<13}{row.error:<16}{row.top1:<9}{row.agreement}")
    print(f"\nHow fast, on this machine: {REPORT}")
    print(f"\nnext: .venv/bin/edgekit run {bundle('x86')} A_DIGIT.png, bright on black")
    return 0


def bundle(target: str) -> Path:
    """Where the demo keeps the bundle of a target."""
    return OUT / f"{MODEL}-{target}"


# The demo owns its folder, so it may replace what is there.


def train() -> tuple[str, ...]:
    """Half a minute of training on two cores."""
    short = ("--imgsz", "64", "--epochs", "15", "--force")
    return ("train", MODEL, "--data", DATA, *short, "-o", str(RUN))


def export(target: str) -> tuple[str, ...]:
    """Classes and size come with the weights."""
    out = str(bundle(target))
    return ("export", MODEL, "--target", target, "--weights", str(WEIGHTS), "-o", out, "--force")


def evaluate(target: str) -> tuple[str, ...]:
    """Each runtime of a bundle that is here, and torch."""
    return ("evaluate", str(bundle(target)), "--data", DATA, "--weights", str(WEIGHTS))


def profile() -> tuple[str, ...]:
    """A short one; what it says of itself is in the report."""
    return ("profile", str(bundle("x86")), "--quick", "--allow-noisy", "--save", str(RUNS))


def results(target: str, manifest: dict[str, Any]) -> list[Row]:
    """A row for each artifact; what this machine cannot run says so."""
    found = {row["runtime"]: row for row in edgekit(*evaluate(target))["accuracy"]}
    rows = []
    for artifact in manifest["artifacts"]:
        runtime, parity = artifact["runtime"], artifact["parity"]
        error = f"{max(parity['max_relative_error'].values()):.1e}" if parity else "-"
        if runtime in found:
            top1, agreement = (f"{found[runtime][name]:.2%}" for name in ("top1", "agreement"))
        else:
            top1, agreement = "-", artifact["checks"].get("device", "not run here")
        rows.append(Row(target, runtime, error, top1, agreement))
    return rows


def edgekit(*arguments: str) -> dict[str, Any]:
    """Run one command as typed, with ``--json``; its progress passes through."""
    print(f"$ edgekit {' '.join(arguments)}", flush=True)
    machine = () if arguments[0] == "report" else ("--json",)
    command = [sys.executable, "-m", "edgekit", *arguments, *machine]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout) if machine else {}
    return document


if __name__ == "__main__":
    sys.exit(main())
