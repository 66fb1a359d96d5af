"""Constant scales and offsets through sums, products and views, to weights further away.

A dynamic convolution is ``P (BN(Phi q) + q) + lambda * (W0 conv x)``, and a BatchNorm follows. No
weights stand directly before or after these BatchNorms, and yet both fold completely: the scale
of a sum is that of its terms, the scale of a product is that of one factor, and an offset can be
added later. What is left is two convolutions, one small product of matrices and one product with
a coefficient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.affine import (
    ELEMENTWISE,
    Affine,
    as_affine,
    emit_affine,
    scale_outputs,
)
from edgekit.export.passes.graph import (
    Array,
    Builder,
    constant,
    only_consumer,
    only_use,
    producer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import LINEAR, as_linear

Rebuild = Callable[[Builder], ir.Value]  # the value once more, scaled and offset


def _absorbed(value: ir.Value | None, scale: Array, offset: Array) -> Rebuild | None:
    """How ``scale * value + offset`` is computed with other weights and no more nodes, if it is.

    Args:
        value: computed, and read by one node only.
        scale: one number per channel (axis 1).
        offset: likewise.
    """
    node = producer(value)
    if value is None or node is None or not only_use(value):
        return None
    if len(shape(value)) < 2 or shape(value)[1] != len(scale):
        return None
    rule = _RULES.get(node.op_type)
    return None if rule is None else rule(node, scale, offset)


def _linear(node: ir.Node, scale: Array, offset: Array) -> Rebuild | None:
    linear = as_linear(node)
    if linear is None or linear.outputs != len(scale):
        return None
    affine = Affine(node.outputs[0], scale, offset)
    return lambda builder: scale_outputs(builder, linear, affine)


def _sum(node: ir.Node, scale: Array, offset: Array) -> Rebuild | None:
    """Both terms are scaled, one of them is offset."""
    if _broadcasts(node):
        return None
    scaled: list[Rebuild] = []
    for term in node.inputs:  # before any offset, so that a long sum is walked a few times only
        rebuild = _absorbed(term, scale, np.zeros_like(offset))
        if rebuild is None:
            return None
        scaled.append(rebuild)
    if not offset.any():
        return _twofold("Add", scaled[0], scaled[1])
    for position, term in enumerate(node.inputs):
        rebuild = _absorbed(term, scale, offset)
        if rebuild is not None:
            return _twofold("Add", rebuild, scaled[1 - position])
    return None


def _product(node: ir.Node, scale: Array, offset: Array) -> Rebuild | None:
    """One factor is scaled: the map rather than its coefficients, which may be clamped."""
    if offset.any():
        return None
    a, b = sorted(node.inputs, key=lambda v: -np.prod(shape(v)) if v is not None else 0)
    rank = len(shape(node.outputs[0]))
    for scaled, other in ((a, b), (b, a)):
        if scaled is None or other is None or len(shape(scaled)) != rank:
            continue  # axis 1 of a factor of lower rank is another axis of the product
        rebuild = _absorbed(scaled, scale, offset)
        if rebuild is not None:
            return _twofold("Mul", rebuild, _unchanged(other))
    return None


def _view(node: ir.Node, scale: Array, offset: Array) -> Rebuild | None:
    """Channels may not be among what is merged or split."""
    source, sizes = node.inputs[0], node.inputs[1]
    if source is None or not _keeps_channels(node):
        return None
    rebuild = _absorbed(source, scale, offset)
    if rebuild is None:
        return None
    return lambda builder: builder.one("Reshape", rebuild(builder), sizes, **_attributes(node))


def _matrices(node: ir.Node, scale: Array, offset: Array) -> Rebuild | None:
    """The rows of the first matrix are scaled; of weights there is nothing to find in a MatMul."""
    linear = _linear(node, scale, offset)
    if linear is not None:
        return linear
    left, right = node.inputs
    if offset.any() or right is None or len(shape(node.outputs[0])) != 3:
        return None
    rows = _rows(left, lambda matrix: matrix * scale[:, None])
    return _twofold("MatMul", rows, _unchanged(right)) if rows is not None else None


_RULES: dict[str, Callable[[ir.Node, Array, Array], Rebuild | None]] = {
    "Conv": _linear,
    "Gemm": _linear,
    "MatMul": _matrices,
    "Add": _sum,
    "Mul": _product,
    "Reshape": _view,
}


def _rows(value: ir.Value | None, change: Callable[[Array], Array]) -> Rebuild | None:
    """``value``, a matrix made of the outputs of a linear layer, with that layer changed.

    Args:
        value: [N, rows, columns], a view of [N, rows * columns] or [N, rows * columns, 1, 1].
        change: of a matrix (rows, columns): linear in it up to a constant.
    """
    view = producer(value, "Reshape")
    if value is None or view is None or not only_use(value) or len(shape(value)) != 3:
        return None
    rows, columns = shape(value)[1:]
    linear = as_linear(producer(view.inputs[0], *LINEAR))
    if linear is None or linear.outputs != rows * columns or not only_use(linear.node.outputs[0]):
        return None
    if shape(linear.node.outputs[0])[0] != shape(value)[0]:  # places of a map are among the rows
        return None
    offset = change(np.zeros((rows, columns)))
    scale = change(np.ones((rows, columns))) - offset
    affine = Affine(linear.node.outputs[0], scale.reshape(-1), offset.reshape(-1))
    sizes = view.inputs[1]

    def rebuild(builder: Builder) -> ir.Value:
        outputs = scale_outputs(builder, linear, affine)
        return builder.one("Reshape", outputs, sizes, **_attributes(view))

    return rebuild


def _twofold(op_type: str, first: Rebuild, second: Rebuild) -> Rebuild:
    return lambda builder: builder.one(op_type, first(builder), second(builder))


def _unchanged(value: ir.Value) -> Rebuild:
    return lambda builder: value


def _attributes(node: ir.Node) -> dict[str, int]:
    return {name: attribute.as_int() for name, attribute in node.attributes.items()}


def _broadcasts(node: ir.Node) -> bool:
    return any(v is None or shape(v) != shape(node.outputs[0]) for v in node.inputs)


def _keeps_channels(node: ir.Node) -> bool:
    """Whether batch and channels are after a Reshape what they were before."""
    before, after = shape(node.inputs[0]), shape(node.outputs[0])  # type: ignore[arg-type]
    return min(len(before), len(after)) >= 2 and before[:2] == after[:2]


class FoldIntoSum(NodePass):
    """A constant scale or offset per channel goes into the weights behind a sum or a product.

    Given:
        x: float[1, 8, 4, 4]
        g: float[1, 6, 1, 1]
        a = Conv(x, w[6, 8, 1, 1])
        b = Conv(x, v[6, 8, 3, 3], pads=[1, 1, 1, 1])
        c = Mul(g, b)
        d = Add(a, c)
        e = Mul(d, s[1, 6, 1, 1])
        y = Add(e, t[1, 6, 1, 1])
        return y
    Result:
        x: float[1, 8, 4, 4]
        g: float[1, 6, 1, 1]
        a = Conv(x, w[6, 8, 1, 1], t[6])
        b = Conv(x, v[6, 8, 3, 3], o[6], pads=[1, 1, 1, 1])
        c = Mul(b, g)
        y = Add(a, c)
        return y

    Given:
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4])
        m = Reshape(a, [1, 4, 4])
        b = MatMul(m, q)
        y = Mul(b, s[1, 4, 1])
        return y
    Result:
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4], o[16])
        m = Reshape(a, [1, 4, 4])
        y = MatMul(m, q)
        return y
    """

    name = "fold-into-sum"
    op_types = ELEMENTWISE

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine = as_affine(node)
        if affine is None:
            return False
        rebuild = _absorbed(affine.source, affine.scale, affine.offset)
        if rebuild is None:
            return False
        replace(node.outputs[0], rebuild(Builder(node)))
        return True


class DelayOffsets(NodePass):
    """A constant offset is added after the sum, or after the view, that it is added before.

    There it may meet weights that take it, and nothing is lost where it does not.

    Given:
        x: float[1, 4, 16]
        z: float[1, 4, 16]
        a = Add(x, t[1, 4, 1])
        b = Add(a, z)
        y = Reshape(b, [1, 4, 4, 4])
        return y
    Result:
        x: float[1, 4, 16]
        z: float[1, 4, 16]
        a = Add(x, z)
        b = Reshape(a, [1, 4, 4, 4])
        y = Add(b, t[1, 4, 1, 1])
        return y
    """

    name = "delay-offsets"
    op_types = ("Add", "Sub")

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine = as_affine(node)
        after = only_consumer(node.outputs[0], "Add", "Reshape")
        if affine is None or after is None or not (affine.scale == 1).all():
            return False
        builder = Builder(after)
        if after.op_type == "Reshape":
            if not _keeps_channels(after):
                return False
            moved = builder.one("Reshape", affine.source, after.inputs[1], **_attributes(after))
        else:
            others = [value for value in after.inputs if value is not node.outputs[0]]
            if len(others) != 1 or constant(others[0]) is not None or _broadcasts(after):
                return False
            moved = builder.one("Add", affine.source, others[0])
        replace(after.outputs[0], emit_affine(builder, moved, affine.scale, affine.offset))
        return True


class ResidualIntoProduct(NodePass):
    """M q + q is (M + I) q, and M takes the ones of its diagonal from a bias.

    Given:
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4])
        m = Reshape(a, [1, 4, 4])
        b = MatMul(m, q)
        y = Add(b, q)
        return y
    Result:
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4], b[16])
        m = Reshape(a, [1, 4, 4])
        y = MatMul(m, q)
        return y
    """

    name = "residual-into-product"
    op_types = ("Add",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        for product, other in (node.inputs, node.inputs[::-1]):
            matmul = producer(product, "MatMul")
            if matmul is None or product is None or matmul.inputs[1] is not other:
                continue
            if other is None or not only_use(product) or _broadcasts(node):
                return False
            rows = _rows(matmul.inputs[0], lambda matrix: matrix + np.eye(*matrix.shape))
            if rows is None or len(shape(other)) != 3:
                return False
            builder = Builder(node)
            replace(node.outputs[0], builder.one("MatMul", rows(builder), other))
            return True
        return False
