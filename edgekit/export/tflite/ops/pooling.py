"""Pools. TFLite's average never counts padding, its maximum has none to speak of."""

from __future__ import annotations

import math

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops.windows import Pair, Window, window_of
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Tensor


def _max_pool(e: Emission, op: Op) -> Held:
    x, window = _input(e, op)
    size = (x.shape[1], x.shape[2])
    padding = window.padding(size)
    if padding is None:
        x = e.pad(x, ((0, 0), *window.reach(size), (0, 0)), -math.inf)
    tensor = _pool(e, "MAX_POOL_2D", x, window, window.output(size), padding, op.activation)
    return e.from_feature_map(tensor, len(op.value(0).shape))


def _average_pool(e: Emission, op: Op) -> Held:
    x, window = _input(e, op)
    size, rank = (x.shape[1], x.shape[2]), len(op.value(0).shape)
    padding, out = window.padding(size), window.output(size)
    counted = bool(op.attributes.get("count_include_pad", 0))
    if padding == "VALID" or (padding == "SAME" and not counted):
        tensor = _pool(e, "AVERAGE_POOL_2D", x, window, out, padding, op.activation)
        return e.from_feature_map(tensor, rank)
    x = e.pad(x, ((0, 0), *window.reach(size), (0, 0)))
    taps = math.prod(window.kernel)
    correction = (taps / _divisors(window, size, counted)).astype(np.float32)
    if np.all(correction == 1):
        tensor = _pool(e, "AVERAGE_POOL_2D", x, window, out, None, op.activation)
        return e.from_feature_map(tensor, rank)
    tensor = _pool(e, "AVERAGE_POOL_2D", x, window, out, None, "NONE")
    scale = e.constant(correction[None, :, :, None], f"{op.name}/taps")
    tensor = e.binary("MUL", tensor, scale, activation=op.activation)
    return e.from_feature_map(tensor, rank)


def _input(e: Emission, op: Op) -> tuple[Tensor, Window]:
    x = e.feature_map(op, op.value(0))
    kernel = tuple(int(size) for size in op.attributes["kernel_shape"])
    window = window_of(op, kernel, (x.shape[1], x.shape[2]))
    if window.dilation != (1, 1):
        raise op.refusal(
            f"its window is dilated by {window.dilation} and TFLite's pools are not",
            "use a stride instead, or a larger window",
        )
    return x, window


def _divisors(window: Window, size: Pair, counted: bool) -> Array:
    """Elements that each window's sum is divided by: (rows, columns).

    The padding counts if ``counted``; what ceil_mode adds behind it never does.
    """
    rows, columns = (_taps(window, size, counted, axis) for axis in (0, 1))
    return np.outer(rows, columns)


def _taps(window: Window, size: Pair, counted: bool, axis: int) -> Array:
    before, after = window.pads[axis] if counted else (0, 0)
    starts = np.arange(window.output(size)[axis]) * window.stride[axis] - window.pads[axis][0]
    ends = starts + window.kernel[axis]
    return np.minimum(ends, size[axis] + after) - np.maximum(starts, -before)


def _pool(
    e: Emission,
    code: str,
    x: Tensor,
    window: Window,
    out: Pair,
    padding: str | None,
    activation: str,
) -> Tensor:
    return e.op(
        code,
        [x],
        (x.shape[0], *out, x.shape[3]),
        padding=padding or "VALID",
        strideH=window.stride[0],
        strideW=window.stride[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
        fusedActivationFunction=activation,
    )


EMITTERS: dict[str, Emitter] = {
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
}
