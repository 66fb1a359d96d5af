"""Graphs as text, for docstrings, tests and messages: a subset of Python's syntax.

    x: float[1, 8, 4, 4]                              an input
    a = Conv(x, w[8, 4, 1, 1], b[8], group=2)         constants by name and shape,
    p, q = Split(a, [4, 4], axis=1)                   or by value: numbers and lists
    return p, q

A constant by name and shape stands for arbitrary contents (``parse`` draws them from the name)
and is shared by those who name it; one by value is stored anew for each reader;
integers are ``int64``, numbers with a point are of the dtype of the graph. ``render`` numbers
values and constants in order, so two graphs are equal in form if their texts are equal.
"""

from __future__ import annotations

import ast
import zlib
from typing import Any

import numpy as np
import onnx_ir as ir

from edgekit.errors import GraphError
from edgekit.export.passes.graph import infer_types

_DTYPES = {
    "float": ir.DataType.FLOAT,
    "double": ir.DataType.DOUBLE,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}
_OPSET = 18
_SHOWN_INTEGERS = 32  # longer lists of integers are shown by their shape


def parse(text: str) -> ir.Model:
    """The graph that ``text`` describes, with shapes.

    Raises:
        GraphError: not in the notation, or not valid ONNX.
    """
    reader = _Reader()
    for statement in ast.parse(_dedent(text)).body:
        reader.read(statement)
    graph = ir.Graph(
        reader.inputs, reader.outputs, nodes=reader.nodes, opset_imports={"": _OPSET},
        initializers=list(reader.constants.values()), name="graph",
    )  # fmt: skip
    return ir.Model(graph, ir_version=9)


def render(model: ir.Model) -> str:
    """``model`` in the notation, with values and constants renamed in order."""
    return _Writer(model.graph).text()


def _dedent(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


class _Reader:
    def __init__(self) -> None:
        self.values: dict[str, ir.Value] = {}
        self.constants: dict[str, ir.Value] = {}
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            self._input(statement.target.id, statement.annotation)
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            self._node(_names(statement.targets[0]), statement.value)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            self.outputs = [self.values[name] for name in _names(statement.value)]
        else:
            raise GraphError(f"not in the graph notation: {ast.unparse(statement)!r}")

    def _input(self, name: str, annotation: ast.expr) -> None:
        kind, sizes = _subscript(annotation)
        value = ir.Value(name=name, shape=ir.Shape(sizes), type=ir.TensorType(_DTYPES[kind]))
        self.values[name] = value
        self.inputs.append(value)

    def _node(self, targets: list[str], call: ast.Call) -> None:
        attributes = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        node = ir.node(
            ast.unparse(call.func), [self._operand(a) for a in call.args], attributes,
            num_outputs=len(targets), name=targets[0],
        )  # fmt: skip
        for name, value in zip(targets, node.outputs, strict=True):
            value.name = name
            self.values[name] = value
        infer_types(node, _OPSET)
        self.nodes.append(node)

    def _operand(self, operand: ast.expr) -> ir.Value | None:
        if isinstance(operand, ast.Name):
            return self.values[operand.id]
        if isinstance(operand, ast.Subscript):
            name, sizes = _subscript(operand)
            return self._constant(f"{name}{sizes}", _draw(name, sizes, self._float()))
        literal = ast.literal_eval(operand)
        if literal is None:
            return None
        contents = np.asarray(literal)
        kind = np.dtype(np.int64) if contents.dtype.kind == "i" else self._float()
        return self._constant(f"{literal} no. {len(self.constants)}", contents.astype(kind))

    def _constant(self, name: str, contents: Any) -> ir.Value:
        if name not in self.constants:
            tensor = ir.tensor(contents, name=name)
            self.constants[name] = ir.Value(
                name=name, shape=ir.Shape(contents.shape), type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )  # fmt: skip
        return self.constants[name]

    def _float(self) -> np.dtype[Any]:
        double = any(value.dtype == ir.DataType.DOUBLE for value in self.inputs)
        return np.dtype(np.float64 if double else np.float32)


def _names(target: ast.expr) -> list[str]:
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    return [ast.unparse(part) for part in parts]


def _subscript(expression: ast.expr) -> tuple[str, list[int]]:
    if not isinstance(expression, ast.Subscript):
        raise GraphError(f"not in the graph notation: {ast.unparse(expression)!r}")
    sizes = ast.literal_eval(expression.slice)
    return ast.unparse(expression.value), list(sizes) if isinstance(sizes, tuple) else [sizes]


def _draw(name: str, sizes: list[int], dtype: np.dtype[Any]) -> Any:
    """Contents that depend on name and shape only; positive, so that variances are valid."""
    rng = np.random.default_rng(zlib.crc32(f"{name}{sizes}".encode()))
    return rng.uniform(0.1, 1.5, sizes).astype(dtype)


class _Writer:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.names: dict[ir.Value, str] = {}
        self.values = self.constants = 0

    def text(self) -> str:
        for value in self.graph.inputs:
            self.names[value] = str(value.name)
        lines = [self._input(value) for value in self.graph.inputs]
        lines += [self._node(node) for node in self.graph]
        outputs = [self.names.get(v) or self._operand(v) for v in self.graph.outputs]
        return "\n".join([*lines, f"return {', '.join(outputs)}"])

    def _input(self, value: ir.Value) -> str:
        kinds = {dtype: name for name, dtype in _DTYPES.items()}
        kind = kinds.get(value.dtype, str(value.dtype)) if value.dtype else "?"
        return f"{value.name}: {kind}{_sizes(value)}"

    def _node(self, node: ir.Node) -> str:
        operands = [self._operand(value) for value in node.inputs]
        named = sorted((k, a.value) for k, a in node.attributes.items())
        operands += [f"{k}={_literal(v)}" for k, v in named if not _is_default(k, v)]
        for value in node.outputs:
            self.values += 1
            self.names[value] = f"v{self.values}"
        targets = ", ".join(self.names[value] for value in node.outputs)
        return f"{targets} = {node.op_type}({', '.join(operands)})"

    def _operand(self, value: ir.Value | None) -> str:
        if value is None:
            return "None"
        if value not in self.names:
            self.names[value] = self._constant(value)
        return self.names[value]

    def _constant(self, value: ir.Value) -> str:
        tensor = value.const_value
        if tensor is None:
            raise GraphError(f"value {value.name!r} is used before it is computed")
        contents = tensor.numpy()
        integers = contents.dtype.kind in "iu" and contents.size <= _SHOWN_INTEGERS
        if integers or contents.ndim == 0:
            return _literal(contents.tolist())
        self.constants += 1
        return f"c{self.constants}{_sizes(value)}"


# Attributes that exporters write out although they say nothing.
_DEFAULTS: dict[str, Any] = {
    "group": 1, "auto_pad": "NOTSET", "allowzero": 0, "alpha": 1.0, "beta": 1.0, "transA": 0,
    "noop_with_empty_axes": 0,
}  # fmt: skip


def _is_default(name: str, value: Any) -> bool:
    if name in ("dilations", "strides"):
        return set(value) == {1}
    if name == "pads":
        return set(value) == {0}
    return name == "kernel_shape" or (name in _DEFAULTS and _DEFAULTS[name] == value)


def _sizes(value: ir.Value) -> str:
    return "?" if value.shape is None else str(list(value.shape))


def _literal(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if set(text) & set(".en") else f"{text}.0"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)
