"""Learning without classes: SEED from a frozen teacher, and MoCo-v2 from the network itself.

    SEED     the student's similarities to a queue of the teacher's embeddings become the teacher's
    MoCo-v2  two views of an image are alike, and unlike what is in the queue

Facts are of SEED (arXiv 2101.04731) and its code, and of MoCo-v2 (arXiv 2003.04297). Embeddings are
L2-normalised here, whatever the networks give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.training.seeding import QUEUE, place_seed

Gather = Callable[[Tensor], Tensor]


class Queue(nn.Module):
    """The last ``size`` embeddings, first in, first out; at the start random directions.

    Args:
        size: embeddings; a multiple of what is put in at once.
        width: numbers of an embedding.
        seed: of the random directions.
    """

    embeddings: Tensor
    position: Tensor

    def __init__(self, size: int, width: int, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(place_seed(seed, QUEUE))
        start = F.normalize(torch.randn(size, width, generator=draw), dim=1)
        self.register_buffer("embeddings", start)
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, keys: Tensor) -> None:
        """Keys (N, width) take the place of the oldest."""
        first, size = int(self.position), len(self.embeddings)
        if size % len(keys):
            raise UsageError(f"a queue of {size} is no multiple of {len(keys)} embeddings")
        self.embeddings[first : first + len(keys)] = keys
        self.position.fill_((first + len(keys)) % size)


def similarities(embeddings: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
    """(B, 1 + K): of each embedding to its own key, which is number 0, and to the queue.

    Never in half precision, whatever the networks compute in: divided by a temperature of 0.01 or
    1e-4 its rounding would decide which key is the nearest.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        own = (embeddings * keys).sum(1, keepdim=True)
        return torch.cat([own, embeddings @ queue.T], dim=1)


def _directions(answers: Tensor) -> Tensor:
    """L2-normalised, and float32 if they were in half precision."""
    half = answers.dtype in (torch.float16, torch.bfloat16)
    return F.normalize(answers.float() if half else answers, dim=1)


def seed_loss(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the student's distribution of similarities under the teacher's.

    Args:
        student: (B, D), L2-normalised.
        teacher: (B, D) likewise, of the same views; gets no gradient.
        queue: (K, D), the teacher's embeddings of other images.
        student_temperature: 0.2 in the paper's code.
        teacher_temperature: 0.01 in the paper; 1e-4 is its code's default.
    """
    teacher = teacher.detach()
    wanted = F.softmax(similarities(teacher, teacher, queue) / teacher_temperature, dim=1)
    got = F.log_softmax(similarities(student, teacher, queue) / student_temperature, dim=1)
    return -(wanted * got).sum(1).mean()


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Of each query: which of its own key and the queue is its own."""
    logits = similarities(queries, keys, queue) / temperature
    return F.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    )


class Seed(nn.Module):
    """SEED's objective. Only the student and the queue are its state.

    Args:
        student: (B, 3, S, S) -> (B, D).
        teacher: likewise; frozen, in eval mode, on the right device already.
        queues: of the teacher's embeddings, one for each kind of views.
        student_temperature: see `seed_loss`.
        teacher_temperature: see `seed_loss`.
        gather: the embeddings of all processes.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        queues: Sequence[Queue],
        *,
        student_temperature: float,
        teacher_temperature: float,
        gather: Gather,
    ) -> None:
        super().__init__()
        self.student, self.queues = student, nn.ModuleList(queues)
        # Hidden from PyTorch: neither trained, nor saved, nor sent from process to process.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.temperatures = student_temperature, teacher_temperature
        self.gather = gather

    def forward(self, *views: Tensor) -> Tensor:
        """The loss of a batch, which then enters the queues.

        Args:
            views: of each kind (B, 3, S, S) or (B, V, 3, S, S), and the classes, unused.

        Returns:
            The mean over each kind's views, summed over kinds.
        """
        kinds = zip(views[:-1], self.queues, strict=True)
        return torch.stack([self._of(images, cast(Queue, queue)) for images, queue in kinds]).sum()

    def _of(self, images: Tensor, queue: Queue) -> Tensor:
        several = images.shape[1] if images.dim() == 5 else 1
        images = images.flatten(0, -4)
        with torch.no_grad():
            keys = _directions(self._teacher[0](images))
        embeddings = _directions(self.student(images))
        loss = seed_loss(embeddings, keys, queue.embeddings.clone(), *self.temperatures)
        queue.put(self.gather(keys[::several]))  # the first view of each image
        return loss


_GROUPS, _FEWEST = 8, 16  # a group of fewer images has hardly any statistics
MOCO_FEWEST = 2 * _FEWEST  # images of a process: with one group all would be as without any


def _in_groups(network: nn.Module, images: Tensor) -> Tensor:
    """What ``network`` answers, with BatchNorm's statistics of a part of the images each."""
    groups = max(1, min(_GROUPS, len(images) // _FEWEST))
    return torch.cat([network(part) for part in images.chunk(groups)])


class MoCo(nn.Module):
    """MoCo-v2's objective on two views: (B, 2, 3, S, S).

    With BatchNorms over the same batch a query would know its key by the batch's statistics, and
    nothing would be learnt. The authors normalise on 8 GPUs of 32 images and shuffle the keys among
    them; here a process's batch is taken in as many groups, in another order for the keys.

    Args:
        network: (B, 3, S, S) -> (B, D), whose slowly following copy makes the keys.
        queue: of keys.
        temperature: 0.2 in its code.
        momentum: of the copy, 0.999 in its code.
        gather: the keys of all processes.
    """

    def __init__(
        self,
        network: nn.Module,
        queue: Queue,
        *,
        temperature: float,
        momentum: float,
        gather: Gather,
    ) -> None:
        super().__init__()
        self.network, self.queue = network, queue
        self.follower = copy.deepcopy(network).requires_grad_(False)
        self.temperature, self.momentum, self.gather = temperature, momentum, gather

    def forward(self, images: Tensor, _classes: Tensor) -> Tensor:
        """The mean loss of a batch, whose keys then enter the queue."""
        count = len(images)
        queries = _directions(_in_groups(self.network, images[:, 0]))
        shuffled = torch.randperm(count).to(images.device)
        with torch.no_grad():
            pairs = zip(self.follower.parameters(), self.network.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast.detach(), 1 - self.momentum)
            found = _directions(_in_groups(self.follower, images[shuffled, 1]))
            keys = torch.empty_like(found)
            keys[shuffled] = found
        loss = info_nce(queries, keys, self.queue.embeddings.clone(), self.temperature)
        self.queue.put(self.gather(keys))
        return loss
