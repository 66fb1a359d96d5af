"""What does the training engine add to a bare PyTorch loop, and can images be read fast enough?

    taskset -c 1 python benchmarks/training_speed.py

The engine and a bare loop train the same network from the same start on the same batches, which
lie in memory, in turns; the ratio is the median over pairs. Fails above 1.05. Then images a second:
read and cropped alone, by one process, and trained on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.models.zoo import get_variant
from edgekit.training.augment import Crops, OnBatch, get_augment
from edgekit.training.data import ImageSource, open_data
from edgekit.training.data.loading import Batch, Plan, training_batches
from edgekit.training.engine import Job, make_accelerator, run_job
from edgekit.training.networks import fresh
from edgekit.training.recipe import Recipe
from edgekit.training.supervised import Supervised

ALLOWED, PAIRS, STEPS, BATCH = 1.05, 7, 30, 64
MODELS = ("micronet-m0", "mobilenetv3-small")
SIZE, PHOTO = 64, (400, 300)


def main() -> int:
    """Time and print; 1 if the engine adds more than ``ALLOWED``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    models = parser.parse_args().models.split(",")
    torch.set_num_threads(1)
    print(f"{SIZE} pixels, batches of {BATCH}, one thread\n")
    print("| model | bare loop ms a step | engine ms a step | engine / bare |\n|-|-|-|-|")
    ratios, rates = [], {}
    for model in models:
        pairs = [(_bare(model), _engine(model)) for _ in range(PAIRS + 1)][1:]
        bare, ours = (statistics.median(each) * 1e3 / STEPS for each in zip(*pairs, strict=True))
        ratios.append(statistics.median(ours / bare for bare, ours in pairs))
        rates[model] = BATCH / ours * 1e3
        print(f"| {model} | {bare:.1f} | {ours:.1f} | {ratios[-1]:.3f} |", flush=True)
    print("\n| images | read by one process, images/s | share of it that training takes |\n|-|-|-|")
    for name, read in _reading():
        shares = ", ".join(f"{model} {rate / read:.0%}" for model, rate in rates.items())
        print(f"| {name} | {read:.0f} | {shares} |", flush=True)
    return int(max(ratios) > ALLOWED)


def _recipe(model: str) -> Recipe:
    return Recipe(model, "digits", SIZE, epochs=1, batch_size=BATCH, save_minutes=1e6)


def _batches() -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    return [
        Batch(
            (torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), generator=draw, dtype=torch.uint8),),
            torch.randint(0, 10, (BATCH,), generator=draw),
            (),
        )
        for _ in range(STEPS)
    ]


def _on_batch(model: str) -> OnBatch:
    variant = get_variant(model)
    return OnBatch(get_augment("none"), variant.mean, variant.std)


def _bare(model: str) -> float:
    """Seconds of ``STEPS`` steps, as one would write them by hand."""
    recipe, batches, on_batch = _recipe(model), _batches(), _on_batch(model)
    network = fresh(get_variant(model), 10, SIZE, 0).train()
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
    )
    start = time.perf_counter()
    for batch in batches:
        loss = torch.nn.functional.cross_entropy(network(on_batch(batch.images)), batch.classes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def _engine(model: str) -> float:
    """Seconds of the same steps in our engine, from the first batch asked for to the last done."""
    recipe, batches, times = _recipe(model), _batches(), []

    def handed_out(*, first: int, last: int) -> Iterator[Batch]:
        times.append(time.perf_counter())
        yield from batches[first:last]

    def at_the_end(_: torch.nn.Module) -> dict[str, float]:
        times.append(time.perf_counter())
        return {}

    network = fresh(get_variant(model), 10, SIZE, 0)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            recipe, Path(folder), Plan(STEPS * BATCH, BATCH, 0),
            handed_out, [_on_batch(model)], at_the_end, lambda _n, _p: None, lambda _: None,
        )  # fmt: skip
        run_job(Supervised(network, recipe), network, job, make_accelerator(recipe))
    return times[-1] - times[0]


def _reading() -> Iterator[tuple[str, float]]:
    yield "digits", _read_rate(open_data("digits").train)
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0)
        for number in range(300):
            path = Path(folder) / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            small = Image.fromarray(pixels.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            small.resize(PHOTO, Image.Resampling.BICUBIC).save(path, quality=90)
        source = open_data(f"imagefolder:{folder}").train
        yield f"JPEGs of {PHOTO[0]} x {PHOTO[1]}", _read_rate(source)


def _read_rate(source: ImageSource) -> float:
    plan = Plan(len(source), BATCH, 0)
    kinds = [Crops(get_augment(source.augment), SIZE)]
    found = training_batches(source, plan, kinds, first=0, last=3 * plan.steps, workers=0)
    next(found)
    start, images = time.perf_counter(), 0
    for batch in found:
        images += len(batch.images)
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
