"""Channel permutations moved out of the way.

A permutation between a convolution and its activation keeps the two from being fused; one next
to a dense convolution is only another order of its weights.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.affine import as_affine, emit_affine
from edgekit.export.passes.gates import UNARY
from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    consumers,
    only_use,
    producer,
    replace,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import LINEAR, as_linear
from edgekit.export.passes.movement import select_channels, selected_channels


def permutation(node: ir.Node | None) -> Array | None:
    """``index`` of a Gather that returns every channel of its input once, else None."""
    index = selected_channels(node)
    if index is None or node is None or sorted(index) != list(range(len(index))):
        return None
    before, after = node.inputs[0], node.outputs[0]
    return np.asarray(index) if before is not None and before.shape == after.shape else None


class ActivateFirst(NodePass):
    """What is done to every number, or per channel with constants, is done before a permutation.

    Given:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[4, 4, 1, 1], b[4])
        p = Gather(a, [0, 2, 1, 3], axis=1)
        y = Clip(p, 0.0, 6.0)
        return y
    Result:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[4, 4, 1, 1], b[4])
        c = Clip(a, 0.0, 6.0)
        y = Gather(c, [0, 2, 1, 3], axis=1)
        return y
    """

    name = "activate-first"
    refused = "not moved"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine = as_affine(node)
        value = affine.source if affine else node.inputs[0] if node.inputs else None
        if value is None or (affine is None and node.op_type not in UNARY):
            return False
        gather = producer(value, "Gather")
        index = permutation(gather)
        if gather is None or index is None:
            return False
        if not only_use(value):
            return f"the permutation {gather.name} is read elsewhere, too"
        builder, source = Builder(node), gather.inputs[0]
        assert source is not None  # permutation() has seen it
        if affine is not None:
            inverse = np.argsort(index)
            moved = emit_affine(builder, source, affine.scale[inverse], affine.offset[inverse])
        else:
            (moved,) = builder.again(node, source, *node.inputs[1:])
        replace(node.outputs[0], select_channels(builder, moved, index.tolist()))
        return True


class ActivateParts(NodePass):
    """What is done to every number of a Concat of convolutions is done to the convolutions.

    There it is fused into them.

    Given:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[4, 4, 1, 1], b[4])
        d = Conv(x, v[4, 4, 1, 1], e[4])
        j = Concat(a, d, axis=1)
        y = Clip(j, 0.0, 6.0)
        return y
    Result:
        x: float[1, 4, 5, 5]
        a = Conv(x, w[4, 4, 1, 1], b[4])
        d = Conv(x, v[4, 4, 1, 1], e[4])
        c = Clip(a, 0.0, 6.0)
        f = Clip(d, 0.0, 6.0)
        y = Concat(c, f, axis=1)
        return y
    """

    name = "activate-parts"
    op_types = ("Relu", "Clip", "HardSwish")
    refused = "not moved"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        concat = producer(node.inputs[0], "Concat")
        if concat is None or not only_use(concat.outputs[0]):
            return False
        parts = [part for part in concat.inputs if part is not None]
        if any(as_linear(producer(part, "Conv")) is None or not only_use(part) for part in parts):
            return "not only convolutions of its own are joined before it"
        builder = Builder(node)
        moved = [builder.one(node.op_type, part, *node.inputs[1:]) for part in parts]
        axis = attribute(concat, "axis")
        replace(node.outputs[0], builder.one("Concat", *moved, axis=axis))
        return True


class PermuteWeights(NodePass):
    """A permutation before or after a dense convolution is an order of its weights.

    Given:
        x: float[1, 4, 5, 5]
        p = Gather(x, [0, 2, 1, 3], axis=1)
        a = Conv(p, w[6, 4, 3, 3], b[6])
        y = Gather(a, [0, 2, 4, 1, 3, 5], axis=1)
        return y
    Result:
        x: float[1, 4, 5, 5]
        y = Conv(x, w[6, 4, 3, 3], b[6])
        return y
    """

    name = "permute-weights"
    op_types = ("Gather",)
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        index = permutation(node)
        source = node.inputs[0]
        if index is None or source is None:
            return False
        return _into_producer(node, source, index) or _into_consumers(node, source, index)


def _into_producer(node: ir.Node, source: ir.Value, index: Array) -> bool:
    linear = as_linear(producer(source, *LINEAR))
    if linear is None or linear.groups != 1 or not only_use(source):
        return False
    built = linear.rebuild(Builder(node), weight=linear.weight[index], bias=linear.bias[index])
    replace(node.outputs[0], built)
    return True


def _into_consumers(node: ir.Node, source: ir.Value, index: Array) -> bool | str:
    readers = consumers(node.outputs[0])
    found = [as_linear(reader) for reader in readers]
    dense = [r for r in found if r is not None and r.groups == 1 and r.source is node.outputs[0]]
    if node.outputs[0].is_graph_output() or not dense:
        return False
    if len(dense) != len(readers):
        return "not only dense convolutions read it"
    for linear in dense:
        weight = linear.weight[:, np.argsort(index)]
        built = linear.rebuild(Builder(linear.node), source, weight=weight)
        replace(linear.node.outputs[0], built)
    return True
