"""Memory of activations under a sequential plan, from shapes alone: an estimate of a runtime's.

    nodes run one after the other, in the order of the graph
    a value takes memory from the node that computes it until its last reader has run
    an input of the graph from the start until its last reader; an output until the end
    views (Reshape, Flatten, Squeeze, Unsqueeze, Identity) share the memory of what they view
    nothing is computed in place; constants, padding and scratch memory are not in it

A runtime that fuses or works in place needs less, one that repacks or pads needs more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Peak:
    """The most bytes alive at once, and the node that runs then."""

    bytes: int
    at: str


def value_bytes(value: ir.Value) -> int | None:
    """Bytes of ``value``; None where its shape or dtype is not known."""
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return None
    try:
        bits = value.dtype.bitwidth
    except TypeError:  # texts have no size
        return None
    return math.ceil(math.prod(value.shape.numpy()) * bits / 8)


def peak_memory(graph: ir.Graph, computed: Iterable[ir.Value]) -> Peak | None:
    """The peak of ``graph``; None where the size of a value is not known.

    Args:
        graph: its nodes in an order in which they can run.
        computed: values that are not constant; only these take memory here.
    """
    sizes = {value: value_bytes(value) for value in computed}
    if any(size is None for size in sizes.values()):
        return None
    owner = _owners(graph, sizes.keys())
    last = _last_readers(graph, owner)
    inputs = [value for value in graph.inputs if value in owner]
    alive = sum(sizes[value] or 0 for value in inputs)
    peak = Peak(alive, "")
    dying: dict[int, list[ir.Value]] = {}
    for value in set(owner.values()):
        dying.setdefault(last.get(value, -1), []).append(value)
    for position, node in enumerate(graph):
        made = [value for value in node.outputs if owner.get(value) is value]
        alive += sum(sizes[value] or 0 for value in made)
        if alive > peak.bytes:
            peak = Peak(alive, node.name or "")
        alive -= sum(sizes[value] or 0 for value in dying.get(position, ()))
    return peak


def _owners(graph: ir.Graph, computed: Iterable[ir.Value]) -> dict[ir.Value, ir.Value]:
    """Whose memory a value lies in: its own, or that of what it is a view of."""
    owner = {value: value for value in computed}
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type in VIEWS and source is not None and source in owner:
            owner[node.outputs[0]] = owner[source]
    return owner


def _last_readers(graph: ir.Graph, owner: dict[ir.Value, ir.Value]) -> dict[ir.Value, int]:
    """Position of the last node that reads a value; of the node itself where nobody does."""
    last: dict[ir.Value, int] = {}
    end = 0
    for position, node in enumerate(graph):
        for value in (*node.inputs, *node.outputs):
            if value is not None and value in owner:
                last[owner[value]] = position
        end = position + 1
    for value in graph.outputs:
        if value in owner:
            last[owner[value]] = end
    return last
