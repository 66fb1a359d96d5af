"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from edgekit.training.detection.losses import anchor_losses, attribute_loss, region_losses


def index(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def test_anchors() -> None:
    logits = torch.tensor([0.0, 2.0, 5.0, -1.0])
    deltas = torch.zeros(4, 4)
    deltas[1] = torch.tensor([1.0, 0.05, 0.0, 0.0])
    objectness, box = anchor_losses(logits, deltas, index(1), index(0, 3), torch.zeros(1, 4))
    by_hand = math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1))
    assert float(objectness) == pytest.approx(by_hand / 3, rel=1e-6)
    # a line from 1/9 on, and half the square over 1/9 before
    assert float(box) == pytest.approx((1 - 0.5 / 9 + 0.5 * 0.05**2 * 9) / 3, rel=1e-6)


def test_regions() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    deltas = torch.tensor([[9.0, 9.0, 9.0, 9.0], [0.5, 3.0, 0.0, 0.0]])
    wanted = torch.zeros(2, 4)
    wanted[0] = math.inf  # of background, which is never read
    first, second = region_losses(scores, deltas, index(0, 1), wanted)
    other = math.log(math.exp(2) + math.exp(1) + 1) - 1
    assert float(first) == pytest.approx((math.log(3) + other) / 2, rel=1e-6)
    assert float(second) == pytest.approx((0.5 * 0.25 + 2.5) / 2, rel=1e-6)


def test_attributes_are_shared_equally_and_those_without_any_are_not_counted() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [9.0, 9.0, 0.0]])
    given = torch.full((3, 16), -1)
    given[0, 0] = 0
    given[1, :2] = index(1, 2)
    one = math.log(math.exp(1) + 2) - 1
    two = math.log(math.exp(2) + 2) - (0 + 2) / 2
    assert float(attribute_loss(logits, given)) == pytest.approx((one + two) / 2, rel=1e-6)


def test_nothing_to_learn_from_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    """Or several processes would wait for each other's gradients."""
    logits, deltas = torch.ones(3, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    none = index()
    losses = [
        *anchor_losses(logits, deltas, none, none, torch.zeros(0, 4)),
        region_losses(torch.ones(2, 3), deltas[:2], index(0, 0), torch.zeros(2, 4))[1],
        attribute_loss(deltas, torch.full((3, 16), -1)),
        attribute_loss(deltas[:0], torch.full((0, 16), -1)),
    ]
    assert [float(each.detach()) for each in losses] == [0.0] * 5
    sum(losses, torch.zeros(())).backward()
    for each in (logits, deltas):
        assert each.grad is not None and not bool(each.grad.any())
