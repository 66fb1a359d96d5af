"""Matrix products, and the softmax that follows them."""

from __future__ import annotations

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held, plain
from edgekit.export.tflite.reader import Op, Value
from edgekit.export.tflite.schema import Array, Shape, Tensor

# From this version on runtimes know keepNumDims.
_KEEP_DIMS_VERSION = 5
# BATCH_MATMUL's kernel broadcasts up to this rank.
_MAX_RANK = 5


def _gemm(e: Emission, op: Op) -> Held:
    """Return alpha * A' B' + beta * C, a prime marking what transA and transB may transpose."""
    alpha = float(op.attributes.get("alpha", 1.0))
    beta = float(op.attributes.get("beta", 1.0))
    a = e.held(op.value(0))
    if op.attributes.get("transA", 0):
        a = a.permuted((1, 0))
    x = e.in_order(a, plain(2))
    b = op.value(1)
    transposed = bool(op.attributes.get("transB", 0))
    if b.data is None:
        product = _scale(e, _runtime_product(e, op, x, b, transposed), alpha)
        bias = None
    else:
        weights = np.float32(alpha) * (b.data if transposed else b.data.T)
        bias = _vector(op, beta, weights.shape[0])
        activation = op.activation if bias is not None or not op.has(2) else "NONE"
        product = _fully_connected(e, op, x, weights, bias, activation)
    if op.has(2) and bias is None:
        addend = _scale(e, e.plain(op.value(2)), beta)
        product = e.binary("ADD", product, addend, activation=op.activation)
    elif b.data is None:
        product = e.activate(product, op.activation)
    return Held(product, plain(2))


def _scale(e: Emission, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else e.binary("MUL", x, factor)


def _vector(op: Op, beta: float, outputs: int) -> Array | None:
    """Gemm's C as the bias of FULLY_CONNECTED, None if it is not a constant row."""
    addend = op.inputs[2] if op.has(2) else None
    if addend is None or addend.data is None or addend.data.size not in (1, outputs):
        return None
    if addend.data.ndim == 2 and addend.shape[0] != 1:
        return None
    return np.float32(beta) * np.broadcast_to(addend.data.reshape(-1), (outputs,))


def _runtime_product(e: Emission, op: Op, x: Tensor, b: Value, transposed: bool) -> Tensor:
    held = e.held(b).permuted((1, 0)) if transposed else e.held(b)
    return _batch_matmul(e, Held(x, plain(2)), held)


def _matmul(e: Emission, op: Op) -> Held:
    a, b = op.value(0), op.value(1)
    shape = op.output().shape
    if max(len(a.shape), len(b.shape)) > _MAX_RANK:
        raise op.refusal(f"it multiplies stacks of more than {_MAX_RANK} axes", "merge axes first")
    if b.data is not None and b.data.ndim == 2 and len(a.shape) > 1 and b.dtype == np.float32:
        bias = op.constant(2, "bias").reshape(-1) if op.has(2) else None
        tensor = _fully_connected(e, op, e.plain(a), b.data.T, bias, op.activation)
        return Held(tensor, plain(len(shape)))
    first, second = e.held(a), e.held(b)
    if len(a.shape) == 1:
        first = e.reshape_value(first, (1, *a.shape))
    if len(b.shape) == 1:
        second = e.reshape_value(second, (*b.shape, 1))
    tensor = e.activate(_batch_matmul(e, first, second), op.activation)
    return Held(e.reshape(tensor, shape), plain(len(shape)))


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


def _batch_matmul(e: Emission, a: Held, b: Held) -> Tensor:
    """A matrix product; one stored with its last two axes swapped is read so."""
    (first, swapped_a), (second, swapped_b) = _matrix(e, a), _matrix(e, b)
    shape = (*_batch(a.shape, b.shape), a.shape[-2], b.shape[-1])
    return e.op("BATCH_MATMUL", [first, second], shape, adjX=swapped_a, adjY=swapped_b)


def _batch(a: Shape, b: Shape) -> Shape:
    return tuple(np.broadcast_shapes(a[:-2], b[:-2]))


def _matrix(e: Emission, held: Held) -> tuple[Tensor, bool]:
    rank = len(held.order)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if held.order == swapped and held.tensor.data is None:
        return held.tensor, True
    return e.in_order(held, plain(rank)), False


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
