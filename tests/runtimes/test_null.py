from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import TensorSpec
from edgekit.errors import UsageError
from edgekit.runtimes import open_session

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


def test_echo_and_clones():
    session = open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"output": "echo"})
    assert (session.clone().run(X)["y"] == 6).all()
    assert session.describe()["precision"] == "none: nothing is computed"


def test_it_takes_as_long_as_asked():
    session = open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"sleep_us": "3000"})
    start = time.perf_counter()
    session.run(X)
    assert 0.003 <= time.perf_counter() - start < 1


def test_wrong_use():
    with pytest.raises(UsageError, match="unknown option 'speed'; known: output, sleep_us"):
        open_session("null", NOWHERE, INPUTS, OUTPUTS, options={"speed": "1"})
    with pytest.raises(UsageError, match="opens no file: it needs a bundle"):
        open_session("null", NOWHERE)
