"""What does not compute is taken out, and what looks like it but computes stays."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgekit.export.passes.clean import (
    DeduplicateInitializers,
    DropExpand,
    DropIdentities,
    FoldConstants,
    MergeEqualNodes,
    StripMetadata,
)
from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.notation import parse, render
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double


def _run(graph_pass: GraphPass, text: str) -> tuple[str, tuple[str, ...]]:
    before = to_double(parse(text.replace("float", "double")))
    after, (record,) = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT
    return render(after).replace("double", "float"), record.notes


def _same(text: str) -> str:
    return render(parse(text))


def test_metadata_of_this_machine_goes_and_scopes_stay() -> None:
    model = parse("x: float[4]\ny = Relu(x)\nreturn y")
    node = model.graph[0]
    node.doc_string = "File /home/me/net.py"
    node.metadata_props.update(
        {"pkg.torch.onnx.stack_trace": "File /home/me", "pkg.torch.onnx.name_scopes": "['', 'act']"}
    )
    node.outputs[0].metadata_props["where"] = "/home/me"
    model.graph.inputs[0].metadata_props["where"] = "/home/me"
    model.metadata_props["made"] = "/home/me"
    model.doc_string = model.graph.doc_string = "/home/me"
    after, (record,) = run_passes(model, [StripMetadata()])
    kept = after.graph[0]
    assert record.modified == 1
    assert dict(kept.metadata_props) == {"pkg.torch.onnx.name_scopes": "['', 'act']"}
    written = ir.to_proto(after).SerializeToString()
    assert b"/home" not in written and b"act" in written


def test_folding_through_constant_nodes() -> None:
    text = """
        x: float[1, 8]
        s = Constant(value_ints=[2, 4])
        t = Cast(s, to=7)
        y = Reshape(x, t)
        return y
    """
    assert _run(FoldConstants(), text)[0] == _same(
        "x: float[1, 8]\ny = Reshape(x, [2, 4])\nreturn y"
    )


def test_a_constant_does_not_grow_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.export.passes.clean._FOLDED_BYTES_CAP", 100)
    text = "x: float[8, 9]\ne = Expand(w[8, 1], [8, 9])\ny = Mul(x, e)\nreturn y"
    result, notes = _run(FoldConstants(), text)
    assert "Expand" in result
    assert notes == ("not folded at e: because the constant would grow from 80 to 576 bytes",)


def test_quantised_constants_stay_quantised() -> None:
    graph = (
        "x: float[4]\nq = QuantizeLinear(w[4], 0.5)\n"
        "d = DequantizeLinear(q, 0.5)\ny = Mul(x, d)\nreturn y"
    )
    after, (record,) = run_passes(parse(graph), [FoldConstants()])
    assert render(after) == _same(graph) and record.modified == 0


def test_a_constant_output_is_left_alone() -> None:
    text = "x: float[2]\na = Relu(x)\nc = Add([1, 2], [3, 4])\nreturn a, c"
    assert _run(FoldConstants(), text)[0] == _same(text)


@pytest.mark.parametrize(
    "node",
    [
        "Identity(a)", "Dropout(a)", "Cast(a, to=11)", "Concat(a, axis=1)", "Sum(a)", "Add(a, 0.0)",
        "Add([[0.0], [0.0], [0.0], [0.0]], a)", "Sub(a, 0.0)", "Mul(1.0, a)", "Div(a, 1.0)",
        "Reshape(a, [1, 4, 3])",
        "Expand(a, [4, 3])", "Pad(a, [0, 0, 0, 0, 0, 0])", "Transpose(a, perm=[0, 1, 2])",
        "Slice(a, [0], [4], [1])", "Split(a, axis=1, num_outputs=1)", "Tile(a, [1, 1, 1])",
        "Max(a)",
    ],
)  # fmt: skip
def test_no_ops(node: str) -> None:
    text = f"x: double[1, 4, 3]\na = Abs(x)\nb = {node}\ny = Relu(b)\nreturn y"
    expected = "x: float[1, 4, 3]\na = Abs(x)\ny = Relu(a)\nreturn y"
    assert _run(DropIdentities(), text)[0] == _same(expected)


@pytest.mark.parametrize(
    "node",
    [
        "Add(a, [0.0, 0.0])",  # makes the result larger
        "Sub(0.0, a)", "Div(1.0, a)", "Mul(a, 2.0)", "Transpose(a)",
        "Slice(a, [-1], [-5], [0], [-1])",  # reversed, of the same shape
        "Reshape(a, [2, 2])", "Dropout(a, 0.5, w)",
    ],
)  # fmt: skip
def test_not_quite_no_ops(node: str) -> None:
    training = "w = Equal(1.0, 1.0)\n" if "Dropout" in node else ""
    text = f"x: double[4, 1]\na = Exp(x)\n{training}b = {node}\ny = Abs(b)\nreturn y"
    if training:  # its result is random: only the form can be compared
        after, (record,) = run_passes(parse(text), [DropIdentities()])
        assert render(after) == _same(text) and record.modified == 0
        return
    assert _run(DropIdentities(), text)[0] == _same(text.replace("double", "float"))


def test_an_output_needs_a_node() -> None:
    text = "x: float[4]\ny = Identity(x)\nreturn y"
    assert _run(DropIdentities(), text)[0] == _same(text)


def test_expand_stays_where_the_shape_comes_from_it() -> None:
    text = "x: float[1, 4, 1]\ne = Expand(x, [1, 4, 5])\ny = Mul(e, 2.0)\nreturn y"
    result, notes = _run(DropExpand(), text)
    assert result == _same(text)
    assert notes == ("not dropped at e: because y takes its shape from it",)


def test_expand_stays_where_the_reader_does_not_broadcast() -> None:
    text = "x: float[1, 4, 1]\ne = Expand(x, [1, 4, 5])\ny = ReduceSum(e, [2])\nreturn y"
    result, notes = _run(DropExpand(), text)
    assert result == _same(text)
    assert notes == ("not dropped at e: because y (ReduceSum) does not broadcast",)


def test_only_equal_constants_are_merged() -> None:
    text = (
        "x: float[2]\na = Mul(x, 2.0)\nb = Mul(a, 2.0)\nc = Mul(b, w[2])\n"
        "d = Mul(c, v[2])\nreturn d"
    )
    after, (record,) = run_passes(parse(text), [DeduplicateInitializers()])
    assert record.modified == 1 and len(after.graph.initializers) == 3


def test_only_equal_nodes_are_merged() -> None:
    text = """
        x: float[2, 2]
        a = Softmax(x, axis=0)
        b = Softmax(x, axis=1)
        c = Softmax(x, axis=1)
        d = Mul(a, b)
        e = Mul(d, c)
        return e
    """
    assert _run(MergeEqualNodes(), text)[0].count("Softmax") == 2


def test_outputs_are_not_merged() -> None:
    text = "x: float[2]\na = Relu(x)\nb = Relu(x)\nreturn a, b"
    assert _run(MergeEqualNodes(), text)[0] == _same(text)
