from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, EdgekitError, InputError, UsageError
from edgekit.runtimes.null import NullSession
from edgekit.runtimes.session import Session, fits, match_names, middle_mean

INPUTS = (TensorSpec("x", "float32", (1, 3, 8, 6), "NCHW"), TensorSpec("n", "int64", (2,)))
OUTPUTS = (TensorSpec("y", "float32", (1,)),)
X = np.ones((1, 3, 8, 6), np.float32)
N = np.zeros(2, np.int64)
GOOD: dict[str, Any] = {"x": X, "n": N}


def session(*inputs: TensorSpec) -> NullSession:
    return NullSession([Path("none")], inputs or INPUTS, OUTPUTS, options={"output": "echo"})


def test_good_inputs_arrive():
    assert session().run(GOOD)["y"] == X.sum()


class Sub(np.ndarray):
    """A subclass, as memory maps and masked arrays are."""


BAD = [
    ({}, "input 'x' (float32 (1, 3, 8, 6)), 'n' (int64 (2,)) is missing; got none"),
    ({"x": X}, "input 'n' (int64 (2,)) is missing; got 'x'"),
    ({"y": X, "n": N}, "unknown input 'y': the model takes 'x', 'n'"),
    ({**GOOD, "extra": X, "more": X}, "unknown input 'extra', 'more': the model takes 'x', 'n'"),
    ({**GOOD, "x": [1.0]}, "input 'x' is a list: give a numpy array of float32 (1, 3, 8, 6)"),
    ({**GOOD, "x": None}, "input 'x' is a NoneType: give a numpy array"),
    (
        {**GOOD, "x": X.astype(np.float64)},
        "input 'x' is float64, the model takes float32: convert it with .astype(\"float32\")",
    ),
    ({**GOOD, "x": X.astype(np.uint8)}, "input 'x' is uint8, the model takes float32: convert it"),
    ({**GOOD, "n": N.astype(np.int32)}, "input 'n' is int32, the model takes int64: convert it"),
    ({**GOOD, "x": X.astype(">f4")}, "input 'x' is >f4, the model takes float32: convert it"),
    (
        {**GOOD, "x": X[0]},
        "input 'x' has shape (3, 8, 6), the model takes (1, 3, 8, 6) (NCHW): "
        "add the batch axis with [None]",
    ),
    (
        {**GOOD, "x": X.transpose(0, 2, 3, 1)},
        "has shape (1, 8, 6, 3), the model takes (1, 3, 8, 6) (NCHW): "
        "put channels second with .transpose(0, 3, 1, 2)",
    ),
    (
        {**GOOD, "x": X[0].transpose(1, 2, 0)},
        "channels first and add the batch axis with .transpose(2, 0, 1)[None]",
    ),
    ({**GOOD, "x": X[:, :, :4]}, "has shape (1, 3, 4, 6), the model takes (1, 3, 8, 6) (NCHW)"),
    ({**GOOD, "n": N[:0]}, "input 'n' has shape (0,), the model takes (2,)"),
    (
        {**GOOD, "x": np.ones((4, 3, 8, 6), np.float32)},
        "has shape (4, 3, 8, 6), the model takes (1, 3, 8, 6) (NCHW): "
        "give 1 at once; another number is another edgekit export --batch",
    ),
]


@pytest.mark.parametrize(("inputs", "message"), BAD, ids=[m[:60] for _, m in BAD])
def test_what_does_not_fit_is_named(inputs, message: str):
    with pytest.raises(InputError) as caught:
        session().run(inputs)
    assert message in str(caught.value)


def test_an_array_without_a_name_is_refused():
    with pytest.raises(InputError, match="dict of arrays by name, got ndarray: give {'x': array}"):
        session().run(X)  # type: ignore[arg-type]


def test_subclasses_of_arrays_are_taken():
    assert session().run({"x": X.view(Sub), "n": N})["y"] == X.sum()


def test_a_free_axis_takes_any_size():
    free = session(TensorSpec("x", "float32", (-1, 3)))
    assert free.run({"x": np.ones((5, 3), np.float32)})["y"] == 15
    assert free.run({"x": np.ones((0, 3), np.float32)})["y"] == 0
    with pytest.raises(InputError, match=r"has shape \(5, 4\), the model takes \(any, 3\)"):
        free.run({"x": np.ones((5, 4), np.float32)})
    images = session(TensorSpec("x", "float32", (-1, 3, 8, 6), "NCHW"))
    with pytest.raises(InputError, match=r"takes \(any, 3, 8, 6\) \(NCHW\): add the batch axis"):
        images.run({"x": X[0]})


BAD_VALUES = [np.nan, -np.nan, np.inf, -np.inf, np.uint32(0x7F800001).view(np.float32),
              np.uint32(0xFFFFFFFF).view(np.float32)]  # fmt: skip
GOOD_VALUES = [0.0, -0.0, 1e-45, -1e-45, np.finfo(np.float32).max, np.finfo(np.float32).min]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (0, 1, 5, 3), (0, 2, 7, 5)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "every other"])
def test_one_bad_value_anywhere_is_found(value: float, at: tuple[int, ...], layout: str):
    x = X.copy()
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "every other":
        x = np.ones((1, 6, 8, 6), np.float32)[:, ::2]
    x[at] = value
    with pytest.raises(InputError) as caught:
        session().run({"x": x, "n": N})
    assert f"input 'x' has 1 NaN or Inf of 144 values, the first at {list(at)}: " in str(
        caught.value
    )


@pytest.mark.parametrize("value", GOOD_VALUES)
def test_extreme_values_are_fine(value: float):
    x = X.copy()
    x[0, 1, 2, 3] = value
    session().run({"x": x, "n": N})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_nan_is_found_in_other_floats(dtype: str):
    floats = session(TensorSpec("x", dtype, (3,)))
    floats.run({"x": np.array([1, 2, 3], dtype)})
    with pytest.raises(InputError, match="1 NaN or Inf of 3 values"):
        floats.run({"x": np.array([1, np.inf, 3], dtype)})


def test_a_scalar_input():
    assert session(TensorSpec("x", "float32", ())).run({"x": np.array(2, np.float32)})["y"] == 2


class Failing(NullSession):
    def _run(self, arrays):
        raise RuntimeError("the engine\nfell over")


def test_a_failing_engine_is_one_line():
    failing = Failing([Path("none")], INPUTS, OUTPUTS)
    with pytest.raises(BundleError, match="null failed while running: the engine fell over"):
        failing.run(GOOD)


def test_an_engine_call_that_fails_is_one_line():
    call = Failing([Path("none")], INPUTS, OUTPUTS).engine_call(GOOD)
    with pytest.raises(BundleError, match="null failed while running: the engine fell over"):
        call()


def test_an_engine_call_computes_on_what_was_put_in_place():
    x = X.copy()
    call = session().engine_call({"x": x, "n": N})
    x[...] = 0
    call()
    assert call.results()["y"] == X.sum()


def test_a_runtime_without_times_per_layer_says_so():
    with pytest.raises(UsageError, match="null gives no times per layer"):
        session().layer_times(GOOD, 10)


def test_the_mean_of_the_middle_half():
    assert middle_mean([7.0]) == 7
    assert middle_mean([1.0, 2.0, 3.0, 1000.0]) == 2.5
    assert middle_mean([2.0] * 5 + [3.0] * 5 + [900.0] * 2) == pytest.approx(16 / 6)


def test_a_session_closed_under_a_run_says_so():
    class Closed(NullSession):
        def _run(self, arrays):
            self.close()
            raise AttributeError("'NoneType' object has no attribute 'run'")

    with pytest.raises(UsageError, match="this null session is closed"):
        Closed([Path("none")], INPUTS, OUTPUTS).run(GOOD)


def test_the_protocol_cannot_be_half_implemented():
    with pytest.raises(TypeError, match="abstract"):
        Session(INPUTS, OUTPUTS, 1)  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("shape", "spec", "fit"),
    [((1, 2), (1, 2), True), ((1, 2), (-1, 2), True), ((1, 2), (1, 2, 1), False),
     ((), (), True), ((2, 1), (1, 2), False)],
)  # fmt: skip
def test_fits(shape, spec, fit):
    assert fits(shape, spec) is fit


def test_match_names():
    specs = [TensorSpec("a", "float32", ()), TensorSpec("b", "float32", ())]
    assert match_names(specs, ["b", "a"], "inputs", Path("f")) == (1, 0)
    assert match_names(specs, ["q", "a"], "inputs", Path("f")) == (0, 1)
    with pytest.raises(EdgekitError, match=r"f has 1 inputs \(a\), the manifest says 2 \(a, b\)"):
        match_names(specs, ["a"], "inputs", Path("f"))
