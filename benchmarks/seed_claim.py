"""Does a small network learn more from SEED than from MoCo-v2, at equal steps?

    python benchmarks/seed_claim.py

A large network learns to tell small letters and figures apart. Then a small one is trained on
capital letters without their classes, from each of several seeds, by MoCo-v2 and by SEED from that
teacher, on the same batches as long. What they learnt is read off their features: nearest
neighbours and a linear probe on capitals in held-out font families, after the last epoch.

In the paper the teacher is trained without classes, too, and all is 200 epochs of ImageNet. That
needs more steps than a CPU makes in an hour; here the teacher has seen classes, but none of those
that are asked for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.glyphs import CAPITALS, OTHERS, Drawn, draw_glyphs
from edgekit.training.engine import Outcome
from edgekit.training.features import evaluate_features
from edgekit.training.recipe import DistillRecipe, Recipe
from edgekit.training.run_folder import LAST
from edgekit.training.runs import distill, train

BATCH = 64
TEACHER_EPOCHS = 15
# With as few steps as here a key network that follows at 0.999 would hardly leave its start.
KEY_MOMENTUM = 0.99
TRAIN, VAL = 80, 40  # images of a glyph


def main() -> None:
    """Train all, print a row each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--student", default="micronet-m0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--probe-epochs", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = _draw(folder / "capitals", CAPITALS, asked.size)
        other = _draw(folder / "others", OTHERS, asked.size)
        data = f"imagefolder:{drawn.root}"
        teacher = _teach(f"imagefolder:{other.root}", folder / "teacher", asked)
        start = _untrained(data, folder / "start", asked)
        found = {
            (asked.teacher, "classes of other glyphs"): [_figures(teacher, data, asked)],
            (asked.student, "nothing"): [_figures(start, data, asked)],
        }
        for label, method, weights in (("MoCo-v2", "moco-v2", ""), ("SEED", "seed", str(teacher))):
            runs = [
                _learn(method, data, seed, folder / f"{method}-{seed}", asked, weights)
                for seed in range(asked.seeds)
            ]
            found[asked.student, label] = [_figures(run, data, asked) for run in runs]
    print(
        f"Capitals: {drawn}; the teacher's: {other}. {asked.size} pixels, {asked.epochs} epochs, "
        f"batches of {BATCH}, learning rate {asked.lr:g}; linear probe of {asked.probe_epochs} "
        f"epochs at its best rate. Mean (least to most) of {asked.seeds} seeds, the teacher and "
        "the untrained network of one.\n"
    )
    kinds = list(next(iter(found.values()))[0])
    print(f"| model | trained by | {' | '.join(kinds)} |\n|{'-|' * (2 + len(kinds))}")
    for (model, label), rows in found.items():
        cells = (_spread(row[kind] for row in rows) for kind in kinds)
        print(f"| {model} | {label} | {' | '.join(cells)} |")


def _draw(root: Path, glyphs: str, size: int) -> Drawn:
    return draw_glyphs(root, size, train=TRAIN, val=VAL, glyphs=glyphs, plain=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _teach(data: str, out: Path, asked: argparse.Namespace) -> Path:
    recipe = Recipe(
        asked.teacher, data, asked.size, epochs=TEACHER_EPOCHS, batch_size=BATCH, augment="glyphs",
        lr=0.05,
    )  # fmt: skip
    return _finished(train(recipe, out, progress=_say), out)


def _untrained(data: str, out: Path, asked: argparse.Namespace) -> Path:
    """As all students begin: with a learning rate at which nothing moves."""
    return _learn(
        "moco-v2", data, 0, out, argparse.Namespace(**{**vars(asked), "epochs": 1, "lr": 1e-12})
    )


def _learn(
    method: str, data: str, seed: int, out: Path, asked: argparse.Namespace, teacher: str = ""
) -> Path:
    recipe = DistillRecipe(
        asked.student, data, asked.size, epochs=asked.epochs, batch_size=BATCH, lr=asked.lr,
        method=method, teacher=teacher, queue=1024, key_momentum=KEY_MOMENTUM, seed=seed,
        augment="glyphs-hard",
    )  # fmt: skip
    return _finished(distill(recipe, out, progress=_say), out)


def _finished(outcome: Outcome, out: Path) -> Path:
    if outcome.interrupted:
        raise KeyboardInterrupt
    return out / LAST


def _figures(weights: Path, data: str, asked: argparse.Namespace) -> Mapping[str, float]:
    """Of the features before the head, by how they are used; of several probes the best."""
    found: dict[str, float] = {}
    rows = evaluate_features(weights, data, knn=True, probe_epochs=asked.probe_epochs)
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
