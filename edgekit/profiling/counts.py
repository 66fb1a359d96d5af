"""Multiply-accumulates and parameters of a graph, counted from its shapes.

    macs                    of convolution, linear and matmul, as ``torch.utils.flop_counter`` / 2
    elementwise_multiplies  products of a per-channel coefficient and a feature map, one per output
                            element: what MicroNet's authors add to the MACs of their tables
    madds                   macs + elementwise_multiplies
    flops                   2 * macs + elementwise_multiplies

Nothing else is counted, and what was not is listed by operator type; ``missing`` has what
multiplies as convolutions do, so that totals without it are a lower bound.
The graph is read by attribute only, so that a board needs no ONNX package to import this.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import GraphError

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class LayerCount:
    """One node that multiplies. ``scope`` is where in the model it comes from."""

    name: str
    op_type: str
    scope: str
    output_shape: tuple[int, ...]
    macs: int
    elementwise_multiplies: int


@dataclass(frozen=True)
class Counts:
    """Totals of a graph, per layer, and the operator types that were left out."""

    params: int
    macs: int
    elementwise_multiplies: int
    layers: tuple[LayerCount, ...]
    not_counted: tuple[str, ...]

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies."""
        return self.macs + self.elementwise_multiplies

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""
        return 2 * self.macs + self.elementwise_multiplies

    @property
    def missing(self) -> tuple[str, ...]:
        """Of ``not_counted``, what makes ``macs`` a lower bound."""
        return tuple(text for text in self.not_counted if text.partition(" ")[0] in _HEAVY)


def count_graph(model: ir.Model) -> Counts:
    """Count ``model``, whose shapes must be static and known.

    Raises:
        GraphError: a multiplying node has an operand of unknown shape.
    """
    layers = tuple(layer for node in model.graph if (layer := _count_node(node)) is not None)
    left_out = Counter(node.op_type for node in model.graph if node.op_type not in _RULES)
    return Counts(
        params=_params(model),
        macs=sum(layer.macs for layer in layers),
        elementwise_multiplies=sum(layer.elementwise_multiplies for layer in layers),
        layers=layers,
        not_counted=tuple(f"{op} x{n}" for op, n in sorted(left_out.items())),
    )


def _count_node(node: ir.Node) -> LayerCount | None:
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    macs, multiplies = rule(node)
    if macs == 0 and multiplies == 0:
        return None
    return LayerCount(
        name=node.name or node.outputs[0].name or "",
        op_type=node.op_type,
        scope=node.metadata_props.get("pkg.torch.onnx.name_scopes", ""),
        output_shape=_shape(node, node.outputs[0]),
        macs=macs,
        elementwise_multiplies=multiplies,
    )


def _conv(node: ir.Node) -> tuple[int, int]:
    weight = _shape(node, node.inputs[1])  # (out, in / groups, *kernel)
    return math.prod(_shape(node, node.outputs[0])) * math.prod(weight[1:]), 0


def _conv_transpose(node: ir.Node) -> tuple[int, int]:
    weight = _shape(node, node.inputs[1])  # (in, out / groups, *kernel)
    return math.prod(_shape(node, node.inputs[0])) * math.prod(weight[1:]), 0


def _gemm(node: ir.Node) -> tuple[int, int]:
    left = _shape(node, node.inputs[0])
    transposed = node.attributes.get("transA")
    inner = left[0] if transposed is not None and transposed.as_int() else left[1]
    return math.prod(_shape(node, node.outputs[0])) * inner, 0


def _matmul(node: ir.Node) -> tuple[int, int]:
    inner = _shape(node, node.inputs[0])[-1]
    return math.prod(_shape(node, node.outputs[0])) * inner, 0


def _mul(node: ir.Node) -> tuple[int, int]:
    """A product of two computed values, one of them constant over the feature map."""
    if any(value is None or value.const_value is not None for value in node.inputs):
        return 0, 0
    left, right = (_shape(node, value) for value in node.inputs)
    out = _shape(node, node.outputs[0])
    if len(left) != len(right) or len(out) < 3 or left[:2] != right[:2]:
        return 0, 0
    per_channel = {math.prod(left[2:]) == 1, math.prod(right[2:]) == 1}
    return 0, math.prod(out) if per_channel == {True, False} else 0


_RULES: dict[str, Callable[[ir.Node], tuple[int, int]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _mul,
}


# Without a rule, and no small change either: products of matrices, or graphs in a node.
_HEAVY_NAMES = """
    Attention ConvInteger DeformConv DFT Einsum GRU If Loop LSTM MatMulInteger QLinearConv
    QLinearMatMul RNN Scan STFT
    """
_HEAVY = frozenset(_HEAVY_NAMES.split())


def _shape(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    shape = None if value is None else value.shape
    if shape is None or not shape.is_static():
        name = "" if value is None else value.name
        raise GraphError(f"cannot count node {node.name!r}: the shape of {name!r} is not known")
    return shape.numpy()


def _params(model: ir.Model) -> int:
    """Elements of the floating-point constants, a shared one once."""
    return sum(
        math.prod(value.shape.numpy())
        for value in model.graph.initializers.values()
        if value.shape is not None and value.dtype is not None and value.dtype.is_floating_point()
    )
