"""Reductions over axes: they take any order."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held, without_axes
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Tensor

# ONNX operator -> TFLite operator.
_PLAIN = {
    "ReduceMax": "REDUCE_MAX",
    "ReduceMean": "MEAN",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
    "ReduceSum": "SUM",
}

# Pools over all spatial axes.
_GLOBAL = {"GlobalAveragePool": "MEAN", "GlobalMaxPool": "REDUCE_MAX"}

Reduce = Callable[[Emission, Tensor, tuple[int, ...]], Tensor]


def reduce(e: Emission, code: str, tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``code`` over ``axes`` of ``tensor``; the axes stay, with size 1.

    XNNPACK takes MEAN with kept axes only, so dropping them is left to a reshape.
    """
    if not axes:
        return tensor
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(tensor.shape))
    return e.op(code, [tensor, e.indices(sorted(axes))], shape, keepDims=True)


def _reduction(reduced: Reduce) -> Emitter:
    def emit(e: Emission, op: Op) -> Held:
        held = e.held(op.value(0))
        axes = _axes(op)
        stored = tuple(held.stored(axis) for axis in axes)
        tensor = reduced(e, held.tensor, stored)
        if op.attributes.get("keepdims", 1):
            return Held(tensor, held.order)
        shape = tuple(s for axis, s in enumerate(tensor.shape) if axis not in stored)
        return Held(e.reshape(tensor, shape), without_axes(held.order, set(axes)))

    return emit


def _axes(op: Op) -> tuple[int, ...]:
    rank = len(op.value(0).shape)
    axes = op.ints("axes", 1)
    if axes:
        return tuple(axis % rank for axis in axes)
    return () if op.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))


def _plain(code: str) -> Emitter:
    return _reduction(lambda e, x, axes: reduce(e, code, x, axes))


def _sum_of_squares(e: Emission, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return reduce(e, "SUM", e.binary("MUL", x, x), axes)


def _length(e: Emission, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return e.unary("SQRT", _sum_of_squares(e, x, axes))


def _sum_of_sizes(e: Emission, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return reduce(e, "SUM", e.unary("ABS", x), axes)


def _global_pool(code: str) -> Emitter:
    def emit(e: Emission, op: Op) -> Held:
        held = e.held(op.value(0))
        axes = tuple(held.stored(axis) for axis in range(2, len(held.order)))
        return Held(reduce(e, code, held.tensor, axes), held.order)

    return emit


def _arg(code: str) -> Emitter:
    def emit(e: Emission, op: Op) -> Held:
        if op.attributes.get("select_last_index", 0):
            raise op.refusal("it asks for the last of equal elements and TFLite gives the first")
        held, axis = e.held(op.value(0)), op.axis(0)
        dropped, stored = without_axes(held.order, {axis}), held.stored(axis)
        shape = held.tensor.shape[:stored] + held.tensor.shape[stored + 1 :]
        dtype = op.output().dtype
        where = e.indices([stored])
        found = Held(e.op(code, [held.tensor, where], shape, dtype, outputType="INT64"), dropped)
        if not op.attributes.get("keepdims", 1):
            return found
        kept = tuple(1 if i == stored else size for i, size in enumerate(held.tensor.shape))
        return Held(e.reshape(found.tensor, kept), held.order)

    return emit


EMITTERS: dict[str, Emitter] = {
    **{name: _plain(code) for name, code in _PLAIN.items()},
    **{name: _global_pool(code) for name, code in _GLOBAL.items()},
    "ArgMax": _arg("ARG_MAX"),
    "ArgMin": _arg("ARG_MIN"),
    "ReduceL1": _reduction(_sum_of_sizes),
    "ReduceL2": _reduction(_length),
    "ReduceSumSquare": _reduction(_sum_of_squares),
}
