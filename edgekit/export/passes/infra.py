"""What every graph pass is, and the one wrapper that runs them.

    run_passes(model, passes)
      clone -> for each pass: rewrite -> remove dead code -> complete shapes -> check

A pass only writes its rewrite, in place. The wrapper checks after each of them that the graph
still has the inputs and outputs it had (names, order, dtypes, shapes), that it is valid ONNX,
and that the shape of every value is known. What a pass recognised and left alone is a note
with its reason: ``not folded at <node>: because <reason>``.

A pass says what it does in its docstring, as graphs in the notation of
``edgekit.export.passes.notation`` under ``Given:`` and ``Result:``. The tests run these.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import onnx
import onnx_ir as ir

from edgekit.bundle import PassRecord
from edgekit.errors import GraphError
from edgekit.export.passes.graph import SHAPE_DATA_CAP, forget_names, live_nodes, remove_dead

_MAX_ROUNDS = 1000  # a fixed-point pass that changes the graph more often is going in circles


@dataclass(frozen=True)
class PassResult:
    """How many places a pass changed, and why it left others alone."""

    modified: int
    notes: tuple[str, ...] = ()


class GraphPass(Protocol):
    """An exact rewrite of a graph."""

    @property
    def name(self) -> str: ...

    def rewrite(self, model: ir.Model) -> PassResult:
        """Rewrite ``model`` in place."""


class NodePass(abc.ABC):
    """A pass that looks at one node after another, until a round changes nothing.

    Attributes:
        name: what records and the CLI call the pass.
        op_types: the nodes it looks at; all when empty.
        refused: the words that begin a note, e.g. ``"not folded"``.
    """

    name: ClassVar[str]
    op_types: ClassVar[tuple[str, ...]] = ()
    refused: ClassVar[str] = "not rewritten"

    @abc.abstractmethod
    def rewrite_node(self, node: ir.Node) -> bool | str:
        """True: rewritten. False: not this pass's business. A string: why it was left alone."""

    def rewrite(self, model: ir.Model) -> PassResult:
        total = 0
        for _ in range(_MAX_ROUNDS):
            modified, notes = self._round(model.graph)
            total += modified
            if not modified:
                return PassResult(total, tuple(notes))
        raise GraphError(f"graph pass {self.name!r} still finds work after {_MAX_ROUNDS} rounds")

    def _round(self, graph: ir.Graph) -> tuple[int, list[str]]:
        modified = 0
        notes = []
        for node in live_nodes(graph, *self.op_types):
            outcome = self.rewrite_node(node)
            if isinstance(outcome, str):
                notes.append(f"{self.refused} at {node.name}: because {outcome}")
            else:
                modified += outcome
        return modified, notes


def run_passes(
    model: ir.Model, passes: Sequence[GraphPass]
) -> tuple[ir.Model, tuple[PassRecord, ...]]:
    """Run ``passes`` in order on a clone of ``model``.

    Raises:
        GraphError: a pass broke the contract above; the message names it.
    """
    model = model.clone()
    forget_names(model.graph)
    _complete_shapes(model)
    interface = _interface(model)
    records = []
    for graph_pass in passes:
        result = graph_pass.rewrite(model)
        if result.modified:
            _remove_dead_code(model.graph)
            _check(model, interface, graph_pass.name)
        records.append(PassRecord(graph_pass.name, result.modified, result.notes))
    return model, tuple(records)


def _interface(model: ir.Model) -> tuple[tuple[str, str, str], ...]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return tuple((str(v.name), str(v.dtype), str(v.shape)) for v in values)


def _remove_dead_code(graph: ir.Graph) -> None:
    for node in reversed(tuple(graph)):
        remove_dead(node)
    for name, value in tuple(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]


def _check(model: ir.Model, interface: tuple[tuple[str, str, str], ...], name: str) -> None:
    found = _interface(model)
    if found != interface:
        raise GraphError(
            f"graph pass {name!r} changed the interface of the graph from {interface} to {found}"
        )
    try:
        onnx.checker.check_model(_without_weights(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"graph pass {name!r} left an invalid graph: {reason}") from error
    unknown = _values_without_shape(model.graph)
    if unknown:
        raise GraphError(f"graph pass {name!r} left values without a static shape: {unknown}")


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """``model`` with its large constants as inputs: the checker copies and parses every byte."""
    graph = model.graph
    large = [value for value in graph.initializers.values() if _is_large(value)]
    small = [value for value in graph.initializers.values() if not _is_large(value)]
    proto = onnx.helper.make_graph(
        [ir.serde.serialize_node(node) for node in graph],
        graph.name or "graph",
        [ir.serde.serialize_value(value) for value in dict.fromkeys((*graph.inputs, *large))],
        [ir.serde.serialize_value(value) for value in graph.outputs],
        [_tensor_proto(value) for value in small],
        value_info=[
            ir.serde.serialize_value(value)
            for node in graph
            for value in node.outputs
            if value.name and not value.is_graph_output()
        ],
    )
    opsets = [onnx.helper.make_opsetid(*each) for each in model.opset_imports.items()]
    return onnx.helper.make_model(proto, opset_imports=opsets, ir_version=model.ir_version)


def _tensor_proto(value: ir.Value) -> onnx.TensorProto:
    if value.const_value is None:
        raise GraphError(f"initializer {value.name!r} has no contents")
    tensor = ir.serde.serialize_tensor(value.const_value)
    tensor.name = str(value.name)
    return tensor


def _is_large(value: ir.Value) -> bool:
    """Whether no shape can depend on the contents of this constant."""
    return value.const_value is not None and value.const_value.size > SHAPE_DATA_CAP


def _values_without_shape(graph: ir.Graph) -> list[str]:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [
        str(value.name)
        for value in values
        if value.name and (value.shape is None or not value.shape.is_static() or not value.dtype)
    ]


def _complete_shapes(model: ir.Model) -> None:
    """A graph from elsewhere may lack the shapes of inner values.

    Raises:
        GraphError: some cannot be inferred, or are dynamic.
    """
    if not _values_without_shape(model.graph):
        return
    proto = ir.to_proto(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"the shapes of the graph contradict: {reason}") from error
    known = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in model.graph:
        for value in node.outputs:
            if value.name in known and (value.shape is None or not value.shape.is_static()):
                value.type = ir.serde.deserialize_type_proto_for_type(known[value.name].type)
                value.shape = ir.serde.deserialize_type_proto_for_shape(known[value.name].type)
    unknown = _values_without_shape(model.graph)
    if unknown:
        raise GraphError(f"graph passes need static shapes, and these values have none: {unknown}")
