"""Parity must reject what converters get wrong: a shuffle, a constant, one percent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.bundle import Parity, TensorSpec, relative_error
from edgekit.errors import GraphError, ParityError
from edgekit.export import parity

Array = NDArray[Any]
IMAGE = TensorSpec("image", "float32", (1, 8, 6, 6), "NCHW")
SCALE = np.linspace(-2.0, 3.0, 8, dtype=np.float32).reshape(1, 8, 1, 1)
SHUFFLE = np.arange(8).reshape(2, 4).T.reshape(-1)


def network(
    shuffle: NDArray[np.intp] = SHUFFLE, scale: Array = SCALE, gain: float = 1.0
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A shuffle, a per-channel scale and a rectifier: enough to get wrong."""

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["image"][:, shuffle] * scale
        return {"features": np.maximum(x, 0) * np.float32(gain), "mean": x.mean((2, 3))}

    return run


REFERENCE = parity.make_reference("numpy", network(), [IMAGE])

WRONG_SCALE = SCALE.copy()
WRONG_SCALE[0, 3] += 0.01

WRONG = {
    "a shuffle transposed": network(shuffle=np.arange(8).reshape(4, 2).T.reshape(-1)),
    "two channels swapped": network(shuffle=SHUFFLE[[1, 0, 2, 3, 4, 5, 6, 7]]),
    "one constant of eight off": network(scale=WRONG_SCALE),
    "one percent": network(gain=1.01),
    "a tenth of a percent": network(gain=1.001),
    "ten times too large": network(gain=10.0),
    "zeros": network(gain=0.0),
    "nan": network(gain=math.nan),
}


def test_the_same_function_passes_with_zero_error() -> None:
    result = parity.check("same", parity.measure(network(), REFERENCE, tolerance=1e-4))
    assert result.inputs == parity.SAMPLES >= 5
    assert result.max_relative_error == {"features": 0.0, "mean": 0.0}


def test_float_rounding_passes() -> None:
    result = parity.measure(network(gain=1.0 + 1e-6), REFERENCE, tolerance=1e-4)
    assert 0 < result.max_relative_error["features"] < 1e-5
    parity.check("rounded", result)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_artifact_is_rejected(what: str) -> None:
    result = parity.measure(WRONG[what], REFERENCE, tolerance=1e-4)
    with pytest.raises(ParityError, match=r"artifact X is not the same function: output "):
        parity.check("artifact X", result)


def test_a_missing_output_is_rejected() -> None:
    result = parity.measure(lambda inputs: {"mean": np.zeros((1, 8))}, REFERENCE, tolerance=1e-4)
    assert math.isinf(result.max_relative_error["features"])


def test_a_small_output_is_not_hidden_by_a_large_one() -> None:
    big = {"big": np.full(3, 1e6), "small": np.full(3, 1e-6)}
    reference = parity.Reference("numpy", ({},), (big,))
    result = parity.measure(
        lambda inputs: {**big, "small": big["small"] * 1.01}, reference, tolerance=1e-4
    )
    assert result.max_relative_error["small"] == pytest.approx(0.01)


def test_tiny_outputs_are_compared_relatively() -> None:
    wanted = np.full(4, 1e-20)
    assert relative_error(wanted * 2, wanted) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("got", "wanted", "error"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), math.inf),
        (np.array([1.0]), np.array([0.0]), math.inf),
        (np.array([0.0]), np.array([0.0]), 0.0),
        (np.array([]), np.array([]), 0.0),
        (np.array([math.inf]), np.array([math.inf]), math.inf),
        (np.array([3, 4]), np.array([3, 5]), 0.2),
    ],
)
def test_relative_error_at_its_edges(got: Array, wanted: Array, error: float) -> None:
    assert relative_error(got, wanted) == error


def test_a_source_with_nan_proves_nothing() -> None:
    with pytest.raises(GraphError, match="'features' of the source model has NaN"):
        parity.make_reference("numpy", network(gain=math.nan), [IMAGE])


def test_a_source_that_is_zero_everywhere_proves_nothing() -> None:
    with pytest.raises(GraphError, match="zero for every input tried"):
        parity.make_reference("numpy", network(gain=0.0), [IMAGE])


def test_samples_are_seeded_and_differ() -> None:
    specs = [
        IMAGE,
        TensorSpec("ids", "int64", (1, 7)),
        TensorSpec("mask", "bool", (1, 7)),
        TensorSpec("scalar", "float64", ()),
        TensorSpec("flag", "bool", ()),
        TensorSpec("pixels", "uint8", (1, 8, 8, 3)),
    ]
    first, again, other = (parity.sample_inputs(specs, seed) for seed in (1, 1, 2))
    for spec in specs:
        assert isinstance(first[spec.name], np.ndarray), "not a numpy scalar: runtimes refuse it"
        assert first[spec.name].shape == spec.shape
        assert first[spec.name].dtype == np.dtype(spec.dtype)
        assert np.array_equal(first[spec.name], again[spec.name])
    assert not np.array_equal(first["image"], other["image"])
    assert set(np.unique(first["ids"])) <= {0, 1}
    assert first["pixels"].max() > 200


def test_samples_have_low_frequencies() -> None:
    # White noise alone leaves every channel's mean near zero, and gates would never move.
    means = parity.sample_inputs([TensorSpec("x", "float32", (1, 3, 64, 64))], 0)["x"].mean((2, 3))
    assert np.ptp(means) > 0.05


def test_a_figure_over_its_tolerance_is_refused_with_both_figures() -> None:
    figure = Parity("torch", 5, 1e-4, {"logits": 2e-4})
    with pytest.raises(ParityError, match=r"differs from torch by 0\.0002 relative, and 0\.0001"):
        parity.check("litert", figure)
    with pytest.raises(ParityError):
        parity.check("litert", Parity("torch", 5, 1e-4, {"logits": math.nan}))
