"""Normalisations, in primitive operators; a BatchNormalization that survives is a Mul and Add."""

from __future__ import annotations

import numpy as np

from edgekit.export.tflite.emission import Emission, Emitter
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops.reduction import reduce
from edgekit.export.tflite.reader import Op, Value
from edgekit.export.tflite.schema import Tensor


def _batch(e: Emission, op: Op) -> Held:
    if op.attributes.get("training_mode", 0):
        raise op.refusal("it is in training mode", "export the model in eval mode: model.eval()")
    names = ("scale", "offset", "mean", "variance")
    scale, offset, mean, variance = (
        op.constant(i + 1, name).astype(np.float64) for i, name in enumerate(names)
    )
    factor = scale / np.sqrt(variance + float(op.attributes.get("epsilon", 1e-5)))
    held = e.held(op.value(0))
    factors = _along(e, held, 1, factor)
    offsets = _along(e, held, 1, offset - mean * factor)
    scaled = e.binary("MUL", held.tensor, factors)
    return Held(e.binary("ADD", scaled, offsets, activation=op.activation), held.order)


def _along(e: Emission, held: Held, axis: int, vector: np.ndarray) -> Tensor:
    """A constant vector laid along ONNX axis ``axis`` of ``held``."""
    shape = [1] * len(held.order)
    shape[held.stored(axis)] = -1
    return e.constant(vector.astype(np.float32).reshape(shape))


def _layer(e: Emission, op: Op) -> Held:
    value = op.value(0)
    axes = tuple(range(op.axis(-1), len(value.shape)))
    held = _normalized(e, op, e.held(value), axes)
    return _scaled(e, op, held, [op.value(1), *([op.value(2)] if op.has(2) else [])])


def _instance(e: Emission, op: Op) -> Held:
    value = op.value(0)
    rank = len(value.shape)
    held = _normalized(e, op, e.held(value), tuple(range(2, rank)))
    return _scaled(e, op, held, [_channelwise(op, i, rank) for i in (1, 2)])


def _group(e: Emission, op: Op) -> Held:
    """[N, C, ...] seen as [N, groups, C / groups, ...]; opset 21 scales each channel."""
    value, groups = op.value(0), int(op.attributes["num_groups"])
    rank, channels = len(value.shape), value.shape[1]
    split = (value.shape[0], groups, channels // groups, *value.shape[2:])
    held = _normalized(e, op, e.reshape_value(e.held(value), split), tuple(range(2, rank + 1)))
    held = e.reshape_value(held, value.shape)
    return _scaled(e, op, held, [_channelwise(op, i, rank) for i in (1, 2)])


def _channelwise(op: Op, index: int, rank: int) -> Value:
    """Scale or offset as a value that broadcasts; one for each group is repeated."""
    vector = op.constant(index, ("scale", "offset")[index - 1])
    vector = np.repeat(vector, op.value(0).shape[1] // vector.size)
    data = vector.reshape(-1, *(1,) * (rank - 2))
    return Value(op.value(index).name, data.shape, data.dtype, data)


def _normalized(e: Emission, op: Op, held: Held, axes: tuple[int, ...]) -> Held:
    """(x - mean) / sqrt(variance + epsilon) over ONNX ``axes``."""
    stored = tuple(held.stored(axis) for axis in axes)
    centred = e.binary("SUB", held.tensor, reduce(e, "MEAN", held.tensor, stored))
    variance = reduce(e, "MEAN", e.binary("MUL", centred, centred), stored)
    epsilon = float(op.attributes.get("epsilon", 1e-5))
    factor = e.unary("RSQRT", e.binary("ADD", variance, epsilon))
    return Held(e.binary("MUL", centred, factor), held.order)


def _scaled(e: Emission, op: Op, held: Held, vectors: list[Value]) -> Held:
    """Times the first of ``vectors``, plus the second, both constant or computed."""
    tensor = held.tensor
    for code, vector in zip(("MUL", "ADD"), vectors, strict=False):
        tensor = e.binary(code, tensor, e.broadcast_to(vector, held))
    return Held(tensor, held.order)


EMITTERS: dict[str, Emitter] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
}
