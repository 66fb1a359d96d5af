"""LiteRT latency of our TFLite file beside the file onnx2tf makes from the same ONNX.

    python benchmarks/vs_onnx2tf.py --onnx2tf ~/onnx2tf-venv/bin/onnx2tf

onnx2tf is the yardstick, not a dependency: install it apart, since it pins what edgekit uses.

    python -m venv ~/onnx2tf-venv
    ~/onnx2tf-venv/bin/pip install numpy onnx onnxruntime ai-edge-litert psutil h5py sne4onnx \
        sng4onnx onnxoptimizer onnxsim onnx_graphsurgeon opencv-python-headless
    ~/onnx2tf-venv/bin/pip install --no-deps --ignore-requires-python onnx2tf==2.6.9

Both files run in the same process, one thread, calls interleaved in short blocks; five
processes, the files taking turns to go first; p10 and p50 of each, and the median ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROCESSES = 5
BLOCKS = 60
CALLS = 10  # per block, the first of which is not counted: it pays for the other file's caches


def main() -> None:
    """Convert, time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx2tf", required=True, help="the onnx2tf command of its own venv")
    parser.add_argument("--models", default="micronet-m0,micronet-m1,micronet-m2,micronet-m3")
    arguments = parser.parse_args()
    print("| model | edgekit p10 / p50 ms | onnx2tf p10 / p50 ms | ratio of p50 | of p10 |")
    print("|-|-|-|-|-|")
    for model in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            print(_row(model, Path(folder), arguments.onnx2tf), flush=True)


def _row(model: str, folder: Path, onnx2tf: str) -> str:
    ours = _export(model, folder)
    theirs = _convert(folder / "plain.onnx", folder / "onnx2tf", onnx2tf)
    runs = [_time([ours, theirs], swap=bool(i % 2)) for i in range(PROCESSES)]
    p10, p50 = ([[run[i][k] for run in runs] for i in (0, 1)] for k in ("p10", "p50"))
    cells = [f"{statistics.median(p10[i]):.3f} / {statistics.median(p50[i]):.3f}" for i in (0, 1)]
    ratios = [
        statistics.median(a / b for a, b in zip(*figure, strict=True)) for figure in (p50, p10)
    ]
    return f"| {model} | {cells[0]} | {cells[1]} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def _export(model: str, folder: Path) -> Path:
    """Our file from the target's own path, and the canonical ONNX graph it was made from."""
    from edgekit.export.onnx_file import to_bytes
    from edgekit.export.passes import CANONICAL, run_passes
    from edgekit.export.pipeline import export_zoo
    from edgekit.export.sources import zoo_source

    source = zoo_source(
        model, weights="random", num_classes=None, image_size=None, seed=0, progress=lambda _: None
    )
    (folder / "plain.onnx").write_bytes(to_bytes(run_passes(source.graph, CANONICAL)[0]))
    bundle = export_zoo(model, "arm", weights="random", out=folder / "bundle").path
    return bundle / "model.tflite"


def _convert(onnx: Path, folder: Path, onnx2tf: str) -> Path:
    subprocess.run(
        [onnx2tf, "-i", str(onnx), "-o", str(folder)],
        check=True,
        capture_output=True,
        cwd=onnx.parent,
    )
    return next(folder.glob("*float32.tflite"))


def _time(files: list[Path], *, swap: bool) -> list[dict[str, float]]:
    order = files[::-1] if swap else files
    command = [sys.executable, __file__, "--child", *map(str, order)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    timed: list[dict[str, float]] = json.loads(printed.splitlines()[-1])
    return timed[::-1] if swap else timed


def _child(files: list[str]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreters = [Interpreter(model_path=file, num_threads=1) for file in files]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        sample = np.random.default_rng(0).normal(size=detail["shape"]).astype(np.float32)
        interpreter.set_tensor(detail["index"], sample)
        for _ in range(20):
            interpreter.invoke()
    samples: list[list[float]] = [[] for _ in files]
    for _ in range(BLOCKS):
        for interpreter, collected in zip(interpreters, samples, strict=True):
            for call in range(CALLS):
                start = time.perf_counter_ns()
                interpreter.invoke()
                if call:
                    collected.append((time.perf_counter_ns() - start) / 1e6)
    print(
        json.dumps(
            [{"p10": float(np.percentile(s, 10)), "p50": float(np.median(s))} for s in samples]
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2:])
    else:
        main()
