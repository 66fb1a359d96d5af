"""Few operations on the coefficients of a dynamic activation.

A shift-max makes four coefficients per channel in one convolution and takes them apart with a
Split. What is done to the parts is done once to the whole instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.affine import Affine, as_affine, emit_affine
from edgekit.export.passes.graph import (
    Builder,
    attribute,
    constant,
    consumers,
    dtype,
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
        outputs = builder.split(whole, [shape(value)[1] for value in node.outputs])
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


@dataclass(frozen=True)
class TileOffsets(NodePass):
    """The offset of coefficients is as wide as the map they multiply, so they come out tiled.

    A product of a map and a [C, 1, 1] tensor runs C numbers at a time where channels are stored
    last; with few channels that is slow. An offset of [C, 1, W] costs nothing more to add, and
    the product then runs W * C numbers at a time.

    Given:
        x: float[1, 4, 5, 5]
        t: float[1, 8, 1, 1]
        c = Add(t, o[1, 8, 1, 1])
        a, b = Split(c, [4, 4], axis=1)
        p = Mul(x, a)
        q = Mul(x, b)
        y = Add(p, q)
        return y
    Result:
        x: float[1, 4, 5, 5]
        t: float[1, 8, 1, 1]
        c = Add(t, o[1, 8, 1, 5])
        a, b = Split(c, [4, 4], axis=1)
        p = Mul(x, a)
        q = Mul(x, b)
        y = Add(p, q)
        return y

    Attributes:
        below: channels of the map from which on tiling does not pay.
    """

    below: int
    name: ClassVar[str] = "tile-offsets"
    op_types: ClassVar[tuple[str, ...]] = ("Add",)
    refused: ClassVar[str] = "not tiled"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        affine, whole = as_affine(node), node.outputs[0]
        if affine is None or shape(whole)[2:] != (1, 1):
            return False
        split = only_consumer(whole, "Split")
        parts = [whole] if split is None else list(split.outputs)
        if any(value.is_graph_output() for value in (whole, *parts)):
            return False
        maps = [found for part in parts for found in _multiplied(part)]
        sizes = {None if found is None else shape(found) for found in maps}
        if len(sizes) != 1 or None in sizes:
            return False
        (_, channels, _, width) = next(size for size in sizes if size is not None)
        if channels >= self.below or width == 1:
            return f"the map has {channels} channels and is {width} wide"
        builder = Builder(node)
        column = affine.offset.reshape(1, -1, 1, 1)
        offset = builder.constant(np.tile(column, (1, 1, 1, width)), "offset", dtype(whole))
        tiled = builder.one("Add", affine.source, offset)
        if split is None:
            replace(whole, tiled)
            return True
        outputs = Builder(split).split(tiled, [shape(part)[1] for part in parts])
        for old, new in zip(parts, outputs, strict=True):
            replace(old, new)
        return True


def _multiplied(coefficient: ir.Value) -> list[ir.Value | None]:
    """The maps that ``coefficient`` multiplies; None among them for any other reader."""
    return [_other_map(reader, coefficient) for reader in consumers(coefficient)]


def _other_map(reader: ir.Node, coefficient: ir.Value) -> ir.Value | None:
    others = [value for value in reader.inputs if value is not coefficient]
    if reader.op_type != "Mul" or len(others) != 1 or others[0] is None:
        return None
    if len(shape(others[0])) != 4 or constant(others[0]) is not None:
        return None
    return others[0]
