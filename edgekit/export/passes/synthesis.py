"""The kernel of a dynamic 1x1 convolution, computed once an image where that is faster.

In feature form a dynamic convolution writes three maps as large as its output: the static
convolution's, the residual's, and their sum. Where the map has many more places than the kernel
has weights, the kernel W(x) = lambda W0 + P M Q is the smaller thing to compute, and the map is
written once, by a product of matrices. A convolution with a kernel that is not constant is never
made: several runtimes lack it, and the others are slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    dtype,
    only_use,
    producer,
    replace,
)
from edgekit.export.passes.graph import shape as shape_of
from edgekit.export.passes.infra import NodePass
from edgekit.export.passes.linear import Linear, as_linear


@dataclass(frozen=True)
class Dynamic:
    """``P (M view(Q x)) + lambda * (W0 x)``, all three convolutions 1x1.

    Attributes:
        source: x, [N, in, H, W].
        p: (out, L) weights, and a bias.
        q: (L, in) weights, and a bias.
        w0: (out, in) weights, and a bias.
        mix: M, [N, L, L].
        scale: lambda, [N, out, 1, 1].
    """

    source: ir.Value
    p: Linear
    q: Linear
    w0: Linear
    mix: ir.Value
    scale: ir.Value


@dataclass(frozen=True)
class SynthesiseKernels(NodePass):
    """A dynamic 1x1 convolution on a large map becomes one product with a synthesised kernel.

    Given:
        x: float[1, 4, 8, 8]
        m: float[1, 2, 2]
        g: float[1, 6, 1, 1]
        q = Conv(x, u[2, 4, 1, 1], a[2])
        r = Reshape(q, [1, 2, 64])
        s = MatMul(m, r)
        t = Reshape(s, [1, 2, 8, 8])
        d = Conv(t, v[6, 2, 1, 1], b[6])
        c = Conv(x, w[6, 4, 1, 1])
        e = Mul(c, g)
        y = Add(d, e)
        return y
    Result:
        x: float[1, 4, 8, 8]
        m: float[1, 2, 2]
        g: float[1, 6, 1, 1]
        a = MatMul(p[1, 6, 2], m)
        b = MatMul(a, q[1, 2, 4])
        c = Reshape(g, [-1, 6, 1])
        d = Mul(w[1, 6, 4], c)
        k = Add(b, d)
        e = MatMul(a, o[1, 2, 1])
        f = Add(e, b[1, 6, 1])
        h = Reshape(x, [-1, 4, 64])
        i = MatMul(k, h)
        j = Add(i, f)
        y = Reshape(j, [-1, 6, 8, 8])
        return y

    Attributes:
        above: places of the map per channel that enters, from which on this pays.
    """

    above: float
    name: ClassVar[str] = "synthesise-kernels"
    op_types: ClassVar[tuple[str, ...]] = ("Add",)
    refused: ClassVar[str] = "not synthesised"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        found = _as_dynamic(node)
        if found is None:
            return False
        _, channels, height, width = shape_of(found.source)
        if height * width < self.above * channels:
            return f"its map has {height} x {width} places for {channels} channels"
        replace(node.outputs[0], _synthesised(Builder(node), found))
        return True


def _as_dynamic(node: ir.Node) -> Dynamic | None:
    for residual, scaled in (node.inputs, node.inputs[::-1]):
        static = _static(producer(scaled, "Mul"))
        p = _pointwise(producer(residual, "Conv"))
        matmul = producer(_viewed(p.source), "MatMul") if p else None
        if static is None or p is None or matmul is None:
            continue
        w0, scale = static
        mix, latent = matmul.inputs
        q = _pointwise(producer(_viewed(latent), "Conv"))
        between = (residual, scaled, matmul.outputs[0], w0.node.outputs[0])
        if q is None or mix is None or q.source is not w0.source:
            continue
        if not _same_map(residual, scaled):
            continue
        if all(v is not None and only_use(v) for v in between) and len(shape_of(mix)) == 3:
            return Dynamic(w0.source, p, q, w0, mix, scale)
    return None


def _same_map(*values: ir.Value | None) -> bool:
    """Whether all have the same shape: neither is broadcast, and the view went back to the map."""
    return len({None if value is None else tuple(shape_of(value)) for value in values}) == 1


def _static(product: ir.Node | None) -> tuple[Linear, ir.Value] | None:
    """Of ``lambda * (W0 x)``: W0 and lambda."""
    for convolved, scale in (product.inputs, product.inputs[::-1]) if product else ():
        w0 = _pointwise(producer(convolved, "Conv"))
        if w0 is not None and scale is not None and shape_of(scale)[1:] == (w0.outputs, 1, 1):
            return w0, scale
    return None


def _pointwise(node: ir.Node | None) -> Linear | None:
    """A 1x1 convolution of stride 1 in one group."""
    linear = as_linear(node)
    if linear is None or linear.groups != 1 or linear.weight.shape[2:] != (1, 1) or linear.pads:
        return None
    strides = attribute(linear.node, "strides", (1, 1))
    return linear if tuple(strides) == (1, 1) else None


def _viewed(value: ir.Value | None) -> ir.Value | None:
    """What ``value`` is a view of: (L, H, W) as (L, H * W), or back."""
    view = producer(value, "Reshape")
    if value is None or view is None or view.inputs[0] is None or not only_use(value):
        return None
    before, after = shape_of(view.inputs[0]), shape_of(value)
    same = before[:2] == after[:2] and sorted((len(before), len(after))) == [3, 4]
    return view.inputs[0] if same and only_use(view.inputs[0]) else None


def _synthesised(builder: Builder, found: Dynamic) -> ir.Value:
    _, width_in, height, width = shape_of(found.source)
    width_out, kind = found.p.outputs, dtype(found.source)

    def matrix(contents: Array, hint: str) -> ir.Value:
        return builder.constant(contents.reshape(1, contents.shape[0], -1), hint, kind)

    def view(value: ir.Value, *sizes: int) -> ir.Value:
        return builder.one("Reshape", value, builder.ints((-1, *sizes), "view"))

    weight = {name: getattr(found, name).weight[:, :, 0, 0] for name in ("p", "q", "w0")}
    mixed = builder.one("MatMul", matrix(weight["p"], "p"), found.mix)  # [N, out, L]
    residual = builder.one("MatMul", mixed, matrix(weight["q"], "q"))  # [N, out, in]
    scale = view(found.scale, width_out, 1)
    static = builder.one("Mul", matrix(weight["w0"], "w0"), scale)
    kernel = builder.one("Add", residual, static)
    offset = builder.one("MatMul", mixed, matrix(found.q.bias, "q/bias"))  # [N, out, 1]
    offset = builder.one("Add", offset, matrix(found.p.bias, "p/bias"))
    if found.w0.bias.any():
        scaled = builder.one("Mul", scale, matrix(found.w0.bias, "w0/bias"))
        offset = builder.one("Add", offset, scaled)
    columns = view(found.source, width_in, height * width)
    product = builder.one("Add", builder.one("MatMul", kernel, columns), offset)
    return view(product, width_out, height, width)
