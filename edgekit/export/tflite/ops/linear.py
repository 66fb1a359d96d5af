"""Matrix products, and the softmax that follows them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held, Order, plain
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Tensor

# From this version on runtimes know keepNumDims.
_KEEP_DIMS_VERSION = 5
# BATCH_MATMUL's kernel broadcasts up to this rank.
_MAX_RANK = 5


def _gemm(e: Emission, op: Op) -> Held:
    """Return alpha * A' B' + beta * C, a prime marking what transA and transB may transpose."""
    alpha = float(op.attributes.get("alpha", 1.0))
    a, b = _operand(e, op, 0, "transA"), _operand(e, op, 1, "transB")
    bias = _row(op, b)
    whole = bias is not None or not op.has(2)  # no operator of its own adds C
    activation = op.activation if whole else "NONE"
    if b.tensor.data is not None:
        weights = np.float32(alpha) * _constant(e, b).T
        product = _fully_connected(e, op, e.in_order(a, plain(2)), weights, bias, activation)
    else:
        product = e.in_order(_batch_matmul(e, a, b), plain(2))
        product = e.activate(_scale(e, product, alpha), activation)
    if whole:
        return Held(product, plain(2))
    addend = _scale(e, e.plain(op.value(2)), float(op.attributes.get("beta", 1.0)))
    return Held(e.binary("ADD", product, addend, activation=op.activation), plain(2))


def _operand(e: Emission, op: Op, index: int, flag: str) -> Held:
    """Input ``index``, transposed if attribute ``flag`` says so."""
    _check_float(op)
    held = e.held(op.value(index))
    return held.permuted((1, 0)) if op.attributes.get(flag, 0) else held


def _check_float(op: Op) -> None:
    for value in (op.value(0), op.value(1)):
        if value.dtype != np.float32:
            raise op.refusal(f"{value.name!r} is {value.dtype}", "multiply float32 matrices")


def _constant(e: Emission, held: Held) -> Array:
    data = e.in_order(held, plain(len(held.order))).data
    assert data is not None
    return data


def _row(op: Op, b: Held) -> Array | None:
    """Gemm's beta * C as the bias of FULLY_CONNECTED, None where it is not a constant row."""
    addend = op.inputs[2] if op.has(2) else None
    if addend is None or addend.data is None or b.tensor.data is None:
        return None
    outputs = b.shape[1]
    if addend.shape not in ((), (1,), (outputs,), (1, 1), (1, outputs)):
        return None
    beta = np.float32(op.attributes.get("beta", 1.0))
    return beta * np.broadcast_to(addend.data.reshape(-1), (outputs,))


def _scale(e: Emission, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else e.binary("MUL", x, factor)


def _matmul(e: Emission, op: Op) -> Held:
    """A (..., M, K) times B (..., K, N); a vector is a matrix of one row or column."""
    _check_float(op)
    a, b = op.value(0), op.value(1)
    shape = op.output().shape
    if max(len(a.shape), len(b.shape)) > _MAX_RANK:
        raise op.refusal(f"it multiplies stacks of more than {_MAX_RANK} axes", "merge axes first")
    if b.data is not None and b.data.ndim == 2 and len(a.shape) > 1:
        bias = op.constant(2, "bias").reshape(-1) if op.has(2) else None
        tensor = _fully_connected(e, op, e.plain(a), b.data.T, bias, op.activation)
        return Held(tensor, plain(len(shape)))
    first = e.reshape_value(e.held(a), a.shape if len(a.shape) > 1 else (1, *a.shape))
    second = e.reshape_value(e.held(b), b.shape if len(b.shape) > 1 else (*b.shape, 1))
    product = _batch_matmul(e, first, second)
    product = Held(e.activate(product.tensor, op.activation), product.order)
    return e.reshape_value(product, shape)


def _fully_connected(
    e: Emission, op: Op, x: Tensor, weights: Array, bias: Array | None, activation: str
) -> Tensor:
    """``x`` (..., I) times ``weights`` (O, I), plus ``bias`` (O)."""
    outputs = weights.shape[0]
    offset = np.zeros(outputs, np.float32) if bias is None else bias
    many = len(x.shape) > 2
    return e.op(
        "FULLY_CONNECTED",
        [x, e.constant(weights, f"{op.name}/weights"), e.constant(offset, f"{op.name}/bias")],
        (*x.shape[:-1], outputs),
        version=_KEEP_DIMS_VERSION if many else 1,
        keepNumDims=many,
        fusedActivationFunction=activation,
    )


def _batch_matmul(e: Emission, a: Held, b: Held) -> Held:
    """A matrix product; an operand stored with its last two axes swapped is read so.

    Mixing the channels of a flattened map, A (L, L) times B (L, HW), finds B as (HW, L): the
    result is then computed as B' A', which keeps the channels last. Not so where few rows of A meet
    a long B, as two tokens' queries meet all keys: bringing what comes of it back in order cost a
    tenth of a caption's step (measured).
    """
    (first, swapped_a), (second, swapped_b) = _matrix(e, a), _matrix(e, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = a.shape[-2], b.shape[-1]
    if swapped_b and math.prod(b.shape) > math.prod(a.shape) and 2 * rows >= a.shape[-1]:
        options: dict[str, Any] = {"adjX": False, "adjY": not swapped_a}
        tensor = e.op("BATCH_MATMUL", [second, first], (*batch, columns, rows), **options)
        return Held(tensor, _swapped(len(tensor.shape)))
    options = {"adjX": swapped_a, "adjY": swapped_b}
    tensor = e.op("BATCH_MATMUL", [first, second], (*batch, rows, columns), **options)
    return Held(tensor, plain(len(tensor.shape)))


def _matrix(e: Emission, held: Held) -> tuple[Tensor, bool]:
    """The tensor of ``held``, and whether its last two axes are swapped."""
    if held.order == _swapped(len(held.order)) and held.tensor.data is None:
        return held.tensor, True
    return e.in_order(held, plain(len(held.order))), False


def _swapped(rank: int) -> Order:
    return (*range(rank - 2), rank - 1, rank - 2)


def _softmax(code: str, **options: float) -> Emitter:
    """SOFTMAX works along the last axis of the tensor."""

    def emit(e: Emission, op: Op) -> Held:
        held, axis = e.held(op.value(0)), op.axis(-1)
        order = (*(each for each in held.order if each != axis), axis)
        x = e.in_order(held, order)
        return Held(e.unary(code, x, **options), order)

    return emit


EMITTERS: dict[str, Emitter] = {
    "Gemm": _gemm,
    "LogSoftmax": _softmax("LOG_SOFTMAX"),
    "MatMul": _matmul,
    "Softmax": _softmax("SOFTMAX", beta=1.0),
}
