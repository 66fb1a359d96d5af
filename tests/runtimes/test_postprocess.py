from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.runtimes.postprocess import softmax, top_k


def test_softmax():
    assert softmax(np.log(np.array([[1.0, 2.0, 5.0]]))).tolist() == [
        pytest.approx([0.125, 0.25, 0.625])
    ]
    assert softmax(np.array([1e30, 0, -1e30], np.float32)).tolist() == [1, 0, 0]
    assert softmax(np.zeros((2, 4), np.float32)).sum(axis=-1).tolist() == [1, 1]


def test_top_k():
    scores = np.array([[0.1, 0.4, 0.4, 0.1]], np.float32)
    names, values = zip(*top_k(scores, ("a", "b", "c", "d"), 3), strict=True)
    assert names == ("b", "c", "a")
    assert values == pytest.approx((0.4, 0.4, 0.1))
    assert [name for name, _ in top_k(scores[0], k=2)] == ["class 1", "class 2"]
    assert len(top_k(scores, k=99)) == 4


def test_what_does_not_fit():
    with pytest.raises(InputError, match="2 labels for 3 classes"):
        top_k(np.zeros(3), ("a", "b"))
    with pytest.raises(InputError, match=r"scores have shape \(2, 3\).*scores\[i : i \+ 1\]"):
        top_k(np.zeros((2, 3)))
