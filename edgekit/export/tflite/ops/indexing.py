"""Parts of a tensor: slices, gathers and paddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held, Order, plain
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Array, Shape, Tensor

# ONNX's pad modes that repeat elements go by numpy's names.
_NUMPY_MODES: dict[str, Any] = {mode: mode for mode in ("edge", "reflect", "wrap")}


def _slice(e: Emission, op: Op) -> Held:
    held = e.held(op.value(0))
    ranges = _ranges(op, held.shape)
    tensor = held.tensor
    if all(r.step == 1 for r in ranges):
        stored = [ranges[axis] for axis in held.order]
        return Held(
            e.slice(tensor, [r.start for r in stored], [len(r) for r in stored]), held.order
        )
    if all(r.step > 0 for r in ranges):
        return Held(_strided(e, tensor, [ranges[axis] for axis in held.order]), held.order)
    for axis, wanted in enumerate(ranges):
        if wanted != range(held.shape[axis]):
            tensor = e.take(tensor, held.stored(axis), list(wanted))
    return Held(tensor, held.order)


def _ranges(op: Op, shape: Shape) -> list[range]:
    """What ``Slice`` takes along each axis; its clamping is Python's."""
    starts, ends = op.constant(1, "starts"), op.constant(2, "ends")
    count = starts.size
    axes = op.constant(3, "axes") if op.has(3) else np.arange(count)
    steps = op.constant(4, "steps") if op.has(4) else np.ones(count, np.int64)
    ranges = [range(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        ranges[axis] = range(shape[axis])[int(start) : int(end) : int(step)]
    return ranges


def _strided(e: Emission, tensor: Tensor, ranges: list[range]) -> Tensor:
    bounds = [[r.start for r in ranges], [r.stop for r in ranges], [r.step for r in ranges]]
    shape = tuple(len(r) for r in ranges)
    return e.op("STRIDED_SLICE", [tensor, *map(e.indices, bounds)], shape)


def _gather(e: Emission, op: Op) -> Held:
    held, axis, indices = e.held(op.value(0)), op.axis(0), op.value(1)
    stored = held.stored(axis)
    inserted = len(indices.shape)
    order = _gathered_order(held.order, axis, inserted)
    shape = held.tensor.shape[:stored] + indices.shape + held.tensor.shape[stored + 1 :]
    if indices.data is None:
        tensor = e.op("GATHER", [held.tensor, e.plain(indices)], shape, axis=stored)
    else:
        wanted = indices.data.reshape(-1) % held.shape[axis]  # ONNX counts from the end too
        tensor = e.reshape(e.take(held.tensor, stored, wanted.tolist()), shape)
    return Held(tensor, order)


def _gathered_order(order: Order, axis: int, inserted: int) -> Order:
    """``order`` after ``axis`` gave way to ``inserted`` axes."""
    result: list[int] = []
    for each in order:
        if each == axis:
            result += range(axis, axis + inserted)
        else:
            result.append(each if each < axis else each + inserted - 1)
    return tuple(result)


def _gather_nd(e: Emission, op: Op) -> Held:
    """Index tuples of length 1, which advanced indexing in torch becomes, are a Gather."""
    if op.attributes.get("batch_dims", 0):
        raise op.refusal("it has batch_dims", "use Gather")
    value, indices = op.value(0), op.value(1)
    if indices.data is None or indices.shape[-1] != 1:
        shape = op.output().shape
        tensor = e.op("GATHER_ND", [e.plain(value), e.plain(indices)], shape)
        return Held(tensor, plain(len(shape)))
    held, wanted = e.held(value), indices.data[..., 0]
    stored, order = held.stored(0), _gathered_order(held.order, 0, wanted.ndim)
    tensor = e.take(held.tensor, stored, (wanted.reshape(-1) % value.shape[0]).tolist())
    shape = held.tensor.shape[:stored] + wanted.shape + held.tensor.shape[stored + 1 :]
    return Held(e.reshape(tensor, shape), order)


def _pad(e: Emission, op: Op) -> Held:
    held = e.held(op.value(0))
    widths = _widths(op, len(held.order))
    mode = op.attributes.get("mode", "constant")
    tensor = held.tensor
    for axis, (before, after) in enumerate(widths):  # a negative width cuts off
        begin, end = max(-before, 0), held.shape[axis] - max(-after, 0)
        tensor = e.slice_axis(tensor, held.stored(axis), begin, end - begin)
    widths = [(max(before, 0), max(after, 0)) for before, after in widths]
    stored = [widths[axis] for axis in held.order]
    if mode == "constant":
        number = float(op.constant(2, "filler").reshape(())) if op.has(2) else 0.0
        return Held(e.pad(tensor, stored, number), held.order)
    for axis, (before, after) in enumerate(stored):
        if before or after:
            indices = _mirrored(mode, tensor.shape[axis], before, after)
            tensor = e.take(tensor, axis, indices.tolist())
    return Held(tensor, held.order)


def _widths(op: Op, rank: int) -> list[tuple[int, int]]:
    pads = [int(width) for width in op.constant(1, "pads")]
    axes = [int(axis) % rank for axis in op.constant(3, "axes")] if op.has(3) else range(rank)
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = pads[i], pads[i + len(pads) // 2]
    return widths


def _mirrored(mode: str, size: int, before: int, after: int) -> Array:
    """Indices of the elements that stand along a padded axis."""
    padded: Array = np.pad(np.arange(size), (before, after), mode=_NUMPY_MODES[mode])
    return padded


def _top_k(e: Emission, op: Op) -> list[Held]:
    """TOPK_V2 takes the largest along the last axis, sorted."""
    if not op.attributes.get("largest", 1):
        raise op.refusal("it asks for the smallest elements", "negate its input")
    held, axis = e.held(op.value(0)), op.axis(-1)
    order = (*(each for each in held.order if each != axis), axis)
    x = e.in_order(held, order)
    count = op.constant(1, "k").astype(np.int32).reshape(())
    shape = (*x.shape[:-1], int(count))
    values, indices = e.op_many(
        "TOPK_V2",
        [x, e.constant(count)],
        [(shape, x.dtype), (shape, np.dtype(np.int32))],
    )
    wide = e.op("CAST", [indices], shape, np.dtype(np.int64))
    return [Held(values, order), Held(wide, order)]


def _cumsum(e: Emission, op: Op) -> Held:
    held = e.held(op.value(0))
    axis = int(op.constant(1, "axis").reshape(())) % len(held.order)
    where = e.constant(np.asarray(held.stored(axis), np.int32))
    flags: dict[str, Any] = {
        name: bool(op.attributes.get(name, 0)) for name in ("exclusive", "reverse")
    }
    return Held(e.op("CUMSUM", [held.tensor, where], held.tensor.shape, **flags), held.order)


EMITTERS: dict[str, Emitter] = {
    "CumSum": _cumsum,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Slice": _slice,
    "TopK": _top_k,
}
