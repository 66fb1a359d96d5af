"""Does a small network learn more from SEED than from MoCo-v2, at equal steps?

    python benchmarks/seed_claim.py

Digits without their classes: a larger network is trained by MoCo-v2, then a small one three times
from three seeds, by MoCo-v2 and by SEED from that teacher, on the same batches as long. What they
learnt is read off their features: nearest neighbours and a linear probe on held-out digits, of the
last epoch. The paper's own claim is about 200 epochs of ImageNet.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.training.features import evaluate_features
from edgekit.training.recipe import DistillRecipe
from edgekit.training.run_folder import LAST
from edgekit.training.runs import distill

DATA, BATCH = "digits", 64
# With as few steps as here a key network that follows at 0.999 would hardly leave its start.
KEY_MOMENTUM = 0.99


def main() -> None:
    """Train all, print a row each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--student", default="mobilenetv3-small-x0.5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=0.06)
    parser.add_argument("--probe-epochs", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        teacher = _learn(asked.teacher, "moco-v2", 0, Path(folder) / "teacher", asked)
        found = {(asked.teacher, "MoCo-v2"): [_figures(teacher, asked)]}
        for name, method, weights in (("MoCo-v2", "moco-v2", ""), ("SEED", "seed", str(teacher))):
            runs = [
                _learn(
                    asked.student, method, seed, Path(folder) / f"{method}-{seed}", asked, weights
                )
                for seed in range(asked.seeds)
            ]
            found[asked.student, name] = [_figures(run, asked) for run in runs]
    print(
        f"{DATA}, {asked.size} pixels, {asked.epochs} epochs, batches of {BATCH}, learning rate "
        f"{asked.lr:g}, linear probe of {asked.probe_epochs} epochs at its best rate; mean (least "
        f"to most) of {asked.seeds} seeds, the teacher of one\n"
    )
    kinds = list(found[asked.teacher, "MoCo-v2"][0])
    print(f"| model | trained by | {' | '.join(kinds)} |\n|{'-|' * (2 + len(kinds))}")
    for (model, name), rows in found.items():
        cells = (_spread(row[kind] for row in rows) for kind in kinds)
        print(f"| {model} | {name} | {' | '.join(cells)} |")


def _learn(
    model: str,
    method: str,
    seed: int,
    out: Path,
    asked: argparse.Namespace,
    teacher: str = "",
) -> Path:
    recipe = DistillRecipe(
        model, DATA, asked.size, epochs=asked.epochs, batch_size=BATCH, lr=asked.lr, seed=seed,
        method=method, teacher=teacher, queue=1024, key_momentum=KEY_MOMENTUM,
    )  # fmt: skip
    distill(recipe, out, progress=lambda line: print(line, file=sys.stderr))
    return out / LAST


def _figures(weights: Path, asked: argparse.Namespace) -> Mapping[str, float]:
    """Of the features before the head, by how they are used; of several probes the best."""
    found: dict[str, float] = {}
    rows = evaluate_features(weights, DATA, knn=True, probe_epochs=asked.probe_epochs)
    for row in rows:
        if row.features == "body":
            kind = row.how.partition(",")[0]
            found[kind] = max(found.get(kind, 0.0), row.top1)
    return found


def _spread(values: Iterable[float]) -> str:
    each = list(values)
    if len(each) == 1:
        return f"{each[0]:.1%}"
    return f"{statistics.mean(each):.1%} ({min(each):.1%} to {max(each):.1%})"


if __name__ == "__main__":
    main()
