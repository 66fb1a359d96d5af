"""What does dynamic convolution cost: beside its plain export, and beside the static network?

    taskset -c 1 python benchmarks/dcd.py
    taskset -c 1 python benchmarks/dcd.py --forms     where the table's thresholds come from

Three networks with random weights, timed in turns in one process: DCD written as its formula reads
(``plain_dcd.py``), as PyTorch's exporter writes it; DCD as ``edgekit export`` makes it; and the
static network of the same width, exported likewise. Ratios are medians over five processes, each
with another order. Fails if our DCD takes more than 1.02 of the plain one's time.

With ``--forms`` our DCD is timed at several thresholds of ``synthesise_above``: 0 is the feature
form everywhere, at T kernels are synthesised where a map has T places per channel that enters.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.engines import difference, open_engine, plain_export, time_calls
from benchmarks.plain_dcd import plain

PROCESSES = 5
ALLOWED = 1.02
RUNTIMES = {"onnxruntime": "x86", "openvino": "x86", "litert": "arm"}  # and whose choices
MODELS = (
    *(f"dcd-mobilenetv2-x{width}" for width in ("0.35", "0.5", "0.75", "1.0")),
    "dcd-resnet18",
    "dcd-resnet50",
)
SAME = 1e-4  # relative difference of the outputs of plain and ours
THRESHOLDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)


def main() -> int:
    """Export, time and print; 1 if a ratio is above ``ALLOWED``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--forms", action="store_true")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_worker(*arguments.worker)))
        return 0
    models, runtimes = arguments.models.split(","), arguments.runtimes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.forms:
            return _forms(models, runtimes, Path(folder))
        return _costs(models, runtimes, Path(folder))


def _costs(models: list[str], runtimes: list[str], folder: Path) -> int:
    print("| model | runtime | plain p50 ms | ours p50 ms | ours / plain | static p50 ms "
          "| ours / static | published gain over static |\n|-|-|-|-|-|-|-|-|")  # fmt: skip
    ratios = []
    for model in models:
        for runtime in runtimes:
            files = _export(model, runtime, folder)
            if difference(files["plain"], files["ours"]) > SAME:
                raise SystemExit(f"{model}, {runtime}: ours is not the same function")
            runs = _runs(runtime, files)
            cells = [statistics.median(run[name] for run in runs) for name in files]
            of_plain = statistics.median(run["ours"] / run["plain"] for run in runs)
            of_static = statistics.median(run["ours"] / run["static"] for run in runs)
            print(
                f"| {model} | {runtime} | {cells[0]:.2f} | {cells[1]:.2f} | {of_plain:.2f} "
                f"| {cells[2]:.2f} | {of_static:.2f} | {_published_gain(model)} |",
                flush=True,
            )
            ratios.append(of_plain)
    return int(max(ratios) > ALLOWED)


def _forms(models: list[str], runtimes: list[str], folder: Path) -> int:
    heads = " | ".join("never" if not t else f">= {t:g}" for t in THRESHOLDS)
    print(f"| model | runtime | {heads} |\n|{'-|' * (2 + len(THRESHOLDS))}")
    for model in models:
        graph = _canonical(model)
        for runtime in runtimes:
            files = {
                f"{t:g}": _shaped(graph, runtime, folder / f"{model}-{runtime}-{t:g}.onnx", t)
                for t in THRESHOLDS
            }
            runs = _runs(runtime, files)
            cells = (statistics.median(run[name] / run["0"] for run in runs) for name in files)
            print(f"| {model} | {runtime} | {' | '.join(f'{c:.2f}' for c in cells)} |", flush=True)
    return 0


def _published_gain(model: str) -> str:
    """Difference of the published top-1, where both are."""
    from edgekit.models.zoo import get_variant

    found = []
    for model_id in (model, model.removeprefix("dcd-")):
        figures = {row.metric: row.value for row in get_variant(model_id).published}
        found.append(figures.get("top-1", "not found"))
    if any("%" not in value for value in found):
        return "not found"
    ours, static = (float(value.split()[0]) for value in found)
    return f"{ours - static:+.1f} points"


def _export(model: str, runtime: str, folder: Path) -> dict[str, Path]:
    from edgekit.models.building import create

    files = {name: folder / f"{model}-{name}.onnx" for name in ("plain", "static")}
    files["ours"] = folder / f"{model}-{runtime}.onnx"
    if not files["plain"].exists():
        ir.save(plain_export(plain(create(model, "random").module)), files["plain"])
    static = _canonical(model.removeprefix("dcd-"))
    _shaped(static, runtime, files["static"])
    _shaped(_canonical(model), runtime, files["ours"])
    return {name: files[name] for name in ("plain", "ours", "static")}


_GRAPHS: dict[str, ir.Model] = {}


def _canonical(model: str) -> ir.Model:
    from edgekit.export.passes import CANONICAL, run_passes
    from edgekit.models.building import create

    if model not in _GRAPHS:
        _GRAPHS[model] = run_passes(_traced(create(model, "random").module), CANONICAL)[0]
    return _GRAPHS[model]


def _traced(module: torch.nn.Module) -> ir.Model:
    from edgekit.export.trace import trace

    return trace(module, (torch.zeros(1, 3, 224, 224),), ("image",), ("logits",), opset=18)


def _shaped(graph: ir.Model, runtime: str, file: Path, threshold: float | None = None) -> Path:
    from edgekit.export.passes import choice_passes, run_passes
    from edgekit.targets import TARGETS

    choices = TARGETS[RUNTIMES[runtime]].choices[runtime]
    if threshold is not None:
        choices = replace(choices, synthesise_above=threshold)
    ir.save(run_passes(graph, choice_passes(choices))[0], file)
    return file


def _runs(runtime: str, files: Mapping[str, Path]) -> list[dict[str, float]]:
    """Median milliseconds of each file, a dict a process; each starts with another file."""
    names, runs = list(files), []
    for i in range(PROCESSES):
        order = names[i % len(names) :] + names[: i % len(names)]
        command = [sys.executable, __file__, "--worker", runtime, *(str(files[n]) for n in order)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times = json.loads(done.stdout.splitlines()[-1])
        runs.append(dict(zip(order, times, strict=True)))
    return runs


def _worker(runtime: str, *files: str) -> list[float]:
    calls = [open_engine(runtime, ir.load(file)) for file in files]
    return [float(t) for t in np.median(time_calls(calls, rounds=20, block_s=0.02), axis=1) / 1e3]


if __name__ == "__main__":
    sys.exit(main())
