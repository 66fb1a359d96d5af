"""The small vocabulary that the passes are written in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.errors import GraphError
from edgekit.export.passes.graph import (
    Builder,
    attribute,
    constant,
    consumers,
    dtype,
    evaluate,
    live_nodes,
    only_consumer,
    only_use,
    operand_and_constant,
    per_channel,
    producer,
    replace,
    scalar,
    shape,
)
from edgekit.export.passes.notation import parse, render

TEXT = """
    x: float[1, 4, 3, 3]
    a = Mul(x, w[1, 4, 1, 1])
    b = Relu(a)
    c = Add(b, b)
    return c, a
"""


def _nodes(text: str) -> tuple[ir.Model, list[ir.Node]]:
    model = parse(text)
    return model, list(model.graph)


def test_looking_around() -> None:
    model, (mul, relu, add) = _nodes(TEXT)
    x, a, b = model.graph.inputs[0], mul.outputs[0], relu.outputs[0]
    assert producer(a) is mul and producer(a, "Relu") is None and producer(x) is None
    assert consumers(b) == [add]
    assert only_consumer(b) is add and not only_use(b)  # it reads b twice
    assert only_consumer(a) is None  # also an output of the graph
    assert shape(a) == (1, 4, 3, 3) and dtype(a) == np.float32
    assert constant(x) is None and constant(None) is None
    operands = operand_and_constant(mul)
    assert operands is not None and operands[0] is x and operands[2] == 1
    assert operand_and_constant(add) is None


def test_scalars() -> None:
    _, (_, _, _, d) = _nodes(
        "x: float[2]\na=Add(x, 3.0)\nb=Add(a, [2.0, 2.0])\nc=Add(b, w[2])\nd=Add(c, 1.0)\nreturn d"
    )
    model, nodes = _nodes(
        "x: float[2]\na=Add(x, 3.0)\nb=Add(a, [2.0, 2.0])\nc=Add(b, w[2])\nreturn c"
    )
    assert [scalar(node.inputs[1]) for node in nodes] == [3.0, 2.0, None]
    assert scalar(model.graph.inputs[0]) is None and scalar(d.inputs[1]) == 1.0


@pytest.mark.parametrize(
    ("sizes", "rank", "expected"),
    [
        ((), 4, True), ((1,), 4, True), ((4, 1, 1), 4, True), ((1, 4, 1, 1), 4, True),
        ((4,), 2, True), ((1, 4), 2, True), ((4,), 4, False), ((4, 1), 4, False),
        ((1, 4, 1, 3), 4, False), ((2, 4, 1, 1), 4, False), ((1, 1, 1, 4, 1, 1), 4, False),
    ],
)  # fmt: skip
def test_what_counts_as_one_number_per_channel(
    sizes: tuple[int, ...], rank: int, expected: bool
) -> None:
    numbers = np.arange(1, 1 + int(np.prod(sizes))).reshape(sizes)
    found = per_channel(numbers, rank, 4)
    assert (found is not None) == expected
    if found is not None:
        assert found.shape == (4,) and found.dtype == np.float64


def test_unknown_shapes_and_dtypes_are_errors() -> None:
    with pytest.raises(GraphError, match="'v' has shape None"):
        shape(ir.Value(name="v"))
    with pytest.raises(GraphError, match="'v' has no dtype"):
        dtype(ir.Value(name="v"))


def test_removed_nodes_are_not_visited() -> None:
    model, _ = _nodes("x: float[4]\na = Relu(x)\nb = Relu(a)\nreturn b")
    visited = []
    for node in live_nodes(model.graph, "Relu"):
        visited.append(node.name)
        replace(model.graph[-1].outputs[0], Builder(node).one("Abs", model.graph.inputs[0]))
    assert visited == ["a"]


def test_an_output_keeps_its_name() -> None:
    model, (mul, *_) = _nodes("x: float[4]\ny = Mul(x, 2.0)\nreturn y")
    replace(mul.outputs[0], Builder(mul).one("Neg", model.graph.inputs[0]))
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert render(model) == "x: float[4]\nv1 = Neg(x)\nreturn v1"


def test_an_output_that_becomes_an_input_or_another_output_gets_a_node_of_its_own() -> None:
    model, (mul, relu) = _nodes("x: float[4]\ny = Mul(x, 1.0)\nz = Relu(x)\nreturn y, z")
    replace(mul.outputs[0], model.graph.inputs[0])
    replace(model.graph.outputs[0], relu.outputs[0])
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert [node.op_type for node in model.graph] == ["Relu", "Identity"]


def test_new_nodes_inherit_where_they_come_from() -> None:
    model, (mul, *_) = _nodes("x: float[4]\ny = Mul(x, 2.0)\nreturn y")
    mul.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'head']"
    new = Builder(mul).one("Neg", model.graph.inputs[0]).producer()
    assert new is not None and new.metadata_props == mul.metadata_props
    assert new.name == "y/neg"


def test_a_node_that_cannot_be_is_an_error() -> None:
    model, (mul, *_) = _nodes("x: float[4]\ny = Mul(x, 2.0)\nreturn y")
    with pytest.raises(GraphError, match="cannot infer the shape of 'y/transpose'"):
        Builder(mul).one("Transpose", model.graph.inputs[0], perm=[1, 0])
    with pytest.raises(GraphError, match="is not in a graph"):
        Builder(ir.node("Relu", [model.graph.inputs[0]]))


def test_evaluating_a_node() -> None:
    _, (node,) = _nodes("x: float[2, 3]\ny = Transpose(x, perm=[1, 0])\nreturn y")
    numbers = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(evaluate(node, {"x": numbers})[0], numbers.T)


def test_attributes_have_defaults_and_tuples() -> None:
    _, (node,) = _nodes("x: float[2, 3]\ny = Transpose(x, perm=[1, 0])\nreturn y")
    assert attribute(node, "perm") == (1, 0)
    assert attribute(node, "axis", 7) == 7
