"""The ONNX graph as the lowering sees it: a list of operators over values of known shape.

``onnx_ir`` is a graph to rewrite; a lowering only reads. Everything that is checked once for
all operators is checked here: static shapes, dtypes that TFLite has, names, the opset.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from edgekit.errors import GraphError, UnsupportedOperatorError
from edgekit.export.tflite.schema import TENSOR_TYPES, Array, Shape

# Before 13 Softmax flattened its input and Squeeze, Split and ReduceSum were other operators.
_OLDEST_OPSET = 13

_SCOPES = "pkg.torch.onnx.name_scopes"  # written by torch's exporter: a list of module paths


@dataclass(frozen=True, eq=False)
class Value:
    """An ONNX value; constant when it has ``data``."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    data: Array | None = None


@dataclass(frozen=True, eq=False)
class Op:
    """An ONNX operator.

    Attributes:
        inputs: None stands for an optional input left out; trailing ones are dropped.
        outputs: None stands for an output nobody reads.
        activation: what the result is clamped to: a member of the schema's
            ActivationFunctionType, "NONE" unless a following activation was fused.
    """

    type: str
    name: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    producer: str = ""
    activation: str = "NONE"

    def refusal(self, why: str, remedy: str = "") -> UnsupportedOperatorError:
        """The error that says this operator cannot be lowered."""
        return UnsupportedOperatorError(
            "tflite", self.type, self.name, why, producer=self.producer, remedy=remedy
        )

    def has(self, index: int) -> bool:
        """Whether optional input ``index`` is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """Input ``index``, which must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise self.refusal(f"input {index} is missing")
        return value

    def output(self) -> Value:
        """The first output."""
        if not self.outputs or self.outputs[0] is None:
            raise self.refusal("its first output is not used but another is")
        return self.outputs[0]

    def constant(self, index: int, what: str) -> Array:
        """Input ``index``, which must be constant; ``what`` names it in the refusal."""
        value = self.value(index)
        if value.data is None:
            raise self.refusal(
                f"its {what} {value.name!r} is computed at run time",
                f"make the {what} constant",
            )
        return value.data

    def ints(self, attribute: str, index: int) -> list[int] | None:
        """Integers that older opsets keep in ``attribute`` and newer ones in input ``index``."""
        if attribute in self.attributes:
            return [int(i) for i in self.attributes[attribute]]
        if self.has(index):
            return [int(i) for i in self.constant(index, attribute).reshape(-1)]
        return None

    def axis(self, default: int, rank: int | None = None) -> int:
        """Attribute ``axis``, counted from the front."""
        axis = int(self.attributes.get("axis", default))
        return axis % (len(self.value(0).shape) if rank is None else rank)


@dataclass(frozen=True)
class Graph:
    """What is lowered. Keys of ``inputs`` and ``outputs`` are the names in the signature."""

    ops: tuple[Op, ...]
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]


def read(model: ir.Model) -> Graph:
    """Read ``model``.

    Raises:
        GraphError: a shape is dynamic or unknown, a dtype is not one of TFLite's, the opset
            is too old, or an operator comes from another domain.
    """
    _check_opset(model)
    return _Reader(_with_shapes(model)).read()


def _check_opset(model: ir.Model) -> None:
    opset = model.opset_imports.get("", _OLDEST_OPSET)
    if opset < _OLDEST_OPSET:
        raise GraphError(
            f"tflite: the graph uses ONNX opset {opset}; {_OLDEST_OPSET} and later are lowered: "
            "convert it with onnx.version_converter"
        )


def _with_shapes(model: ir.Model) -> ir.Model:
    known = (v.shape is not None and v.dtype is not None for n in model.graph for v in n.outputs)
    if all(known):
        return model
    return ShapeInferencePass(check_type=False, strict_mode=False)(model.clone()).model


class _Reader:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._values: dict[ir.Value, Value] = {}

    def read(self) -> Graph:
        initializers = set(self._graph.initializers.values())
        inputs = [value for value in self._graph.inputs if value not in initializers]
        for value in inputs:
            self._values[value] = _variable(value)
        needed = _needed(self._graph)
        ops = [op for node in self._graph if node in needed and (op := self._op(node)) is not None]
        return Graph(
            tuple(ops),
            {str(value.name): self._values[value] for value in inputs},
            {str(value.name): self._read(value) for value in self._graph.outputs},
        )

    def _op(self, node: ir.Node) -> Op | None:
        if node.op_type == "Constant" and node.domain == "":
            output = node.outputs[0]
            self._values[output] = _constant(str(output.name), _constant_data(node))
            return None
        outputs = tuple(self._write(value) for value in node.outputs)
        inputs = [None if value is None else self._read(value) for value in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        op = Op(
            type=node.op_type,
            name=node.name or f"{node.op_type}:{node.outputs[0].name}",
            inputs=tuple(inputs),
            outputs=outputs,
            attributes={a.name: _attribute(a) for a in node.attributes.values()},
            producer=_producer(node),
        )
        if node.domain not in ("", "ai.onnx"):
            raise op.refusal(f"it belongs to the operator domain {node.domain!r}", "inline it")
        return op

    def _write(self, value: ir.Value) -> Value | None:
        if not value.uses() and not value.is_graph_output():
            return None
        self._values[value] = _variable(value)
        return self._values[value]

    def _read(self, value: ir.Value) -> Value:
        if value not in self._values:
            if value.const_value is None:
                raise GraphError(f"tflite: nothing computes the value {value.name!r}")
            self._values[value] = _constant(str(value.name), value.const_value.numpy())
        return self._values[value]


def _needed(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that the outputs depend on; a graph that no pass has touched may have others."""
    needed: set[ir.Node] = set()
    pending = [value.producer() for value in graph.outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in needed:
            needed.add(node)
            pending += [value.producer() for value in node.inputs if value is not None]
    return needed


def _variable(value: ir.Value) -> Value:
    if value.shape is None or not value.shape.is_static():
        node, shape = value.producer(), "unknown" if value.shape is None else str(value.shape)
        maker = f", which {node.op_type} {node.name!r} computes," if node is not None else ""
        raise GraphError(
            f"tflite: the shape of {value.name!r}{maker} is not static ({shape}): export with "
            "fixed input shapes"
        )
    if 0 in value.shape.dims:
        raise GraphError(f"tflite: {value.name!r} has no elements: {value.shape}")
    dtype = "unknown" if value.dtype is None else value.dtype.numpy().name
    if dtype not in TENSOR_TYPES:
        raise unsupported_dtype(str(value.name), dtype)
    return Value(str(value.name), value.shape.numpy(), np.dtype(dtype))


def _constant(name: str, data: Array) -> Value:
    return Value(name, data.shape, data.dtype, data)


def unsupported_dtype(name: str, dtype: str) -> GraphError:
    """The error for a tensor of a dtype that is not lowered."""
    hint = "export the model in float32: model.float()" if "float" in dtype else "cast it"
    known = ", ".join(TENSOR_TYPES)
    return GraphError(f"tflite: {name!r} is {dtype}; lowered are {known}: {hint}")


def _constant_data(node: ir.Node) -> Array:
    ((name, attribute),) = node.attributes.items()
    if name == "value":
        return attribute.as_tensor().numpy()
    dtype = np.float32 if name in ("value_float", "value_floats") else np.int64
    return np.asarray(attribute.value, dtype)


def _attribute(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy()
    return attribute.value


def _producer(node: ir.Node) -> str:
    """Path of the torch module that made ``node``, e.g. ``features.3.conv``."""
    scopes: Sequence[str] = ()
    if _SCOPES in node.metadata_props:
        scopes = ast.literal_eval(node.metadata_props[_SCOPES])
    # The first is the root (""), the last names the operation inside the module.
    return next((scope for scope in reversed(scopes[:-1]) if scope), "")
