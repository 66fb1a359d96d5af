"""Grouped convolutions in fewer groups, with zeros, where that is faster.

Kernels compute a tile of outputs at once, and a group that does not fill it wastes the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.costs import COSTS, Costs
from edgekit.export.passes.graph import Array, Builder, replace, shape
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import Linear, as_linear


@dataclass(frozen=True)
class MergeGroups(NodePass):
    """A grouped convolution whose groups are too small for the kernel runs in fewer of them.

    Given:
        x: float[1, 32, 28, 28]
        y = Conv(x, w[16, 8, 1, 1], b[16], group=4)
        return y
    Result:
        x: float[1, 32, 28, 28]
        y = Conv(x, w[16, 32, 1, 1], b[16])
        return y

    Attributes:
        costs: key of ``COSTS``.
    """

    costs: str
    name: ClassVar[str] = "merge-groups"
    op_types: ClassVar[tuple[str, ...]] = ("Conv",)
    refused: ClassVar[str] = "not merged"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        linear = as_linear(node)
        if linear is None or linear.groups in (1, linear.inputs):
            return False
        costs = COSTS[self.costs]
        best = min(divisors(linear.groups), key=lambda count: merged_us(linear, count, costs))
        if best == linear.groups:
            return False
        weight = merged_weight(linear, best)
        replace(node.outputs[0], linear.rebuild(Builder(node), weight=weight, groups=best))
        return True


def divisors(number: int) -> Iterator[int]:
    """All of them, the largest first."""
    return (count for count in range(number, 0, -1) if number % count == 0)


def merged_us(linear: Linear, groups: int, costs: Costs) -> float:
    """Cost of ``linear`` in so many groups."""
    sizes = shape(linear.node.outputs[0])
    kernel = math.prod(linear.weight.shape[2:])
    pixels = sizes[0] * math.prod(sizes[2:])
    inputs, outputs = linear.inputs // groups * kernel, linear.outputs // groups
    return costs.convolution_us(pixels, groups, inputs, outputs)


def merged_weight(linear: Linear, groups: int) -> Array:
    """Weights for a divisor of the groups there are: (outputs, inputs / groups, *kernel)."""
    rows, before, after = linear.outputs, linear.inputs // linear.groups, linear.inputs // groups
    weight = np.zeros((rows, after, *linear.weight.shape[2:]))
    row = np.arange(rows)
    first = row // (rows // linear.groups) * before - row // (rows // groups) * after
    for j in range(before):
        weight[row, first + j] = linear.weight[:, j]
    return weight
