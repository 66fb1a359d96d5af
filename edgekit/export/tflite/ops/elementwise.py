"""Operators that work element by element: they take any order and keep it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.fuse import clip_bounds
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Tensor

# One input, one TFLite operator.
_UNARY = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "HardSwish": "HARD_SWISH",
    "Log": "LOG",
    "Neg": "NEG",
    "Not": "LOGICAL_NOT",
    "Round": "ROUND",
    "Sigmoid": "LOGISTIC",
    "Sign": "SIGN",
    "Sin": "SIN",
    "Sqrt": "SQRT",
    "Tanh": "TANH",
}

# Two inputs, or more taken from the left, that broadcast.
_BROADCASTING = {
    "Add": "ADD",
    "And": "LOGICAL_AND",
    "Div": "DIV",
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Max": "MAXIMUM",
    "Min": "MINIMUM",
    "Mul": "MUL",
    "Or": "LOGICAL_OR",
    "Sub": "SUB",
    "Sum": "ADD",
}

# Clip bounds that are an operator; all others are MAXIMUM and MINIMUM. RELU_0_TO_1 is left
# out: XNNPACK does not take it, and old runtimes do not know it.
_CLIPS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}

Formula = Callable[[Emission, Op, Tensor], Tensor]


def _unary(code: str) -> Emitter:
    return _formula(lambda e, op, x: e.unary(code, x))


def _formula(formula: Formula) -> Emitter:
    """An emitter for what is computed from one tensor, whatever its order."""

    def emit(e: Emission, op: Op) -> Held:
        held = e.held(op.value(0))
        return Held(formula(e, op, held.tensor), held.order)

    return emit


def _broadcasting(code: str) -> Emitter:
    return lambda e, op: _combined(e, op, code)


def _combined(e: Emission, op: Op, code: str) -> Held:
    """All inputs of ``op``, combined from the left; the last step clamps the result."""
    tensors, order = e.together([op.value(i) for i in range(len(op.inputs))])
    *head, last = tensors
    if not head:
        return Held(e.activate(last, op.activation), order)
    result = functools.reduce(lambda a, b: e.binary(code, a, b), head)
    dtype = op.output().dtype
    return Held(e.binary(code, result, last, dtype=dtype, activation=op.activation), order)


def _mean(e: Emission, op: Op) -> Held:
    total = _combined(e, op, "ADD")
    return Held(e.binary("MUL", total.tensor, 1 / len(op.inputs)), total.order)


def _where(e: Emission, op: Op) -> Held:
    (condition, *choices), order = e.together([op.value(i) for i in range(3)])
    shape = np.broadcast_shapes(condition.shape, *(choice.shape for choice in choices))
    return Held(e.op("SELECT_V2", [condition, *choices], shape, choices[0].dtype), order)


def _pow(e: Emission, op: Op) -> Held:
    exponent = op.value(1)
    held = e.held(op.value(0))
    if exponent.data is not None and exponent.data.size == 1:
        return Held(_power(e, held.tensor, float(exponent.data.reshape(()))), held.order)
    if exponent.dtype != op.value(0).dtype:
        raise op.refusal("base and exponent differ in dtype", "cast the exponent")
    return _combined(e, op, "POW")


def _power(e: Emission, x: Tensor, exponent: float) -> Tensor:
    # The forms that need no logarithm are exact and take negative bases.
    if exponent == 2.0:
        return e.binary("MUL", x, x)
    if exponent == 3.0:
        return e.binary("MUL", e.binary("MUL", x, x), x)
    simple = {1.0: None, 0.5: "SQRT", -0.5: "RSQRT"}
    if exponent in simple:
        code = simple[exponent]
        return x if code is None else e.unary(code, x)
    return e.binary("POW", x, exponent)


def _clip(e: Emission, op: Op, x: Tensor) -> Tensor:
    return _clamp(e, x, *clip_bounds(op))


def _clamp(e: Emission, x: Tensor, low: float, high: float) -> Tensor:
    if (low, high) in _CLIPS and x.dtype == np.float32:
        return e.unary(_CLIPS[low, high], x)
    if low == 0.0 and x.dtype == np.float32:
        x = e.unary("RELU", x)
    elif low != -math.inf:
        x = e.binary("MAXIMUM", x, low)
    return x if high == math.inf else e.binary("MINIMUM", x, high)


def _hard_sigmoid(e: Emission, op: Op, x: Tensor) -> Tensor:
    slope = float(op.attributes.get("alpha", 0.2))
    offset = float(op.attributes.get("beta", 0.5))
    if np.float32(slope) == np.float32(1 / 6):  # relu6(x + 3) / 6, the form of its definition
        clamped = e.binary("ADD", x, 6 * offset, activation="RELU6")
        return e.binary("MUL", clamped, 1 / 6)
    return _clamp(e, e.binary("ADD", e.binary("MUL", x, slope), offset), 0.0, 1.0)


def _leaky_relu(e: Emission, op: Op, x: Tensor) -> Tensor:
    return e.unary("LEAKY_RELU", x, alpha=float(op.attributes.get("alpha", 0.01)))


def _elu(e: Emission, op: Op, x: Tensor) -> Tensor:
    """max(x, 0) + alpha * (exp(min(x, 0)) - 1); ELU itself is the case alpha = 1."""
    return _scaled_elu(e, x, float(op.attributes.get("alpha", 1.0)), 1.0)


def _selu(e: Emission, op: Op, x: Tensor) -> Tensor:
    alpha = float(op.attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(op.attributes.get("gamma", 1.05070102214813232421875))
    return e.binary("MUL", _scaled_elu(e, x, alpha, 1.0), gamma)


def _celu(e: Emission, op: Op, x: Tensor) -> Tensor:
    alpha = float(op.attributes.get("alpha", 1.0))
    return _scaled_elu(e, x, alpha, alpha)


def _scaled_elu(e: Emission, x: Tensor, alpha: float, width: float) -> Tensor:
    """max(x, 0) + alpha * (exp(min(x, 0) / width) - 1)."""
    if alpha == width == 1.0:
        return e.unary("ELU", x)
    negative = e.binary("MINIMUM", x, 0.0)
    if width != 1.0:
        negative = e.binary("MUL", negative, 1 / width)
    # ELU of a negative number is exp(x) - 1 without the cancellation near 0.
    return e.binary("ADD", e.unary("RELU", x), e.binary("MUL", e.unary("ELU", negative), alpha))


def _gelu(e: Emission, op: Op, x: Tensor) -> Tensor:
    approximate = op.attributes.get("approximate", "none")
    return e.unary("GELU", x, approximate=approximate == "tanh")


def _softplus(e: Emission, op: Op, x: Tensor) -> Tensor:
    """log(1 + exp x) as max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    decay = e.unary("EXP", e.unary("NEG", e.unary("ABS", x)))
    return e.binary("ADD", e.unary("RELU", x), e.unary("LOG", e.binary("ADD", decay, 1.0)))


def _softsign(e: Emission, op: Op, x: Tensor) -> Tensor:
    return e.binary("DIV", x, e.binary("ADD", e.unary("ABS", x), 1.0))


def _mish(e: Emission, op: Op, x: Tensor) -> Tensor:
    return e.binary("MUL", x, e.unary("TANH", _softplus(e, op, x)))


def _reciprocal(e: Emission, op: Op, x: Tensor) -> Tensor:
    return e.binary("DIV", e.like(x, 1.0), x)


# Abramowitz and Stegun 7.1.26: |error| <= 1.5e-7, about one unit in the last place of float32.
_ERF_SCALE = 0.3275911
_ERF_COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _erf(e: Emission, op: Op, x: Tensor) -> Tensor:
    """sign(x) * (1 - poly(t) * exp(-x * x)), t = 1 / (1 + p * |x|)."""
    size = e.unary("ABS", x)
    t = e.binary("DIV", e.like(x, 1.0), e.binary("ADD", e.binary("MUL", size, _ERF_SCALE), 1.0))
    poly: Tensor = e.like(x, 0.0)
    for coefficient in _ERF_COEFFICIENTS:
        poly = e.binary("MUL", e.binary("ADD", poly, coefficient), t)
    tail = e.binary("MUL", poly, e.unary("EXP", e.unary("NEG", e.binary("MUL", x, x))))
    return e.binary("MUL", e.unary("SIGN", x), e.binary("SUB", e.like(x, 1.0), tail))


def _prelu(e: Emission, op: Op) -> Held:
    """max(x, 0) + slope * min(x, 0); a slope for each channel is PRELU itself."""
    (x, slope), order = e.together([op.value(0), op.value(1)])
    channels = x.shape[-1]
    if len(x.shape) == 4 and slope.data is not None and slope.shape == (1, 1, 1, channels):
        return Held(e.op("PRELU", [x, e.reshape(slope, (1, 1, channels))], x.shape), order)
    negative = e.binary("MUL", e.binary("MINIMUM", x, 0.0), slope)
    return Held(e.binary("ADD", e.unary("RELU", x), negative), order)


def _cast(e: Emission, op: Op, x: Tensor) -> Tensor:
    target = op.output().dtype
    if x.dtype == target:
        return x
    if x.data is not None:
        return e.constant(x.data.astype(target), x.name)
    return e.op("CAST", [x], x.shape, target)


EMITTERS: dict[str, Emitter] = {
    **{name: _unary(code) for name, code in _UNARY.items()},
    **{name: _broadcasting(code) for name, code in _BROADCASTING.items()},
    "Cast": _formula(_cast),
    "Celu": _formula(_celu),
    "Clip": _formula(_clip),
    "Elu": _formula(_elu),
    "Erf": _formula(_erf),
    "Gelu": _formula(_gelu),
    "HardSigmoid": _formula(_hard_sigmoid),
    "LeakyRelu": _formula(_leaky_relu),
    "Mean": _mean,
    "Mish": _formula(_mish),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _formula(_reciprocal),
    "Relu": _formula(_clip),
    "Selu": _formula(_selu),
    "Softplus": _formula(_softplus),
    "Softsign": _formula(_softsign),
    "Where": _where,
}
