"""A small vocabulary over ``onnx_ir``, so that a pass reads like the rewrite it makes.

    look      constant, shape, producer, consumers, only_consumer, attribute
    build     Builder.op, Builder.constant: new nodes beside an anchor node, shapes inferred
    replace   replace: every use goes to the new value, dead producers leave the graph

Arithmetic on weights is done in float64 and rounded once, to the dtype of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from edgekit.errors import GraphError

Array = NDArray[Any]
Attribute = int | float | str | Sequence[int] | Sequence[float]

# ---------------------------------------------------------------------------
# Look
# ---------------------------------------------------------------------------


def live_nodes(graph: ir.Graph, *op_types: str) -> Iterator[ir.Node]:
    """Nodes of the default domain with one of ``op_types`` (all when none is named).

    Safe while the graph is rewritten: nodes that were removed meanwhile are left out.
    """
    for node in tuple(graph):
        if node.graph is graph and node.domain in ("", "ai.onnx"):
            if not op_types or node.op_type in op_types:
                yield node


def constant(value: ir.Value | None) -> Array | None:
    """Contents of a constant, or None: absent, or computed from the inputs."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number that fills a constant, or None: not constant, or several numbers."""
    contents = constant(value)
    if contents is None or contents.size == 0 or (contents != contents.flat[0]).any():
        return None
    return float(contents.flat[0])


def shape(value: ir.Value) -> tuple[int, ...]:
    """Static shape.

    Raises:
        GraphError: the shape is unknown or dynamic.
    """
    if value.shape is None or not value.shape.is_static():
        raise GraphError(
            f"value {value.name!r} has shape {value.shape}, and graph passes need static shapes"
        )
    return value.shape.numpy()


def dtype(value: ir.Value) -> np.dtype[Any]:
    """Numpy dtype.

    Raises:
        GraphError: the dtype is unknown.
    """
    if value.dtype is None:
        raise GraphError(f"value {value.name!r} has no dtype: run shape inference first")
    return np.dtype(value.dtype.numpy())


def is_float(value: ir.Value) -> bool:
    """Whether ``value`` holds floating-point numbers."""
    return value.dtype is not None and value.dtype.is_floating_point()


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes ``value``, if it is one of ``op_types`` (any when none is named)."""
    node = None if value is None else value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    return node if not op_types or node.op_type in op_types else None


def consumers(value: ir.Value) -> list[ir.Node]:
    """Nodes that read ``value``, each once, in the order of the graph's uses."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def only_consumer(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The one node that reads ``value``; None if there are more or it is a graph output."""
    readers = consumers(value)
    if len(readers) != 1 or value.is_graph_output():
        return None
    return readers[0] if not op_types or readers[0].op_type in op_types else None


def only_use(value: ir.Value) -> bool:
    """Whether exactly one input of one node reads ``value`` and it is not a graph output."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute; sequences as tuples."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return tuple(found.value) if isinstance(found.value, (list, tuple)) else found.value


def operand_and_constant(node: ir.Node) -> tuple[ir.Value, Array, int] | None:
    """Of a two-input node: the computed input, the constant one, and the constant's position."""
    if len(node.inputs) != 2:
        return None
    for position in (1, 0):
        contents, other = constant(node.inputs[position]), node.inputs[1 - position]
        if contents is not None and other is not None and constant(other) is None:
            return other, contents, position
    return None


def evaluate(node: ir.Node, feeds: Mapping[str, Array] | None = None) -> list[Array]:
    """Run one node on its constant inputs; ``feeds`` gives values for others, by name."""
    values = {str(v.name): constant(v) for v in node.inputs if v is not None}
    values.update(feeds or {})
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "node",
        [onnx.ValueInfoProto(name=name) for name in values],
        [onnx.ValueInfoProto(name=str(value.name)) for value in node.outputs],
    )
    opset = 18 if node.graph is None else node.graph.opset_imports.get("", 18)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return list(onnx.reference.ReferenceEvaluator(proto).run(None, values))


def per_channel(contents: Array, rank: int, channels: int) -> Array | None:
    """A constant as one float64 number per channel (axis 1), or None if it varies elsewhere.

    ``contents`` broadcasts against a tensor of that rank with ``channels`` on axis 1, without
    enlarging it.
    """
    if contents.ndim > rank:
        return None
    full = contents.reshape((1,) * (rank - contents.ndim) + contents.shape)
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1):
        return None
    if full.shape[1] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)


# ---------------------------------------------------------------------------
# Build and replace
# ---------------------------------------------------------------------------


_NAMES = "edgekit.names"  # in Graph.meta: names taken so far
_ORIGIN = "edgekit.origin"  # in Node.meta: the name of the node that it took the place of


class Builder:
    """Puts new nodes directly before ``anchor`` and names them after it.

    They inherit the anchor's metadata, so that errors and reports still say where in the
    user's model a node comes from.
    """

    def __init__(self, anchor: ir.Node) -> None:
        if anchor.graph is None or not isinstance(anchor.graph, ir.Graph):
            raise GraphError(f"node {anchor.name!r} is not in a graph")
        self.graph: ir.Graph = anchor.graph
        self.anchor = anchor

    def one(self, op_type: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """A new node with one output; returns that, with shape and dtype."""
        return self.several(op_type, inputs, 1, attributes)[0]

    def several(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        attributes: Mapping[str, Attribute],
    ) -> tuple[ir.Value, ...]:
        """A new node; returns its outputs, with shape and dtype."""
        origin = str(self.anchor.meta.get(_ORIGIN, self.anchor.name or self.anchor.op_type))
        name = _fresh(self.graph, f"{origin}/{op_type.lower()}")
        node = ir.node(
            op_type, inputs, attributes, num_outputs=outputs, name=name,
            metadata_props=dict(self.anchor.metadata_props),
        )  # fmt: skip
        node.meta[_ORIGIN] = origin
        for position, value in enumerate(node.outputs):
            value.name = _fresh(self.graph, f"{name}:{position}")
        infer_types(node, self.graph.opset_imports.get("", 18))
        self.graph.insert_before(self.anchor, node)
        return tuple(node.outputs)

    def constant(self, contents: ArrayLike, hint: str, dtype: Any = None) -> ir.Value:
        """A new initializer named after ``hint``."""
        array = np.ascontiguousarray(np.asarray(contents, dtype=dtype))
        if np.ndim(contents) == 0:
            array = array.reshape(())
        name = _fresh(self.graph, hint)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )  # fmt: skip
        self.graph.register_initializer(value)
        return value

    def again(self, node: ir.Node, *inputs: ir.Value | None) -> tuple[ir.Value, ...]:
        """The operator of ``node`` with its attributes, on other inputs."""
        attributes: dict[str, Attribute] = {k: a.value for k, a in node.attributes.items()}
        return self.several(node.op_type, inputs, len(node.outputs), attributes)

    def split(self, x: ir.Value, sizes: Sequence[int]) -> tuple[ir.Value, ...]:
        """A Split along axis 1."""
        lengths = self.ints(sizes, "split")
        return self.several("Split", (x, lengths), len(sizes), {"axis": 1})

    def ints(self, numbers: Sequence[int], hint: str) -> ir.Value:
        """A new one-dimensional int64 initializer."""
        return self.constant(list(numbers), hint, np.int64)


def _fresh(graph: ir.Graph, stem: str) -> str:
    """``stem``, with a number behind it if a node or value of ``graph`` has that name."""
    if _NAMES not in graph.meta:
        values = ir.convenience.create_value_mapping(graph, include_subgraphs=True)
        graph.meta[_NAMES] = {*values, *(node.name for node in graph.all_nodes())}
    taken: set[str] = graph.meta[_NAMES]
    name, number = stem, 1
    while name in taken:
        name, number = f"{stem}.{number}", number + 1
    taken.add(name)
    return name


def forget_names(graph: ir.Graph) -> None:
    """Drop what `Builder` remembers, so that names do not depend on what was done before."""
    graph.meta.pop(_NAMES, None)


SHAPE_DATA_CAP = 1024  # numbers; what a shape depends on is never larger


def infer_types(node: ir.Node, opset: int) -> None:
    """Give the outputs of one node their shape and dtype, from its inputs.

    Raises:
        GraphError: the node is not valid ONNX.
    """
    present = [value for value in node.inputs if value is not None and value.name]
    small = [(v, v.const_value) for v in present if v.const_value is not None]
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            ir.serde.serialize_node(node),
            {str(v.name): ir.serde.serialize_value(v).type for v in present},
            {
                str(v.name): ir.serde.serialize_tensor(data)
                for v, data in small
                if data.size <= SHAPE_DATA_CAP
            },
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except Exception as error:  # C++ exceptions of several types reach Python
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"cannot infer the shape of {node.name!r}: {reason}") from error
    for value in node.outputs:
        found = ir.serde.deserialize_type_proto_for_type(inferred[str(value.name)])
        value.type = found
        value.shape = ir.serde.deserialize_type_proto_for_shape(inferred[str(value.name)])


def replace(old: ir.Value, new: ir.Value) -> None:
    """Every use of ``old`` reads ``new`` instead; what nothing reads any more is removed.

    A graph output keeps its name: ``new`` takes it over.
    """
    if old.is_graph_output():
        new = _as_output(old, new)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    remove_dead(old.producer())


def _as_output(old: ir.Value, new: ir.Value) -> ir.Value:
    node = old.producer()
    if node is None:
        raise GraphError(f"value {old.name!r} is an input and an output at once")
    if new.producer() is None or new.is_graph_output():
        new = _copy_of(new, Builder(node))
    name = old.name
    old.name = f"{name}/replaced"
    new.name = name
    return new


def _copy_of(value: ir.Value, builder: Builder) -> ir.Value:
    copy = builder.one("Identity", value)
    before, identity = value.producer(), copy.producer()
    if before is not None and identity is not None:  # it may stand behind the builder's anchor
        builder.graph.remove(identity)
        builder.graph.insert_after(before, identity)
    return copy


def remove_dead(node: ir.Node | None) -> None:
    """Remove ``node`` if nothing reads its outputs, then its producers likewise."""
    pending = [node]
    while pending:
        node = pending.pop()
        if node is None or node.graph is None:
            continue
        if any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        inputs = [value for value in node.inputs if value is not None]
        node.graph.remove(node, safe=True)
        pending.extend(value.producer() for value in inputs)
        for value in inputs:
            _drop_unused_initializer(value)


def _drop_unused_initializer(value: ir.Value) -> None:
    graph = value.graph
    if value.is_initializer() and not value.uses() and isinstance(graph, ir.Graph):
        if not value.is_graph_output() and not value.is_graph_input() and value.name:
            graph.initializers.pop(value.name, None)
