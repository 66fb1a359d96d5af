"""Losses and CIDEr-D, against figures that were computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from edgekit.training.vision_language import losses
from edgekit.training.vision_language.cider import Cider


def test_answers_are_divided_by_how_many_are_right() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    scores = torch.tensor([[1.0, 0.3], [0.0, 1.0]])

    def entropy(x: float, y: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -(y * math.log(p) + (1 - y) * math.log(1 - p))

    total = entropy(0, 1) + entropy(2, 0.3) + entropy(-1, 0) + entropy(0, 1)
    assert float(losses.answers(logits, scores)) == pytest.approx(total / 3, rel=1e-6)


def test_before_training_every_answer_has_its_prior() -> None:
    assert torch.sigmoid(torch.tensor(losses.prior_bias())) == pytest.approx(0.01, rel=1e-6)


def test_hidden_words_with_label_smoothing() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0]])
    log_sum = math.log(math.e + 2)
    plain, spread = log_sum - 1, log_sum - 1 / 3
    found = losses.words(logits, torch.tensor([0]), 0.1)
    assert float(found) == pytest.approx(0.9 * plain + 0.1 * spread, rel=1e-6)
    none = losses.words(torch.zeros(0, 3, requires_grad=True), torch.zeros(0, dtype=torch.long))
    none.backward()  # several processes wait for it
    assert float(none.detach()) == 0


def test_a_caption_that_is_better_than_expected_becomes_likelier() -> None:
    likely = torch.tensor([[-1.0, -3.0], [-2.0, -9.0]], requires_grad=True)
    said = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    loss = losses.self_critical(likely, said, torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]))
    # gains 1 and -0.5 on means -2 and -2
    assert float(loss.detach()) == pytest.approx(-(1 * -2 + -0.5 * -2) / 2)
    loss.backward()
    assert likely.grad is not None
    assert likely.grad.tolist() == [[-0.25, -0.25], [0.25, 0.0]]


def test_samples_are_compared_with_the_others() -> None:
    found = losses.others_mean(torch.tensor([[1.0, 2.0, 6.0]]))
    assert found.tolist() == [[4.0, 3.5, 1.5]]


# ---- CIDEr-D -----------------------------------------------------------------------------------


def test_a_caption_computed_by_hand() -> None:
    """Two images; of "a b" the words are: a in both, so its weight is 0; b in one, ln 2."""
    cider = Cider([[["a", "b"]], [["a", "c"]]])
    # n = 1: (b) against (b), 1; n = 2: "a b" is the same, 1; n = 3 and 4: none, 0
    assert cider.score(["a", "b"], [["a", "b"]]) == pytest.approx(10 * 2 / 4)
    # caption "b b": n = 1: weight 2 ln 2, clipped to ln 2: ln2 * ln2 / (2 ln2 * ln2) = 1/2;
    # n = 2: "b b" is in no reference, and shares nothing
    assert cider.score(["b", "b"], [["a", "b"]]) == pytest.approx(10 * 0.5 / 4)
    # one word more: the same clipped cosine 1 of n = 1, n = 2 "a b", "b a": 1/sqrt 2
    longer = (1 + 1 / math.sqrt(2)) * math.exp(-1 / 72)
    assert cider.score(["a", "b", "a"], [["a", "b"]]) == pytest.approx(10 * longer / 4)


def test_what_is_said_twice_of_one_image_is_no_more_common_for_it() -> None:
    """Three images, two references each: a is of two of the images, all else of one."""
    one, two = ["a", "b"], ["a", "c"]
    cider = Cider([[one, two], [["a", "d"], ["a", "d"]], [["e"], ["e"]]])
    a, c = math.log(3 / 2), math.log(3)
    # against "a b" only a is shared, of n = 1; against "a c" all is, of n = 1 and 2
    found = (a * a / (a * a + c * c) + 2) / 2
    assert cider.score(two, [one, two]) == pytest.approx(10 * found / 4)


def test_the_mean_over_references_and_nothing_in_common() -> None:
    cider = Cider([[["x", "y", "z", "w"]], [["p", "q"]], [["r"]]])
    own = ["x", "y", "z", "w"]
    assert cider.score(own, [own]) == pytest.approx(10)
    assert cider.score(own, [own, ["p", "q"]]) == pytest.approx(5)
    assert cider.score(["k"], [own]) == 0
    assert cider.score([], [own]) == 0
