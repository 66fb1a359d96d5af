"""Values that are best stored in one order: classes, and the names their channels share.

Operators that keep their channels in place (`Relation.FOLLOW`, depthwise convolutions) tie
operand and result together. A permutation only gives the same numbers other names, so it ties
its two sides together as well, as long as that does not contradict: the two sides of a shift
meet again one node later and cannot both be free. Such a permutation stays one in memory.

Each class names its channels by labels: ``labels[v][c]`` is the label of channel ``c`` of ``v``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import Array, constant, shape
from edgekit.export.passes.linear import as_linear
from edgekit.export.passes.order.relations import Relation, channels, relation
from edgekit.export.passes.permutations import permutation


@dataclass(eq=False)
class OrderClass:
    """Values with one order of labels.

    Attributes:
        size: number of channels.
        labels: per value, the label of each of its channels.
        pinned: a value that is stored in its true order (input of the graph, result of a node
            that knows no other), or None.
    """

    size: int
    labels: dict[ir.Value, Array] = field(default_factory=dict)
    pinned: ir.Value | None = None

    def order_of(self, value: ir.Value, order: Array) -> Array:
        """Channels of ``value`` as stored, when the class stores its labels in ``order``."""
        return np.argsort(self.labels[value])[order]

    def order_from(self, value: ir.Value, stored: Array) -> Array:
        """The order of labels that stores ``value`` as ``stored``."""
        return self.labels[value][stored]


class Classes:
    """The classes of a graph: ``of[value]``, and ``all`` in the order of the graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.relations = {node: relation(node) for node in graph}
        self.of: dict[ir.Value, OrderClass] = {}
        self._add_values(graph)
        for node in graph:
            self._tie_in_place(node)
        for node in sorted(self._selections(), key=lambda n: -_elements(n.outputs[0])):
            self._tie_names(node)
        self.all = list(dict.fromkeys(self.of.values()))

    def _add_values(self, graph: ir.Graph) -> None:
        for value in graph.inputs:
            self._add(value, pinned=True)
        for node in graph:
            for value in node.outputs:
                self._add(value, pinned=self.relations[node] is Relation.FIXED)

    def _add(self, value: ir.Value, *, pinned: bool) -> None:
        size = channels(value)
        if size:
            labels = {value: np.arange(size)}
            self.of[value] = OrderClass(size, labels, value if pinned else None)

    def _selections(self) -> Iterable[ir.Node]:
        return [node for node, kind in self.relations.items() if kind is Relation.SELECT]

    def _tie_in_place(self, node: ir.Node) -> None:
        linear = as_linear(node) if self.relations[node] is Relation.LINEAR else None
        if self.relations[node] is not Relation.FOLLOW and not (linear and linear.depthwise):
            return
        result = node.outputs[0]
        for value in node.inputs:
            if value is not None and value in self.of and constant(value) is None:
                if channels(value) == channels(result):
                    self._merge(value, result, self.of[value].labels[value])

    def _tie_names(self, node: ir.Node) -> None:
        source, index = node.inputs[0], permutation(node)
        assert source is not None and index is not None  # relation() has seen them
        self._merge(source, node.outputs[0], self.of[source].labels[source][index])

    def _merge(self, kept: ir.Value, joined: ir.Value, labels: Array) -> None:
        """Merge the class of ``joined`` into that of ``kept``; ``joined`` gets these labels."""
        keeper, other = self.of[kept], self.of[joined]
        if keeper is other or (keeper.pinned is not None and other.pinned is not None):
            return
        renamed = np.empty(other.size, dtype=np.int64)
        renamed[other.labels[joined]] = labels
        for value, old in other.labels.items():
            keeper.labels[value] = renamed[old]
            self.of[value] = keeper
        keeper.pinned = keeper.pinned or other.pinned


def _elements(value: ir.Value) -> int:
    return int(np.prod(shape(value)))
