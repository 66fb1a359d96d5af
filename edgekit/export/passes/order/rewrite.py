"""Rebuild a graph so that every value is stored in a given order of channels. Exact for any order.

A value ``v`` with order ``o`` is stored as ``v[:, o]``. Weights and constants are stored in the
orders of what they stand beside; where an operand is wanted in another order than it is stored
in, a permutation is put in between. Which orders are good is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit.errors import GraphError
from edgekit.export.passes.costs import Costs
from edgekit.export.passes.graph import (
    Array,
    Builder,
    constant,
    dtype,
    shape,
)
from edgekit.export.passes.linear import Linear, as_linear
from edgekit.export.passes.movement import select_channels
from edgekit.export.passes.order.relations import (
    Relation,
    channels,
    relation,
    reorder_constant,
)
from edgekit.export.passes.permutations import permutation


@dataclass(frozen=True)
class Orders:
    """How values are stored.

    Attributes:
        stored: order per value; a value that is not in it is stored in its true order.
        fed: per linear node, the order in which it reads its operand; a node that is not in it
            reads the operand as it is stored.
        written: per linear node, the order in which it computes its result, before a
            permutation brings that into the order it is stored in; default: as it is stored.
        costs: which permutations are Slices and a Concat; None: all are Gathers.
    """

    stored: Mapping[ir.Value, Array]
    fed: Mapping[ir.Node, Array] = field(default_factory=dict)
    written: Mapping[ir.Node, Array] = field(default_factory=dict)
    costs: Costs | None = None

    def of(self, value: ir.Value) -> Array:
        order = self.stored.get(value)
        return np.arange(channels(value)) if order is None else order


def moves(have: Array, want: Array) -> Array:
    """``index`` with ``have[index] == want``: where the wanted channels are stored."""
    inverse = np.empty_like(have)
    inverse[have] = np.arange(len(have))
    return inverse[want]


def _true(order: Array) -> bool:
    return bool((order == np.arange(len(order))).all())


def runs(index: Array) -> list[tuple[int, int]]:
    """``index`` as contiguous pieces (start, stop)."""
    cuts = np.flatnonzero(np.diff(index) != 1)
    starts, lasts = index[[0, *(cuts + 1)]].tolist(), index[[*cuts, -1]].tolist()
    return [(start, last + 1) for start, last in zip(starts, lasts, strict=True)]


def finest_groups(linear: Linear, fed: Array, stored: Array) -> int:
    """The largest number of groups in which a convolution can run on these orders.

    Group k of the result reads the k-th part of the operand and writes the k-th part of the
    output; 1 (dense, with zeros) is always possible.
    """
    reads = fed // (linear.inputs // linear.groups)  # group of each stored input channel
    writes = stored // (linear.outputs // linear.groups)
    for groups in range(linear.groups, 1, -1):
        if linear.groups % groups or linear.inputs % groups or linear.outputs % groups:
            continue
        part_read = _part_of_group(reads, groups, linear.groups)
        part_written = _part_of_group(writes, groups, linear.groups)
        if part_read is None or part_written is None:
            continue
        if np.array_equal(part_read, part_written):
            return groups
    return 1


def _part_of_group(group: Array, parts: int, groups: int) -> Array | None:
    """Which of the equal parts holds each group; None if a group is in several."""
    part = np.arange(len(group)) * parts // len(group)
    found = np.full(groups, -1)
    found[group] = part
    return found if np.array_equal(found[group], part) else None


def reorder_linear(
    builder: Builder, linear: Linear, source: ir.Value, fed: Array, stored: Array
) -> ir.Value:
    """``linear`` on an operand in order ``fed``, with its result in order ``stored``."""
    groups = finest_groups(linear, fed, stored)
    rows, columns = linear.outputs, linear.inputs
    per_old, per_new = columns // linear.groups, columns // groups
    weight = np.zeros((rows, per_new, *linear.weight.shape[2:]))
    position = moves(fed, np.arange(columns))  # where each true input channel is stored
    old_group = stored // (rows // linear.groups)
    first_new = np.arange(rows) // (rows // groups) * per_new
    for j in range(per_old):
        channel = old_group * per_old + j
        weight[np.arange(rows), position[channel] - first_new] = linear.weight[stored, j]
    return linear.rebuild(builder, source, weight, linear.bias[stored], groups)


class Rewriter:
    """Rebuilds one graph, node by node in its order."""

    def __init__(self, graph: ir.Graph, orders: Orders) -> None:
        self.graph = graph
        self.orders = orders
        self.memory: dict[ir.Value, ir.Value] = {}  # original value -> the tensor that stores it
        self.copies: dict[tuple[ir.Value, bytes], ir.Value] = {}

    def run(self) -> int:
        """Rebuild; returns how many permutations the graph has now."""
        for node in tuple(self.graph):
            self._rebuild(node)
        for position, value in enumerate(tuple(self.graph.outputs)):
            self._restore_output(position, value)
        return len(self.copies)

    def read(self, builder: Builder, value: ir.Value, want: Array | None = None) -> ir.Value:
        """The tensor that holds ``value`` in order ``want`` (default: its true order)."""
        want = np.arange(channels(value)) if want is None else want
        have = self.orders.of(value)
        if np.array_equal(have, want):
            return self.memory.get(value, value)
        key = (value, want.tobytes())
        if key not in self.copies:
            self.copies[key] = self._copy(builder, value, have, want)
        return self.copies[key]

    def _copy(self, builder: Builder, value: ir.Value, have: Array, want: Array) -> ir.Value:
        return self._permute(builder, self.memory.get(value, value), moves(have, want))

    def _permute(self, builder: Builder, stored: ir.Value, index: Array) -> ir.Value:
        pieces, sizes = runs(index), shape(stored)
        elements, pixels = math.prod(sizes), sizes[0] * math.prod(sizes[2:])
        costs = self.orders.costs
        if costs is None or not costs.prefers_slices(elements, pixels, len(pieces)):
            return builder.one("Gather", stored, builder.ints(index.tolist(), "channels"), axis=1)
        parts = [select_channels(builder, stored, range(*piece)) for piece in pieces]
        return builder.one("Concat", *parts, axis=1)

    def _restore_output(self, position: int, value: ir.Value) -> None:
        node = value.producer()
        if node is None:
            return
        restored = self.read(Builder(node), value)
        if restored is value:
            return
        name = value.name
        if restored.is_graph_output() or restored.producer() is None:
            restored = Builder(node).one("Identity", restored)
        value.name = f"{name}/reordered"
        restored.name = name
        self.graph.outputs[position] = restored

    def _rebuild(self, node: ir.Node) -> None:
        kind = relation(node)
        if kind is Relation.FIXED and any(value in self.orders.stored for value in node.outputs):
            raise GraphError(f"{node.op_type} {node.name!r} can only write in the true order")
        rebuild = {
            Relation.FOLLOW: self._follow,
            Relation.LINEAR: self._rebuild_linear,
            Relation.SELECT: self._select,
            Relation.SPLIT: self._split,
            Relation.CONCAT: self._concat,
            Relation.FIXED: self._fixed,
        }
        rebuild[kind](node)

    def _emit(self, node: ir.Node, operands: list[ir.Value | None]) -> None:
        """``node`` once more, on other operands."""
        if operands == list(node.inputs):
            return
        outputs = Builder(node).again(node, *operands)
        self.memory.update(zip(node.outputs, outputs, strict=True))

    def _follow(self, node: ir.Node) -> None:
        want = self.orders.of(node.outputs[0])
        rank = len(shape(node.outputs[0]))
        elementwise = node.op_type not in ("Reshape", "Pad")
        operands = [
            self._operand(node, value, want, rank) if elementwise or position == 0 else value
            for position, value in enumerate(node.inputs)
        ]
        self._emit(node, operands)

    def _operand(
        self, node: ir.Node, value: ir.Value | None, want: Array, rank: int
    ) -> ir.Value | None:
        contents = constant(value)
        if value is None or contents is None:
            if value is None:
                return None
            alike = channels(value) == len(want)
            return self.read(Builder(node), value, want if alike else None)
        reordered = reorder_constant(contents, rank, want)
        if np.array_equal(reordered, contents):
            return value
        return Builder(node).constant(reordered, str(value.name), dtype(value))

    def _rebuild_linear(self, node: ir.Node) -> None:
        linear = as_linear(node)
        assert linear is not None  # relation() has seen it
        builder, stored = Builder(node), self.orders.of(node.outputs[0])
        fed = self.orders.fed.get(node, self.orders.of(linear.source))
        written = self.orders.written.get(node, stored)
        source = self.read(builder, linear.source, fed)
        if source is linear.source and _true(fed) and _true(written) and _true(stored):
            return
        result = reorder_linear(builder, linear, source, fed, written)
        if not np.array_equal(written, stored):
            result = self._permute(builder, result, moves(written, stored))
        self.memory[node.outputs[0]] = result

    def _select(self, node: ir.Node) -> None:
        index, source = permutation(node), node.inputs[0]
        assert index is not None and source is not None  # relation() has seen them
        result = node.outputs[0]
        self.memory[result] = self.read(Builder(node), source, index[self.orders.of(result)])

    def _split(self, node: ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None  # required by the operator
        first, wanted = 0, []
        for value in node.outputs:
            wanted.append(first + self.orders.of(value))
            first += channels(value)
        stored = self.read(Builder(node), source, np.concatenate(wanted))
        self._emit(node, [stored, *node.inputs[1:]])

    def _concat(self, node: ir.Node) -> None:
        builder, result = Builder(node), node.outputs[0]
        have = concat_order([self.orders.of(v) for v in node.inputs if v is not None])
        parts = [self.memory.get(v, v) for v in node.inputs if v is not None]
        joined = builder.one("Concat", *parts, axis=1)
        want = self.orders.of(result)
        if not np.array_equal(have, want):
            joined = self._permute(builder, joined, moves(have, want))
        self.memory[result] = joined

    def _fixed(self, node: ir.Node) -> None:
        operands = [
            None if v is None else v if constant(v) is not None else self.read(Builder(node), v)
            for v in node.inputs
        ]
        self._emit(node, operands)


def concat_order(parts: list[Array]) -> Array:
    """The order of a Concat of operands stored in these orders."""
    first, order = 0, []
    for part in parts:
        order.append(first + part)
        first += len(part)
    return np.concatenate(order)
