from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import TensorSpec
from edgekit.errors import UsageError
from edgekit.runtimes import open_session
from edgekit.runtimes.null import NullSession

INPUTS = (TensorSpec("x", "float32", (1, 4)),)
OUTPUTS = (TensorSpec("y", "float32", (1, 2)), TensorSpec("n", "int64", (-1, 3)))
X = {"x": np.arange(4, dtype=np.float32)[None]}
NOWHERE = [Path("does/not/exist")]


def test_zeros_of_the_right_kind():
    with open_session("null", NOWHERE, INPUTS, OUTPUTS) as session:
        results = session.run(X)
    assert {name: (a.dtype.name, a.shape, a.sum()) for name, a in results.items()} == {
        "y": ("float32", (1, 2), 0),
        "n": ("int64", (1, 3), 0),
    }


def test_free_axes_of_outputs_follow_that_of_the_input():
    free = (TensorSpec("x", "float32", (-1, 4)),)
    with open_session("null", NOWHERE, free, OUTPUTS) as session:
        results = session.run({"x": np.zeros((5, 4), np.float32)})
    assert {name: array.shape for name, array in results.items()} == {"y": (1, 2), "n": (5, 3)}


def test_echo_and_clones():
    session = open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"output": "echo"})
    assert (session.clone().run(X)["y"] == 6).all()
    assert session.describe()["precision"] == "none: nothing is computed"


def test_it_takes_as_long_as_asked():
    session = open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"sleep_us": "3000"})
    start = time.perf_counter()
    session.run(X)
    assert 0.003 <= time.perf_counter() - start < 1


def test_it_drifts_by_a_clock_that_a_test_can_script():
    class Clock:
        now = 0

        def now_ns(self):
            return self.now

        def sleep_until_ns(self, when):
            self.now = when

    options = {"sleep_us": "1000000", "drift": "0.5"}
    session = NullSession(NOWHERE, INPUTS, OUTPUTS, options=options)
    session.clock = clock = Clock()
    ends = []
    for _ in range(3):
        session.run(X)
        ends.append(clock.now / 1e9)
    assert ends == [1, 2.5, 4.75]  # 1 s, then half as long again for each second that it ran


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan", ""])
def test_times_are_numbers(value):
    for name in ("sleep_us", "drift"):
        with pytest.raises(UsageError, match=f"option {name} is a number of 0 or more"):
            open_session("null", NOWHERE, INPUTS, OUTPUTS, options={name: value})


def test_wrong_use():
    with pytest.raises(UsageError, match="unknown option 'speed'; known: output, sleep_us"):
        open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"speed": "1"})
    with pytest.raises(UsageError, match="opens no file: it needs a bundle"):
        open_session("null", NOWHERE)
