"""Convolutions. Weights are constant: O, kh, kw, I in TFLite; 1, kh, kw, O for depthwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops.windows import Window, window_of
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array

# Operator versions from which old runtimes know these forms.
_GROUPED_VERSION = 6
_DILATED_DEPTHWISE_VERSION = 2

_Form = tuple[str, int, Array, dict[str, Any]]  # operator, version, weights, own options


def _conv(e: Emission, op: Op) -> Held:
    x = e.feature_map(op, op.value(0))
    weights = weights_of(op)
    group = int(op.attributes.get("group", 1))
    size = (x.shape[1], x.shape[2])
    window = window_of(op, weights.shape[2:], size)
    form = _depthwise if group == x.shape[3] > 1 else _dense
    code, version, kernel, options = form(
        weights.reshape(*weights.shape[:2], *window.kernel), window, group
    )
    padding = window.padding(size)
    if padding is None:
        x = e.pad(x, ((0, 0), *window.pads, (0, 0)))
    tensor = e.op(
        code,
        [
            x,
            e.constant(kernel, f"{op.name}/weights"),
            e.constant(bias_of(op, weights.shape[0]), f"{op.name}/bias"),
        ],
        (x.shape[0], *window.output(size), weights.shape[0]),
        version=version,
        padding=padding or "VALID",
        strideH=window.stride[0],
        strideW=window.stride[1],
        dilationHFactor=window.dilation[0],
        dilationWFactor=window.dilation[1],
        fusedActivationFunction=op.activation,
        **options,
    )
    return e.from_feature_map(tensor, len(op.value(0).shape))


def _dense(kernel: Array, window: Window, group: int) -> _Form:
    """CONV_2D; it is grouped when its weights have fewer input channels than the map."""
    version = _GROUPED_VERSION if group > 1 else 1
    return "CONV_2D", version, kernel.transpose(0, 2, 3, 1), {}


def _depthwise(kernel: Array, window: Window, group: int) -> _Form:
    """DEPTHWISE_CONV_2D; output channel c * multiplier + j, as in ONNX."""
    version = _DILATED_DEPTHWISE_VERSION if window.dilation != (1, 1) else 1
    options = {"depthMultiplier": kernel.shape[0] // group}
    return "DEPTHWISE_CONV_2D", version, kernel.transpose(1, 2, 3, 0), options


def weights_of(op: Op) -> Array:
    """Weights of a convolution, which must be constant."""
    weights = op.value(1)
    if weights.data is None:
        raise op.refusal(
            f"its weights {weights.name!r} are computed at run time and TFLite's convolutions "
            "take constant ones",
            "write it as a convolution with constant weights plus a small dynamic part made of "
            "1x1 convolutions and MatMul",
        )
    if op.value(0).dtype != np.float32 or weights.dtype != np.float32:
        raise op.refusal(f"it is not float32 but {op.value(0).dtype} with {weights.dtype} weights")
    return weights.data


def bias_of(op: Op, outputs: int) -> Array:
    """Bias of a convolution, zeros where it has none."""
    return op.constant(2, "bias") if op.has(2) else np.zeros(outputs, np.float32)


EMITTERS: dict[str, Emitter] = {"Conv": _conv}
