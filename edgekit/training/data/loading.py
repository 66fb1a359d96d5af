"""From a source to batches: in an order that the seed and the step alone decide.

A batch is a list of (image, place): its number in the source, and where in the run it stands,
which seeds its crop. So a run can begin at any step, with any number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from edgekit.bundle import Preprocessing
from edgekit.errors import InputError, UsageError
from edgekit.runtimes.preprocess import preprocess
from edgekit.training.augment import Crops, crop
from edgekit.training.data.source import WINDOW, ImageSource
from edgekit.training.seeding import IMAGE, ORDER, generator

if TYPE_CHECKING:
    from PIL import Image

_MOST_WORKERS = 8

Item = TypeVar("Item")  # of a data set
Made = TypeVar("Made")  # of several of them


class Batch(NamedTuple):
    """Images with their classes.

    Attributes:
        views: to train on, uint8, for each kind of crops (B, 3, S, S), or (B, V, 3, S, S) where
            there are several of an image; to evaluate one, float32.
        classes: int64 (B,), -1 where there is none.
        corrupt: name and reason of what could not be read. While training another image of the
            batch stands in its place, while evaluating nothing does.
    """

    views: tuple[Tensor, ...]
    classes: Tensor
    corrupt: tuple[str, ...]

    @property
    def images(self) -> Tensor:
        """The first views."""
        return self.views[0]

    @property
    def size(self) -> int:
        """How many images it has."""
        return len(self.images)

    def first(self, count: int) -> Batch:
        """The first ``count`` of its images."""
        return Batch(tuple(view[:count] for view in self.views), self.classes[:count], ())

    def inputs(
        self, on_batch: Sequence[Callable[[Tensor], Tensor]], device: torch.device
    ) -> tuple[Tensor, ...]:
        """What an objective is fed: the views, each varied by its own of ``on_batch``; classes."""
        pairs = zip(on_batch, self.views, strict=True)
        views = [vary(view.to(device)) for vary, view in pairs]
        return (*views, self.classes.to(device))


@dataclass(frozen=True)
class Plan:
    """Which images each step takes.

    Attributes:
        images: in the source.
        batch_size: over all processes.
        seed: of the order.
        rank: this process,
        world: of so many.
        blocks: of the source, which are then read `WINDOW` at a time.
    """

    images: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.images < self.batch_size:
            raise UsageError(
                f"a batch of {self.batch_size}, and there are {self.images} to train on: "
                + (
                    f"use --batch-size {max(2, self.images // 2)}"
                    if self.images >= 2
                    else "a batch has two or more"
                )
            )
        if self.batch_size % self.world or self.batch_size // self.world < 2:
            raise UsageError(
                f"a batch of {self.batch_size} for {self.world} processes: it must divide, and "
                "leave two for each"
            )

    @property
    def steps(self) -> int:
        """In an epoch; what is left over is left out, another part of it each time."""
        return self.images // self.batch_size

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """All images, shuffled; with blocks those of a few that are near each other together."""
        draw = generator(self.seed, ORDER, epoch)
        if not self.blocks:
            return draw.permutation(self.images)
        ends = np.cumsum(self.blocks)
        shuffled = draw.permutation(len(ends))
        windows = [shuffled[first : first + WINDOW] for first in range(0, len(ends), WINDOW)]
        runs = [np.arange(end - size, end) for end, size in zip(ends, self.blocks, strict=True)]
        return np.concatenate(
            [draw.permutation(np.concatenate([runs[block] for block in w])) for w in windows]
        )

    def from_step(self, first: int, last: int) -> Iterator[list[tuple[int, int]]]:
        """For every step: this process's images, each with its place in the run."""
        share, order, epoch = self.batch_size // self.world, np.empty(0, np.int64), -1
        for step in range(first, last):
            if step // self.steps != epoch:
                epoch = step // self.steps
                order = self._order(epoch)
            start = step % self.steps * self.batch_size + self.rank * share
            place = step * self.batch_size + self.rank * share
            yield [(int(order[start + i]), place + i) for i in range(share)]


class _Steps(torch.utils.data.Sampler[list[tuple[int, int]]]):
    def __init__(self, plan: Plan, first: int, last: int) -> None:
        self.plan, self.first, self.last = plan, first, last

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.plan.from_step(self.first, self.last)

    def __len__(self) -> int:
        return self.last - self.first


_Read = tuple[tuple[Tensor, ...], int, str]  # without views what could not be read


class _Cropped(Dataset[_Read]):
    def __init__(self, source: ImageSource, kinds: Sequence[Crops], seed: int) -> None:
        self.source, self.kinds, self.seed = source, kinds, seed

    def __getitem__(self, key: tuple[int, int]) -> _Read:
        index, place = key
        try:
            image = self.source.read(index)
        except InputError as error:
            return (), -1, f"{self.source.name(index)}: {error}"
        draw = generator(self.seed, IMAGE, place)
        views = tuple(_views(image, kind, draw) for kind in self.kinds)
        return views, self.source.label(index), ""


def _views(image: Image.Image, kind: Crops, draw: np.random.Generator) -> Tensor:
    crops = [crop(image, kind.row, kind.size, draw) for _ in range(kind.count)]
    views = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    return views if kind.count > 1 else views[0]


class _Whole(Dataset[_Read]):
    def __init__(self, source: ImageSource, rule: Preprocessing) -> None:
        self.source, self.rule = source, rule

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> _Read:
        try:
            image = preprocess(self.source.read(index), self.rule)
        except InputError as error:
            return (), -1, f"{self.source.name(index)}: {error}"
        view = torch.from_numpy(np.ascontiguousarray(image[0]))
        return (view,), self.source.label(index), ""


def _filled(items: list[_Read]) -> Batch:
    """Good images in the place of bad ones: the size of a batch is part of the recipe."""
    good = [item for item in items if item[0]]
    corrupt = tuple(why for _, _, why in items if why)
    if not good:
        raise InputError(f"no image of a whole batch can be read, e.g. {corrupt[0]}")
    spare = iter(good * len(items))
    return _stacked([item if item[0] else next(spare) for item in items], corrupt)


def _rest(items: list[_Read]) -> Batch:
    good = [item for item in items if item[0]]
    return _stacked(good, tuple(why for _, _, why in items if why))


def _stacked(items: list[_Read], corrupt: tuple[str, ...]) -> Batch:
    views = tuple(
        torch.stack(of_a_kind) for of_a_kind in zip(*(v for v, _, _ in items), strict=True)
    )
    classes = torch.tensor([number for _, number, _ in items], dtype=torch.int64)
    return Batch(views or (torch.empty(0),), classes, corrupt)


class _Readable(Protocol):
    @property
    def in_memory(self) -> bool:
        """As of an `ImageSource`."""


def worker_count(asked: int, source: _Readable) -> int:
    """Processes that read: -1 is for us to choose."""
    if asked >= 0:
        return asked
    return 0 if source.in_memory else min(_MOST_WORKERS, os.cpu_count() or 1)


def planned(
    dataset: Dataset[Item],
    plan: Plan,
    collate: Callable[[list[Item]], Made],
    *,
    first: int,
    last: int,
    workers: int,
) -> Iterator[Made]:
    """What ``collate`` makes of each step's items, which ``dataset`` gives by (image, place)."""
    loader = DataLoader(
        dataset,
        batch_sampler=_Steps(plan, first, last),
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator(),  # else it draws from torch's own, and seeds would move
    )
    return iter(loader)


def training_batches(
    source: ImageSource,
    plan: Plan,
    kinds: Sequence[Crops],
    *,
    first: int,
    last: int,
    workers: int,
) -> Iterator[Batch]:
    """Batches of this process for the steps ``first`` to ``last``, which is not among them."""
    dataset = _Cropped(source, kinds, plan.seed)
    return planned(dataset, plan, _filled, first=first, last=last, workers=workers)


def evaluation_batches(
    source: ImageSource, rule: Preprocessing, *, batch_size: int, workers: int, every: int = 1
) -> Iterator[Batch]:
    """One image in ``every``, in their order, prepared as the bundle prepares them."""
    whole = _Whole(source, rule)
    loader = DataLoader(
        whole if every == 1 else Subset(whole, range(0, len(source), every)),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_rest,
        generator=torch.Generator(),
    )
    return iter(loader)
