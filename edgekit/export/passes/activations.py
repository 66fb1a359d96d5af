"""Activations in the one form that every runtime has a kernel for.

x * relu6(x + 3) / 6       HardSwish(x)
relu6(x + 3) / 6           HardSigmoid(x, alpha=1/6, beta=1/2)
hard sigmoid of a Conv     Clip(0, 1) of the Conv, its slope and offset in the weights
min(max(x, 0), 6)          Clip(x, 0, 6)
clip(x, 0, inf)            Relu(x)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.affine import Affine, as_affine, scale_outputs
from edgekit.export.passes.graph import (
    Builder,
    attribute,
    dtype,
    is_float,
    only_consumer,
    only_use,
    producer,
    replace,
    scalar,
    shape,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import LINEAR, as_linear

_ROUNDING = 1e-6  # constants that were written in float32 are compared to this relative error


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


@dataclass(frozen=True)
class Clamp:
    """``min(max(slope * source + offset, low), high)``."""

    source: ir.Value
    slope: float
    offset: float
    low: float
    high: float


def as_clamp(node: ir.Node | None) -> Clamp | None:
    """A Relu, Clip or HardSigmoid as a `Clamp`, else None."""
    if node is None or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return Clamp(node.inputs[0], 1.0, 0.0, 0.0, math.inf)
    if node.op_type == "HardSigmoid":
        slope, offset = (_meant(attribute(node, k, d)) for k, d in (("alpha", 0.2), ("beta", 0.5)))
        return Clamp(node.inputs[0], slope, offset, 0.0, 1.0)
    if node.op_type != "Clip":
        return None
    bounds = [_bound(node, position) for position in (1, 2)]
    if bounds[0] is None or bounds[1] is None or bounds[0] > bounds[1]:
        return None  # with crossed bounds a Clip is the constant ``high``, and no clamp
    return Clamp(node.inputs[0], 1.0, 0.0, bounds[0], bounds[1])


def _meant(number: float) -> float:
    """A fraction that ONNX keeps as a float32 attribute, e.g. 1/6 for 0.16666667163372."""
    fraction = Fraction(number).limit_denominator(64)
    return float(fraction if np.float32(fraction) == np.float32(number) else number)


def _bound(node: ir.Node, position: int) -> float | None:
    if len(node.inputs) <= position or node.inputs[position] is None:
        return -math.inf if position == 1 else math.inf
    return scalar(node.inputs[position])


def emit_clip(builder: Builder, source: ir.Value, low: float, high: float) -> ir.Value:
    """Relu where it is one, else Clip."""
    if low == 0.0 and high == math.inf:
        return builder.one("Relu", source)
    bounds = [
        None if math.isinf(bound) else builder.constant(bound, name, dtype(source))
        for name, bound in (("low", low), ("high", high))
    ]
    if bounds[1] is None:
        bounds.pop()
    return builder.one("Clip", source, *bounds)


class NormaliseClip(NodePass):
    """Max and Min with numbers, and clamps of clamps, are one Clip or Relu.

    Given:
        x: float[1, 8, 4, 4]
        a = Max(x, 0.0)
        y = Min(a, 6.0)
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = Clip(x, 0.0, 6.0)
        return y
    """

    name = "normalise-clip"
    op_types = ("Max", "Min", "Clip", "Relu")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        clamp = as_clamp(node) or _as_extremum(node)
        if (
            clamp is None
            or not is_float(clamp.source)
            or shape(clamp.source) != shape(node.outputs[0])
        ):
            return False
        inner = producer(clamp.source, "Relu", "Clip")
        first = as_clamp(inner)
        source, low, high = clamp.source, clamp.low, clamp.high
        if inner is not None and first is not None and only_use(clamp.source):
            source = first.source
            low, high = (min(max(bound, low), high) for bound in (first.low, first.high))
        elif node.op_type == "Relu" or not _is_relu_in_disguise(node, clamp):
            return False
        replace(node.outputs[0], emit_clip(Builder(node), source, low, high))
        return True


def _as_extremum(node: ir.Node) -> Clamp | None:
    if node.op_type not in ("Max", "Min") or len(node.inputs) != 2:
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        bound = scalar(other)
        if value is not None and bound is not None and scalar(value) is None:
            low, high = (bound, math.inf) if node.op_type == "Max" else (-math.inf, bound)
            return Clamp(value, 1.0, 0.0, low, high)
    return None


def _is_relu_in_disguise(node: ir.Node, clamp: Clamp) -> bool:
    return node.op_type != "Clip" or (clamp.low == 0.0 and clamp.high == math.inf)


class HardSigmoids(NodePass):
    """A clamped slope from 0 to 1, however it is written.

    Given:
        x: float[1, 8, 4, 4]
        a = Add(x, 3.0)
        b = Clip(a, 0.0, 6.0)
        y = Div(b, 6.0)
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = HardSigmoid(x, alpha=0.166667, beta=0.5)
        return y
    """

    name = "hard-sigmoids"
    op_types = ("Mul", "Div")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        after = as_affine(node)
        clip = producer(after.source, "Clip") if after else None
        clamp = as_clamp(clip)
        if after is None or clamp is None or not after.uniform or clamp.low != 0.0:
            return False
        before = as_affine(producer(clamp.source))
        if before is None or not before.uniform or not _close(after.scale[0] * clamp.high, 1.0):
            return False
        alpha, beta = after.scale[0] * before.scale[0], after.scale[0] * before.offset[0]
        builder = Builder(node)
        built = builder.one("HardSigmoid", before.source, alpha=float(alpha), beta=float(beta))
        replace(node.outputs[0], built)
        return True


class HardSwishes(NodePass):
    """x * HardSigmoid(x), and x * relu6(x + 3) / 6 with the division last.

    Given:
        x: float[1, 8, 4, 4]
        a = HardSigmoid(x, alpha=0.16666667, beta=0.5)
        y = Mul(x, a)
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = HardSwish(x)
        return y

    Given:
        x: float[1, 8]
        a = Add(x, 3.0)
        b = Clip(a, 0.0, 6.0)
        c = Mul(b, x)
        y = Div(c, 6.0)
        return y
    Result:
        x: float[1, 8]
        y = HardSwish(x)
        return y
    """

    name = "hard-swishes"
    op_types = ("Mul", "Div")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source = _gated_by_hard_sigmoid(node) or _divided_last(node)
        if source is None:
            return False
        replace(node.outputs[0], Builder(node).one("HardSwish", source))
        return True


def _gated_by_hard_sigmoid(node: ir.Node) -> ir.Value | None:
    for value, gate in (node.inputs, node.inputs[::-1]) if node.op_type == "Mul" else ():
        clamp = as_clamp(producer(gate, "HardSigmoid"))
        if clamp is not None and clamp.source is value:
            if _close(clamp.slope, 1 / 6) and _close(clamp.offset, 0.5):
                return value
    return None


def _divided_last(node: ir.Node) -> ir.Value | None:
    after = as_affine(node)
    product = producer(after.source, "Mul") if after else None
    if after is None or product is None or not after.uniform or not _close(after.scale[0], 1 / 6):
        return None
    for value, gate in (product.inputs, product.inputs[::-1]):
        clamp = as_clamp(producer(gate, "Clip"))
        before = as_affine(producer(clamp.source)) if clamp else None
        if clamp and before and before.uniform and before.source is value:
            numbers = (clamp.low, clamp.high, before.scale[0], before.offset[0])
            if numbers == (0.0, 6.0, 1.0, 3.0):
                return value
    return None


class ClampsIntoWeights(NodePass):
    """Slopes and offsets around a clamp go into the weights before it and into its bounds.

    This is what makes the coefficients of dynamic shift-max cheap: ``(hard_sigmoid(t) - 0.5) * 4``
    is a Clip(-2, 2) of t's own convolution, with other weights.

    Given:
        x: float[1, 8, 1, 1]
        t = Conv(x, w[8, 8, 1, 1], b[8])
        h = HardSigmoid(t, alpha=0.16666667, beta=0.5)
        c = Sub(h, 0.5)
        y = Mul(c, 4.0)
        return y
    Result:
        x: float[1, 8, 1, 1]
        t = Conv(x, w[8, 8, 1, 1], b[8])
        y = Clip(t, -2.0, 2.0)
        return y
    """

    name = "clamps-into-weights"
    op_types = ("Clip", "Relu", "HardSigmoid")
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        clamp = as_clamp(node)
        linear = as_linear(producer(clamp.source, *LINEAR)) if clamp else None
        if clamp is None or linear is None:
            return False
        last, slope, offset = _following(node)
        if last is node and node.op_type != "HardSigmoid":
            return False
        if not only_use(clamp.source):
            return f"{linear.node.name} is read elsewhere, too"
        builder = Builder(last)
        ones = np.ones(linear.outputs)
        whole = Affine(
            clamp.source, ones * clamp.slope * slope, ones * (clamp.offset * slope + offset)
        )
        bounds = sorted(slope * bound + offset for bound in (clamp.low, clamp.high))
        replace(last.outputs[0], emit_clip(builder, scale_outputs(builder, linear, whole), *bounds))
        return True


def _following(node: ir.Node) -> tuple[ir.Node, float, float]:
    """The last of the uniform affine nodes after ``node``, and what they amount to."""
    slope, offset = 1.0, 0.0
    while True:
        reader = only_consumer(node.outputs[0])
        affine = as_affine(reader)
        if reader is None or affine is None or not affine.uniform or affine.scale[0] == 0:
            return node, slope, offset
        slope, offset = slope * affine.scale[0], offset * affine.scale[0] + affine.offset[0]
        node = reader
