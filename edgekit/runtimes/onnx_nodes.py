"""Nodes of an ``.onnx`` file, and which of them a kernel of the optimised graph computes.

    source      Conv --c--> Clip --x--> Mul --y-->
    optimised   Conv --reorder_token_3--> ReorderOutput --x--> Mul --y-->
    Conv, named "x_nchwc", computes (Conv, Clip); ReorderOutput is the engine's own

ONNX Runtime renames, fuses and adds nodes, and keeps the names of tensors that still exist. So a
kernel computes what lies in the source graph between the tensors it delivers and the tensors
that other kernels deliver. That needs no list of its fusions, and no ONNX package: of the file
only four fields are read (onnx.proto3: ModelProto.graph, GraphProto.node, NodeProto).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import BundleError

# What ONNX Runtime adds to move data about; what goes through them is not computed there.
_MOVERS = frozenset({"ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost"})
_BLOCKED = "_nchwc"  # its suffix of the tensor that a node in blocked layout computes


@dataclass(frozen=True)
class OnnxNode:
    """One node; ``name`` is "" where the file gives none."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name, or as counts have it that of the first output."""
        return self.name or next(iter(self.outputs), "")


# ---- reading -----------------------------------------------------------------------------------

_GRAPH, _NODE = 7, 1  # field numbers
_INPUT, _OUTPUT, _NAME, _OP_TYPE = 1, 2, 3, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def read_nodes(data: bytes) -> tuple[OnnxNode, ...]:
    """The nodes of a serialised ``ModelProto``, in order, without those of subgraphs.

    Raises:
        BundleError: damaged.
    """
    view = memoryview(data)
    try:
        return tuple(
            _node(node)
            for field, graph in _fields(view)
            if field == _GRAPH
            for inner, node in _fields(graph)
            if inner == _NODE
        )
    except (IndexError, ValueError) as error:
        raise BundleError(f"not a readable ONNX graph: {error}") from None


def _node(view: memoryview) -> OnnxNode:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _OP_TYPE: []}
    for field, value in _fields(view):
        if field in texts:
            texts[field].append(bytes(value).decode())
    name, op_type = ("".join(texts[field][-1:]) for field in (_NAME, _OP_TYPE))
    return OnnxNode(name, op_type, tuple(texts[_INPUT]), tuple(texts[_OUTPUT]))


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message; the others are stepped over."""
    place = 0
    while place < len(view):
        key, place = _varint(view, place)
        kind = key & 7
        if kind == _VARINT:
            _, place = _varint(view, place)
        elif kind == _BYTES:
            size, place = _varint(view, place)
            if size > len(view) - place:
                raise ValueError(f"a field of {size} bytes does not fit")
            yield key >> 3, view[place : place + size]
            place += size
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 10 bytes")


# ---- which nodes a kernel computes -------------------------------------------------------------


def attribute(
    source: Sequence[OnnxNode], optimised: Sequence[OnnxNode]
) -> tuple[tuple[str, ...], ...]:
    """Per node of ``optimised`` the titles of the ``source`` nodes that it computes.

    None for what only moves data. A node in between, without a tensor of the source's (half of
    an expanded HardSwish), computes what the nodes after it compute.
    """
    made = {tensor: index for index, node in enumerate(source) for tensor in node.outputs}
    ends = _ends(optimised, made)
    known = {tensor for found in ends for tensor in found}
    parts = [_between(source, made, found, known) for found in ends]
    after = _consumers(optimised)
    for index in reversed(range(len(optimised))):  # so that what comes after is known
        node = optimised[index]
        if not ends[index] and node.op_type not in _MOVERS:
            parts[index] = {part for follower in after(node) for part in parts[follower]}
    return tuple(tuple(source[index].title for index in sorted(part)) for part in parts)


def _ends(optimised: Sequence[OnnxNode], made: Mapping[str, int]) -> list[set[str]]:
    """Per optimised node the tensors of the source that it delivers, itself or by a mover."""
    ends = []
    after = _consumers(optimised)
    for node in optimised:
        names = [node.name.removesuffix(_BLOCKED), *node.outputs]
        names += [
            name
            for follower in after(node)
            if optimised[follower].op_type in _MOVERS
            for name in optimised[follower].outputs
        ]
        moves = node.op_type in _MOVERS
        ends.append(set() if moves else {name for name in names if name in made})
    return ends


def _consumers(nodes: Sequence[OnnxNode]) -> Callable[[OnnxNode], list[int]]:
    """A function from a node to the indices of those that read its outputs."""
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(index)
    return lambda node: [index for name in node.outputs for index in readers.get(name, ())]


def _between(
    source: Sequence[OnnxNode], made: Mapping[str, int], ends: set[str], known: set[str]
) -> set[int]:
    """The source nodes from ``ends`` back to what other kernels deliver."""
    found: set[int] = set()
    todo = [made[tensor] for tensor in ends]
    while todo:
        index = todo.pop()
        if index in found:
            continue
        found.add(index)
        todo += [
            made[tensor]
            for tensor in source[index].inputs
            if tensor in made and (tensor not in known or tensor in ends)
        ]
    return found
