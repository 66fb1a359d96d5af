"""OpenVINO's counters are means since the model was compiled: the warm-up is taken out."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from edgekit.runtimes.ov import _means


def rows(**microseconds):
    return [
        SimpleNamespace(node_name=name, real_time=timedelta(microseconds=mean))
        for name, mean in microseconds.items()
    ]


def test_the_warm_up_is_taken_out():
    means = _means(rows(conv=100, late=0), 10, rows(conv=20, late=3, new=2), 100)
    assert means["conv"] == pytest.approx((20 * 110 - 100 * 10) / 100 / 1e3)
    assert means["late"] == pytest.approx(3 * 110 / 100 / 1e3)
    assert means["new"] == pytest.approx(2 * 110 / 100 / 1e3)


def test_what_rounding_made_negative_is_nothing():
    assert _means(rows(add=2), 10, rows(add=0), 100) == {"add": 0.0}
