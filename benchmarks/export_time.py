"""How long an export takes from process start, and the TFLite lowering inside it.

    python benchmarks/export_time.py [--model micronet-m1] [--runs 5]

Weights are random: reading a checkpoint of a few megabytes adds milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Time ``edgekit export`` for each target, then the lowering alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="micronet-m1")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print("| what | min s | median s | max s |")
    print("|-|-|-|-|")
    for target in ("x86", "arm", "jetson"):
        seconds = [_export(arguments.model, target) for _ in range(arguments.runs)]
        _print(f"edgekit export {arguments.model} --target {target}", seconds)
    _print(f"TFLite lowering of {arguments.model}", _lowering(arguments.model, arguments.runs))


def _print(what: str, seconds: list[float]) -> None:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    print(f"| {what} | {low:.2f} | {middle:.2f} | {high:.2f} |", flush=True)


def _export(model: str, target: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        command = [sys.executable, "-m", "edgekit", "export", model, "--target", target]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--weights", "random", "-o", str(out)], check=True, capture_output=True
        )
        return time.perf_counter() - start


def _lowering(model: str, runs: int) -> list[float]:
    from edgekit.export.passes import CANONICAL, choice_passes, run_passes
    from edgekit.export.sources import zoo_source
    from edgekit.export.tflite import lower_tflite
    from edgekit.targets import TARGETS

    source = zoo_source(
        model, weights="random", num_classes=None, image_size=None, seed=0, progress=lambda _: None
    )
    graph, _ = run_passes(source.graph, CANONICAL)
    shaped, _ = run_passes(graph, choice_passes(TARGETS["arm"].choices["litert"]))
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        lower_tflite(shaped)
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
