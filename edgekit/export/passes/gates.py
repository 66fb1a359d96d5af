"""Gates as 1x1 convolutions on the pooled map.

A squeeze-and-excitation branch pools a feature map to [N, C, 1, 1], turns it into a matrix for
its linear layers, and turns their result back. As 1x1 convolutions the layers need neither
turn, and a convolution fuses with its activation where a matrix product does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import (
    Attribute,
    Builder,
    attribute,
    constant,
    consumers,
    dtype,
    is_float,
    per_channel,
    producer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import as_linear

UNARY = frozenset(
    {"Relu", "Clip", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu",
     "Softplus", "Softsign", "Erf", "Exp", "Log", "Neg", "Abs", "Sqrt", "Mish", "Gelu", "Celu",
     "ThresholdedRelu", "Reciprocal", "Identity"}
)  # fmt: skip
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})


class GlobalPool(NodePass):
    """A mean over height and width is a GlobalAveragePool.

    Given:
        x: float[1, 8, 4, 4]
        y = ReduceMean(x, [2, 3], keepdims=0)
        return y
    Result:
        x: float[1, 8, 4, 4]
        a = GlobalAveragePool(x)
        y = Reshape(a, [1, 8])
        return y

    Given:
        x: float[1, 8, 7, 7]
        y = AveragePool(x, kernel_shape=[7, 7])
        return y
    Result:
        x: float[1, 8, 7, 7]
        y = GlobalAveragePool(x)
        return y
    """

    name = "global-pool"
    op_types = ("ReduceMean", "AveragePool")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source, result = node.inputs[0], node.outputs[0]
        if source is None or len(shape(source)) != 4 or not is_float(source):
            return False
        if not (_is_mean(node) if node.op_type == "ReduceMean" else _pools_all(node)):
            return False
        builder = Builder(node)
        pooled = builder.one("GlobalAveragePool", source)
        if shape(result) != shape(pooled):
            pooled = builder.one("Reshape", pooled, builder.ints(shape(result), "shape"))
        replace(result, pooled)
        return True


def _is_mean(node: ir.Node) -> bool:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes is not None and sorted(int(axis) % 4 for axis in axes) == [2, 3]


def _pools_all(node: ir.Node) -> bool:
    source, result = shape(node.inputs[0]), shape(node.outputs[0])  # type: ignore[arg-type]
    whole = attribute(node, "kernel_shape") == source[2:] and result[2:] == (1, 1)
    return whole and not any(attribute(node, "pads", ()))


class LiftGates(NodePass):
    """Linear layers between a pooled map and a map-shaped result become 1x1 convolutions.

    Given:
        x: float[1, 8, 4, 4]
        p = GlobalAveragePool(x)
        a = Reshape(p, [1, 8])
        b = Gemm(a, v[2, 8], c[2], transB=1)
        d = Relu(b)
        e = Gemm(d, w[8, 2], f[8], transB=1)
        g = Sigmoid(e)
        h = Reshape(g, [1, 8, 1, 1])
        y = Mul(x, h)
        return y
    Result:
        x: float[1, 8, 4, 4]
        p = GlobalAveragePool(x)
        b = Conv(p, v[2, 8, 1, 1], c[2])
        d = Relu(b)
        e = Conv(d, w[8, 2, 1, 1], f[8])
        g = Sigmoid(e)
        y = Mul(x, g)
        return y
    """

    name = "lift-gates"
    op_types = ("Reshape",)
    refused = "not lifted"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source = node.inputs[0]
        if source is None or not _lowers(node) or producer(source) is None:
            return False
        region = _Region(node)
        if not region.exits:
            return False
        if region.reason:
            return region.reason
        region.lift(source)
        return True


def _lowers(node: ir.Node) -> bool:
    """Whether it is [N, C, 1, 1] -> [N, C]."""
    before, after = shape(node.inputs[0]), shape(node.outputs[0])  # type: ignore[arg-type]
    return len(after) == 2 and before == (*after, 1, 1)


def _raises(node: ir.Node) -> bool:
    """Whether it is [N, C] -> [N, C, 1, 1]."""
    before, after = shape(node.inputs[0]), shape(node.outputs[0])  # type: ignore[arg-type]
    return node.op_type == "Reshape" and len(before) == 2 and after == (*before, 1, 1)


@dataclass
class _Region:
    """The matrices computed from one flattened map, up to where they become maps again."""

    entry: ir.Node
    inner: list[ir.Node] = field(default_factory=list)
    exits: list[ir.Node] = field(default_factory=list)
    reason: str = ""

    def __post_init__(self) -> None:
        matrices = {self.entry.outputs[0]}
        pending = list(matrices)
        while pending:
            value = pending.pop()
            if value.is_graph_output():
                self._refuse(f"{value.name} is an output of the graph")
            for reader in consumers(value):
                if _raises(reader):
                    self.exits.append(reader)
                elif not _liftable(reader, value):
                    self._refuse(f"its result is read as a matrix by {reader.name}")
                elif reader not in self.inner:
                    self.inner.append(reader)
                    matrices.update(reader.outputs)
                    pending.extend(reader.outputs)
        for node in self.inner:
            for operand in node.inputs:
                if operand is not None and operand not in matrices and constant(operand) is None:
                    self._refuse(f"{node.name} also reads the matrix {operand.name}")

    def _refuse(self, reason: str) -> None:
        self.reason = self.reason or reason

    def lift(self, source: ir.Value) -> None:
        """Rebuild the inner nodes on maps, in the order of the graph."""
        maps = {self.entry.outputs[0]: source}
        order = {node: position for position, node in enumerate(self.entry.graph or ())}
        for node in sorted(self.inner, key=order.__getitem__):
            maps.update(zip(node.outputs, _lift_node(node, maps), strict=True))
        for node in self.exits:
            value = node.inputs[0]
            assert value is not None  # _raises has seen it
            replace(node.outputs[0], maps[value])


def _liftable(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type in UNARY:
        return True
    if node.op_type in ("Gemm", "MatMul"):
        return node.inputs[0] is value and as_linear(node) is not None
    if node.op_type in _BINARY:
        return all(_as_map(v, value) is not None or constant(v) is None for v in node.inputs)
    if node.op_type == "Concat" and any(constant(v) is not None for v in node.inputs):
        return False  # a constant matrix among the parts
    return node.op_type in ("Split", "Concat") and attribute(node, "axis") in (1, -1)


def _as_map(operand: ir.Value | None, like: ir.Value) -> np.ndarray | None:
    """A constant beside the matrix ``like``, reshaped to stand beside a map."""
    contents = constant(operand)
    if contents is None:
        return None
    numbers = per_channel(contents, 2, shape(like)[1])
    if numbers is None:
        return None
    return contents.reshape(()) if contents.size == 1 else numbers.reshape(1, -1, 1, 1)


def _lift_node(node: ir.Node, maps: dict[ir.Value, ir.Value]) -> tuple[ir.Value, ...]:
    builder = Builder(node)
    linear = as_linear(node)
    if linear is not None:
        source = maps[linear.source]
        weight = builder.constant(linear.weight[:, :, None, None], _weights(node), dtype(source))
        bias = builder.constant(linear.bias, f"{node.name}/bias", dtype(source))
        return (builder.one("Conv", source, weight, bias),)
    operands = [_lift_operand(builder, node, value, maps) for value in node.inputs]
    attributes: dict[str, Attribute] = {k: a.value for k, a in node.attributes.items()}
    if "axis" in attributes:
        attributes["axis"] = 1
    return builder.several(node.op_type, operands, len(node.outputs), attributes)


def _weights(node: ir.Node) -> str:
    value = node.inputs[1]
    return str(value.name) if value is not None else f"{node.name}/weight"


def _lift_operand(
    builder: Builder, node: ir.Node, value: ir.Value | None, maps: dict[ir.Value, ir.Value]
) -> ir.Value | None:
    if value is None or value in maps:
        return None if value is None else maps[value]
    matrix = next(v for v in node.inputs if v is not None and v in maps)
    contents = _as_map(value, matrix) if node.op_type in _BINARY else None
    if contents is None:
        return value
    return builder.constant(contents, str(value.name), dtype(matrix))
