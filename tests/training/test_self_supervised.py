"""SEED and MoCo-v2: the formulas, their limits, and what a step changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from edgekit.errors import UnknownNameError, UsageError
from edgekit.training.neighbours import Features, nearest
from edgekit.training.recipe import DistillRecipe
from edgekit.training.self_supervised import MoCo, Queue, Seed, info_nce, seed_loss

RECIPE = DistillRecipe("resnet18", "digits", 64, teacher="t.safetensors")


def directions(count: int, seed: int, width: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=draw, dtype=torch.float64), dim=1)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))


# ---- formulas ----------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_paper() -> None:
    student, teacher, queue = directions(5, 0), directions(5, 1), directions(12, 2)
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        known = np.concatenate([t[None], queue.numpy()])
        p = np.exp(known @ t / 0.05)
        q = np.exp(known @ s / 0.3)
        total -= float((p / p.sum() * np.log(q / q.sum())).sum())
    assert float(seed_loss(student, teacher, queue, 0.3, 0.05)) == pytest.approx(
        total / 5, abs=1e-12
    )


def test_a_cold_teacher_gives_info_nce_against_its_embedding() -> None:
    student, teacher, queue = directions(6, 0), directions(6, 1), directions(64, 2)
    wanted = float(info_nce(student, teacher, queue, 0.2))
    errors = [
        abs(float(seed_loss(student, teacher, queue, 0.2, t)) - wanted)
        for t in (0.5, 0.1, 1e-2, 1e-4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-12


def test_a_student_like_its_teacher_at_its_temperature_has_nothing_to_learn() -> None:
    teacher, queue = directions(6, 1), directions(64, 2)
    for student_temperature, still in ((0.1, True), (0.2, False)):
        student = teacher.clone().requires_grad_()
        seed_loss(student, teacher, queue, student_temperature, 0.1).backward()
        assert student.grad is not None
        assert (float(student.grad.abs().max()) < 1e-14) == still


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = directions(6, 0).requires_grad_(), directions(6, 1).requires_grad_()
    seed_loss(student, teacher, directions(8, 2), 0.2, 0.01).backward()
    assert teacher.grad is None
    assert student.grad is not None and bool(student.grad.any())


# ---- queue -------------------------------------------------------------------------------------


def test_the_queue_is_first_in_first_out() -> None:
    queue = Queue(6, 4, seed=0)
    start = queue.embeddings.clone()
    assert torch.allclose(start.norm(dim=1), torch.ones(6))
    assert not torch.equal(start, Queue(6, 4, seed=1).embeddings)
    keys = [torch.full((2, 4), float(n)) for n in range(4)]
    queue.put(keys[0])
    assert torch.equal(queue.embeddings[2:], start[2:])
    for each in keys[1:]:
        queue.put(each)
    assert queue.embeddings[:, 0].tolist() == [3, 3, 1, 1, 2, 2]
    assert int(queue.position) == 2
    with pytest.raises(UsageError, match="a queue of 6 is no multiple of 4 embeddings"):
        queue.put(torch.zeros(4, 4))


# ---- objectives --------------------------------------------------------------------------------


def seed_objective(gather: Any = lambda keys: keys) -> Seed:
    return Seed(
        network(0),
        network(1),
        [Queue(12, 4, 0)],
        student_temperature=0.2,
        teacher_temperature=0.01,
        gather=gather,
    )


def test_a_step_of_seed() -> None:
    gathered: list[Tensor] = []

    def gather(keys: Tensor) -> Tensor:
        gathered.append(keys)
        return torch.cat([keys, -keys])

    objective = seed_objective(gather)
    objective.train()
    teacher = objective._teacher[0]
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    images = torch.randn(3, 3, 2, 2)
    objective(images, torch.zeros(3)).backward()
    assert not teacher.training
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in objective.student.parameters())
    keys = F.normalize(teacher(images), dim=1)
    assert torch.equal(gathered[0], keys)
    (queue,) = objective.queues
    assert torch.equal(queue.get_buffer("embeddings")[:6], torch.cat([keys, -keys]))
    names = {key.partition(".")[0] for key in objective.state_dict()}
    assert names == {"student", "queues"}, "a teacher is not part of a run's state"


def test_the_loss_is_taken_before_the_batch_enters_the_queue() -> None:
    objective, images = seed_objective().eval(), torch.randn(3, 3, 2, 2)
    queue = objective.queues[0].get_buffer("embeddings").clone()
    with torch.no_grad():
        loss = objective(images, torch.zeros(3))
        s, t = (F.normalize(n(images), dim=1) for n in (objective.student, objective._teacher[0]))
    assert torch.equal(loss, seed_loss(s, t, queue, 0.2, 0.01))


def test_of_patches_the_first_enters_a_queue_of_its_own() -> None:
    queues = [Queue(12, 4, 0), Queue(12, 4, 0)]
    objective = Seed(
        network(0), network(1), queues, student_temperature=0.2, teacher_temperature=0.01,
        gather=lambda keys: keys,
    ).eval()  # fmt: skip
    before = [queue.embeddings.clone() for queue in queues]
    images, patches = torch.randn(3, 3, 2, 2), torch.randn(3, 6, 3, 2, 2)
    with torch.no_grad():
        loss = objective(images, patches, torch.zeros(3))
        wanted = 0.0
        for view, queue in ((images, before[0]), (patches.flatten(0, 1), before[1])):
            s, t = (F.normalize(n(view), dim=1) for n in (objective.student, objective._teacher[0]))
            wanted += float(seed_loss(s, t, queue, 0.2, 0.01))
        first = F.normalize(objective._teacher[0](patches[:, 0]), dim=1)
    assert float(loss) == pytest.approx(wanted, abs=1e-6)
    assert torch.allclose(queues[1].embeddings[:3], first)
    assert torch.equal(queues[1].embeddings[3:], before[1][3:])
    assert [int(queue.position) for queue in queues] == [3, 3]


def test_a_step_of_moco() -> None:
    start = network(0)
    objective = MoCo(start, Queue(6, 4, 0), temperature=0.2, momentum=0.9, gather=lambda keys: keys)
    objective.train()
    before = objective.follower[1].weight.clone()  # type: ignore[index]
    with torch.no_grad():
        start[1].weight += 1.0  # type: ignore[index]
    objective(torch.randn(3, 2, 3, 2, 2), torch.zeros(3)).backward()
    moved = objective.follower[1].weight - before  # type: ignore[index]
    assert torch.allclose(moved, torch.full_like(moved, 0.1), atol=1e-6)
    assert all(p.grad is None for p in objective.follower.parameters())
    assert all(p.grad is not None for p in start.parameters())
    assert int(objective.queue.position) == 3


def test_moco_knows_a_key_by_its_image_and_not_by_its_batch() -> None:
    """Of 64 images in four groups: each is normalised with 16, and its key with 16 others."""
    objective = MoCo(
        network(0), Queue(128, 4, 0), temperature=0.2, momentum=1.0, gather=lambda keys: keys
    ).train()
    images = torch.randn(64, 2, 3, 2, 2)
    queue = objective.queue.embeddings.clone()
    torch.manual_seed(7)
    loss = objective(images, torch.zeros(64))
    torch.manual_seed(7)
    order = torch.randperm(64)
    query, key = network(0).train(), network(0).train()
    queries = torch.cat([query(images[n : n + 16, 0]) for n in range(0, 64, 16)])
    keys = torch.empty(64, 4)
    for n in range(0, 64, 16):
        keys[order[n : n + 16]] = key(images[order[n : n + 16], 1])
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    assert torch.allclose(loss, info_nce(queries, keys, queue, 0.2), atol=1e-6)
    assert torch.allclose(objective.queue.embeddings[:64], keys, atol=1e-6)


def test_half_precision_does_not_decide_which_key_is_near() -> None:
    """Of embeddings that are all alike, as those of an untrained network are."""
    mean = F.normalize(torch.randn(1, 128), dim=1)
    alike = F.normalize(mean + 0.005 * torch.randn(512, 128), dim=1)
    own, others = alike[:8], alike[8:]
    wanted = seed_loss(own.double(), own.double(), others.double(), 0.2, 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        found = seed_loss(own, own, others, 0.2, 1e-4)
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)


# ---- neighbours --------------------------------------------------------------------------------


def test_neighbours_vote_by_their_similarity() -> None:
    known = F.normalize(torch.tensor([[1.0, 0.02], [0.4, 1.0], [0.3, 1.0]]), dim=1)
    asked = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    classes = torch.tensor([0, 1, 1])
    wanted = torch.tensor([0, 1])
    of_known = Features(known, classes, 0)
    for k in (1, 3, 20):  # of three neighbours two are of the other class, and far away
        assert nearest(of_known, Features(asked, wanted, 0), k, 2) == 1.0
    assert nearest(of_known, Features(asked, 1 - wanted, 0), 1, 2) == 0.0


# ---- recipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"teacher": ""}, "--method seed needs --teacher"),
        ({"method": "moco-v2"}, "--method moco-v2 has no teacher"),
        ({"method": "sed"}, "unknown method 'sed': did you mean seed"),
        ({"queue": 128}, "a queue of 128 for batches of 256: .* --queue 256"),
        ({"method": "moco-v2", "teacher": "", "patches": 6}, "patches are SEED's"),
        ({"queue": 1000}, "it must be a multiple of them, e.g. --queue 768"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0"),
    ],
)
def test_recipes_that_cannot_be(change: dict[str, Any], says: str) -> None:
    RECIPE.settled()
    replace(RECIPE, teacher_temperature=1e-4).settled()
    with pytest.raises((UsageError, UnknownNameError), match=says):
        replace(RECIPE, **change).settled()


@pytest.mark.parametrize(
    ("asked", "lr", "warmup"),
    [
        ({}, 0.03, (0.0, 0.0)),
        ({"batch_size": 64}, 0.0075, (0.0, 0.0)),
        ({"batch_size": 1024}, 0.12, (5.0, 0.03)),
        ({"batch_size": 1024, "lr": 0.5}, 0.5, (5.0, 0.03)),
        ({"batch_size": 1024, "warmup_epochs": 0.0}, 0.12, (0.0, 0.0)),
        ({"warmup_epochs": 2.0, "warmup_lr": 0.01}, 0.03, (2.0, 0.01)),
    ],
)
def test_the_rate_is_in_proportion_to_the_batch(
    asked: dict[str, Any], lr: float, warmup: tuple[float, float]
) -> None:
    found = replace(RECIPE, **asked).settled()
    assert found.lr == pytest.approx(lr)
    assert (found.warmup_epochs, found.warmup_lr) == warmup
    assert found.settled() == found
