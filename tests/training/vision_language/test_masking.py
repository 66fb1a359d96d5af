"""Who sees whom, against a list of cases; and which tokens are hidden."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from edgekit.training.vision_language.masking import (
    IGNORED,
    Hiding,
    every_word,
    hide_tokens,
    left_to_right,
)

RULE = Hiding(0.15, 5, mask=4, vocabulary=100)


def test_a_caption_sees_what_is_before_it_and_the_rest_sees_no_caption() -> None:
    present = torch.tensor([[1.0, 1, 1, 0, 1, 0, 1, 1, 0]])  # 4 of a caption, 2 tags, 3 regions
    seen = left_to_right(present, 4)[0]
    for row, column in itertools.product(range(9), range(9)):
        allowed = column <= row if row < 4 and column < 4 else column >= 4
        assert seen[row, column] == float(allowed and bool(present[0, column])), (row, column)


def test_every_word_is_predicted_from_those_before_it() -> None:
    present = torch.tensor([[1.0, 1, 0, 1, 1, 0, 1, 1]])  # 3 words, 3 masks, a tag, a region
    seen = every_word(present, 3)[0]
    for row, column in itertools.product(range(8), range(8)):
        kinds = ("word", "mask", "rest")
        of_row, of_column = kinds[min(row // 3, 2)], kinds[min(column // 3, 2)]
        allowed = {
            ("word", "word"): column <= row,
            ("word", "mask"): False,
            ("mask", "word"): column < row - 3,
            ("mask", "mask"): column == row,
            ("rest", "word"): False,
            ("rest", "mask"): False,
        }.get((of_row, of_column), True)
        assert seen[row, column] == float(allowed and bool(present[0, column])), (row, column)


@pytest.mark.parametrize(("words", "count"), [(1, 1), (6, 1), (10, 2), (20, 3), (30, 4), (60, 5)])
def test_how_many_are_hidden(words: int, count: int) -> None:
    tokens = np.arange(10, 10 + words)
    fed, targets = hide_tokens(tokens, range(words), RULE, np.random.default_rng(0))
    chosen = targets != IGNORED
    assert chosen.sum() == count
    assert (targets[chosen] == tokens[chosen]).all()
    assert (fed[~chosen] == tokens[~chosen]).all()


def test_only_open_places_are_hidden_eight_of_ten_of_them_by_the_mask() -> None:
    tokens, draw = np.full(40, 50), np.random.default_rng(0)
    kinds = {"mask": 0, "same": 0, "other": 0}
    for _ in range(2000):
        fed, targets = hide_tokens(tokens, range(5, 35), RULE, draw)
        chosen = np.flatnonzero(targets != IGNORED)
        assert chosen.min() >= 5 and chosen.max() < 35
        for token in fed[chosen].tolist():
            kinds[{4: "mask", 50: "same"}.get(token, "other")] += 1
    shares = {kind: count / sum(kinds.values()) for kind, count in kinds.items()}
    assert shares["mask"] == pytest.approx(0.8, abs=0.02)
    assert shares["same"] == pytest.approx(0.1, abs=0.02)


def test_nothing_open_is_nothing_hidden() -> None:
    fed, targets = hide_tokens(np.arange(3), (), RULE, np.random.default_rng(0))
    assert fed.tolist() == [0, 1, 2] and (targets == IGNORED).all()
