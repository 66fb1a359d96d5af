"""Depthwise convolutions with a depth multiplier, in forms that have fast kernels.

Few libraries have a kernel for a depthwise convolution that writes m channels for each one it
reads; they run it as a grouped convolution with one input each. Three exact forms are faster:

    repeated   the convolution before it writes every channel m times (nearly free while its
               outputs fit one tile of the kernel), and a plain depthwise convolution follows
    dense      one dense convolution with zeros, for very few channels
    parallel   m plain depthwise convolutions on the same input, joined by Concat; a Gather
               brings the channels into their true order (the order pass absorbs it)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.gates import UNARY
from edgekit.export.passes.graph import Array, Attribute, Builder, only_use, producer, replace
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import Linear, as_linear
from edgekit.export.passes.permutations import permutation


@dataclass(frozen=True)
class DepthMultiplier(NodePass):
    """A depthwise convolution with a multiplier becomes plain depthwise ones, or a dense one.

    Given:
        x: float[1, 3, 9, 9]
        a = Conv(x, w[4, 3, 1, 1], b[4])
        y = Conv(a, k[8, 1, 3, 3], c[8], group=4)
        return y
    Result:
        x: float[1, 3, 9, 9]
        a = Conv(x, w[8, 3, 1, 1], b[8])
        y = Conv(a, k[8, 1, 3, 3], c[8], group=8)
        return y

    Given:
        x: float[1, 4, 9, 9]
        y = Conv(x, k[8, 1, 3, 3], c[8], group=4)
        return y
    Result:
        x: float[1, 4, 9, 9]
        y = Conv(x, k[8, 4, 3, 3], c[8])
        return y

    Given:
        x: float[1, 12, 9, 9]
        y = Conv(x, k[24, 1, 3, 3], c[24], group=12)
        return y
    Result:
        x: float[1, 12, 9, 9]
        a = Conv(x, k[12, 1, 3, 3], c[12], group=12)
        b = Conv(x, l[12, 1, 3, 3], d[12], group=12)
        j = Concat(a, b, axis=1)
        y = Gather(j, [0, 12, 1, 13, 2, 14, 3, 15, 4, 16, 5, 17, 6, 18, 7, 19, 8, 20, 9, 21, 10, 22, 11, 23], axis=1)
        return y

    Attributes:
        max_repeated: outputs up to which the convolution before may repeat its channels.
        max_dense: inputs up to which a dense convolution is used.
    """

    max_repeated: int
    max_dense: int
    name: ClassVar[str] = "depth-multiplier"
    op_types: ClassVar[tuple[str, ...]] = ("Conv",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        linear = as_linear(node)
        if linear is None or linear.groups != linear.inputs or linear.outputs <= linear.inputs:
            return False
        if linear.inputs == 1:
            return False  # one group is dense already
        times = linear.outputs // linear.inputs
        if linear.outputs <= self.max_repeated:
            repeated = _repeated(linear.source, times)
            if repeated is not None:
                replace(node.outputs[0], linear.rebuild(Builder(node), repeated, groups=linear.outputs))
                return True
        form = as_dense if linear.inputs <= self.max_dense else _parallel
        replace(node.outputs[0], form(Builder(node), linear))
        return True


def _repeated(value: ir.Value, times: int) -> ir.Value | None:
    """``value`` with every channel ``times`` times in a row, if what computes it can do so."""
    node = producer(value)
    if node is None or not only_use(value):
        return None
    builder, linear = Builder(node), as_linear(node)
    if linear is not None and linear.node.op_type == "Conv" and linear.groups < linear.inputs:
        weight, bias = (np.repeat(a, times, axis=0) for a in (linear.weight, linear.bias))
        return linear.rebuild(builder, weight=weight, bias=bias)
    index = permutation(node)
    if node.inputs[0] is None or (node.op_type not in UNARY and index is None):
        return None
    source = _repeated(node.inputs[0], times)
    if source is None:
        return None
    if index is not None:
        channels = (index[:, None] * times + np.arange(times)).ravel()
        return builder.one("Gather", source, builder.ints(channels.tolist(), "channels"), axis=1)
    attributes: dict[str, Attribute] = {k: a.value for k, a in node.attributes.items()}
    return builder.one(node.op_type, source, *node.inputs[1:], **attributes)


def as_dense(builder: Builder, linear: Linear) -> ir.Value:
    """A grouped convolution as a dense one, with zeros where no group connects."""
    return linear.rebuild(builder, weight=dense_weight(linear), groups=1)


def dense_weight(linear: Linear) -> Array:
    """(outputs, inputs, *kernel)"""
    rows, per_group = linear.outputs, linear.weight.shape[1]
    weight = np.zeros((rows, linear.inputs, *linear.weight.shape[2:]))
    first = np.arange(rows) // (rows // linear.groups) * per_group
    for j in range(per_group):
        weight[np.arange(rows), first + j] = linear.weight[:, j]
    return weight


def _parallel(builder: Builder, linear: Linear) -> ir.Value:
    times = linear.outputs // linear.inputs
    parts = [
        linear.rebuild(builder, weight=linear.weight[j::times], bias=linear.bias[j::times])
        for j in range(times)
    ]
    joined = builder.one("Concat", *parts, axis=1)
    index = np.arange(linear.outputs).reshape(times, linear.inputs).T.ravel()
    return builder.one("Gather", joined, builder.ints(index.tolist(), "channels"), axis=1)


@dataclass(frozen=True)
class GroupedToDense(NodePass):
    """A grouped 1x1 convolution with few outputs per group runs faster dense, with zeros.

    Kernels compute a tile of outputs at once; a group that does not fill the tile wastes it.

    Given:
        x: float[1, 32, 14, 14]
        y = Conv(x, w[16, 8, 1, 1], b[16], group=4)
        return y
    Result:
        x: float[1, 32, 14, 14]
        y = Conv(x, w[16, 32, 1, 1], b[16])
        return y

    Attributes:
        max_outputs: outputs per group up to which the dense form is used.
        min_pixels: output height times width from which it is used.
    """

    max_outputs: int
    min_pixels: int
    name: ClassVar[str] = "grouped-to-dense"
    op_types: ClassVar[tuple[str, ...]] = ("Conv",)
    refused: ClassVar[str] = "not made dense"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        linear = as_linear(node)
        if linear is None or linear.groups in (1, linear.inputs) or linear.weight[0, 0].size != 1:
            return False
        per_group = linear.outputs // linear.groups
        if per_group > self.max_outputs:
            return f"its groups have {per_group} outputs, more than {self.max_outputs}"
        pixels = int(np.prod([int(size) for size in node.outputs[0].shape or ()][2:]))
        if pixels < self.min_pixels:
            return f"its map has {pixels} pixels, fewer than {self.min_pixels}"
        replace(node.outputs[0], as_dense(Builder(node), linear))
        return True
