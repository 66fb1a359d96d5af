"""A linear probe: how well one linear layer tells classes apart on frozen features.

The settings are those of SEED's and MoCo's code: SGD with momentum 0.9 and no weight decay, 30 for
256 images, 100 epochs, a tenth at 60 and at 80, weights from N(0, 0.01); crops and flips as suit
the data. What rate suits networks other than ResNets was not published, so several are tried.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from edgekit.models.preparation import variant_preprocessing
from edgekit.models.zoo import Variant
from edgekit.training.augment import Crops, OnBatch, get_augment
from edgekit.training.data import Splits
from edgekit.training.data.loading import Plan, training_batches, worker_count
from edgekit.training.engine import Job, make_accelerator, run_job
from edgekit.training.evaluation import Accuracy, evaluate_network
from edgekit.training.recipe import Recipe

RATES = (30.0, 10.0, 3.0)  # for 256 images
EPOCHS, _BATCH = 100, 256


@dataclass(frozen=True)
class Probed:
    """A probe with one learning rate.

    Attributes:
        lr: for 256 images.
        accuracy: on held-out images.
    """

    lr: float
    accuracy: Accuracy


class _Probe(nn.Module):
    """A linear layer on a body that is neither trained nor saved."""

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self._body = (body.eval().requires_grad_(False),)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        with torch.no_grad():
            features = self._body[0](images)
        return F.cross_entropy(self.head(features), classes)


def linear_probe(
    body: nn.Module,
    variant: Variant,
    size: int,
    splits: Splits,
    *,
    rates: Sequence[float] = RATES,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Probed]:
    """One probe a rate, each from the same start.

    Args:
        body: (B, 3, S, S) -> (B, D).
        variant: whose preparation of images is taken.
        size: S.
        splits: images with classes.
        rates: for 256 images, see `RATES`.
        epochs: see `EPOCHS`.
        seed: of the start and of what is drawn.
        progress: told how far it is.
    """
    batch = min(_BATCH, len(splits.train) // 2)
    with torch.no_grad():
        width = body.eval()(torch.zeros(1, 3, size, size)).shape[1]
    rule, found = variant_preprocessing(variant, size), []
    body.to(make_accelerator(Recipe(variant.id, "", size)).device)  # it is hidden from accelerate
    for lr in rates:
        recipe = Recipe(
            variant.id, "", size, epochs=epochs, batch_size=batch, lr=lr * batch / 256,
            weight_decay=0.0, schedule="steps", seed=seed, save_minutes=1e6,
        )  # fmt: skip
        torch.manual_seed(seed)
        probe = _Probe(body, width, len(splits.train.labels))
        progress(f"linear probe, learning rate {lr:g}")
        _fit(probe, recipe, splits, variant)
        whole = nn.Sequential(body, probe.head).eval()
        found.append(Probed(lr, evaluate_network(whole, splits.held_out, rule)))
    return found


def _fit(probe: _Probe, recipe: Recipe, splits: Splits, variant: Variant) -> None:
    source = splits.train
    row, plan = (
        get_augment(source.augment),
        Plan(len(source), recipe.batch_size, recipe.seed, blocks=source.blocks),
    )
    batches = partial(
        training_batches,
        source,
        plan,
        [Crops(row, recipe.image_size)],
        workers=worker_count(-1, source),
    )
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            recipe,
            Path(folder),
            plan,
            batches=batches,
            on_batch=[OnBatch(row, variant.mean, variant.std)],
            evaluate=lambda _: {},
            save=lambda _network, _path: None,
            progress=lambda _: None,
        )
        if run_job(probe, probe, job, make_accelerator(recipe)).interrupted:
            raise KeyboardInterrupt  # half a probe has no accuracy
