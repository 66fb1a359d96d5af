"""The TFLite graph while it is being built: what an emitter has at hand.

An emitter takes ``(Emission, Op)`` and returns the result as ``Held``, or a list of them.
It fetches its inputs in the order it needs (``feature_map``, ``plain``, ``in_order`` or just
``held``), adds operators with ``op``, and the small vocabulary below (``transpose``,
``reshape``, ``take``, ``slice``, ``pad``, ``activate``) never emits what has no effect:
constants are computed on the spot, a transposition that moves no data is a reshape, chains of
either collapse, and an operator emitted twice with the same inputs exists once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgekit.errors import GraphError
from edgekit.export.tflite.layout import (
    Held,
    Order,
    channels_last,
    moves_data,
    plain,
    reshaped_order,
    stored_shape,
)
from edgekit.export.tflite.reader import Graph, Op, Value, unsupported_dtype
from edgekit.export.tflite.schema import TENSOR_TYPES, Array, Operator, Shape, Tensor, pack

Emitter = Callable[["Emission", Op], Held | Sequence[Held]]

# GATHER along the last axis copies element by element. Below this mean length of contiguous
# runs, moving the axis to the front, gathering rows and moving it back is cheaper; above it
# SLICE + CONCATENATION is. Microseconds of slices against rows on x86 (AVX-512, LiteRT 2.3):
# 28x28x64 in runs of 32: 6.1, 8.2; of 16: 12.9, 9.7; 14x14x96 in runs of 24: 3.7, 3.8;
# 7x7x384 in runs of 96: 2.7, 4.6; 56x56x24 in runs of 12: 30, 12.
_LONG_RUN = 32

# Operators with two inputs that clamp their own result.
_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")


class Emission:
    """Operators emitted so far, and how each ONNX value is held."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._operators: list[Operator] = []
        self._held: dict[Value, Held] = {}
        self._constants: dict[tuple[str, Shape, bytes], Tensor] = {}
        self._emitted: dict[tuple[Any, ...], Tensor] = {}
        self._inputs = {name: self._input(name, value) for name, value in graph.inputs.items()}

    def _input(self, name: str, value: Value) -> Tensor:
        """Feature maps enter as NHWC, everything else as it is."""
        order = _interface_order(len(value.shape))
        tensor = Tensor(name, stored_shape(value.shape, order), value.dtype)
        self._held[value] = Held(tensor, order)
        return tensor

    # values ---------------------------------------------------------------------------

    def bind(self, op: Op, results: Sequence[Held]) -> None:
        """Record how the outputs of ``op`` are held."""
        for value, held in zip(op.outputs, results, strict=True):
            if value is None:
                continue
            if held.shape != value.shape or held.tensor.dtype != value.dtype:
                raise GraphError(
                    f"tflite: {op.type} {op.name!r} was lowered to {held.tensor.dtype} "
                    f"{held.shape}, but the graph says {value.name!r} is {value.dtype} "
                    f"{value.shape}: infer its shapes anew, or report this"
                )
            if held.tensor.source is not None:
                held.tensor.name = value.name  # what profilers and viewers show
            self._held[value] = held

    def held(self, value: Value) -> Held:
        """``value`` in whatever order it is at hand."""
        if value not in self._held:
            if value.data is None:
                raise GraphError(f"tflite: {value.name!r} is read before it is computed")
            self._held[value] = Held(self.constant(value.data, value.name), plain(value.data.ndim))
        return self._held[value]

    def in_order(self, held: Held, order: Order) -> Tensor:
        """The tensor of ``held`` with its axes stored in ``order``."""
        return self.transpose(held.tensor, tuple(held.stored(axis) for axis in order))

    def together(self, values: Sequence[Value]) -> tuple[list[Tensor], Order]:
        """``values`` broadcast against each other: equal rank, one order.

        The order is that of the largest value; of equals, a feature map decides.
        """
        rank = max(len(value.shape) for value in values)
        held = [self.lifted(self.held(value), rank) for value in values]

        def weight(candidate: Held) -> tuple[bool, int, bool]:
            variable = candidate.tensor.data is None
            size = int(np.prod(candidate.shape))
            return variable, size, candidate.order == channels_last(rank)

        order = max(held, key=weight).order
        return [self.in_order(each, order) for each in held], order

    def lifted(self, held: Held, rank: int) -> Held:
        """``held`` with axes of size 1 put in front until it has ``rank`` axes."""
        extra = rank - len(held.order)
        if not extra:
            return held
        tensor = self.reshape(held.tensor, (1,) * extra + held.tensor.shape)
        return Held(tensor, (*range(extra), *(axis + extra for axis in held.order)))

    def broadcast_to(self, value: Value, other: Held) -> Tensor:
        """``value`` such that it broadcasts against the tensor of ``other``."""
        return self.in_order(self.lifted(self.held(value), len(other.order)), other.order)

    def plain(self, value: Value) -> Tensor:
        """``value`` as ONNX has it."""
        return self.in_order(self.held(value), plain(len(value.shape)))

    def feature_map(self, op: Op, value: Value) -> Tensor:
        """``value`` as N, H, W, C; a one-dimensional N, C, W becomes N, 1, W, C."""
        rank = len(value.shape)
        if rank not in (3, 4):
            raise op.refusal(
                f"input {value.name!r} has {rank} axes and only 1-D and 2-D maps are lowered"
            )
        tensor = self.in_order(self.held(value), channels_last(rank))
        return (
            tensor if rank == 4 else self.reshape(tensor, (tensor.shape[0], 1, *tensor.shape[1:]))
        )

    def from_feature_map(self, tensor: Tensor, rank: int) -> Held:
        """N, H, W, C (N, 1, W, C for rank 3) as a value of ``rank`` axes."""
        if rank == 3:
            tensor = self.reshape(tensor, (tensor.shape[0], *tensor.shape[2:]))
        return Held(tensor, channels_last(rank))

    # tensors --------------------------------------------------------------------------

    def constant(self, data: Array, name: str = "const") -> Tensor:
        """A constant tensor; equal ones are stored once."""
        if data.dtype.name not in TENSOR_TYPES:
            raise unsupported_dtype(name, data.dtype.name)
        key = (data.dtype.name, data.shape, hashlib.sha256(data.tobytes()).digest())
        if key not in self._constants:
            # ascontiguousarray gives a scalar an axis: reshape takes it away again.
            stored = np.ascontiguousarray(data).reshape(data.shape)
            self._constants[key] = Tensor(name, data.shape, data.dtype, stored)
        return self._constants[key]

    def indices(self, values: Sequence[int] | Array) -> Tensor:
        """Axes, shapes, offsets: a constant int32 vector."""
        return self.constant(np.asarray(values, np.int32))

    def like(self, tensor: Tensor, number: float) -> Tensor:
        """``number`` as a constant that combines with ``tensor``."""
        return self.constant(np.full((1,) * len(tensor.shape), number, tensor.dtype))

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Shape,
        dtype: np.dtype[Any] | None = None,
        *,
        version: int = 1,
        **options: Any,
    ) -> Tensor:
        """Emit an operator with one output. ``dtype`` None: that of the first input."""
        if dtype is None:
            dtype = next(tensor.dtype for tensor in inputs if tensor is not None)
        key = (code, version, *map(id, inputs), shape, dtype.name, repr(sorted(options.items())))
        if key not in self._emitted:
            (self._emitted[key],) = self.op_many(
                code, inputs, [(shape, dtype)], version=version, **options
            )
        return self._emitted[key]

    def op_many(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[tuple[Shape, np.dtype[Any]]],
        *,
        version: int = 1,
        **options: Any,
    ) -> list[Tensor]:
        """Emit an operator with several outputs, given as shapes and dtypes."""
        operator = Operator(code, tuple(inputs), (), options, version)
        operator.outputs = tuple(
            Tensor(f"{code.lower()}_{len(self._operators)}", tuple(shape), dtype, source=operator)
            for shape, dtype in outputs
        )
        self._operators.append(operator)
        return list(operator.outputs)

    def unary(self, code: str, tensor: Tensor, **options: Any) -> Tensor:
        """An operator whose result has the shape of its input."""
        return self.op(code, [tensor], tensor.shape, **options)

    def binary(
        self,
        code: str,
        first: Tensor,
        second: Tensor | float,
        *,
        dtype: np.dtype[Any] | None = None,
        activation: str = "NONE",
    ) -> Tensor:
        """A broadcasting operator; a number stands for a constant of the first's dtype."""
        other = second if isinstance(second, Tensor) else self.like(first, second)
        shape = np.broadcast_shapes(first.shape, other.shape)
        if code in _ARITHMETIC:
            options: dict[str, Any] = {"fusedActivationFunction": activation}
            return self.op(code, [first, other], shape, dtype, **options)
        return self.activate(self.op(code, [first, other], shape, dtype), activation)

    # vocabulary -----------------------------------------------------------------------

    def transpose(self, tensor: Tensor, permutation: tuple[int, ...]) -> Tensor:
        """Axis ``i`` of the result is axis ``permutation[i]`` of ``tensor``."""
        shape = stored_shape(tensor.shape, permutation)
        if tensor.data is not None:
            return self.constant(np.transpose(tensor.data, permutation), tensor.name)
        if not moves_data(tensor.shape, permutation):
            return self.reshape(tensor, shape)
        if (made := _made_by(tensor, "TRANSPOSE")) is not None:
            before, first = made
            return self.transpose(before, tuple(int(first[axis]) for axis in permutation))
        return self.op("TRANSPOSE", [tensor, self.indices(permutation)], shape)

    def reshape(self, tensor: Tensor, shape: Shape) -> Tensor:
        """``tensor`` with the same elements under another shape."""
        if tensor.shape == shape:
            return tensor
        if tensor.data is not None:
            return self.constant(tensor.data.reshape(shape), tensor.name)
        if (made := _made_by(tensor, "RESHAPE")) is not None:
            return self.reshape(made[0], shape)
        return self.op("RESHAPE", [tensor, self.indices(shape)], shape, newShape=list(shape))

    def reshape_value(self, held: Held, shape: Shape) -> Held:
        """ONNX ``Reshape``: the order is kept as far as the shape allows."""
        if math.prod(held.shape) != math.prod(shape):
            raise GraphError(f"tflite: {held.tensor.name!r} cannot be reshaped to {shape}")
        before, after = reshaped_order(held.order, held.shape, shape)
        tensor = self.in_order(held, before)
        return Held(self.reshape(tensor, stored_shape(shape, after)), after)

    def slice(self, tensor: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """The box of ``size`` at ``begin``."""
        if tuple(size) == tensor.shape:
            return tensor
        if tensor.data is not None:
            box = tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))
            return self.constant(tensor.data[box], tensor.name)
        return self.op("SLICE", [tensor, self.indices(begin), self.indices(size)], tuple(size))

    def slice_axis(self, tensor: Tensor, axis: int, begin: int, size: int) -> Tensor:
        """``size`` elements from ``begin`` on along one axis."""
        begins = [begin if i == axis else 0 for i in range(len(tensor.shape))]
        sizes = [size if i == axis else s for i, s in enumerate(tensor.shape)]
        return self.slice(tensor, begins, sizes)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """``tensors`` side by side along ``axis``."""
        if len(tensors) == 1:
            return tensors[0]
        if all(tensor.data is not None for tensor in tensors):
            return self.constant(
                np.concatenate([t.data for t in tensors if t.data is not None], axis)
            )
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self.op("CONCATENATION", tensors, tuple(shape), axis=axis)

    def take(self, tensor: Tensor, axis: int, indices: Sequence[int]) -> Tensor:
        """The elements at constant ``indices`` along ``axis``, in the cheapest known form."""
        shape = tuple(len(indices) if i == axis else s for i, s in enumerate(tensor.shape))
        if tensor.data is not None:
            return self.constant(np.take(tensor.data, indices, axis), tensor.name)
        runs = contiguous_runs(indices)
        if len(runs) == 1 or len(indices) >= _LONG_RUN * len(runs):
            parts = [self.slice_axis(tensor, axis, begin, size) for begin, size in runs]
            return self.concat(parts, axis)
        rank = len(shape)
        if axis == rank - 1 and rank >= 3:
            there = (0, axis, *range(1, axis))
            back = (0, *range(2, rank), 1)
            return self.transpose(self.take(self.transpose(tensor, there), 1, indices), back)
        return self.op("GATHER", [tensor, self.indices(indices)], shape, axis=axis)

    def pad(self, tensor: Tensor, pads: Sequence[tuple[int, int]], number: float = 0.0) -> Tensor:
        """``tensor`` with ``number`` put around it: (before, after) for each axis."""
        if not any(before or after for before, after in pads):
            return tensor
        sizes = zip(tensor.shape, pads, strict=True)
        shape = tuple(size + before + after for size, (before, after) in sizes)
        widths = self.indices(np.asarray(pads))
        if number == 0.0:
            # One PAD per reader, never shared: XNNPACK takes it into the convolution after it,
            # and copies the map (30 us for 56 x 114 x 12) when two of them read it.
            (padded,) = self.op_many("PAD", [tensor, widths], [(shape, tensor.dtype)])
            return padded
        filler = self.constant(np.asarray([number], tensor.dtype))
        return self.op("PADV2", [tensor, widths, filler], shape)

    def activate(self, tensor: Tensor, activation: str) -> Tensor:
        """``activation`` as an operator of its own, for what cannot fuse it."""
        return tensor if activation == "NONE" else self.op(activation, [tensor], tensor.shape)

    # the file -------------------------------------------------------------------------

    def pack(self) -> bytes:
        """The finished file."""
        taken = {id(tensor) for tensor in self._inputs.values()}
        outputs: dict[str, Tensor] = {}
        for name, value in self._graph.outputs.items():
            tensor = self.in_order(self.held(value), _interface_order(len(value.shape)))
            if id(tensor) in taken or tensor.data is not None:
                tensor = self._copy(tensor, name)
            taken.add(id(tensor))
            outputs[name] = tensor
        return pack(self._operators, self._inputs, outputs)

    def _copy(self, tensor: Tensor, name: str) -> Tensor:
        """A tensor of its own: an output cannot be an input, a constant or another output."""
        shape = self.indices(tensor.shape)
        (copy,) = self.op_many(
            "RESHAPE",
            [tensor, shape],
            [(tensor.shape, tensor.dtype)],
            newShape=list(tensor.shape),
        )
        return copy


def _made_by(tensor: Tensor, code: str) -> tuple[Tensor, Array] | None:
    """Input and constant of the operator ``code`` if that is what computes ``tensor``."""
    if tensor.source is None or tensor.source.code != code:
        return None
    first, second = tensor.source.inputs[:2]
    if first is None or second is None or second.data is None:
        return None
    return first, second.data


def contiguous_runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """``indices`` as (begin, size) of stretches that count up by one.

    >>> contiguous_runs([2, 3, 4, 0, 1])
    [(2, 3), (0, 2)]
    """
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((int(index), 1))
    return runs


def _interface_order(rank: int) -> Order:
    """The order of graph inputs and outputs: four axes are a feature map."""
    return channels_last(rank) if rank == 4 else plain(rank)
