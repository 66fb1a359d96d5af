"""Chains that only move numbers become the one node they amount to.

Exporters write a channel shuffle as Reshape, Transpose, Reshape, and ``x[:, index]`` as
Transpose, GatherND, Transpose; two of them in a row merge into longer chains. A chain is
recognised by what it does, whatever it is made of: it is run on a tensor that holds its own
flat indices, and the result says where each number came from.

    moved nothing, same shape     -> nothing
    moved nothing, other shape    -> Reshape
    selected along axis 1         -> Slice if contiguous, else Gather(axis=1)
    both, on [N, C, 1...]         -> Reshape to [N, C, 1, 1], then the selection
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.export.passes.graph import (
    Array,
    Builder,
    attribute,
    constant,
    consumers,
    evaluate,
    producer,
    replace,
    shape,
)
from edgekit.export.passes.infra import NodePass

# Each takes its data as input 0; with the other inputs constant it only moves numbers.
MOVEMENT = (
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Gather",
    "GatherND",
    "Slice",
)

_TRACED_CAP = 1 << 24  # elements; a larger tensor is no feature map of a tiny model

Sizes = tuple[int, ...]


def select_channels(builder: Builder, x: ir.Value, index: Sequence[int]) -> ir.Value:
    """Channels ``index`` (axis 1) of ``x``: Slice where they are contiguous, else Gather."""
    if is_contiguous(index):
        bounds = ([index[0]], [index[0] + len(index)], [1], [1])
        return builder.one("Slice", x, *(builder.ints(bound, "slice") for bound in bounds))
    return builder.one("Gather", x, builder.ints(index, "channels"), axis=1)


def is_contiguous(index: Sequence[int]) -> bool:
    """Whether ``index`` counts up by one."""
    return tuple(index) == tuple(range(index[0], index[0] + len(index)))


def selected_channels(node: ir.Node | None) -> tuple[int, ...] | None:
    """Which channels (axis 1) of its input a Gather or Slice returns, or None."""
    if node is None or node.op_type not in ("Gather", "Slice") or not _moves(node):
        return None
    before, after = shape(_source([node])), shape(node.outputs[0])
    if len(before) != len(after) or len(before) < 2 or before[2:] != after[2:]:
        return None
    form = _recognise([node])
    return None if form is None or form.reshaped != before else form.index


class SimplifyMovement(NodePass):
    """Chains of data movement become Reshape, Slice or Gather(axis=1), or nothing.

    Given:
        x: float[1, 6, 4, 4]
        a = Reshape(x, [1, 2, 3, 4, 4])
        b = Transpose(a, perm=[0, 2, 1, 3, 4])
        y = Reshape(b, [1, 6, 4, 4])
        return y
    Result:
        x: float[1, 6, 4, 4]
        y = Gather(x, [0, 3, 1, 4, 2, 5], axis=1)
        return y

    Given:
        x: float[1, 4, 5, 5]
        a = Transpose(x, perm=[1, 0, 2, 3])
        b = GatherND(a, [[3], [0], [1], [2]])
        y = Transpose(b, perm=[1, 0, 2, 3])
        return y
    Result:
        x: float[1, 4, 5, 5]
        y = Gather(x, [3, 0, 1, 2], axis=1)
        return y

    Given:
        x: float[1, 8]
        a = Reshape(x, [1, 2, 4, 1, 1])
        b = Slice(a, [1], [2], [1], [1])
        y = Squeeze(b, [1])
        return y
    Result:
        x: float[1, 8]
        a = Reshape(x, [1, 8, 1, 1])
        y = Slice(a, [4], [8], [1], [1])
        return y
    """

    name = "simplify-movement"
    op_types = MOVEMENT
    refused = "not composed"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        if not _moves(node) or _is_inner(node):
            return False
        chain = _chain(node)
        start, form = 0, _recognise(chain)
        while form is None and start + 1 < len(chain):
            start += 1
            form = _recognise(chain[start:])
        if form is not None and _rewrite(chain[start:], form):
            return True
        if start > 0 and _looks_like_a_shuffle(chain):
            return f"the {len(chain)} nodes from {chain[0].name} on are no selection of channels"
        return False


@dataclass(frozen=True)
class _Form:
    """``Reshape(x, reshaped)`` and then the channels ``index`` of it."""

    reshaped: tuple[int, ...]
    index: tuple[int, ...]

    @property
    def selects(self) -> bool:
        return self.index != tuple(range(self.reshaped[1] if len(self.reshaped) > 1 else 0))


def _moves(node: ir.Node) -> bool:
    return (
        node.op_type in MOVEMENT
        and all(constant(value) is not None for value in node.inputs[1:] if value is not None)
        and constant(node.inputs[0]) is None
    )


def _is_inner(node: ir.Node) -> bool:
    """Whether only further movement reads the result: the end of the chain is yet to come."""
    value = node.outputs[0]
    readers = consumers(value)
    return (
        not value.is_graph_output()
        and bool(readers)
        and all(_moves(reader) and reader.inputs[0] is value for reader in readers)
    )


def _chain(node: ir.Node) -> list[ir.Node]:
    chain = [node]
    while (before := producer(chain[0].inputs[0], *MOVEMENT)) is not None and _moves(before):
        chain.insert(0, before)
    return chain


def _looks_like_a_shuffle(chain: list[ir.Node]) -> bool:
    before, after = shape(_source(chain)), shape(chain[-1].outputs[0])
    return before == after and len(before) == 4


def _source(chain: list[ir.Node]) -> ir.Value:
    source = chain[0].inputs[0]
    assert source is not None  # _moves has seen it
    return source


def _recognise(chain: list[ir.Node]) -> _Form | None:
    before, after = shape(_source(chain)), shape(chain[-1].outputs[0])
    if math.prod(before) > _TRACED_CAP or 0 in (*before, *after):
        return None
    origin = _trace(chain, before)
    if origin.size == math.prod(before) and (origin == np.arange(origin.size)).all():
        return _Form(after, tuple(range(after[1])) if len(after) > 1 else ())
    if len(before) < 2 or len(after) < 2 or before[0] != after[0]:
        return None
    return _as_selection(origin, before, after)


def _as_selection(origin: Array, before: Sizes, after: Sizes) -> _Form | None:
    inner = math.prod(after[2:])
    batch, channels = before[0], math.prod(before[1:]) // inner
    if batch * channels * inner != math.prod(before):
        return None
    index = origin[: after[1] * inner : inner] // inner
    rows = (np.arange(batch) * channels)[:, None, None] + index[None, :, None]
    expected = rows * inner + np.arange(inner)
    if (index >= channels).any() or not np.array_equal(expected.ravel(), origin):
        return None
    return _Form((batch, channels, *after[2:]), tuple(int(i) for i in index))


def _trace(chain: list[ir.Node], sizes: Sizes) -> Array:
    """Flat source index of every element of the chain's result."""
    numbers = np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes)
    for node in chain:
        numbers = evaluate(node, {str(_source([node]).name): numbers})[0]
    return numbers.ravel()


def _rewrite(chain: list[ir.Node], form: _Form) -> bool:
    source, result = _source(chain), chain[-1].outputs[0]
    ops = _operators(form, shape(source))
    if len(chain) < len(ops) or [node.op_type for node in chain] == ops:
        return False  # already in its shortest form
    if not ops and result.is_graph_output() and source.producer() is None:
        return False  # an output needs a node that computes it
    builder = Builder(chain[-1])
    if "Reshape" in ops:
        source = builder.one("Reshape", source, builder.ints(form.reshaped, "shape"))
    if form.selects:
        source = select_channels(builder, source, form.index)
    replace(result, source)
    return True


def _operators(form: _Form, before: Sizes) -> list[str]:
    selection = ["Slice" if is_contiguous(form.index) else "Gather"] if form.selects else []
    return (["Reshape"] if form.reshaped != before else []) + selection


class ConcatToGather(NodePass):
    """A Concat of channels that all come from one tensor is a permutation of them.

    Given:
        x: float[1, 8, 4, 4]
        a = Slice(x, [3], [8], [1], [1])
        b = Slice(x, [0], [3], [1], [1])
        y = Concat(a, b, axis=1)
        return y
    Result:
        x: float[1, 8, 4, 4]
        y = Gather(x, [3, 4, 5, 6, 7, 0, 1, 2], axis=1)
        return y
    """

    name = "concat-to-gather"
    op_types = ("Concat",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        if attribute(node, "axis") not in (1, 1 - len(shape(node.outputs[0]))):
            return False
        parts = [_selected_from(value) for value in node.inputs]
        sources = {part[0] for part in parts if part is not None}
        if None in parts or len(sources) != 1:
            return False
        index = [channel for part in parts if part is not None for channel in part[1]]
        replace(node.outputs[0], select_channels(Builder(node), sources.pop(), index))
        return True


def _selected_from(value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...]] | None:
    node = producer(value)
    if node is not None and node.op_type == "Split" and _axis(node) == 1 and value is not None:
        sizes = [shape(output)[1] for output in node.outputs]
        first = sum(sizes[: list(node.outputs).index(value)])
        return _source([node]), tuple(range(first, first + shape(value)[1]))
    index = selected_channels(node)
    return None if node is None or index is None else (_source([node]), index)


def _axis(node: ir.Node) -> int:
    axis = int(attribute(node, "axis", 0))
    return axis + len(shape(node.outputs[0])) if axis < 0 else axis


class SlicesToSplit(NodePass):
    """Slices that take a tensor apart completely become one Split.

    Given:
        x: float[1, 8, 1, 1]
        a = Slice(x, [0], [3], [1], [1])
        b = Slice(x, [3], [8], [1], [1])
        return a, b
    Result:
        x: float[1, 8, 1, 1]
        a, b = Split(x, [3, 5], axis=1)
        return a, b
    """

    name = "slices-to-split"
    op_types = ("Slice",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        source = _source([node])
        parts = sorted(_slices_of(source), key=lambda part: part[0])
        if len(parts) < 2:
            return False
        ends = [0, *(stop for _, stop, _ in parts)]
        covered = [start for start, _, _ in parts] == ends[:-1] and ends[-1] == shape(source)[1]
        if not covered:
            return False
        first = min((s for _, _, s in parts), key=list(node.graph or ()).index)
        builder = Builder(first)
        outputs = builder.split(source, [stop - start for start, stop, _ in parts])
        for (_, _, part), output in zip(parts, outputs, strict=True):
            replace(part.outputs[0], output)
        return True


def _slices_of(value: ir.Value) -> list[tuple[int, int, ir.Node]]:
    """(start, stop, node) of every contiguous selection of channels of ``value``."""
    found = []
    for reader in consumers(value):
        index = selected_channels(reader) if reader.op_type == "Slice" else None
        if index is not None and is_contiguous(index) and reader.inputs[0] is value:
            found.append((index[0], index[-1] + 1, reader))
    return found
