"""Operators that only rearrange: most of them cost nothing once the order is tracked."""

from __future__ import annotations

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held, stored_shape
from edgekit.export.tflite.reader import Op
from edgekit.export.tflite.schema import Tensor

# XNNPACK takes SPLIT into so many equal parts.
_MAX_SPLIT = 4


def _same(e: Emission, op: Op) -> Held:
    return e.held(op.value(0))


def _reshape(e: Emission, op: Op) -> Held:
    return e.reshape_value(e.held(op.value(0)), op.output().shape)


def _transpose(e: Emission, op: Op) -> Held:
    held = e.held(op.value(0))
    backwards = range(len(held.order))[::-1]
    return held.permuted(tuple(int(axis) for axis in op.attributes.get("perm", backwards)))


def _concat(e: Emission, op: Op) -> Held:
    values = [op.value(i) for i in range(len(op.inputs))]
    tensors, order = e.together(values)
    return Held(e.concat(tensors, order.index(op.axis(0))), order)


def _split(e: Emission, op: Op) -> list[Held]:
    held, axis = e.held(op.value(0)), op.axis(0)
    stored, size = held.stored(axis), held.shape[axis]
    sizes = op.ints("split", 1) or _even_sizes(size, len(op.outputs))
    if len(set(sizes)) == 1 and 1 < len(sizes) <= _MAX_SPLIT and held.tensor.data is None:
        parts = _equal_parts(e, held.tensor, stored, len(sizes))
    else:
        begins = np.cumsum([0, *sizes])
        pieces = zip(begins, sizes, strict=False)
        parts = [e.slice_axis(held.tensor, stored, int(begin), n) for begin, n in pieces]
    return [Held(part, held.order) for part in parts]


def _even_sizes(size: int, count: int) -> list[int]:
    chunk = -(-size // count)
    return [min(chunk, size - chunk * i) for i in range(count)]


def _equal_parts(e: Emission, tensor: Tensor, axis: int, count: int) -> list[Tensor]:
    shape = tuple(n // count if i == axis else n for i, n in enumerate(tensor.shape))
    where = e.constant(np.asarray(axis, np.int32))
    return e.op_many("SPLIT", [where, tensor], [(shape, tensor.dtype)] * count, numSplits=count)


def _expand(e: Emission, op: Op) -> Held:
    shape = op.output().shape
    held = e.lifted(e.held(op.value(0)), len(shape))
    target = stored_shape(shape, held.order)
    if target == held.tensor.shape:
        return held
    return Held(
        e.op("BROADCAST_TO", [held.tensor, e.indices(target)], target, version=2), held.order
    )


def _tile(e: Emission, op: Op) -> Held:
    held = e.held(op.value(0))
    repeats = [int(n) for n in op.constant(1, "repeats").reshape(-1)]
    if all(n == 1 for n in repeats):
        return held
    shape = stored_shape(op.output().shape, held.order)
    factors = e.indices([repeats[axis] for axis in held.order])
    return Held(e.op("TILE", [held.tensor, factors], shape), held.order)


def _depth_to_space(e: Emission, op: Op) -> Held:
    """TFLite's is ONNX's mode DCR; in CRD the channels lie in another order."""
    block = int(op.attributes["blocksize"])
    x = e.feature_map(op, op.value(0))
    n, height, width, channels = x.shape
    if op.attributes.get("mode", "DCR") == "CRD":
        indices = np.arange(channels).reshape(-1, block * block).T.reshape(-1)
        x = e.take(x, 3, indices.tolist())
    shape = (n, height * block, width * block, channels // block**2)
    return e.from_feature_map(e.op("DEPTH_TO_SPACE", [x], shape, blockSize=block), 4)


def _space_to_depth(e: Emission, op: Op) -> Held:
    block = int(op.attributes["blocksize"])
    x = e.feature_map(op, op.value(0))
    n, height, width, channels = x.shape
    shape = (n, height // block, width // block, channels * block**2)
    return e.from_feature_map(e.op("SPACE_TO_DEPTH", [x], shape, blockSize=block), 4)


def _shape(e: Emission, op: Op) -> Held:
    """Shapes are static, so this is a constant."""
    dims = op.value(0).shape
    end = op.attributes.get("end")
    part = dims[op.attributes.get("start", 0) : len(dims) if end is None else end]
    return Held(e.constant(np.asarray(part, np.int64), op.name), (0,))


def _constant_of_shape(e: Emission, op: Op) -> Held:
    fill = op.attributes.get("value", np.zeros(1, np.float32))
    shape = op.output().shape
    data = np.full(shape, fill.reshape(-1)[0], fill.dtype)
    return Held(e.constant(data, op.name), tuple(range(len(shape))))


EMITTERS: dict[str, Emitter] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _same,
    "Expand": _expand,
    "Flatten": _reshape,
    "Identity": _same,
    "Reshape": _reshape,
    "Shape": _shape,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
