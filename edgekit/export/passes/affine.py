"""Constant scales and offsets, one per channel, folded into the weights next to them.

    BatchNormalization            -> Mul, Add
    Conv, then Mul / Add / ...    -> Conv          (its outputs scaled)
    Mul / Add / ..., then Conv    -> Conv          (its inputs scaled)

Folding is exact up to rounding: it is done in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    constant,
    consumers,
    dtype,
    only_use,
    operand_and_constant,
    per_channel,
    producer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import LINEAR, Linear, as_linear


@dataclass(frozen=True)
class Affine:
    """``scale * source + offset``, with one float64 number of each per channel (axis 1)."""

    source: ir.Value
    scale: Array
    offset: Array

    @property
    def uniform(self) -> bool:
        """Whether all channels have the same scale and the same offset."""
        return bool((self.scale == self.scale[0]).all() and (self.offset == self.offset[0]).all())


ELEMENTWISE = ("Add", "Sub", "Mul", "Div")


def as_affine(node: ir.Node | None) -> Affine | None:
    """An Add, Sub, Mul or Div with a constant per channel as an `Affine`, else None."""
    if node is None or node.op_type not in ELEMENTWISE:
        return None
    operands = operand_and_constant(node)
    if operands is None:
        return None
    source, contents, position = operands
    sizes = shape(source)
    if len(sizes) < 2 or shape(node.outputs[0]) != sizes or contents.dtype.kind != "f":
        return None
    numbers = per_channel(contents, len(sizes), sizes[1])
    if numbers is None:
        return None
    return _affine(node.op_type, source, numbers, reversed_=position == 0)


def _affine(op_type: str, source: ir.Value, c: Array, reversed_: bool) -> Affine | None:
    one, zero = np.ones_like(c), np.zeros_like(c)
    if op_type == "Add":
        return Affine(source, one, c)
    if op_type == "Sub":
        return Affine(source, -one, c) if reversed_ else Affine(source, one, -c)
    if op_type == "Mul":
        return Affine(source, c, zero)
    if reversed_ or (c == 0).any():
        return None  # c / x is not affine
    return Affine(source, 1 / c, zero)


def emit_affine(builder: Builder, source: ir.Value, scale: Array, offset: Array) -> ir.Value:
    """``scale * source + offset`` as at most one Mul and one Add; uniform numbers as scalars."""
    rank, kind = len(shape(source)), dtype(source)
    for op_type, numbers, neutral in (("Mul", scale, 1.0), ("Add", offset, 0.0)):
        if (numbers == neutral).all():
            continue
        uniform = bool((numbers == numbers[0]).all())
        contents = numbers[0] if uniform else numbers.reshape(1, -1, *[1] * (rank - 2))
        hint = f"{builder.anchor.name}/{'scale' if op_type == 'Mul' else 'offset'}"
        source = builder.one(op_type, source, builder.constant(contents, hint, kind))
    return source


class BatchNormToAffine(NodePass):
    """An inference BatchNormalization is a Mul and an Add.

    Given:
        x: float[1, 8, 4, 4]
        y = BatchNormalization(x, s[8], b[8], m[8], v[8])
        return y
    Result:
        x: float[1, 8, 4, 4]
        a = Mul(x, s[1, 8, 1, 1])
        y = Add(a, t[1, 8, 1, 1])
        return y
    """

    name = "batch-norm-to-affine"
    op_types = ("BatchNormalization",)
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source, *parameters = node.inputs
        contents = [constant(value) for value in parameters]
        if attribute(node, "training_mode", 0):
            return "it is in training mode"
        if source is None or any(c is None for c in contents):
            return "its parameters are not constant"
        gain, bias, mean, variance = (np.asarray(c, np.float64) for c in contents)
        epsilon = float(np.float32(attribute(node, "epsilon", 1e-5)))  # attributes are float32
        scale = gain / np.sqrt(variance + epsilon)
        replace(node.outputs[0], emit_affine(Builder(node), source, scale, bias - mean * scale))
        return True


class FoldIntoProducer(NodePass):
    """A constant scale or offset per channel goes into the weights before it.

    Given:
        x: float[1, 8, 4, 4]
        a = Conv(x, w[6, 4, 1, 1], group=2)
        b = Mul(a, s[1, 6, 1, 1])
        y = Add(b, 3.0)
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = Conv(x, w[6, 4, 1, 1], b[6], group=2)
        return y

    Given:
        x: float[1, 8]
        a = MatMul(x, w[8, 6])
        y = Add(a, b[6])
        return y
    Result:
        x: float[1, 8]
        y = Gemm(x, w[6, 8], b[6], transB=1)
        return y
    """

    name = "fold-into-producer"
    op_types = ELEMENTWISE
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine = as_affine(node)
        linear = as_linear(producer(affine.source, *LINEAR)) if affine else None
        if affine is None or linear is None:
            return False
        if not only_use(affine.source):
            return f"{linear.node.name} is read elsewhere, too"
        replace(node.outputs[0], scale_outputs(Builder(node), linear, affine))
        return True


def scale_outputs(builder: Builder, linear: Linear, affine: Affine) -> ir.Value:
    """``linear`` with ``affine`` applied to its outputs."""
    column = affine.scale.reshape(-1, *[1] * (linear.weight.ndim - 1))
    return linear.rebuild(
        builder, weight=linear.weight * column, bias=linear.bias * affine.scale + affine.offset
    )


class FoldIntoConsumer(NodePass):
    """A constant scale or offset per channel goes into the weights after it.

    An offset does so only where the convolution does not pad: the zeros it puts around its
    input would have to be offset, too.

    Given:
        x: float[1, 8, 4, 4]
        a = Mul(x, s[1, 8, 1, 1])
        y = Conv(a, w[6, 4, 3, 3], b[6], group=2, pads=[1, 1, 1, 1])
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = Conv(x, w[6, 4, 3, 3], b[6], group=2, pads=[1, 1, 1, 1])
        return y
    """

    name = "fold-into-consumer"
    op_types = ELEMENTWISE
    refused = "not folded"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine = as_affine(node)
        readers = [as_linear(reader) for reader in consumers(node.outputs[0])]
        if affine is None or not readers or node.outputs[0].is_graph_output():
            return False
        found = [r for r in readers if r is not None and r.source is node.outputs[0]]
        if len(found) != len(readers):
            return False
        if affine.offset.any() and any(linear.pads for linear in found):
            return "the convolution after it pads with zeros"
        for linear in found:
            folded = _scale_inputs(Builder(linear.node), linear, affine)
            replace(linear.node.outputs[0], folded)
        return True


def _scale_inputs(builder: Builder, linear: Linear, affine: Affine) -> ir.Value:
    per_group = linear.weight.shape[1]
    group = np.arange(linear.outputs) // (linear.outputs // linear.groups)
    channels = group[:, None] * per_group + np.arange(per_group)  # read by each row
    trailing = [1] * (linear.weight.ndim - 2)
    scale = affine.scale[channels].reshape(*channels.shape, *trailing)
    offset = affine.offset[channels].reshape(*channels.shape, *trailing)
    shift = (linear.weight * offset).reshape(linear.outputs, -1).sum(1)
    return linear.rebuild(
        builder, affine.source, weight=linear.weight * scale, bias=linear.bias + shift
    )
