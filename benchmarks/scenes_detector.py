"""How well does minivlm-tiny's detector find and name the things of drawn scenes?

    python benchmarks/scenes_detector.py

It is trained from random weights by its usual recipe, some minutes on one core, and judged on 200
scenes that were held out. The last epoch is taken, so that no figure was chosen by them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.training.detection.recipe import DetectRecipe
from edgekit.training.detection.runs import train_detector


def main() -> None:
    """Train; a row a seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--seeds", default="0")
    asked = parser.parse_args()
    recipe = DetectRecipe("minivlm-tiny", asked.data).settled()
    print(
        f"{asked.data}, {recipe.epochs} epochs, batches of {recipe.batch_size}, lr {recipe.lr:g}\n"
    )
    print("| seed | mAP50 | colours | training s |\n|-|-|-|-|")
    for seed in map(int, asked.seeds.split(",")):
        print(_row(replace(recipe, seed=seed)), flush=True)


def _row(recipe: DetectRecipe) -> str:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_detector(
            recipe, Path(folder) / "run", progress=lambda line: print(line, file=sys.stderr)
        )
    if outcome.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    found = outcome.figures
    return f"| {recipe.seed} | {found['mAP50']:.3f} | {found['attributes']:.1%} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
