"""Transposed convolutions. TFLite's has neither groups nor dilation, and pads of its own."""

from __future__ import annotations

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops.convolution import bias_of, weights_of
from edgekit.export.tflite.ops.windows import Pair, Window, window_of
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Tensor

# From this version on runtimes know its bias.
_BIASED_VERSION = 3


def _conv_transpose(e: Emission, op: Op) -> Held:
    """Every tap that any window makes, without padding; then what ONNX's pads cut off."""
    x = e.feature_map(op, op.value(0))
    dense = _dense_transposed(weights_of(op), int(op.attributes.get("group", 1)))
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
    bias = bias_of(op, outputs)
    full = _full(size, window.stride, weights)
    before = [_cut_before(op, window, axis, full[axis], out[axis]) for axis in (0, 1)]
    if all(_is_same(size[i], window.stride[i], full[i], before[i], out[i]) for i in (0, 1)):
        return _transpose_conv(e, x, weights, bias, window, out, "SAME")
    beyond = [max(b + o - f, 0) for b, o, f in zip(before, out, full, strict=True)]
    late = any(beyond)  # a bias must reach what is padded behind, too
    early = np.zeros_like(bias) if late else bias
    tensor = _transpose_conv(e, x, weights, early, window, full, "VALID")
    tensor = e.pad(tensor, ((0, 0), (0, beyond[0]), (0, beyond[1]), (0, 0)))
    tensor = e.slice(tensor, (0, *before, 0), (x.shape[0], *out, outputs))
    return e.binary("ADD", tensor, e.constant(bias[None, None, None])) if late else tensor


def _full(size: Pair, stride: Pair, weights: Tensor) -> Pair:
    """Size of what all windows together cover."""
    height, width = weights.shape[1:3]
    return (size[0] - 1) * stride[0] + height, (size[1] - 1) * stride[1] + width


def _is_same(size: int, stride: int, full: int, before: int, out: int) -> bool:
    """Whether TFLite's SAME cuts off what ONNX does along an axis."""
    return out <= full and before == (full - out) // 2 and -(-out // stride) == size


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
        version=_BIASED_VERSION,
        padding=padding,
        strideH=window.stride[0],
        strideW=window.stride[1],
    )


EMITTERS: dict[str, Emitter] = {"ConvTranspose": _conv_transpose}
