"""How many AArch64 instructions do our graphs take, beside the plain ones? Counts, never times.

    python benchmarks/arm_instructions.py --core cortex-a72 --sysroot DIR

MicroNet M0 to M3 and a DCD with the same weights on an emulated core (docs/emulation.md), three
graphs:

    plain      exported as it is, written the straightforward way (``plain_micronet.py``,
               ``plain_dcd.py``)
    canonical  after the passes that every target has: of DCD the feature form
    ours       what ``edgekit export --target rpi4`` writes: of DCD the form its table chooses

``plain`` runs in onnxruntime only: nothing here lowers it for LiteRT as it is. Every graph's answer
is compared with the golden one before it is counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import plain_dcd
from benchmarks.plain_micronet import NETS, PlainMicroNet
from edgekit.bundle import open_bundle, write_bundle
from edgekit.export.lowerings import LOWERINGS
from edgekit.export.passes import CANONICAL, run_passes
from edgekit.export.pipeline import export_zoo
from edgekit.export.trace import trace
from edgekit.models.building import create
from edgekit.profiling.emulation import count_instructions

TARGET = "rpi4"
RUNTIMES = ("onnxruntime", "litert")
MODELS = (*NETS, "dcd-mobilenetv2-x0.5")


def main() -> None:
    """Export, count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--core", default="cortex-a72")
    parser.add_argument("--sysroot", type=Path, help="default: as edgekit profile --emulate")
    arguments = parser.parse_args()
    print(f"instructions of one inference on an emulated {arguments.core} (a count, not a time)\n")
    print(
        "| model | runtime | plain | canonical | ours | ours / plain | ours / canonical | spread |"
    )
    print("|-|-|-|-|-|-|-|-|")
    for model in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            _rows(model, Path(folder), arguments)


def _rows(model: str, folder: Path, arguments: argparse.Namespace) -> None:
    ours = Path(export_zoo(model, TARGET, weights="random", out=folder / "ours").path)
    graphs = _graphs(model)
    for runtime in RUNTIMES:
        counts, spread = {}, 0.0
        for name, graph in {**graphs, "ours": None}.items():
            if name == "plain" and runtime != "onnxruntime":
                continue
            bundle = ours if graph is None else _replaced(ours, runtime, graph, folder / name)
            (row,) = count_instructions(
                bundle, arguments.core, [runtime], sysroot=arguments.sysroot
            )
            counts[name], spread = row.per_inference, max(spread, row.spread)
        _print(model, runtime, counts, spread)


def _graphs(model: str) -> dict[str, ir.Model]:
    created = create(model, "random", seed=0).module
    traced = {
        name: trace(module, (torch.zeros(1, 3, 224, 224),), ("image",), ("logits",), opset=18)
        for name, module in (("plain", _plain(model, created)), ("canonical", created))
    }
    return {"plain": traced["plain"], "canonical": run_passes(traced["canonical"], CANONICAL)[0]}


def _plain(model: str, module: torch.nn.Module) -> torch.nn.Module:
    if model not in NETS:
        return plain_dcd.plain(module).eval()
    written = PlainMicroNet(model)
    written.load_state_dict(module.state_dict())
    return written.eval()


def _replaced(bundle: Path, runtime: str, graph: ir.Model, out: Path) -> Path:
    """The bundle with ``graph`` instead of its own artifact for ``runtime``, and no other."""
    lowered = LOWERINGS[runtime].lower(graph)
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        (artifact,) = (each for each in manifest.artifacts if each.runtime == runtime)
        kept = {"golden.npz", "labels.txt", "README.md"} & manifest.files.keys()
        files = {name: opened.file(name).read_bytes() for name in kept}
    artifact = replace(artifact, files=tuple(lowered))
    return write_bundle(
        out, replace(manifest, artifacts=(artifact,)), {**files, **lowered}, force=True
    )


def _print(model: str, runtime: str, counts: dict[str, float], spread: float) -> None:
    cells = [f"{counts[name]:,.0f}" if name in counts else "-" for name in ("plain", "canonical")]
    ratios = [
        f"{counts['ours'] / counts[name]:.3f}" if name in counts else "-"
        for name in ("plain", "canonical")
    ]
    row = (model, runtime, *cells, f"{counts['ours']:,.0f}", *ratios, f"{spread:.4%}")
    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
