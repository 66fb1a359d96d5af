"""Convolutions. Weights are constant: O, kh, kw, I in TFLite; 1, kh, kw, O for depthwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops.windows import Pair, Window, window_of
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Tensor

# Operator versions from which old runtimes know these forms.
_GROUPED_VERSION = 6
_DILATED_DEPTHWISE_VERSION = 2
_BIASED_TRANSPOSE_VERSION = 3


def _conv(e: Emission, op: Op) -> Held:
    x = e.feature_map(op, op.value(0))
    weights = _weights(op)
    outputs, group = weights.shape[0], int(op.attributes.get("group", 1))
    window = window_of(op, weights.shape[2:], (x.shape[1], x.shape[2]))
    bias = e.constant(_bias(op, outputs), f"{op.name}/bias")
    x, padding = _padded(e, x, window)
    kernel = weights.reshape(*weights.shape[:2], *window.kernel)
    options = _options(op, window, padding)
    if group == 1 or group != x.shape[3]:
        tensor = _dense(e, op, x, kernel, bias, window, group, options)
    else:
        tensor = _depthwise(e, op, x, kernel, bias, window, options)
    return e.from_feature_map(tensor, len(op.value(0).shape))


def _weights(op: Op) -> Array:
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


def _bias(op: Op, outputs: int) -> Array:
    return op.constant(2, "bias") if op.has(2) else np.zeros(outputs, np.float32)


def _padded(e: Emission, x: Tensor, window: Window) -> tuple[Tensor, str]:
    size = (x.shape[1], x.shape[2])
    padding = window.padding(size)
    if padding is not None:
        return x, padding
    return e.pad(x, ((0, 0), *window.pads, (0, 0))), "VALID"


def _options(op: Op, window: Window, padding: str) -> dict[str, Any]:
    return {
        "padding": padding,
        "strideH": window.stride[0],
        "strideW": window.stride[1],
        "dilationHFactor": window.dilation[0],
        "dilationWFactor": window.dilation[1],
        "fusedActivationFunction": op.activation,
    }


def _shape(x: Tensor, window: Window, padding: str, channels: int) -> tuple[int, ...]:
    """Output shape; ``x`` holds the pads already unless they are SAME."""
    if padding == "SAME":
        rows, columns = (-(-n // s) for n, s in zip(x.shape[1:3], window.stride, strict=True))
    else:
        bare = Window(window.kernel, window.stride, window.dilation, ((0, 0), (0, 0)))
        rows, columns = bare.output((x.shape[1], x.shape[2]))
    return x.shape[0], rows, columns, channels


def _dense(
    e: Emission,
    op: Op,
    x: Tensor,
    kernel: Array,
    bias: Tensor,
    window: Window,
    group: int,
    options: dict[str, Any],
) -> Tensor:
    """CONV_2D, which has groups when the weights have fewer input channels than ``x``."""
    weights = e.constant(kernel.transpose(0, 2, 3, 1), f"{op.name}/weights")
    shape = _shape(x, window, str(options["padding"]), kernel.shape[0])
    version = _GROUPED_VERSION if group > 1 else 1
    return e.op("CONV_2D", [x, weights, bias], shape, version=version, **options)


def _depthwise(
    e: Emission,
    op: Op,
    x: Tensor,
    kernel: Array,
    bias: Tensor,
    window: Window,
    options: dict[str, Any],
) -> Tensor:
    """DEPTHWISE_CONV_2D: output channel c * multiplier + j, as in ONNX."""
    weights = e.constant(kernel.transpose(1, 2, 3, 0), f"{op.name}/weights")
    shape = _shape(x, window, str(options["padding"]), kernel.shape[0])
    version = _DILATED_DEPTHWISE_VERSION if window.dilation != (1, 1) else 1
    multiplier = kernel.shape[0] // x.shape[3]
    return e.op(
        "DEPTHWISE_CONV_2D",
        [x, weights, bias],
        shape,
        version=version,
        depthMultiplier=multiplier,
        **options,
    )


def _conv_transpose(e: Emission, op: Op) -> Held:
    """Every tap that any window makes, without padding; then what ONNX's pads cut off."""
    x = e.feature_map(op, op.value(0))
    dense = _dense_transposed(_weights(op), int(op.attributes.get("group", 1)))
    window = window_of(op, dense.shape[2:], (x.shape[1], x.shape[2]))
    kernel = _spread(dense.reshape(*dense.shape[:2], *window.kernel), window.dilation)
    weights = e.constant(kernel.transpose(1, 2, 3, 0), f"{op.name}/weights")
    wanted = op.output().shape[2:]
    out = wanted if len(wanted) == 2 else (1, *wanted)
    tensor = _upsampled(e, op, x, weights, window, (out[0], out[1]))
    return e.from_feature_map(tensor, len(op.value(0).shape))


def _dense_transposed(weights: Array, group: int) -> Array:
    """I, O / group, kh, kw as I, O, kh, kw with zeros between the groups: TFLite has none."""
    inputs, per_group = weights.shape[:2]
    dense = np.zeros((inputs, per_group * group, *weights.shape[2:]), np.float32)
    for g in range(group):
        rows = slice(g * inputs // group, (g + 1) * inputs // group)
        dense[rows, g * per_group : (g + 1) * per_group] = weights[rows]
    return dense


def _spread(kernel: Array, dilation: Pair) -> Array:
    """A dilated kernel written out, zeros between its taps: TFLite's is not dilated."""
    taps = [(size - 1) * step + 1 for size, step in zip(kernel.shape[2:], dilation, strict=True)]
    spread = np.zeros((*kernel.shape[:2], *taps), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = kernel
    return spread


def _upsampled(
    e: Emission, op: Op, x: Tensor, weights: Tensor, window: Window, out: Pair
) -> Tensor:
    """TRANSPOSE_CONV, cut or padded to ``out``, plus the bias."""
    size, outputs = (x.shape[1], x.shape[2]), weights.shape[0]
    bias = _bias(op, outputs)
    full = tuple(
        (n - 1) * s + k for n, s, k in zip(size, window.stride, weights.shape[1:3], strict=True)
    )
    before = [_cut_before(op, window, axis, full[axis], out[axis]) for axis in (0, 1)]
    same = all(
        before[axis] == max(full[axis] - out[axis], 0) // 2
        and out[axis] <= full[axis]
        and -(-out[axis] // window.stride[axis]) == size[axis]
        for axis in (0, 1)
    )
    if same:
        return _transpose_conv(e, x, weights, bias, window, out, "SAME")
    beyond = [max(b + o - f, 0) for b, o, f in zip(before, out, full, strict=True)]
    late = any(beyond)  # a bias must reach what is padded behind, too
    tensor = _transpose_conv(
        e, x, weights, np.zeros_like(bias) if late else bias, window, (full[0], full[1]), "VALID"
    )
    tensor = e.pad(tensor, ((0, 0), (0, beyond[0]), (0, beyond[1]), (0, 0)))
    tensor = e.slice(tensor, (0, *before, 0), (x.shape[0], *out, outputs))
    return e.binary("ADD", tensor, e.constant(bias[None, None, None])) if late else tensor


def _cut_before(op: Op, window: Window, axis: int, full: int, out: int) -> int:
    """How much of the front ONNX cuts off: its pads, or a share of what is too much."""
    auto = op.attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET" and "output_shape" not in op.attributes:
        return window.pads[axis][0]
    extra = max(full - out, 0)
    return extra // 2 if auto == "SAME_UPPER" else extra - extra // 2


def _transpose_conv(
    e: Emission, x: Tensor, weights: Tensor, bias: Array, window: Window, out: Pair, padding: str
) -> Tensor:
    shape = (x.shape[0], *out, weights.shape[0])
    return e.op(
        "TRANSPOSE_CONV",
        [e.indices(shape), weights, x, e.constant(bias)],
        shape,
        x.dtype,
        version=_BIASED_TRANSPOSE_VERSION,
        padding=padding,
        strideH=window.stride[0],
        strideW=window.stride[1],
    )


EMITTERS: dict[str, Emitter] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
