"""Conv, Gemm and MatMul seen as one thing: rows of weights, one row per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    constant,
    dtype,
    per_channel,
    shape,
)

LINEAR = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """A node whose output channels (axis 1) are weighted sums of its input channels, plus bias.

    Attributes:
        node: a Conv, a Gemm, or a MatMul of matrices, with constant weights.
        weight: float64 (outputs, inputs / groups, *kernel); Gemm's alpha is inside.
        bias: float64 (outputs,); zeros if the node has none; Gemm's beta is inside.
        groups: groups of the convolution, else 1.
    """

    node: ir.Node
    weight: Array
    bias: Array
    groups: int = 1

    @property
    def source(self) -> ir.Value:
        source = self.node.inputs[0]
        assert source is not None  # required by the operator
        return source

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])

    @property
    def depthwise(self) -> bool:
        """Whether every output channel has its own one input channel."""
        return self.groups == self.inputs == self.outputs

    @property
    def pads(self) -> bool:
        """Whether zeros are put around the input."""
        return any(attribute(self.node, "pads", ())) or attribute(
            self.node, "auto_pad", "NOTSET"
        ) not in ("NOTSET", "VALID")

    def rebuild(
        self,
        builder: Builder,
        source: ir.Value | None = None,
        weight: Array | None = None,
        bias: Array | None = None,
        groups: int | None = None,
    ) -> ir.Value:
        """The same computation with some parts exchanged, as a new node."""
        source = self.source if source is None else source
        weight = self.weight if weight is None else weight
        bias = self.bias if bias is None else bias
        kind = dtype(source)
        parameters = [
            builder.constant(weight, _stem(self.node, 1), kind),
            builder.constant(bias, _stem(self.node, 2), kind),
        ]
        if self.node.op_type != "Conv":
            return builder.one("Gemm", source, *parameters, transB=1)
        attributes = {name: value.value for name, value in self.node.attributes.items()}
        attributes["group"] = self.groups if groups is None else groups
        if "kernel_shape" in attributes:
            attributes["kernel_shape"] = weight.shape[2:]
        return builder.one("Conv", source, *parameters, **attributes)


def _stem(node: ir.Node, position: int) -> str:
    """A name for a new weight or bias: that of the one it takes the place of."""
    value = node.inputs[position] if position < len(node.inputs) else None
    role = ("weight", "bias")[position - 1]
    return f"{node.name}/{role}" if value is None or not value.name else value.name


def as_linear(node: ir.Node | None) -> Linear | None:
    """``node`` as a `Linear`, or None: another operator, or its weights are not constant."""
    if node is None or node.op_type not in LINEAR or len(node.inputs) < 2:
        return None
    weight = constant(node.inputs[1])
    if weight is None or constant(node.inputs[0]) is not None:
        return None
    weight = weight.astype(np.float64)
    return {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}[node.op_type](node, weight)


def _conv(node: ir.Node, weight: Array) -> Linear | None:
    bias = _bias(node, weight.shape[0], rank=1)
    if bias is None:
        return None
    return Linear(node, weight, bias, int(attribute(node, "group", 1)))


def _gemm(node: ir.Node, weight: Array) -> Linear | None:
    if attribute(node, "transA", 0):
        return None
    if not attribute(node, "transB", 0):
        weight = weight.T
    bias = _bias(node, weight.shape[0], rank=2)
    if bias is None:
        return None
    return Linear(node, weight * attribute(node, "alpha", 1.0), bias * attribute(node, "beta", 1.0))


def _matmul(node: ir.Node, weight: Array) -> Linear | None:
    source = node.inputs[0]
    if source is None or weight.ndim != 2 or len(shape(source)) != 2:
        return None
    return Linear(node, weight.T, np.zeros(weight.shape[1]))


def _bias(node: ir.Node, outputs: int, rank: int) -> Array | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(outputs)
    contents = constant(node.inputs[2])
    if contents is None:
        return None
    if rank == 1:
        return contents.astype(np.float64)
    return per_channel(contents, rank, outputs)
