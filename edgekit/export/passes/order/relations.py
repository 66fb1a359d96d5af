"""What an operator asks of the order in which its channels (axis 1) are stored.

FOLLOW    operands and result are stored in one order: elementwise, pooling, padding
LINEAR    Conv, Gemm: the weights take any order, in groups as far as the groups allow
SELECT    Gather of all channels: another name for the same numbers
SPLIT     the operand's order is that of the parts, one after the other
CONCAT    the result's order is that of the operands, one after the other
FIXED     everything else: true order in, true order out
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.gates import UNARY
from edgekit.export.passes.graph import Array, attribute, constant, shape
from edgekit.export.passes.linear import as_linear
from edgekit.export.passes.permutations import permutation

_ELEMENTWISE = UNARY | {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "PRelu", "Where"}
_SPATIAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"})


class Relation(Enum):
    """See the table above."""

    FOLLOW = auto()
    LINEAR = auto()
    SELECT = auto()
    SPLIT = auto()
    CONCAT = auto()
    FIXED = auto()


def relation(node: ir.Node) -> Relation:
    """What ``node`` asks of channel orders."""
    if any(v is not None and (v.shape is None or not v.shape.is_static()) for v in node.inputs):
        return Relation.FIXED
    if permutation(node) is not None:
        return Relation.SELECT
    if as_linear(node) is not None:
        return Relation.LINEAR
    if node.op_type in ("Split", "Concat") and _axis(node) == 1:
        return Relation.SPLIT if node.op_type == "Split" else Relation.CONCAT
    return Relation.FOLLOW if _follows(node) else Relation.FIXED


def _axis(node: ir.Node) -> int:
    axis = int(attribute(node, "axis", 0))
    return axis + len(shape(node.outputs[0])) if axis < 0 else axis


def channels(value: ir.Value) -> int:
    """Length of axis 1, or 0 where there is none."""
    return shape(value)[1] if value.shape is not None and len(shape(value)) >= 2 else 0


def _follows(node: ir.Node) -> bool:
    if len(node.outputs) != 1 or channels(node.outputs[0]) == 0:
        return False
    if node.op_type in _ELEMENTWISE:
        return all(_stands_beside(value, node.outputs[0]) for value in node.inputs)
    if node.op_type in _SPATIAL:
        return True
    if node.op_type == "Reshape":
        before, after = node.inputs[0], node.outputs[0]
        return before is not None and shape(before)[:2] == shape(after)[:2]
    return node.op_type == "Pad" and _pads_inside_channels(node)


def _stands_beside(operand: ir.Value | None, result: ir.Value) -> bool:
    """Whether an operand has the result's channels on its axis 1, or is the same for all."""
    if operand is None:
        return True
    contents = constant(operand)
    if contents is not None:
        return contents.ndim <= len(shape(result))
    return len(shape(operand)) == len(shape(result))


def _pads_inside_channels(node: ir.Node) -> bool:
    pads = constant(node.inputs[1])
    axes_given = len(node.inputs) > 3 and node.inputs[3] is not None
    if pads is None or axes_given:
        return False
    rank = len(pads) // 2
    return not pads[[1, rank + 1]].any()


def reorder_constant(contents: Array, rank: int, order: Array) -> Array:
    """A constant that broadcasts against ``rank`` axes, its channels stored in ``order``."""
    axis = contents.ndim - rank + 1
    if axis < 0 or contents.shape[axis] == 1:
        return contents
    return np.take(contents, order, axis=axis)
