"""A network that trains in milliseconds, and a run of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit.training.augment import Crops, OnBatch, get_augment
from edgekit.training.data import open_data
from edgekit.training.data.loading import Batch, Plan, training_batches
from edgekit.training.engine import Job, Outcome, make_accelerator, run_job
from edgekit.training.recipe import Recipe
from edgekit.training.supervised import Supervised

SIZE = 16
RECIPE = Recipe(
    "none", "digits", SIZE, epochs=2, batch_size=256, lr=0.05, ema=0.9, mixup=0.2, cutmix=0.2,
    warmup_epochs=0.5, label_smoothing=0.1, clip_norm=5.0,
)  # fmt: skip


# Of which several processes compute what one does: nothing is of a batch, and nothing is drawn.
PLAIN = replace(RECIPE, lr=0.5, ema=0.0, mixup=0.0, cutmix=0.0, augment="none")


class Small(nn.Module):
    """With everything that has a state or draws, a norm and dropout; or ``plain``."""

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        extra = () if plain else (nn.BatchNorm2d(8), nn.Dropout(0.2))
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), *extra, nn.ReLU())
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x).mean((2, 3)))
        return y


def run(
    out: Path,
    recipe: Recipe = RECIPE,
    *,
    after_step: Callable[[int], None] = lambda _: None,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    said: list[str] | None = None,
) -> tuple[nn.Module, Outcome]:
    """Train `Small` on the digits; ``after_step`` is told before each batch how many are done."""
    out.mkdir(parents=True, exist_ok=True)
    source = open_data("digits").train
    accelerator = make_accelerator(recipe)
    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(len(source), recipe.batch_size, recipe.seed, rank, world)
    row = get_augment(recipe.augment or "glyphs")
    network = wrap(Small(plain=recipe.augment == "none"))

    def batches(*, first: int, last: int) -> Iterator[Batch]:
        found = training_batches(
            source, plan, [Crops(row, SIZE)], first=first, last=last, workers=0
        )
        for step, batch in enumerate(found, first):
            after_step(step)
            yield batch

    job = Job(
        recipe,
        out,
        plan,
        batches,
        [OnBatch(row, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))],
        evaluate=_figures,
        save=_save,
        progress=(said if said is not None else []).append,
    )
    objective = Supervised(network, recipe)
    return network, run_job(objective, network, job, accelerator)


def _figures(network: nn.Module) -> Mapping[str, float]:
    return {"sum": sum(float(p.detach().abs().sum()) for p in network.parameters())}


def _save(network: nn.Module, path: Path) -> None:
    save_file(network.state_dict(), path)


def bits(network: nn.Module) -> dict[str, Any]:
    return {key: value.numpy().tobytes() for key, value in network.state_dict().items()}


if __name__ == "__main__":  # in a process of its own, which is then killed, or one of two
    chosen = {"all": RECIPE, "plain": PLAIN}[sys.argv[2]]
    run(Path(sys.argv[1]), chosen, after_step=partial(print, flush=True))
