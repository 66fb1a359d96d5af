"""How accurate are networks on the digits, in torch and in every runtime of this machine?

    python benchmarks/digits.py

Each is trained from random weights for a minute or two, exported for x86 and ARM, and evaluated on
360 digits that were held out. The figures of a runtime are of its artifact, with how often its best
class is torch's. The last epoch is taken, so that no figure was chosen by the held-out images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.export.pipeline import export_zoo
from edgekit.runtimes import is_available
from edgekit.training import Recipe, evaluate, train
from edgekit.training.run_folder import LAST

MODELS = (
    "micronet-m0", "micronet-m1", "micronet-m2", "micronet-m3", "mobilenetv3-small-timm",
    "mobilenetv2-x0.35", "dcd-mobilenetv2-x0.35",
)  # fmt: skip
RUNTIMES = {"onnxruntime": "x86", "openvino": "x86", "litert": "arm"}
DATA, SIZE, EPOCHS = "digits", 64, 15


def main() -> None:
    """Train, export, evaluate; a row a network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    print(f"{DATA}, {SIZE} pixels, {asked.epochs} epochs, seed 0; top-1 (agrees with torch)\n")
    print(f"| model | torch | {' | '.join(RUNTIMES)} | training s |\n|{'-|' * (len(RUNTIMES) + 3)}")
    for model in asked.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            print(_row(model, asked.epochs, Path(folder)), flush=True)


def _row(model: str, epochs: int, folder: Path) -> str:
    started = time.perf_counter()
    outcome = train(
        Recipe(model, DATA, SIZE, epochs=epochs),
        folder / "run",
        progress=lambda line: print(line, file=sys.stderr),
    )
    if outcome.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    weights = folder / "run" / LAST
    cells: dict[str, tuple[float, float | None]] = {}
    for target in dict.fromkeys(RUNTIMES.values()):
        export_zoo(model, target, weights=str(weights), out=folder / target)
        wanted = [
            runtime for runtime, of in RUNTIMES.items() if of == target and is_available(runtime)
        ]
        found = evaluate(folder / target, DATA, weights=weights, runtimes=wanted)
        cells |= {row.runtime: (row.top1, row.agreement) for row in found}
    shown = (
        f"{cells[name][0]:.1%} ({cells[name][1] or 0:.1%})" if name in cells else "-"
        for name in RUNTIMES
    )
    return f"| {model} | {cells['torch'][0]:.1%} | {' | '.join(shown)} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
