"""Every operator of the table: LiteRT against unoptimised ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.export.tflite.ops import EMITTERS
from tests.export.tflite.comparing import Const, check, noise, single

# max|a - b| / max|b|. Single operators: rounding of float32, and XNNPACK's approximations of
# exp, tanh and the like.
TOLERANCE = 1e-5


def case(*inputs: Any, outputs: int = 1, opset: int = 18, **attrs: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), "outputs": outputs, "opset": opset, **attrs}


def ints(*values: int) -> Const:
    return Const(np.asarray(values, np.int64))


MAP = noise(1, 6, 7, 9)  # a feature map
BATCH = noise(3, 4, 5, 6, seed=1)
ROW = noise(2, 5, 8, seed=2)  # three axes
MATRIX = noise(4, 6, seed=3)
POSITIVE = np.abs(noise(1, 4, 5, 6, seed=4)) + 0.1
FIVE = noise(2, 3, 4, 2, 5, seed=5)
FLAGS = noise(1, 4, 5, 6, seed=6) > 0
WHOLE = np.arange(24, dtype=np.int64).reshape(2, 3, 4) - 5


def unary(*values: Any, **attrs: Any) -> list[dict[str, Any]]:
    return [case(value, **attrs) for value in values or (MAP, MATRIX, FIVE)]


def binary(dtype: Any = np.float32) -> list[dict[str, Any]]:
    return [
        case(MAP.astype(dtype), noise(1, 6, 7, 9, seed=9).astype(dtype)),
        case(MAP.astype(dtype), Const(noise(6, 1, 1, seed=9).astype(dtype))),
        case(MAP.astype(dtype), noise(1, 6, 1, 1, seed=9).astype(dtype)),
        case(noise(9).astype(dtype), BATCH[:, :, :, :1].astype(dtype)),
        case(Const(noise(1, seed=9).astype(dtype)), ROW.astype(dtype)),
        case(ROW.astype(dtype), noise(5, 1, seed=9).astype(dtype)),
    ]


def logical() -> list[dict[str, Any]]:
    return [case(FLAGS, ~FLAGS), case(FLAGS, FLAGS[:, :1])]


def conv(x: Any, *weights: int, bias: bool = True, **attrs: Any) -> dict[str, Any]:
    extra = [Const(noise(weights[0], seed=8))] if bias else []
    return case(x, Const(noise(*weights, seed=7)), *extra, **attrs)


def pool(**attrs: Any) -> list[dict[str, Any]]:
    return [
        case(MAP, kernel_shape=[2, 2], strides=[2, 2], **attrs),
        case(MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], **attrs),
        case(MAP, kernel_shape=[3, 2], strides=[2, 3], pads=[0, 1, 2, 0], **attrs),
        case(MAP, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, **attrs),
        case(MAP, kernel_shape=[2, 3], strides=[3, 2], pads=[1, 1, 0, 1], ceil_mode=1, **attrs),
        case(MAP, kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2], **attrs),
        case(MAP, kernel_shape=[2, 2], auto_pad="SAME_LOWER", **attrs),
        case(MAP, kernel_shape=[7, 9], **attrs),
        case(ROW, kernel_shape=[3], strides=[2], pads=[1, 1], **attrs),
        case(BATCH, kernel_shape=[2, 2], pads=[1, 1, 1, 1], **attrs),
    ]


def reduction() -> list[dict[str, Any]]:
    return [
        case(POSITIVE, ints(2, 3)),
        case(POSITIVE, ints(2, 3), keepdims=0),
        case(POSITIVE, ints(1), keepdims=0),
        case(POSITIVE, ints(-1, -3)),
        case(POSITIVE),
        case(POSITIVE, keepdims=0),
        case(POSITIVE, noop_with_empty_axes=1),
        case(np.abs(FIVE), ints(1, 3), keepdims=0),
        case(np.abs(MATRIX), ints(1)),
    ]


def resize(*sizes: int, x: Any = MAP, **attrs: Any) -> dict[str, Any]:
    return case(x, None, None, ints(*x.shape[:2], *sizes), **attrs)


def scaled(*scales: float, x: Any = MAP, **attrs: Any) -> dict[str, Any]:
    return case(x, None, Const(np.asarray((1, 1, *scales), np.float32)), **attrs)


UP = (14, 18)
CASES: dict[str, list[dict[str, Any]]] = {
    "Abs": unary(),
    "Add": binary(),
    "And": logical(),
    "ArgMax": [
        case(MAP, axis=1),
        case(MAP, axis=1, keepdims=0),
        case(MATRIX, axis=-1, keepdims=0),
        case(ROW, axis=1),
    ],
    "ArgMin": [case(MAP, axis=1), case(MATRIX, axis=0, keepdims=0)],
    "AveragePool": [*pool(), *pool(count_include_pad=1)],
    "BatchNormalization": [
        case(x, *(Const(np.abs(noise(x.shape[1], seed=s)) + 0.1) for s in range(4)), epsilon=1e-3)
        for x in (MAP, MATRIX, ROW, FIVE)
    ],
    "Cast": [
        case(MAP * 3, to=6),
        case(FLAGS, to=1),
        case(WHOLE, to=1),
        case(WHOLE, to=6),
        case(MAP, to=1),
        case(MATRIX * 3, to=7),
        case(FLAGS, to=7),
    ],
    "Ceil": unary(),
    "Celu": [case(MAP), case(MAP, alpha=0.5)],
    "Clip": [
        case(MAP, Const(np.float32(0)), Const(np.float32(6))),
        case(MAP * 4, Const(np.float32(0)), Const(np.float32(6))),
        case(MAP, Const(np.float32(-1)), Const(np.float32(1))),
        case(MAP, Const(np.float32(0)), Const(np.float32(1))),
        case(MAP, Const(np.float32(0))),
        case(MAP, None, Const(np.float32(0.5))),
        case(MAP, Const(np.float32(-0.7)), Const(np.float32(0.3))),
        case(MAP, Const(np.float32(0)), Const(np.float32(0.3))),
        case(MAP, Const(np.float32(0.3)), Const(np.float32(-0.3))),
        case(MAP),
    ],
    "Concat": [
        case(MAP, MAP * 2, Const(noise(1, 2, 7, 9)), axis=1),
        case(MAP, MAP * 2, axis=2),
        case(MAP, MAP * 2, axis=-1),
        case(*(MAP * i for i in range(1, 9)), axis=1),
        case(MATRIX, MATRIX, axis=0),
        case(FIVE, FIVE, axis=2),
        case(MAP, axis=1),
        case(Const(noise(1, 2, 7, 9)), MAP, axis=1),
    ],
    "ConstantOfShape": [case(ints(2, 3, 4, 5)), case(ints(3))],
    "Conv": [
        conv(MAP, 5, 6, 3, 3),
        conv(MAP, 5, 6, 3, 3, bias=False, pads=[1, 1, 1, 1]),
        conv(MAP, 5, 6, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2]),
        conv(MAP, 5, 6, 3, 3, pads=[0, 1, 2, 0], strides=[2, 3]),
        conv(MAP, 5, 6, 1, 1),
        conv(MAP, 5, 6, 1, 1, strides=[2, 2]),
        conv(MAP, 5, 6, 3, 1, pads=[1, 0, 1, 0], strides=[2, 1]),
        conv(MAP, 5, 6, 1, 3, pads=[0, 1, 0, 1], strides=[1, 2]),
        conv(MAP, 5, 6, 3, 3, pads=[2, 2, 2, 2], dilations=[2, 2]),
        conv(MAP, 4, 3, 3, 3, pads=[1, 1, 1, 1], group=2),
        conv(MAP, 4, 3, 3, 3, pads=[2, 1, 2, 1], dilations=[2, 1], group=2),
        conv(MAP, 9, 2, 1, 1, group=3),
        conv(MAP, 6, 1, 3, 3, pads=[1, 1, 1, 1], group=6),
        conv(MAP, 12, 1, 3, 1, pads=[1, 0, 1, 0], strides=[2, 1], group=6),
        conv(MAP, 6, 1, 3, 3, pads=[2, 2, 2, 2], dilations=[2, 2], group=6),
        conv(MAP, 5, 6, 3, 3, auto_pad="SAME_UPPER", strides=[2, 2]),
        conv(MAP, 5, 6, 2, 2, auto_pad="SAME_LOWER"),
        conv(MAP, 5, 6, 3, 3, auto_pad="VALID"),
        conv(BATCH, 5, 4, 3, 3, pads=[1, 1, 1, 1]),
        conv(noise(1, 1, 8, 8), 4, 1, 3, 3),
        conv(ROW, 4, 5, 3, pads=[1, 1]),
        conv(ROW, 10, 1, 3, pads=[2, 1], strides=[2], group=5),
        conv(ROW, 4, 5, 3, pads=[0, 2], dilations=[2]),
    ],
    "ConvTranspose": [
        conv(MAP, 6, 5, 2, 2, bias=False, strides=[2, 2]),
        conv(MAP, 6, 5, 3, 3, bias=False),
        conv(MAP, 6, 5, 4, 4, bias=False, strides=[2, 2], pads=[1, 1, 1, 1]),
        conv(MAP, 6, 6, 4, 4, strides=[2, 2], pads=[1, 1, 1, 1]),
        conv(MAP, 6, 6, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        conv(MAP, 6, 6, 2, 2, strides=[3, 3], output_padding=[1, 2]),
        conv(MAP, 6, 6, 3, 2, strides=[2, 3], pads=[1, 0, 0, 1]),
        conv(MAP, 6, 3, 3, 3, strides=[2, 2], group=2, bias=False),
        conv(MAP, 6, 1, 3, 3, strides=[2, 2], group=6),
        conv(MAP, 6, 6, 3, 3, dilations=[2, 2], pads=[2, 2, 2, 2]),
        conv(MAP, 6, 6, 3, 3, strides=[2, 2], auto_pad="SAME_UPPER"),
        conv(MAP, 6, 6, 3, 3, strides=[2, 2], auto_pad="SAME_LOWER"),
        conv(MAP, 6, 6, 3, 3, strides=[2, 2], output_shape=[14, 18]),
        conv(BATCH, 4, 4, 2, 2, strides=[2, 2]),
        conv(ROW, 5, 5, 4, strides=[2], pads=[1, 1]),
    ],
    "Cos": unary(),
    "CumSum": [
        case(MATRIX, ints(1)),
        case(MAP, ints(1)),
        case(MATRIX, ints(0), exclusive=1, reverse=1),
    ],
    "DepthToSpace": [
        case(noise(1, 12, 3, 4), blocksize=2),
        case(noise(2, 12, 3, 4), blocksize=2, mode="CRD"),
        case(noise(1, 64, 3, 4), blocksize=2, mode="CRD"),
    ],
    "Div": [case(MAP, POSITIVE[:, :1, :1, :1]), case(ROW, Const(np.float32(3)))],
    "Dropout": [case(MAP)],
    "Elu": [case(MAP), case(MAP, alpha=0.5), case(MATRIX * 0.1)],
    "Equal": [case(WHOLE, WHOLE[::-1].copy()), case(np.round(MAP), np.round(MAP[:, ::-1].copy()))],
    "Erf": unary(MAP, MATRIX * 4),
    "Exp": unary(),
    "Expand": [
        case(noise(1, 6, 1, 1), ints(1, 6, 7, 9)),
        case(noise(6, 1, 1), ints(2, 6, 3, 4)),
        case(noise(1, 4), ints(3, 1)),
        case(MAP, ints(1, 1)),
        case(noise(5, 1, 4), ints(2, 3, 5, 2, 4)),
    ],
    "Flatten": [
        case(MAP),
        case(BATCH),
        case(noise(2, 5, 1, 1)),
        case(BATCH, axis=2),
        case(ROW, axis=0),
    ],
    "Floor": unary(),
    "Gather": [
        case(MAP, ints(3, 1, 0, 2, 5, 4), axis=1),
        case(MAP, ints(1, 2, 3, 4, 5, 0), axis=1),
        case(noise(1, 96, 4, 4), ints(*range(48, 96), *range(48)), axis=1),
        case(MAP, ints(-1, 0), axis=2),
        case(MAP, ints(2, 3, 4), axis=3),
        case(MAP, Const(np.asarray(2, np.int64)), axis=1),
        case(MAP, Const(np.asarray([[0, 1], [2, 3]], np.int64)), axis=1),
        case(ROW, ints(4, 0, 2), axis=1),
        case(MATRIX, ints(4, 0, 2), axis=1),
        case(noise(1, 6, 1, 1), ints(4, 0, 2), axis=1),
        case(Const(noise(10, 4)), np.asarray([[1, 9, 3]], np.int64)),
        case(Const(noise(10, 4)), np.asarray([[1, 9, 3]], np.int32)),
        case(MAP, np.asarray([1, 3], np.int64), axis=2),
        case(BATCH, ints(2, 0, 1), axis=0),
    ],
    "GatherND": [
        case(BATCH, Const(np.asarray([[2], [0], [1]], np.int64))),
        case(BATCH, Const(np.asarray([[2, 1], [0, 3]], np.int64))),
        case(MATRIX, np.asarray([[2, 1], [0, 3]], np.int32).astype(np.int64)),
    ],
    "Gelu": [*unary(opset=20), *unary(MAP, opset=20, approximate="tanh")],
    "Gemm": [
        case(MATRIX, Const(noise(6, 5)), Const(noise(5))),
        case(MATRIX, Const(noise(5, 6)), Const(noise(5)), transB=1, alpha=0.5, beta=2.0),
        case(MATRIX, Const(noise(4, 5)), transA=1),
        case(MATRIX, Const(noise(6, 5)), Const(noise(4, 5))),
        case(MATRIX, Const(noise(6, 5)), Const(noise(4, 1)), beta=0.5),
        case(MATRIX, Const(noise(6, 5)), Const(np.float32(0.5))),
        case(MATRIX, Const(noise(6, 5)), noise(5)),
        case(MATRIX, noise(6, 5), Const(noise(5))),
        case(MATRIX, noise(5, 6), noise(1, 5), transB=1, alpha=2.0, beta=0.5),
        case(Const(noise(4, 6)), noise(6, 5)),
    ],
    "GlobalAveragePool": [case(MAP), case(BATCH), case(ROW)],
    "GlobalMaxPool": [case(MAP), case(ROW)],
    "Greater": binary(),
    "GreaterOrEqual": binary(),
    "GroupNormalization": [
        case(MAP, Const(noise(6)), Const(noise(6, seed=1)), num_groups=3, opset=21, typed_as=0),
        case(BATCH, Const(noise(4)), Const(noise(4, seed=1)), num_groups=2, opset=21, typed_as=0),
    ],
    "HardSigmoid": [
        case(MAP * 3),
        case(MAP * 3, alpha=1 / 6, beta=0.5),
        case(MAP, alpha=0.7, beta=0.1),
        case(MAP * 3, alpha=1 / 6, beta=0.25),
    ],
    "HardSwish": unary(MAP * 4, MATRIX),
    "Identity": [case(MAP), case(MATRIX)],
    "InstanceNormalization": [
        case(MAP, Const(noise(6)), Const(noise(6, seed=1))),
        case(ROW, Const(noise(5)), Const(noise(5, seed=1)), epsilon=1e-3),
    ],
    "LayerNormalization": [
        case(ROW, Const(noise(8)), Const(noise(8, seed=1))),
        case(ROW, Const(noise(8))),
        case(MAP, Const(noise(7, 9)), Const(noise(7, 9, seed=1)), axis=2),
        case(MAP, Const(noise(6, 7, 9)), axis=1, epsilon=1e-3),
        case(ROW, noise(8), noise(8, seed=1)),
    ],
    "LeakyRelu": [case(MAP), case(MAP, alpha=0.3)],
    "Less": binary(),
    "LessOrEqual": binary(),
    "Log": unary(POSITIVE),
    "LogSoftmax": [case(MAP, axis=1), case(MATRIX), case(MAP, axis=2)],
    "MatMul": [
        case(MATRIX, Const(noise(6, 5))),
        case(ROW, Const(noise(8, 5))),
        case(MAP, Const(noise(9, 5))),
        case(FIVE, Const(noise(5, 3))),
        case(MATRIX, noise(6, 5)),
        case(ROW, noise(2, 8, 5)),
        case(ROW, noise(8, 5)),
        case(MAP, noise(1, 6, 9, 4)),
        case(MAP, noise(9, 4)),
        case(noise(2, 3, 1, 4, 5), noise(1, 2, 5, 3)),
        case(Const(noise(3, 4)), MATRIX),
        case(ROW, Const(noise(2, 8, 3))),
        case(noise(6), noise(6, 4)),
        case(MATRIX, noise(6)),
        case(MATRIX, Const(noise(6))),
        case(noise(5), noise(5)),
    ],
    "Max": [*binary(), case(MAP, MAP * 2, -MAP), case(MAP)],
    "MaxPool": [*pool(), case(-POSITIVE, kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "Mean": [case(MAP, MAP * 2, -3 * MAP), case(MAP)],
    "Min": binary(),
    "Mish": unary(opset=18),
    "Mul": binary(),
    "Neg": unary(),
    "Not": [case(FLAGS)],
    "Or": logical(),
    "PRelu": [
        case(MAP, Const(noise(6, 1, 1))),
        case(MAP, Const(noise(1))),
        case(MATRIX, Const(noise(6))),
        case(ROW, Const(noise(5, 1))),
        case(MAP, Const(noise(6, 7, 9))),
    ],
    "Pad": [
        case(MAP, ints(0, 0, 1, 2, 0, 0, 3, 4)),
        case(MAP, ints(0, 1, 0, 0, 0, 2, 0, 0), Const(np.float32(1.5))),
        case(MAP, ints(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
        case(MAP, ints(0, 0, 1, 2, 0, 0, 3, 1), mode="edge"),
        case(MAP, ints(1, 2, 1, 2), None, ints(2, 3)),
        case(MAP, ints(0, 0, -1, 2, 0, 0, 1, -2)),
        case(MATRIX, ints(1, 0, 0, 2)),
        case(ROW, ints(0, 0, 3, 0, 0, 3), mode="reflect"),
        case(MAP, ints(0, 0, 0, 0, 0, 0, 0, 0)),
        case(ROW, ints(0, 0, 2, 0, 0, 1), mode="wrap", opset=19),
    ],
    "Pow": [
        *(case(POSITIVE, Const(np.float32(p))) for p in (2, 3, 0.5, -0.5, 1, 1.7, -2)),
        case(MAP, Const(np.float32(2))),
        case(MAP, Const(np.int64(2))),
        case(POSITIVE, noise(1, 4, 5, 6)),
        case(POSITIVE, Const(noise(4, 1, 1))),
    ],
    "Reciprocal": unary(POSITIVE),
    "ReduceL1": reduction(),
    "ReduceL2": reduction(),
    "ReduceMax": reduction(),
    "ReduceMean": reduction(),
    "ReduceMin": reduction(),
    "ReduceProd": reduction(),
    "ReduceSum": reduction(),
    "ReduceSumSquare": reduction(),
    "Relu": unary(),
    "Reshape": [
        case(MAP, ints(1, 2, 3, 7, 9)),
        case(MAP, ints(1, 6, 63)),
        case(MAP, ints(0, -1)),
        case(BATCH, ints(3, 2, 2, 30)),
        case(BATCH, ints(12, 30)),
        case(MATRIX, ints(2, 2, 3, 2)),
        case(noise(1, 6, 1, 1), ints(6)),
        case(noise(6), ints(1, 6, 1, 1)),
        case(BATCH, ints(360)),
        case(WHOLE, ints(4, 6)),
    ],
    "Resize": [
        *(resize(*UP, coordinate_transformation_mode=m) for m in ("half_pixel", "asymmetric")),
        *(resize(11, 5, mode="nearest", nearest_mode=m) for m in ("floor", "ceil")),
        *(resize(11, 5, nearest_mode=m) for m in ("round_prefer_floor", "round_prefer_ceil")),
        *(
            resize(*size, mode="nearest", coordinate_transformation_mode=c, nearest_mode=m)
            for size in (UP, (3, 4), (10, 12))
            for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
            for m in ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")
        ),
        *(
            resize(*size, mode="linear", coordinate_transformation_mode=mode)
            for size in (UP, (3, 4), (11, 5), (1, 1))
            for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
            if not (size == (1, 1) and mode == "pytorch_half_pixel")
        ),
        scaled(2, 2),
        scaled(2, 2, mode="linear"),
        scaled(2, 3, x=BATCH, mode="linear"),
        case(ROW, None, None, ints(2, 5, 16), mode="linear"),
    ],
    "Round": [*unary(), case(np.asarray([[0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))],
    "Selu": unary(),
    "Shape": [case(MAP), case(MAP, start=1, end=3), case(MAP, start=-2)],
    "Sigmoid": unary(),
    "Sign": unary(),
    "Sin": unary(),
    "Slice": [
        case(MAP, ints(1), ints(5), ints(1)),
        case(MAP, ints(1, -4), ints(100, -1), ints(2, 3)),
        case(MAP, ints(0, 1), ints(7, 9), ints(2, 3), ints(2, 3)),
        case(MAP, ints(-1), ints(-100), ints(1), ints(-1)),
        case(MAP, ints(5), ints(-(2**63)), ints(3), ints(-2)),
        case(MATRIX, ints(1, 2), ints(3, 5)),
        case(FIVE, ints(1), ints(3), ints(2)),
        case(MAP, ints(0), ints(2**63 - 1), ints(1)),
    ],
    "Softmax": [case(MAP, axis=1), case(MATRIX), case(ROW, axis=-1), case(MAP, axis=2), case(FIVE)],
    "Softplus": [*unary(), case(MATRIX * 50)],
    "Softsign": unary(),
    "SpaceToDepth": [case(noise(1, 3, 4, 6), blocksize=2)],
    "Split": [
        case(MAP, outputs=3, num_outputs=3, axis=1),
        case(MAP, ints(1, 2, 3), outputs=3, axis=1),
        case(MAP, outputs=2, num_outputs=2, axis=2),
        case(noise(1, 8, 1, 1), outputs=4, num_outputs=4, axis=1),
        case(noise(1, 6, 2, 2), outputs=6, num_outputs=6, axis=1),
        case(MATRIX, ints(2, 2), outputs=2),
    ],
    "Sqrt": unary(POSITIVE),
    "Squeeze": [case(noise(1, 6, 1, 1), ints(2, 3)), case(noise(1, 6, 1, 5)), case(MAP, ints(0))],
    "Sub": binary(),
    "Sum": [case(MAP, MAP * 2, MAP * 3), case(MAP), case(MAP, Const(noise(6, 1, 1)))],
    "Tanh": unary(),
    "Tile": [
        case(MAP, ints(1, 2, 1, 3)),
        case(MATRIX, ints(2, 1)),
        case(MATRIX, ints(1, 1)),
        case(ROW, ints(1, 2, 2)),
    ],
    "TopK": [
        case(MATRIX, ints(3), outputs=2),
        case(MAP, ints(2), outputs=2, axis=1),
    ],
    "Transpose": [
        case(MAP, perm=[0, 2, 3, 1]),
        case(MAP, perm=[0, 1, 3, 2]),
        case(MATRIX),
        case(ROW, perm=[0, 2, 1]),
        case(FIVE, perm=[4, 0, 3, 1, 2]),
        case(noise(1, 6, 1, 1), perm=[0, 2, 1, 3]),
        case(noise(2, 3, 2, 3, 2, 2), perm=[0, 3, 1, 2, 5, 4]),
    ],
    "Unsqueeze": [case(MATRIX, ints(2, 3)), case(MATRIX, ints(0)), case(MAP, ints(2))],
    "Where": [
        case(FLAGS, noise(1, 4, 5, 6), noise(1, 4, 5, 6, seed=1)),
        case(FLAGS, Const(np.float32(-1e9)), noise(1, 4, 5, 6)),
        case(FLAGS[:, :, :1, :1], noise(1, 4, 5, 6), Const(noise(4, 1, 1))),
    ],
}

FLAT = [(op, i, row) for op, rows in CASES.items() for i, row in enumerate(rows)]


def test_every_operator_of_the_table_has_a_case():
    assert set(CASES) == set(EMITTERS)
    assert len(EMITTERS) == 93
    assert len(FLAT) == 553


@pytest.mark.parametrize(
    ("op", "row"), [(op, row) for op, _, row in FLAT], ids=[f"{o}-{i}" for o, i, _ in FLAT]
)
def test_litert_computes_what_onnxruntime_does(op, row):
    arguments = dict(row)
    inputs = arguments.pop("inputs")
    model, feeds = single(op, inputs, **arguments)
    check(model, feeds, tolerance=TOLERANCE)
