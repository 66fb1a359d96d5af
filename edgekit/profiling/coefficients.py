"""Which products are a coefficient times a feature map: told by where the two come from.

An element-wise product counts when its coefficient is computed, by a layer with weights, from a
global pool, and the map has passed one pool fewer. Squeeze and excitation and dynamic shift-max
are of this form, whatever the size of the map, 1 x 1 included:

    x --> global pool --> Conv, Gemm or MatMul --> anything per channel --> c
    x ---------------------------------------------- any order -----------> x~       c * x~

    h-swish, x * gate(x)          both have passed as many pools: an activation
    normalisation, x * 1/std(x)   no layer with weights behind the pool: not a coefficient
    attention over positions      no global pool: not a coefficient of a channel

A convolution that covers all that is left of a map, as DCD has behind its pool to 2 x 2, is a pool
and a layer in one. On a vector there is nothing left to pool: there, in DCD's classifier, the
coefficient is what has passed more layers with weights since the pool, if it was not computed from
the other factor.

So each computed value has an ``Origin``: how many global pools every way from the inputs passes
at least, and how many layers with weights came after the last. A constant has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

COEFFICIENT = "coefficient"
ACTIVATION, PRODUCT, SCALING = APART = ("activation", "product", "scaling")

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

# One product of a value and its own gate for each element of the output, as these are defined.
_ACTIVATIONS = frozenset({"Gelu", "HardSwish", "Mish", "Swish"})

_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_POOLS = frozenset({"AveragePool", "MaxPool", "LpPool"})
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"}
    | {"ReduceSumSquare"}
)
# What these give depends on the shape of their input, and shapes are static here.
_SHAPES = frozenset({"Shape", "Size"})

# From x to its own gate: one computed operand, element by element.
_GATES = frozenset(
    {"Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "HardSigmoid", "Identity", "Log", "Max"}
    | {"Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub"}
    | {"Tanh"}
)


@dataclass(frozen=True)
class Origin:
    """Where a computed value comes from.

    Attributes:
        pools: global pools on the way from an input that passes fewest.
        layers: layers with weights after the last of them, on the way that passes most.
    """

    pools: int
    layers: int

    @property
    def weighted(self) -> bool:
        """Whether there is any such layer."""
        return self.layers > 0


Origins = Mapping["ir.Value", Origin]


def origins(graph: ir.Graph) -> Origins:
    """The origin of every value of ``graph`` that is computed from an input."""
    found: dict[ir.Value, Origin] = {value: Origin(0, layers=0) for value in graph.inputs}
    for value in graph.initializers.values():
        found.pop(value, None)  # older files list their weights among the inputs
    for node in graph:
        computed = [found[value] for value in node.inputs if value in found and value is not None]
        if computed and node.op_type not in _SHAPES:
            found.update(dict.fromkeys(node.outputs, _after(node, computed)))
    return found


def kind_of_product(node: ir.Node, known: Origins) -> str:
    """``coefficient``, one of ``APART``, or "" for what is no element-wise product."""
    if node.op_type in _ACTIVATIONS:
        return ACTIVATION
    if node.op_type != "Mul" or not any(value in known for value in node.inputs):
        return ""
    left, right = node.inputs
    if left is None or right is None or left not in known or right not in known:
        return SCALING
    if _is_coefficient(left, right, known) or _is_coefficient(right, left, known):
        return COEFFICIENT
    if left is not right and (_is_gate(left, right, known) or _is_gate(right, left, known)):
        return ACTIVATION
    return PRODUCT


def _after(node: ir.Node, inputs: Iterable[Origin]) -> Origin:
    inputs = list(inputs)
    pools = min(origin.pools for origin in inputs)
    if is_global_pool(node):
        return Origin(pools + 1, layers=0)
    if _covers_the_map(node):
        return Origin(pools + 1, layers=1)
    layers = max(origin.layers for origin in inputs)
    return Origin(pools, layers + (node.op_type in WEIGHTED))


def _is_coefficient(value: ir.Value, map_: ir.Value, known: Origins) -> bool:
    left, right = known[value], known[map_]
    if left.pools != right.pools or not left.pools:
        return left.weighted and left.pools > right.pools
    return left.layers > right.layers > 0 and not _comes_from(value, map_)


def _covers_the_map(node: ir.Node) -> bool:
    """Whether ``node`` is a convolution of a whole map, which leaves one value a channel."""
    if node.op_type != "Conv":
        return False
    before, kernel = _sizes(node.inputs[0])[2:], _sizes(node.inputs[1])[2:]
    after = _sizes(node.outputs[0])[2:]
    return before == kernel and max(before, default=1) > 1 and set(after) == {1}


def _comes_from(value: ir.Value, source: ir.Value) -> bool:
    """Whether ``value`` was computed from ``source``."""
    waiting, seen = [value], {value}
    while waiting:
        at = waiting.pop()
        if at is source:
            return True
        node = at.producer()
        for item in () if node is None else node.inputs:
            if item is not None and item not in seen:
                seen.add(item)
                waiting.append(item)
    return False


def is_global_pool(node: ir.Node) -> bool:
    """Whether ``node`` leaves one value a channel."""
    if node.op_type in _GLOBAL_POOLS:
        return True
    if node.op_type in _POOLS:
        sizes = _sizes(node.outputs[0])
        return len(sizes) >= 3 and all(size == 1 for size in sizes[2:])
    return node.op_type in _REDUCTIONS and _reduces_to_channels(node)


def _reduces_to_channels(node: ir.Node) -> bool:
    """Whether the batch and one other axis are left, or more that have nothing to reduce."""
    sizes = _sizes(node.inputs[0])
    axes = _axes(node, len(sizes))
    left = [axis for axis in range(1, len(sizes)) if axis not in axes]
    if len(sizes) < 3 or not axes or 0 in axes:
        return False
    # A mean over the width of what has no height any more; but not one over the channels.
    return len(left) == 1 or (1 in left and all(sizes[axis] == 1 for axis in left if axis != 1))


def _axes(node: ir.Node, rank: int) -> frozenset[int]:
    """The reduced axes, none negative; empty where they are not constant."""
    attribute = node.attributes.get("axes")
    if attribute is not None:
        listed: Iterable[int] = attribute.as_ints()
    else:
        given = node.inputs[1] if len(node.inputs) > 1 else None
        tensor = None if given is None else given.const_value
        listed = () if tensor is None else tensor.numpy().flatten().tolist()
    return frozenset(axis % rank for axis in listed if rank)


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    shape = None if value is None else value.shape
    return shape.numpy() if shape is not None and shape.is_static() else ()


def _is_gate(value: ir.Value, of: ir.Value, known: Origins) -> bool:
    """Whether ``value`` is a function of ``of`` alone, element by element."""
    at: ir.Value | None = value
    while at is not None and at is not of:
        node = at.producer()
        if node is None or node.op_type not in _GATES:
            return False
        computed = [item for item in node.inputs if item is not None and item in known]
        at = computed[0] if len(computed) == 1 else None
    return at is of
