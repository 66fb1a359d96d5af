"""Convolutions and pools of any geometry, against ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.export.tflite import comparing
from tests.export.tflite.comparing import Array, Const, check, single

TOLERANCE = 1e-5
# From here on ONNX infers the sizes of ceil_mode that ONNX Runtime and torch compute.
OPSET = 22
FEW = settings(max_examples=60, deadline=None)


def noise(*shape: int, seed: int = 0) -> Array:
    """Positive, so that a sum of few products cannot vanish: the error is a relative one."""
    return np.abs(comparing.noise(*shape, seed=seed))


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw):
    group = draw(st.integers(1, 4))
    per_group_in, per_group_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    strides, dilations = draw(pairs), draw(pairs)
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    size = draw(st.tuples(st.integers(4, 11), st.integers(4, 11)))
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        assume(reach <= size[axis] + pads[axis] + pads[axis + 2])
    x = noise(draw(st.integers(1, 2)), group * per_group_in, *size)
    weights = noise(group * per_group_out, per_group_in, *kernel, seed=1)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    return x, weights, attributes


@given(convolutions())
@FEW
def test_any_convolution(example):
    x, weights, attributes = example
    bias = Const(noise(weights.shape[0], seed=2))
    model, feeds = single("Conv", [x, Const(weights), bias], **attributes)
    check(model, feeds, tolerance=TOLERANCE)


@st.composite
def pools(draw):
    kernel = draw(pairs)
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    attributes = {
        "kernel_shape": kernel,
        "strides": draw(pairs),
        "pads": pads,
        "ceil_mode": draw(st.integers(0, 1)),
    }
    size = draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    return noise(draw(st.integers(1, 2)), 3, *size), attributes


@given(pools())
@FEW
def test_any_maximum(example):
    x, attributes = example
    x = 1 - x
    check(*single("MaxPool", [x], opset=OPSET, **attributes), tolerance=0.0)


@given(pools(), st.integers(0, 1))
@FEW
def test_any_average(example, counted):
    x, attributes = example
    model, feeds = single("AveragePool", [x], opset=OPSET, count_include_pad=counted, **attributes)
    check(model, feeds, tolerance=TOLERANCE)


@st.composite
def transposed(draw):
    kernel, strides = draw(pairs), draw(pairs)
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    extra = [draw(st.integers(0, strides[axis] - 1)) for axis in (0, 1)]
    group = draw(st.integers(1, 2))
    size = draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    attributes = {"strides": strides, "pads": pads, "output_padding": extra, "group": group}
    for axis in (0, 1):
        grown = (size[axis] - 1) * strides[axis] + kernel[axis] + extra[axis]
        assume(grown > pads[axis] + pads[axis + 2])
    return noise(1, 2 * group, *size), noise(2 * group, 3, *kernel, seed=1), attributes


@given(transposed())
@FEW
def test_any_transposed_convolution(example):
    x, weights, attributes = example
    bias = Const(noise(3 * attributes["group"], seed=2))
    model, feeds = single("ConvTranspose", [x, Const(weights), bias], **attributes)
    check(model, feeds, tolerance=TOLERANCE)


# What torch's interpolate is exported to: nearest, nearest-exact, bilinear, and with corners.
RESIZES = [
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("linear", "half_pixel", "floor"),
    ("linear", "pytorch_half_pixel", "floor"),
    ("linear", "align_corners", "floor"),
]


@pytest.mark.parametrize(("mode", "coordinates", "rounding"), RESIZES)
def test_any_resizing(mode, coordinates, rounding):
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": rounding,
    }
    for size, out in itertools.product(range(1, 9), range(1, 11)):
        sizes = Const(np.asarray([1, 2, out, 3]))
        model, feeds = single("Resize", [noise(1, 2, size, 3), None, None, sizes], **attributes)
        check(model, feeds, tolerance=TOLERANCE)
