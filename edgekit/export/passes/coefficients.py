"""Few operations on the coefficients of a dynamic activation.

A shift-max makes four coefficients per channel in one convolution and takes them apart with a
Split. What is done to the parts is done once to the whole instead.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.affine import Affine, as_affine, emit_affine
from edgekit.export.passes.graph import (
    Builder,
    attribute,
    only_consumer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass


class HoistOverSplit(NodePass):
    """Constant scales and offsets after a Split become one before it, where that is fewer.

    Given:
        x: float[1, 8, 1, 1]
        a, b = Split(x, [4, 4], axis=1)
        c = Add(a, 1.0)
        d = Add(b, 2.0)
        return c, d
    Result:
        x: float[1, 8, 1, 1]
        y = Add(x, o[1, 8, 1, 1])
        c, d = Split(y, [4, 4], axis=1)
        return c, d
    """

    name = "hoist-over-split"
    op_types = ("Split",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source = node.inputs[0]
        if source is None or attribute(node, "axis") != 1:
            return False
        found = [_affine_of(value) for value in node.outputs]
        scale = np.concatenate([affine.scale for affine in found])
        offset = np.concatenate([affine.offset for affine in found])
        parts = [only_consumer(affine.source) for affine in found if not _neutral(affine)]
        if len(parts) <= int((scale != 1).any()) + int((offset != 0).any()):
            return False
        builder = Builder(node)
        whole = emit_affine(builder, source, scale, offset)
        sizes = builder.ints([shape(value)[1] for value in node.outputs], "split")
        outputs = builder.op("Split", whole, sizes, outputs=len(node.outputs), axis=1)
        for old, new, affine in zip(tuple(node.outputs), outputs, found, strict=True):
            reader = None if _neutral(affine) else only_consumer(old)
            replace(old if reader is None else reader.outputs[0], new)
        return True


def _affine_of(value: ir.Value) -> Affine:
    """What is done to ``value`` by its only reader, or the neutral affine."""
    reader = only_consumer(value)
    affine = as_affine(reader)
    if affine is not None:
        return affine
    channels = shape(value)[1]
    return Affine(value, np.ones(channels), np.zeros(channels))


def _neutral(affine: Affine) -> bool:
    return bool((affine.scale == 1).all() and (affine.offset == 0).all())
