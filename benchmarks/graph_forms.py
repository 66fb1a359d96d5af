"""Is our graph as fast as the plain export, in onnxruntime and in OpenVINO?

    taskset -c 1 python benchmarks/graph_forms.py

Each network with the same weights, twice: as PyTorch's exporter writes it, MicroNet M0 to M3
written the straightforward way (``plain_micronet.py``), and after the passes of ``--target x86``.
Each ratio is the median over five processes in which the two take turns to be first; both must
compute the same function. Fails if ours takes more than 1.02 of the plain export's time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.engines import difference, open_engine, plain_export, time_calls
from benchmarks.plain_micronet import NETS, PlainMicroNet

PROCESSES = 5
ROUNDS = 40
ALLOWED = 1.02
RUNTIMES = ("onnxruntime", "openvino")
# Behind MicroNet, networks that are straightforward themselves; DCD has benchmarks/dcd.py.
MODELS = (
    *NETS, "mobilenetv2-x0.5", "mobilenetv3-small", "mobilenetv3-large", "mobilenetv3-large-seed",
    "efficientnet-b0", "efficientnet-b0-tf", "resnet18",
)  # fmt: skip


def main() -> int:
    """Export, time and print; 1 if a ratio is above ``ALLOWED``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_worker(*arguments.worker)))
        return 0
    print("| model | runtime | plain p50 ms | ours p50 ms | ours / plain | relative difference |")
    print("|-|-|-|-|-|-|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models.split(","):
            files = _export(model, Path(folder))
            ratios += [_row(model, runtime, files) for runtime in RUNTIMES]
    return int(max(ratios) > ALLOWED)


def _export(model: str, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Per runtime: the plain graph and ours."""
    from edgekit.export.passes import CANONICAL, choice_passes, run_passes
    from edgekit.export.trace import trace
    from edgekit.models.building import create
    from edgekit.targets import TARGETS

    created = create(model, "random", seed=0).module
    plain = PlainMicroNet(model) if model in NETS else created
    plain.load_state_dict(created.state_dict())
    graphs = [
        plain_export(plain),
        trace(created, (torch.zeros(1, 3, 224, 224),), ("image",), ("logits",), opset=18),
    ]
    canonical, _ = run_passes(graphs[1], CANONICAL)
    plain_file = folder / f"{model}-plain.onnx"
    ir.save(graphs[0], plain_file)
    files = {}
    for runtime in RUNTIMES:
        ours, _ = run_passes(canonical, choice_passes(TARGETS["x86"].choices[runtime]))
        files[runtime] = (plain_file, folder / f"{model}-{runtime}.onnx")
        ir.save(ours, files[runtime][1])
    return files


def _row(model: str, runtime: str, files: dict[str, tuple[Path, Path]]) -> float:
    runs = [_process(runtime, files[runtime], swap=bool(i % 2)) for i in range(PROCESSES)]
    plain, ours = (statistics.median(run[name] for run in runs) for name in ("plain", "ours"))
    ratio = statistics.median(run["ours"] / run["plain"] for run in runs)
    relative = difference(*files[runtime])
    print(
        f"| {model} | {runtime} | {plain:.3f} | {ours:.3f} | {ratio:.3f} | {relative:.1e} |",
        flush=True,
    )
    return ratio


def _process(runtime: str, files: tuple[Path, Path], *, swap: bool) -> dict[str, float]:
    order = files[::-1] if swap else files
    command = [sys.executable, __file__, "--worker", runtime, *map(str, order)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    first, second = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(("plain", "ours"), (second, first) if swap else (first, second), strict=True))


def _worker(runtime: str, *files: str) -> list[float]:
    """Median milliseconds of each file, blocks of calls interleaved."""
    calls = [open_engine(runtime, ir.load(file)) for file in files]
    times = time_calls(calls, rounds=ROUNDS, block_s=8e-3)
    return [float(median) for median in np.median(times, axis=1) / 1e3]


if __name__ == "__main__":
    sys.exit(main())
