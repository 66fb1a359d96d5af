"""Take out of a graph what does not compute: metadata, constants' arithmetic, no-ops, copies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import (
    Builder,
    attribute,
    constant,
    consumers,
    evaluate,
    live_nodes,
    replace,
    scalar,
    shape,
)
from edgekit.export.passes.infra import NodePass, PassResult

# Scope names say where in the user's model a node comes from. Everything else that tracers
# write (stack traces, paths of this machine, their own graph's text) does not leave it.
KEPT_METADATA = frozenset({"pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"})

_FOLDED_BYTES_CAP = 1 << 20  # a constant may grow to this by folding, e.g. through Expand


class StripMetadata:
    """Remove doc strings, stack traces and paths of this machine; scope names stay."""

    name = "strip-metadata"

    def rewrite(self, model: ir.Model) -> PassResult:
        model.doc_string = model.graph.doc_string = None
        model.metadata_props.clear()
        model.graph.metadata_props.clear()
        modified = sum(_strip_node(node) for node in model.graph.all_nodes())
        for value in (*model.graph.inputs, *model.graph.initializers.values()):
            value.metadata_props.clear()
        return PassResult(modified)


def _strip_node(node: ir.Node) -> bool:
    dropped = set(node.metadata_props) - KEPT_METADATA
    modified = bool(dropped or node.doc_string)
    for key in dropped:
        del node.metadata_props[key]
    node.doc_string = None
    for value in node.outputs:
        value.metadata_props.clear()
    return modified


class FoldConstants(NodePass):
    """Compute what depends on constants only.

    Given:
        x: float[1, 8]
        s = Add([1, 2], [0, 6])
        y = Reshape(x, [2, 4])
        z = Reshape(y, s)
        return z
    Result:
        x: float[1, 8]
        y = Reshape(x, [2, 4])
        z = Reshape(y, [1, 8])
        return z
    """

    name = "fold-constants"
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        present = [value for value in node.inputs if value is not None]
        if node.op_type in _NEVER_FOLDED or any(constant(value) is None for value in present):
            return False
        if any(
            a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for a in node.attributes.values()
        ):
            return False
        if any(value.is_graph_output() for value in node.outputs):
            return False
        contents = evaluate(node)
        bytes_in = sum(value.const_value.nbytes for value in present if value.const_value)
        bytes_out = sum(array.nbytes for array in contents)
        if bytes_out > max(_FOLDED_BYTES_CAP, bytes_in):
            return f"the constant would grow from {bytes_in} to {bytes_out} bytes"
        builder = Builder(node)
        for value, result in zip(tuple(node.outputs), contents, strict=True):
            if value.uses():
                replace(value, builder.constant(result, str(value.name)))
        return True


# Q/DQ of a constant *is* the precision of the graph; the others are not functions.
_NEVER_FOLDED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "RandomNormal", "RandomUniform", "Bernoulli",
     "RandomNormalLike", "RandomUniformLike", "Multinomial"}
)  # fmt: skip


class DropIdentities(NodePass):
    """Remove nodes that return their input: Identity, eval Dropout, x + 0, x * 1, ...

    Given:
        x: float[1, 8, 4, 4]
        a = Identity(x)
        b = Mul(a, 1.0)
        c = Reshape(b, [1, 8, 4, 4])
        d = Relu(c)
        return d
    Result:
        x: float[1, 8, 4, 4]
        d = Relu(x)
        return d
    """

    name = "drop-identities"
    refused = "not dropped"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        returned = _same_as(node)
        if returned is None or any(value.uses() for value in node.outputs[1:]):
            return False
        output = node.outputs[0]
        if output.is_graph_output() and (returned.producer() is None or returned.is_graph_output()):
            return False  # an output must be computed by a node of its own
        replace(output, returned)
        return True


class DropZeroBias(NodePass):
    """A bias of zeros is none; a Gemm's C and a Conv's B alike.

    Given:
        x: float[1, 8]
        y = Gemm(x, w[6, 8], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], transB=1)
        return y
    Result:
        x: float[1, 8]
        y = Gemm(x, w[6, 8], transB=1)
        return y
    """

    name = "drop-zero-bias"
    op_types = ("Conv", "Gemm")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        if len(node.inputs) < 3 or scalar(node.inputs[2]) != 0:
            return False
        replace(node.outputs[0], Builder(node).again(node, *node.inputs[:2])[0])
        return True


def _same_as(node: ir.Node) -> ir.Value | None:
    """The input that the first output of ``node`` equals, or None."""
    test = _NO_OPS.get(node.op_type)
    if test is None or not node.inputs or node.inputs[0] is None:
        return None
    for value in node.inputs[:2] if node.op_type in ("Add", "Mul") else node.inputs[:1]:
        if value is not None and test(node, value):
            return value
    return None


def _other(node: ir.Node, value: ir.Value) -> float | None:
    """The number in the other operand, unless that operand enlarges ``value``."""
    if len(node.inputs) != 2 or shape(value) != shape(node.outputs[0]):
        return None
    return scalar(node.inputs[1] if value is node.inputs[0] else node.inputs[0])


def _pads_nothing(node: ir.Node) -> bool:
    # The shape does not tell: a pad of (1, -1) keeps it and shifts what is in it.
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return pads is not None and not pads.any()


def _same_shape(node: ir.Node, value: ir.Value) -> bool:
    return shape(value) == shape(node.outputs[0])


_NO_OPS: dict[str, Callable[[ir.Node, ir.Value], bool]] = {
    "Identity": lambda node, x: True,
    "Dropout": lambda node, x: not (len(node.inputs) > 2 and scalar(node.inputs[2]) != 0.0),
    "Cast": lambda node, x: x.dtype == node.outputs[0].dtype,
    "Concat": lambda node, x: len(node.inputs) == 1,
    "Sum": lambda node, x: len(node.inputs) == 1,
    "Max": lambda node, x: len(node.inputs) == 1,
    "Min": lambda node, x: len(node.inputs) == 1,
    "Add": lambda node, x: _other(node, x) == 0.0,
    "Sub": lambda node, x: _other(node, x) == 0.0,
    "Mul": lambda node, x: _other(node, x) == 1.0,
    "Div": lambda node, x: _other(node, x) == 1.0,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _same_shape,
    "Pad": lambda node, x: _pads_nothing(node),
    "Tile": _same_shape,
    "Transpose": lambda node, x: attribute(node, "perm") == tuple(range(len(shape(x)))),
    "Slice": lambda node, x: _same_shape(node, x) and _steps_forward(node),
    "Split": lambda node, x: len(node.outputs) == 1,
}


def _steps_forward(node: ir.Node) -> bool:
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    steps = constant(node.inputs[4])
    return steps is not None and bool((steps > 0).all())


class DeduplicateInitializers:
    """Constants with equal contents become one.

    Given:
        x: float[1, 8]
        a = Mul(x, 2.0)
        b = Add(a, 2.0)
        return b
    Result:
        x: float[1, 8]
        a = Mul(x, 2.0)
        b = Add(a, 2.0)  # the same initializer
        return b
    """

    name = "deduplicate-initializers"

    def rewrite(self, model: ir.Model) -> PassResult:
        first: dict[tuple[object, ...], ir.Value] = {}
        modified = 0
        for value in tuple(model.graph.initializers.values()):
            if value.is_graph_input() or value.is_graph_output() or value.const_value is None:
                continue
            contents = value.const_value.numpy()
            kept = first.setdefault((value.dtype, contents.shape, contents.tobytes()), value)
            if kept is not value:
                value.replace_all_uses_with(kept)
                modified += 1
        return PassResult(modified)


class MergeEqualNodes:
    """Nodes that compute the same from the same become one.

    Given:
        x: float[1, 8, 4, 4]
        a = Relu(x)
        b = Relu(x)
        y = Mul(a, b)
        return y
    Result:
        x: float[1, 8, 4, 4]
        a = Relu(x)
        y = Mul(a, a)
        return y
    """

    name = "merge-equal-nodes"

    def rewrite(self, model: ir.Model) -> PassResult:
        first: dict[tuple[object, ...], ir.Node] = {}
        modified = 0
        for node in live_nodes(model.graph):
            if node.op_type in _NEVER_FOLDED or not _has_plain_attributes(node):
                continue
            attributes = tuple(sorted((k, str(a.value)) for k, a in node.attributes.items()))
            kept = first.setdefault(
                (node.op_type, tuple(node.inputs), len(node.outputs), attributes), node
            )
            if kept is not node and not any(v.is_graph_output() for v in node.outputs):
                for old, new in zip(tuple(node.outputs), kept.outputs, strict=True):
                    replace(old, new)
                modified += 1
        return PassResult(modified)


def _has_plain_attributes(node: ir.Node) -> bool:
    plain = (ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.FLOAT,
             ir.AttributeType.FLOATS, ir.AttributeType.STRING)  # fmt: skip
    return all(a.type in plain for a in node.attributes.values())


class DropExpand(NodePass):
    """An Expand that only prepares what its reader broadcasts anyway.

    Given:
        x: float[1, 8, 4, 4]
        g: float[1, 8, 1, 1]
        e = Expand(g, [1, 8, 4, 4])
        y = Mul(x, e)
        return y
    Result:
        x: float[1, 8, 4, 4]
        g: float[1, 8, 1, 1]
        y = Mul(x, g)
        return y
    """

    name = "drop-expand"
    op_types = ("Expand",)
    refused = "not dropped"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source, expanded = node.inputs[0], node.outputs[0]
        if source is None or expanded.is_graph_output():
            return False
        for reader in consumers(expanded):
            if reader.op_type not in _BROADCASTING:
                return f"{reader.name} ({reader.op_type}) does not broadcast"
            others = [v for v in reader.inputs if v is not None and v is not expanded]
            sizes = [shape(source), *(shape(v) for v in others)]
            if np.broadcast_shapes(*sizes) != shape(reader.outputs[0]):
                return f"{reader.name} takes its shape from it"
        replace(expanded, source)
        return True


_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
