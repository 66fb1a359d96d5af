"""``make demo``: MicroNet-M1 for x86, ARM and Jetson, and one photograph through every runtime.

It types the commands a user would type, in processes of their own, and shows each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.runtimes import is_available

MODEL = "micronet-m1"
TARGETS = ("x86", "arm", "jetson")
PHOTO = Path(os.path.relpath(Path(__file__).parent / "photo.jpg"))
OUT = Path("out") / "demo"
WARNED: set[str] = set()


@dataclass(frozen=True)
class Row:
    """One artifact: how far from torch, and what it sees on the photograph."""

    target: str
    runtime: str
    error: str
    label: str
    score: str = "-"


def main() -> int:
    """Export, run, print the table of results."""
    started = time.monotonic()
    manifests = {target: export(target) for target in TARGETS}
    rows = [
        result(target, artifact)
        for target, manifest in manifests.items()
        for artifact in manifest["artifacts"]
    ]
    is_random = any(manifest["weights"]["random"] for manifest in manifests.values())
    print(f"\n{MODEL} on {PHOTO.name}, {time.monotonic() - started:.0f} s in all\n")
    print_table(rows, "class (means nothing: random weights)" if is_random else "class")
    if is_random:
        shout()
    print(f"\nnext: .venv/bin/edgekit run {bundle('x86')} YOUR_PHOTO.jpg")
    return 0


def bundle(target: str) -> Path:
    """Where the demo keeps the bundle of a target."""
    return OUT / f"{MODEL}-{target}"


def export(target: str) -> dict[str, Any]:
    """The manifest of a fresh bundle; the demo owns its folder, so it may replace what is there."""
    out = bundle(target)
    document = edgekit("export", MODEL, "--target", target, "-o", str(out), "--force")
    manifest: dict[str, Any] = document["manifest"]
    return manifest


def result(target: str, artifact: dict[str, Any]) -> Row:
    """Classify the photograph with one artifact, where this machine has its runtime."""
    runtime = artifact["runtime"]
    parity = artifact["parity"]
    error = f"{max(parity['max_relative_error'].values()):.1e}" if parity else "-"
    if not is_available(runtime):  # TensorRT, but on a Jetson
        return Row(target, runtime, error, artifact["checks"].get("device", "not run here"))
    document = edgekit("run", str(bundle(target)), str(PHOTO), "--runtime", runtime, "--top", "1")
    best = document["classes"][0]
    return Row(target, runtime, error, best["label"], f"{best['score']:.4f}")


def edgekit(*arguments: str) -> dict[str, Any]:
    """Run one command as typed, with ``--json``; its progress and new warnings pass through."""
    print(f"$ edgekit {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "edgekit", *arguments, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stderr:
            show(line)
        answer = child.stdout.read()
    if child.returncode:
        sys.exit(child.returncode)
    document: dict[str, Any] = json.loads(answer)
    return document


def show(line: str) -> None:
    """A line of stderr; a warning once, however many commands repeat it."""
    if "warning: " not in line:
        print(line, end="", file=sys.stderr, flush=True)
    elif "random" not in line.lower() and line not in WARNED:
        WARNED.add(line)
        print(line, end="", file=sys.stderr, flush=True)


def print_table(rows: list[Row], label: str) -> None:
    """The results, one line an artifact."""
    print(f"{'target':<8}{'runtime':<13}{'error vs torch':<16}{'score':<8}{label}")
    for row in rows:
        print(f"{row.target:<8}{row.runtime:<13}{row.error:<16}{row.score:<8}{row.label}")


def shout() -> None:
    """Nobody may take a random network's answer for an answer."""
    print(
        "\n*** THE WEIGHTS ARE RANDOM: the released ones could not be fetched. Every runtime\n"
        "*** agrees with torch, and the class means nothing. With the authors' file:\n"
        f"***   .venv/bin/edgekit export {MODEL} --target x86 --weights {MODEL}.pth -o out/m1-x86"
    )


if __name__ == "__main__":
    sys.exit(main())
