"""The wrapper around every pass: what it promises, and that it notices broken passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.errors import GraphError
from edgekit.export.passes.graph import Builder, replace
from edgekit.export.passes.infra import NodePass, PassResult, run_passes
from edgekit.export.passes.notation import parse, render

RELU = "x: float[1, 4]\ny = Relu(x)\nreturn y"


class Pass:
    """A pass made of one function."""

    def __init__(self, rewrite: Callable[[ir.Model], object], name: str = "sloppy") -> None:
        self.name, self._rewrite = name, rewrite

    def rewrite(self, model: ir.Model) -> PassResult:
        self._rewrite(model)
        return PassResult(1)


def _rename_output(model: ir.Model) -> None:
    model.graph.outputs[0].name = "renamed"


def _rename_input(model: ir.Model) -> None:
    model.graph.inputs[0].name = "renamed"


def _drop_output(model: ir.Model) -> None:
    node = model.graph[0]
    wider = Builder(node).one("Concat", node.inputs[0], node.inputs[0], axis=1)
    replace(node.outputs[0], wider)


def _change_dtype(model: ir.Model) -> None:
    node = model.graph[0]
    replace(node.outputs[0], Builder(node).one("Cast", node.inputs[0], to=11))


@pytest.mark.parametrize("broken", [_rename_output, _rename_input, _drop_output, _change_dtype])
def test_a_changed_interface_is_an_error_that_names_the_pass(
    broken: Callable[[ir.Model], None],
) -> None:
    with pytest.raises(GraphError, match="'sloppy' changed the interface"):
        run_passes(parse(RELU), [Pass(broken)])


def test_an_invalid_graph_is_an_error_that_names_the_pass() -> None:
    def misspell(model: ir.Model) -> None:
        model.graph[0].op_type = "Relou"

    with pytest.raises(GraphError, match="'sloppy' left an invalid graph.*Relou"):
        run_passes(parse(RELU), [Pass(misspell)])


def test_a_value_without_shape_is_an_error_that_names_the_value() -> None:
    def forget(model: ir.Model) -> None:
        model.graph[0].outputs[0].shape = None

    with pytest.raises(GraphError, match=r"'sloppy' left values without a static shape: \['a'\]"):
        run_passes(parse("x: float[1, 4]\na = Relu(x)\ny = Abs(a)\nreturn y"), [Pass(forget)])


def test_the_given_model_is_left_alone() -> None:
    def swap(model: ir.Model) -> None:
        node = model.graph[0]
        replace(node.outputs[0], Builder(node).one("Abs", node.inputs[0]))

    before = parse(RELU)
    text = render(before)
    after, (record,) = run_passes(before, [Pass(swap, "swap")])
    assert render(before) == text
    assert render(after) == text.replace("Relu", "Abs")
    assert (record.name, record.modified, record.notes) == ("swap", 1, ())


def test_dead_code_and_constants_nobody_reads_are_removed() -> None:
    def detach(model: ir.Model) -> None:
        model.graph[1].replace_input_with(0, model.graph.inputs[0])

    text = "x: float[1, 4]\na = Mul(x, w[1, 4])\ny = Relu(a)\nreturn y"
    after, _ = run_passes(parse(text), [Pass(detach)])
    assert [node.op_type for node in after.graph] == ["Relu"]
    assert not after.graph.initializers


def test_missing_shapes_are_inferred_first() -> None:
    model = parse("x: float[1, 4]\na = Relu(x)\ny = Abs(a)\nreturn y")
    model.graph[0].outputs[0].shape = None
    after, _ = run_passes(model, [])
    assert after.graph[0].outputs[0].shape == [1, 4]


def test_a_dynamic_shape_is_refused() -> None:
    model = parse(RELU)
    model.graph.inputs[0].shape = ir.Shape(["batch", 4])
    model.graph[0].outputs[0].shape = None
    with pytest.raises(GraphError, match="need static shapes"):
        run_passes(model, [])


def test_contradicting_shapes_are_refused() -> None:
    model = parse("x: float[1, 4]\na = Mul(x, w[1, 4])\ny = Abs(a)\nreturn y")
    model.graph[0].outputs[0].shape = None
    model.graph.inputs[0].shape = ir.Shape([1, 5])
    with pytest.raises(GraphError, match="contradict"):
        run_passes(model, [])


class Restless(NodePass):
    """Rewrites for ever."""

    name = "restless"
    op_types: ClassVar[tuple[str, ...]] = ("Relu",)

    def rewrite_node(self, node: ir.Node) -> bool | str:
        replace(node.outputs[0], Builder(node).one("Relu", node.inputs[0]))
        return True


def test_a_pass_that_goes_in_circles_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.export.passes.infra._MAX_ROUNDS", 5)
    with pytest.raises(GraphError, match="'restless' still finds work after 5 rounds"):
        run_passes(parse(RELU), [Restless()])


class Picky(NodePass):
    """Refuses everything, with a reason."""

    name = "picky"
    refused = "not taken"

    def rewrite_node(self, node: ir.Node) -> bool | str:
        return f"{node.op_type} is dull"


def test_a_refusal_is_a_note_with_node_and_reason() -> None:
    _, (record,) = run_passes(parse(RELU), [Picky()])
    assert record.notes == ("not taken at y: because Relu is dull",)


def test_names_do_not_depend_on_earlier_runs() -> None:
    def double(model: ir.Model) -> None:
        node = model.graph[0]
        builder = Builder(node)
        two = builder.constant(2.0, "two", np.float32)
        replace(node.outputs[0], builder.one("Mul", builder.one("Relu", node.inputs[0]), two))

    model, _ = run_passes(parse(RELU), [Pass(double)])
    first, second = (run_passes(model, [Pass(double)])[0] for _ in range(2))
    names = [[str(v.name) for n in m.graph for v in n.outputs] for m in (first, second)]
    assert names[0] == names[1]
