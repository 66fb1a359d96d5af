"""How far from torch, and how fast, is every network of the zoo in every runtime of this machine?

    taskset -c 1 python benchmarks/zoo.py                      export each with random weights first
    taskset -c 1 python benchmarks/zoo.py --bundles DIR        time DIR/MODEL/TARGET, if exported

Parity is the bundle's own, max|a - b| / max|b| against torch. Latency is of the engine alone, one
image, one thread, in one process; the runtimes of a network take turns. A latency is one of this
machine today: compare rows, or use `edgekit profile`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import edgekit
from benchmarks.engines import time_calls
from edgekit.bundle import open_bundle
from edgekit.export.pipeline import export_zoo
from edgekit.models.zoo import VARIANTS

# Each with a target whose bundles have it, in the form that is fastest there.
RUNTIMES = {"litert": "arm", "onnxruntime": "x86", "openvino": "x86"}
ROUNDS, BLOCK_S = 15, 0.05


def main() -> None:
    """Print one row a network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(VARIANTS))
    parser.add_argument("--bundles", type=Path, help="where bundles lie as MODEL/TARGET")
    arguments = parser.parse_args()
    heads = [f"{runtime} {what}" for runtime in RUNTIMES for what in ("parity", "p50 ms", "p10 ms")]
    print(f"| model | pixels | {' | '.join(heads)} |\n|{'-|' * (2 + len(heads))}")
    for model_id in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bundles = arguments.bundles or _exported(model_id, Path(folder))
            print(_row(model_id, bundles), flush=True)


def _exported(model_id: str, folder: Path) -> Path:
    for target in dict.fromkeys(RUNTIMES.values()):
        export_zoo(model_id, target, weights="random", out=folder / model_id / target)
    return folder


def _row(model_id: str, folder: Path) -> str:
    bundles = {runtime: folder / model_id / target for runtime, target in RUNTIMES.items()}
    parities = [_parity(bundle, runtime) for runtime, bundle in bundles.items()]
    models = [edgekit.load(b, runtime=runtime, threads=1) for runtime, b in bundles.items()]
    with open_bundle(bundles["onnxruntime"]) as bundle:
        inputs, pixels = bundle.golden().inputs, bundle.manifest.inputs[0].shape[-1]
    times = time_calls(
        [model.session.engine_call(inputs) for model in models], rounds=ROUNDS, block_s=BLOCK_S
    )
    cells = [
        f"{parity:.1e} | {np.median(row) / 1e3:.2f} | {np.percentile(row, 10) / 1e3:.2f}"
        for parity, row in zip(parities, times, strict=True)
    ]
    return f"| {model_id} | {pixels} | {' | '.join(cells)} |"


def _parity(path: Path, runtime: str) -> float:
    with open_bundle(path) as bundle:
        (artifact,) = (each for each in bundle.manifest.artifacts if each.runtime == runtime)
    assert artifact.parity is not None  # only TensorRT's has none
    return max(artifact.parity.max_relative_error.values())


if __name__ == "__main__":
    main()
