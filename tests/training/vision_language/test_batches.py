"""Which items a step takes of each task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import cast

import pytest

from edgekit.training.data.loading import Plan
from edgekit.training.vision_language.batches import VlmBatch, training_batches
from edgekit.training.vision_language.tasks import Task


@dataclass(frozen=True)
class Some:
    items: range


TASKS = {name: cast(Task, Some(range(count))) for name, count in (("a", 100), ("b", 10), ("c", 60))}


def steps(first: int, last: int, rank: int = 0, world: int = 1) -> list[VlmBatch]:
    plan = Plan(100, 20, 3, rank, world)
    return list(training_batches(TASKS, plan, first=first, last=last))


def test_the_longest_task_fills_the_batch_and_others_their_part_of_it() -> None:
    for batch in steps(0, 5):
        assert {name: len(drawn) for name, drawn in batch.drawn.items()} == {
            "a": 20, "b": 5, "c": 12,
        }  # fmt: skip
        assert batch.size == 20


def test_each_task_goes_through_all_of_its_items() -> None:
    found = steps(0, 10)
    for name, times in (("a", 2), ("b", 5), ("c", 2)):
        counts = Counter(item for batch in found for item, _ in batch.drawn[name])
        assert set(counts.values()) == {times} and len(counts) == len(TASKS[name].items)
        places = [place for batch in found for _, place in batch.drawn[name]]
        assert len(set(places)) == len(places)


def test_a_run_can_begin_at_any_step() -> None:
    whole = [batch.drawn for batch in steps(0, 12)]
    assert [batch.drawn for batch in steps(7, 12)] == whole[7:]


def test_several_processes_take_what_one_takes() -> None:
    one = steps(0, 4)
    two = [steps(0, 4, rank=rank, world=2) for rank in (0, 1)]
    for whole, *parts in zip(one, *two, strict=True):
        assert [*parts[0].drawn["a"], *parts[1].drawn["a"]] == whole.drawn["a"]
        places = [place for part in parts for _, place in part.drawn["c"]]
        assert places == [place for _, place in whole.drawn["c"]]


@pytest.mark.parametrize(("batch", "world"), [(20, 5), (20, 4), (18, 3), (20, 2), (14, 7)])
def test_a_smaller_task_has_as_many_items_a_step_whatever_the_processes(
    batch: int, world: int
) -> None:
    def of(rank: int, world: int) -> list[VlmBatch]:
        plan = Plan(100, batch, 3, rank, world)
        return list(training_batches(TASKS, plan, first=0, last=7))

    ranks = [of(rank, world) for rank in range(world)]
    for whole, *parts in zip(of(0, 1), *ranks, strict=True):
        counts = [len(part.drawn["c"]) for part in parts]
        assert [each for part in parts for each in part.drawn["c"]] == whole.drawn["c"]
        assert max(counts) - min(counts) <= 1 <= min(len(part.drawn["b"]) for part in parts)


@pytest.mark.parametrize("count", [1, 5, 10, 20])
def test_a_part_of_a_batch(count: int) -> None:
    (batch,) = steps(0, 1)
    part = batch.first(count)
    assert part.size == count
    assert all(1 <= len(drawn) <= count for drawn in part.drawn.values())
