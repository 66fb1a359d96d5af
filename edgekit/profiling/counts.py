"""What a graph computes and moves, counted from its shapes: never a time.

    macs                    of convolution, linear and matmul, as ``torch.utils.flop_counter`` / 2
    elementwise_multiplies  products of a coefficient and a feature map, one per output element:
                            what MicroNet's authors add to the MACs of their tables
    madds                   macs + elementwise_multiplies
    flops                   2 * macs + elementwise_multiplies
    intensity               flops / (weight bytes + bytes of activations read and written)

Other products (activations such as h-swish, scaling by a constant) are listed apart. What is not
counted at all is listed by operator type; ``missing`` has what multiplies as convolutions do, so
that totals without it are a lower bound. Which product is one of a coefficient is told by
``coefficients.py``, peak memory by ``activation_memory.py``.
The graph is read by attribute only, so that a board needs no ONNX package to import this.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import GraphError
from edgekit.profiling.activation_memory import VIEWS, peak_memory, value_bytes
from edgekit.profiling.coefficients import COEFFICIENT, Origins, kind_of_product, origins

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class LayerCount:
    """One node.

    Attributes:
        name: of the node in the graph.
        op_type: ONNX operator; ``domain.operator`` of a vendor's own.
        scope: where in the model it comes from, e.g. ``features.1.layers.5``; "" if unknown.
        output_shape: of its first output; empty also where that is not known.
        macs: see the module.
        elementwise_multiplies: see the module.
        other_multiplies: products that are in no total; ``other_kind`` says what they are.
        params: elements of its floating-point constants; a shared one is the first reader's.
        weight_bytes: of its constants, index tables left out; shared ones likewise.
        input_bytes: of the computed values it reads, each once.
        output_bytes: of what it writes; a view writes nothing, and reads nothing.
    """

    name: str
    op_type: str
    scope: str
    output_shape: tuple[int, ...]
    macs: int = 0
    elementwise_multiplies: int = 0
    other_multiplies: int = 0
    other_kind: str = ""
    params: int = 0
    weight_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies."""
        return self.macs + self.elementwise_multiplies

    @property
    def bytes_moved(self) -> int:
        """Weights, inputs and outputs, each once."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


@dataclass(frozen=True)
class TypeCount:
    """All nodes of one operator type."""

    op_type: str
    nodes: int
    macs: int
    elementwise_multiplies: int
    params: int
    weight_bytes: int

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies."""
        return self.macs + self.elementwise_multiplies


@dataclass(frozen=True)
class Apart:
    """Products that are in no total: of one kind, by nodes of one operator type."""

    kind: str
    op_type: str
    nodes: int
    multiplies: int


@dataclass(frozen=True)
class Counts:
    """One graph.

    Attributes:
        params: of the model as defined where that is known, else of the graph's constants.
        nodes: all of them, in the order of the graph.
        peak_activation_bytes: see ``activation_memory``; None where a size is not known.
        peak_at: name of the node that runs then; "" at the start.
    """

    params: int
    nodes: tuple[LayerCount, ...]
    peak_activation_bytes: int | None = None
    peak_at: str = ""

    @property
    def layers(self) -> tuple[LayerCount, ...]:
        """The nodes that the totals consist of."""
        return tuple(node for node in self.nodes if node.madds)

    @property
    def macs(self) -> int:
        """Of convolution, linear and matmul."""
        return sum(node.macs for node in self.nodes)

    @property
    def elementwise_multiplies(self) -> int:
        """Of coefficients and feature maps."""
        return sum(node.elementwise_multiplies for node in self.nodes)

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies."""
        return self.macs + self.elementwise_multiplies

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""
        return 2 * self.macs + self.elementwise_multiplies

    @property
    def weight_bytes(self) -> int:
        """Of the constants that the nodes read, index tables left out."""
        return sum(node.weight_bytes for node in self.nodes)

    @property
    def activation_bytes(self) -> int | None:
        """Read and written by all nodes, each input and output once a node."""
        if self.peak_activation_bytes is None:
            return None
        return sum(node.input_bytes + node.output_bytes for node in self.nodes)

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte of weights and of activations moved."""
        if self.activation_bytes is None:
            return None
        return self.flops / max(1, self.weight_bytes + self.activation_bytes)

    @property
    def by_type(self) -> tuple[TypeCount, ...]:
        """One row an operator type, the most MACs first."""
        groups: dict[str, list[LayerCount]] = {}
        for node in self.nodes:
            groups.setdefault(node.op_type, []).append(node)
        rows = [_type_count(op_type, nodes) for op_type, nodes in groups.items()]
        return tuple(sorted(rows, key=lambda row: (-row.macs, -row.elementwise_multiplies)))

    @property
    def apart(self) -> tuple[Apart, ...]:
        """Products that are in no total, by kind and operator type."""
        nodes: Counter[tuple[str, str]] = Counter()
        multiplies: Counter[tuple[str, str]] = Counter()
        for node in self.nodes:
            if node.other_kind:
                nodes[node.other_kind, node.op_type] += 1
                multiplies[node.other_kind, node.op_type] += node.other_multiplies
        return tuple(Apart(*key, nodes[key], multiplies[key]) for key in sorted(nodes))

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Operator types of the nodes that are in no total, and how many."""
        left_out = Counter(node.op_type for node in self.nodes if not node.madds)
        return tuple(f"{op} x{n}" for op, n in sorted(left_out.items()))

    @property
    def missing(self) -> tuple[str, ...]:
        """Of ``not_counted``, what makes ``macs`` a lower bound."""
        return tuple(text for text in self.not_counted if _is_heavy(text.rpartition(" x")[0]))


def count_graph(model: ir.Model) -> Counts:
    """Count ``model``, whose shapes must be static and known.

    Raises:
        GraphError: a multiplying node has an operand of unknown shape.
    """
    known = origins(model.graph)
    weights = _Weights(model.graph, known)
    scopes: dict[ir.Value, str] = {}
    nodes = tuple(_count_node(node, known, weights, scopes) for node in model.graph)
    peak = peak_memory(model.graph, known.keys())
    return Counts(
        params=weights.params,
        nodes=nodes,
        peak_activation_bytes=None if peak is None else peak.bytes,
        peak_at="" if peak is None else printable(peak.at),
    )


# ---- one node --------------------------------------------------------------------------------


def _count_node(
    node: ir.Node, known: Origins, weights: _Weights, scopes: dict[ir.Value, str]
) -> LayerCount:
    rule = _RULES.get(_operator(node))
    kind = kind_of_product(node, known)
    products = math.prod(_shape(node, node.outputs[0])) if kind else 0
    params, weight_bytes = weights.of(node)
    read, written = _moved(node, known)
    return LayerCount(
        name=_name(node),
        op_type=printable(_operator(node)),
        scope=_scope(node, scopes),
        output_shape=_known_shape(node.outputs[0]) if node.outputs else (),
        macs=rule(node) if rule else 0,
        elementwise_multiplies=products if kind == COEFFICIENT else 0,
        other_multiplies=products if kind != COEFFICIENT else 0,
        other_kind=kind if kind != COEFFICIENT else "",
        params=params,
        weight_bytes=weight_bytes,
        input_bytes=read,
        output_bytes=written,
    )


def _conv(node: ir.Node) -> int:
    weight = _shape(node, node.inputs[1])  # (out, in / groups, *kernel)
    return math.prod(_shape(node, node.outputs[0])) * math.prod(weight[1:])


def _conv_transpose(node: ir.Node) -> int:
    weight = _shape(node, node.inputs[1])  # (in, out / groups, *kernel)
    return math.prod(_shape(node, node.inputs[0])) * math.prod(weight[1:])


def _gemm(node: ir.Node) -> int:
    left = _shape(node, node.inputs[0])
    transposed = node.attributes.get("transA")
    inner = left[0] if transposed is not None and transposed.as_int() else left[1]
    return math.prod(_shape(node, node.outputs[0])) * inner


def _matmul(node: ir.Node) -> int:
    inner = _shape(node, node.inputs[0])[-1]
    return math.prod(_shape(node, node.outputs[0])) * inner


_RULES: Mapping[str, Callable[[ir.Node], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}

# Without a rule, and no small change either: products of matrices, or graphs in a node.
_HEAVY_NAMES = """
    Attention ConvInteger DeformConv DFT Einsum GRU If Loop LSTM MatMulInteger QLinearConv
    QLinearMatMul RNN Scan STFT
    """
_HEAVY = frozenset(_HEAVY_NAMES.split())


def _operator(node: ir.Node) -> str:
    """A vendor's operator of a known name need not be the known one."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _is_heavy(operator: str) -> bool:
    """What a vendor's operator does is not known: fused ones multiply."""
    return operator in _HEAVY or "." in operator


def _shape(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    shape = None if value is None else value.shape
    if shape is None or not shape.is_static():
        name = "" if value is None else value.name
        raise GraphError(f"cannot count node {node.name!r}: the shape of {name!r} is not known")
    return shape.numpy()


def _known_shape(value: ir.Value) -> tuple[int, ...]:
    shape = value.shape
    return shape.numpy() if shape is not None and shape.is_static() else ()


def _moved(node: ir.Node, known: Origins) -> tuple[int, int]:
    """Bytes of computed values that ``node`` reads and writes; unknown ones are 0."""
    if node.op_type in VIEWS:
        return 0, 0
    read = {value for value in node.inputs if value is not None and value in known}
    written = [value for value in node.outputs if value in known]
    return _bytes(read), _bytes(written)


def _bytes(values: Iterable[ir.Value]) -> int:
    return sum(value_bytes(value) or 0 for value in values)


def _type_count(op_type: str, nodes: list[LayerCount]) -> TypeCount:
    return TypeCount(
        op_type=op_type,
        nodes=len(nodes),
        macs=sum(node.macs for node in nodes),
        elementwise_multiplies=sum(node.elementwise_multiplies for node in nodes),
        params=sum(node.params for node in nodes),
        weight_bytes=sum(node.weight_bytes for node in nodes),
    )


# ---- names -----------------------------------------------------------------------------------

_SCOPES = "pkg.torch.onnx.name_scopes"  # the tracer's: a list of modules, the outermost first
_LONGEST_NAME = 400
_WEIGHT = re.compile(r"(.+)\.weight(\.\d+)*")  # passes number what they rewrite


def _name(node: ir.Node) -> str:
    return printable(node.name or (node.outputs[0].name if node.outputs else "") or "")


def printable(name: str) -> str:
    """Names come from users' files, and are printed to terminals."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:_LONGEST_NAME])


def _scope(node: ir.Node, scopes: dict[ir.Value, str]) -> str:
    """The module of a node's weight, else the tracer's, else that of what it reads first."""
    scope = _scope_of_weight(node) or _traced_scope(node)
    if not scope:
        read = (value for value in node.inputs if value is not None)
        scope = next((scopes[value] for value in read if value in scopes), "")
    scopes.update(dict.fromkeys(node.outputs, scope))
    return scope


def _scope_of_weight(node: ir.Node) -> str:
    """A convolution into which a normalisation was folded is traced as the normalisation."""
    value = node.inputs[1] if node.op_type in _RULES and len(node.inputs) > 1 else None
    found = _WEIGHT.fullmatch(value.name or "") if value is not None else None
    return printable(found[1]) if found else ""


def _traced_scope(node: ir.Node) -> str:
    try:
        listed = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""  # a user's own file may have anything there
    if not isinstance(listed, list) or len(listed) < 2:
        return ""
    return printable(str(listed[-2]))  # the last is the node's own name


# ---- constants -------------------------------------------------------------------------------

_TABLES = frozenset({"BOOL", "INT64", "STRING"})  # shapes, axes, indices: no weights


class _Weights:
    """The constants of a graph; each belongs to the node that reads it first."""

    def __init__(self, graph: ir.Graph, known: Origins) -> None:
        self._left = {value for value in graph.initializers.values() if value not in known}
        self.params = sum(_elements(value) for value in self._left)

    def of(self, node: ir.Node) -> tuple[int, int]:
        """Parameters and bytes of the constants that no earlier node reads."""
        mine = {value for value in node.inputs if value is not None and value in self._left}
        self._left -= mine
        stored = [v for v in mine if v.dtype is not None and v.dtype.name not in _TABLES]
        return sum(map(_elements, mine)), _bytes(stored)


def _elements(value: ir.Value) -> int:
    """Elements of a floating-point constant."""
    if value.shape is None or value.dtype is None or not value.dtype.is_floating_point():
        return 0
    return math.prod(value.shape.numpy())
