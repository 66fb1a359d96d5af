"""Which products are a coefficient times a feature map: told by where the two come from.

An element-wise product counts when its coefficient is computed, by a layer with weights, from a
global pool, and the map has passed one pool fewer. Squeeze and excitation and dynamic shift-max
are of this form, whatever the size of the map, 1 x 1 included:

    x --> global pool --> Conv, Gemm or MatMul --> anything per channel --> c
    x ---------------------------------------------- any order -----------> x~       c * x~

    h-swish, x * gate(x)          both have passed as many pools: an activation
    normalisation, x * 1/std(x)   no layer with weights behind the pool: not a coefficient
    attention over positions      no global pool: not a coefficient of a channel

So each computed value has an ``Origin``: how many global pools every way from the inputs passes
at least, and whether a layer with weights came after the last. A constant has none.
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
        weighted: a layer with weights came after the last of them.
    """

    pools: int
    weighted: bool


Origins = Mapping["ir.Value", Origin]


def origins(graph: ir.Graph) -> Origins:
    """The origin of every value of ``graph`` that is computed from an input."""
    found: dict[ir.Value, Origin] = {value: Origin(0, weighted=False) for value in graph.inputs}
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
    if _is_coefficient(known[left], known[right]) or _is_coefficient(known[right], known[left]):
        return COEFFICIENT
    if left is not right and (_is_gate(left, right, known) or _is_gate(right, left, known)):
        return ACTIVATION
    return PRODUCT


def _after(node: ir.Node, inputs: Iterable[Origin]) -> Origin:
    inputs = list(inputs)
    pools = min(origin.pools for origin in inputs)
    if is_global_pool(node):
        return Origin(pools + 1, weighted=False)
    weighted = node.op_type in WEIGHTED or any(origin.weighted for origin in inputs)
    return Origin(pools, weighted)


def _is_coefficient(left: Origin, right: Origin) -> bool:
    return left.weighted and left.pools > right.pools


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
