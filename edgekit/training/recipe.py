"""A recipe: everything a training run depends on, as one frozen row that is saved with the run.

    recipe.toml      beside the weights; `edgekit train --recipe FILE` repeats the run

The defaults are those of the papers where they agree (SGD with momentum, cosine to zero); what a
network or a data set wants otherwise is said on the command line and stands in the file.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.errors import UnknownNameError, UsageError
from edgekit.optional import require
from edgekit.training.schedule import SCHEDULES

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("no", "bf16", "fp16")
ON_CORRUPT = ("skip", "fail")
_MAX_BYTES = 1 << 16
_TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how.

    Attributes:
        model: a row of the zoo.
        data: see `edgekit.training.data`.
        image_size: pixels of an image's side.
        weights: to start from; ``random`` or what `edgekit.models.weights` takes.
        drop_head: take the body of ``weights`` only.
        epochs: passes over the training images.
        batch_size: images a step, over all processes.
        optimizer: one of `OPTIMIZERS`.
        lr: the highest learning rate, for this batch size.
        momentum: of SGD.
        weight_decay: of all parameters, norms and biases too, as the papers' code has it.
        schedule: see `edgekit.training.schedule`.
        warmup_epochs: over which the rate rises in a line,
        warmup_lr: from this one.
        label_smoothing: spread over all classes.
        mixup: alpha of the Beta distribution, 0 for none.
        cutmix: likewise; a batch that has both takes one of them at random.
        clip_norm: of all gradients together, 0 for none.
        ema: decay of the averaged weights that are evaluated and saved, 0 for none.
        augment: a row of `edgekit.training.augment`; "" for the one that the data suggest.
        precision: of the forward pass: ``no`` (float32), ``bf16`` or ``fp16``.
        seed: of everything drawn.
        deterministic: take operators that give the same bits each time, and warn of those that
            have no such form; on a CPU it costs little.
        workers: processes that read images; -1 for none where images are in memory, else a core
            each up to eight.
        on_corrupt: ``skip`` images that cannot be read, or ``fail``.
        save_minutes: how much work a killed run can lose.
    """

    model: str
    data: str
    image_size: int
    weights: str = "random"
    drop_head: bool = False
    epochs: int = 90
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 3e-5
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    augment: str = ""
    precision: str = "no"
    seed: int = 0
    deterministic: bool = True
    workers: int = -1
    on_corrupt: str = "skip"
    save_minutes: float = 5.0

    def settled(self) -> Recipe:
        """This recipe, with what it leaves open decided, once it is known to be possible."""
        self.check()
        return self

    def check(self) -> None:
        """Refuse what cannot be trained, before anything is read.

        Raises:
            UnknownNameError, UsageError: a value that is none of those possible.
        """
        names = {field.name for field in dataclasses.fields(self)}
        for name, known in ((name, _CHOICES[name]) for name in _CHOICES if name in names):
            if getattr(self, name) not in known:
                raise UnknownNameError(name.replace("_", "-"), getattr(self, name), known)
        check_ranges(self, {name: _RANGES[name] for name in _RANGES if name in names})
        if self.warmup_epochs > self.epochs:
            raise UsageError(
                f"warmup_epochs is {self.warmup_epochs:g} and epochs {self.epochs}: the rate would "
                f"never be reached; give --warmup-epochs {self.epochs} or less"
            )

    def refuse(self, names: Iterable[str]) -> None:
        """Refuse fields of `Recipe` that have another value than they have where nothing is said.

        Raises:
            UsageError: names the first.
        """
        for field in dataclasses.fields(Recipe):
            if field.name in names and getattr(self, field.name) != field.default:
                raise UsageError(f"{field.name} is of edgekit train, and means nothing here")


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """Of training without classes. The defaults are of SEED's code.

    It computes in mixed precision, too; here that is asked for, by ``precision``.

    Attributes:
        lr: 0 for 0.03 for 256 images, and for others in proportion.
        warmup_epochs: -1 for none up to 256 images, and for more 5 that begin at 0.03.
        method: one of `METHODS`.
        teacher: weights of SEED's teacher.
        teacher_model: its network, "" where the weights say it.
        embedding: width of the projection; 0 for the teacher's, or MoCo's 128.
        patches: SEED's small crops of an image, beside the whole one; 6 where it takes them.
        patch_size: pixels of their side; 0 for 96 of 224, whatever the image's.
        queue: embeddings to compare with; of patches another one as large.
        temperature: of the student, and of MoCo.
        teacher_temperature: 0.01 in the paper; 1e-4 is the code's default.
        key_momentum: of MoCo's second network.
    """

    batch_size: int = 256
    lr: float = 0.0
    weight_decay: float = 1e-4
    epochs: int = 200
    schedule: str = "cosine-by-epoch"
    warmup_epochs: float = -1.0
    method: str = "seed"
    teacher: str = ""
    teacher_model: str = ""
    embedding: int = 0
    patches: int = 0
    patch_size: int = 0
    queue: int = 65_536
    temperature: float = 0.2
    teacher_temperature: float = 0.01
    key_momentum: float = 0.999

    def settled(self) -> DistillRecipe:
        """As `Recipe.settled`: the learning rate and its warm-up become those of the batch."""
        recipe = self
        if recipe.lr == 0:
            recipe = replace(recipe, lr=_SEED_LR * recipe.batch_size / _SEED_BATCH)
        if recipe.warmup_epochs == -1:
            long = recipe.batch_size > _SEED_BATCH
            most = min(_SEED_WARMUP, recipe.epochs)
            epochs, lr = (most, min(_SEED_LR, recipe.lr)) if long else (0.0, 0.0)
            recipe = replace(recipe, warmup_epochs=epochs, warmup_lr=recipe.warmup_lr or lr)
        recipe.check()
        return recipe

    def check(self) -> None:
        """As `Recipe.check`, and a teacher where one is needed, and only there."""
        super().check()
        if (self.method == "seed") != bool(self.teacher):
            raise UsageError(
                "--method seed needs --teacher WEIGHTS"
                if self.method == "seed"
                else f"--method {self.method} has no teacher"
            )
        self.refuse(_OF_CLASSIFIERS)
        if 0 < self.patch_size < _LEAST_PATCH:
            raise UsageError(f"patch_size is {self.patch_size}; {_LEAST_PATCH} or more can be")
        if self.patches and self.method != "seed":
            raise UsageError(f"patches are SEED's; --method {self.method} takes two whole views")
        check_queue(self.queue, self.batch_size)


METHODS = ("seed", "moco-v2")
_LEAST_PATCH = 8  # pixels: a blur mirrors six of them at each edge
_SEED_LR, _SEED_BATCH, _SEED_WARMUP = 0.03, 256, 5.0
_OF_CLASSIFIERS = ("weights", "drop_head", "label_smoothing", "mixup", "cutmix")


def check_queue(size: int, batch_size: int) -> None:
    """Refuse a queue that whole batches do not fill.

    Raises:
        UsageError: smaller than a batch, or no multiple of it.
    """
    if size < batch_size or size % batch_size:
        fits = max(batch_size, size // batch_size * batch_size)
        raise UsageError(
            f"a queue of {size} for batches of {batch_size}: it must be a multiple of them, e.g. "
            f"--queue {fits}"
        )


_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "on_corrupt": ON_CORRUPT,
    "method": METHODS,
}
_RANGES = {
    "image_size": (1, 4096),
    "epochs": (1, 100_000),
    "batch_size": (2, 1 << 20),  # the statistics of a BatchNorm want two
    "lr": (1e-12, 1e4),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 10),
    "warmup_epochs": (0, 100_000),
    "warmup_lr": (0, 1e4),
    "label_smoothing": (0, 0.99),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "clip_norm": (0, 1e6),
    "ema": (0, 0.999999),
    "seed": (0, (1 << 31) - 1),
    "workers": (-1, 256),
    "save_minutes": (0, 1e6),
    "embedding": (0, 65_536),
    "patches": (0, 64),
    "patch_size": (0, 4096),
    "queue": (1, 1 << 24),
    "temperature": (1e-6, 100),
    "teacher_temperature": (1e-6, 100),
    "key_momentum": (0, 1),
}


def in_proportion(warmup: float, epochs: int, usual: int) -> float:
    """A usual warm-up, for a run of fewer than the ``usual`` epochs; ``epochs`` 0 is as many."""
    return warmup * min(1.0, epochs / usual) if epochs else warmup


def check_ranges(recipe: Recipe, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a field that is not between its bounds.

    Raises:
        UsageError: names it.
    """
    for name, (low, high) in ranges.items():
        value = getattr(recipe, name)
        if not low <= value <= high:  # not of a NaN either
            raise UsageError(f"{name} is {value}; {low:.15g} to {high:.15g} are possible")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """As TOML, one value a line."""
    tomli_w = require("tomli_w", "writing a recipe")
    path.write_text(tomli_w.dumps(dataclasses.asdict(recipe)), encoding="utf-8")


def read_recipe(path: Path, kind: type[Recipe] = Recipe) -> dict[str, Any]:
    """The values of a recipe file of a ``kind``, each of the right type; not all need be there.

    Raises:
        UsageError: no such file, no TOML, an unknown name, or a value of another type.
    """
    found = read_values(path)
    types = {field.name: _TYPES[str(field.type)] for field in dataclasses.fields(kind)}
    for name, value in found.items():
        if name not in types and name in _OF_DISTILL:
            raise UsageError(f"{path} is a recipe of edgekit distill, not of edgekit train")
        if name not in types:
            raise UnknownNameError(f"value of recipe {path.name}", name, types)
        if isinstance(value, bool) != (types[name] is bool) or not isinstance(
            value, (int, float) if types[name] is float else types[name]
        ):
            raise UsageError(
                f"--recipe {path}: {name} is {value!r}, not of type {types[name].__name__}"
            )
    try:
        return {name: types[name](value) for name, value in found.items()}
    except OverflowError as error:
        raise UsageError(f"--recipe {path}: a number is too large") from error


def read_values(path: Path) -> dict[str, Any]:
    """What a recipe file says, whatever kind of run it is of.

    Raises:
        UsageError: no such file, or no TOML.
    """
    toml = require(_TOML, "reading a recipe")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"--recipe {path}: {path.stat().st_size:,} bytes are no recipe")
        found: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--recipe {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is one
        raise UsageError(f"--recipe {path} is not TOML: {error}") from error
    return found


_OF_DISTILL = {field.name for field in dataclasses.fields(DistillRecipe)}
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
