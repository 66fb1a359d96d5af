"""Batches of one or several tasks, by the step alone.

The engine's plan goes through the items of the longest task. A step takes fewer items of another
one, in proportion, but no less than a quarter as many: it goes through its own shuffled order, and
begins again as often as it has to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.training.data.loading import Plan
from edgekit.training.seeding import ORDER, generator
from edgekit.training.vision_language.tasks import Task
from edgekit.training.vision_language.texts import Part

_ALONE = ("places",)  # of a part, not of its items
_LEAST = 0.25  # of the items of the longest task: a loss of few items is noise
_TASK_ORDER = 1 << 20  # apart from the plan's own epochs


@dataclass(frozen=True)
class VlmBatch:
    """What each task draws for a step.

    Attributes:
        drawn: of each task, its items with their places.
        tasks: that make arrays of them.
        corrupt: an image that could not be read, with the reason.
    """

    drawn: Mapping[str, Sequence[tuple[int, int]]]
    tasks: Mapping[str, Task]
    corrupt: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Items of the task with the most."""
        return max(map(len, self.drawn.values()))

    def first(self, count: int) -> VlmBatch:
        """The first ``count`` items of the longest task, and the same part of the others."""
        part = {
            name: drawn[: -(-len(drawn) * count // self.size)] for name, drawn in self.drawn.items()
        }
        return VlmBatch(part, self.tasks)

    def inputs(
        self, on_batch: Sequence[Callable[..., object]], device: torch.device
    ) -> tuple[dict[str, Part]]:
        """The parts of all tasks, on ``device``.

        Raises:
            InputError: an image cannot be read.
        """
        parts = {name: self.tasks[name].part(drawn) for name, drawn in self.drawn.items()}
        return ({name: on(part, device) for name, part in parts.items()},)


def on(part: Part, device: torch.device) -> Part:
    """On ``device``, but for what is no array of the items."""
    return {key: each if key in _ALONE else each.to(device) for key, each in part.items()}


def training_batches(
    tasks: Mapping[str, Task], plan: Plan, *, first: int, last: int
) -> Iterator[VlmBatch]:
    """Batches of this process for the steps ``first`` to ``last``, which is not among them."""
    longest = longest_of(tasks)
    orders = {
        name: _Order(len(task.items), plan, number)
        for number, (name, task) in enumerate(tasks.items())
        if name != longest
    }
    share = plan.batch_size // plan.world
    for drawn in plan.from_step(first, last):
        step = drawn[0][1] // share // plan.world
        others = {name: order.turn(step) for name, order in orders.items()}
        yield VlmBatch({name: others.get(name, drawn) for name in tasks}, tasks)


def longest_of(tasks: Mapping[str, Task]) -> str:
    """The task with the most items, of several the first."""
    return max(tasks, key=lambda name: len(tasks[name].items))


class _Order:
    """The items of a task, shuffled anew each time that they are through.

    A step takes as many of them over several processes as over one; but each takes one at least.
    """

    def __init__(self, count: int, plan: Plan, number: int) -> None:
        self.count, self.seed, self.number = count, plan.seed, number
        part = max(count / plan.images, _LEAST)
        size = max(math.ceil(plan.batch_size * part), plan.world)  # of all processes
        ends = [size * rank // plan.world for rank in (plan.rank, plan.rank + 1)]
        self.size, self.own = size, range(*ends)
        self._epoch = lru_cache(2)(self._shuffled)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        draw = generator(self.seed, ORDER, _TASK_ORDER + self.number, epoch)
        return draw.permutation(self.count)

    def turn(self, step: int) -> list[tuple[int, int]]:
        """This process' items of a step, with their places."""
        places = [step * self.size + each for each in self.own]
        return [(self._at(place), place) for place in places]

    def _at(self, place: int) -> int:
        return int(self._epoch(place // self.count)[place % self.count])
