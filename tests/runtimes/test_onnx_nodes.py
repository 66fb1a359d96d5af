"""Reading nodes without ONNX, and telling which of them a kernel computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import BundleError
from edgekit.runtimes.onnx_nodes import OnnxNode, attribute, read_nodes
from tests.runtimes import tiny_models


def node(op_type, inputs, outputs, name=""):
    return OnnxNode(name, op_type, tuple(inputs.split()), tuple(outputs.split()))


def as_onnx_reads(model):
    return [OnnxNode(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]


def test_nodes_are_what_onnx_reads():
    model = tiny_models.model("oblong")
    model.graph.node[0].name = "erste Schicht/\u00e4"
    model.producer_name = "x" * 300  # a length of two bytes
    got = read_nodes(model.SerializeToString())
    assert list(got) == as_onnx_reads(model)
    assert [n.title for n in got] == ["erste Schicht/\u00e4", "map", "mean", "flat", "pooled"]


def test_subgraphs_are_not_read():
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "b", [], [])
    chosen = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([chosen], "g", [], [])
    assert [n.op_type for n in read_nodes(helper.make_model(graph).SerializeToString())] == ["If"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a",  # a graph without its length
        b"\x3a\x05abc",  # shorter than it says
        b"\x3b",  # a wire type of old
        b"\xff" * 40,  # a number that does not end
        b"\x3a\x06\x0a\x04\x1a\x02\xff\xfe",  # a name that is not UTF-8
    ],
)
def test_damage_is_one_line(data):
    with pytest.raises(BundleError, match="not a readable ONNX graph: ") as caught:
        read_nodes(data)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_read_or_refused():
    data = tiny_models.model("oblong").SerializeToString()
    for end in range(len(data)):
        try:
            read_nodes(data[:end])
        except BundleError:
            continue


SOURCE = (
    node("Conv", "x w", "c", "conv"),
    node("Clip", "c", "d", "clip"),
    node("Mul", "d d", "e", "square"),
    node("HardSwish", "e", "y", "swish"),
)


@pytest.mark.parametrize(
    ("optimised", "layers"),
    [
        (SOURCE, [("conv",), ("clip",), ("square",), ("swish",)]),
        (  # fused, blocked, and moved back
            (
                node("Conv", "x w2", "token", "d_nchwc"),
                node("ReorderOutput", "token", "d", "ReorderOutput"),
                node("Mul", "d d", "e", "square"),
                node("HardSigmoid", "e", "half"),
                node("Mul", "e half", "y"),
            ),
            [("conv", "clip"), (), ("square",), ("swish",), ("swish",)],
        ),
        (  # the name is gone as well, the tensor after the move tells
            (
                node("FusedConv", "x w2", "token", "anything"),
                node("ReorderOutput", "token", "e"),
                node("HardSwish", "e", "y", "swish"),
            ),
            [("conv", "clip", "square"), (), ("swish",)],
        ),
        ((node("Everything", "x", "y"),), [("conv", "clip", "square", "swish")]),
        ((node("Alien", "a", "b", "alien"),), [()]),
    ],
)
def test_a_kernel_computes_what_lies_between(optimised, layers):
    assert list(attribute(SOURCE, optimised)) == layers


def test_both_of_two_branches_are_found():
    source = (
        node("Relu", "x", "a", "relu"),
        node("Mul", "a k", "b", "left"),
        node("Mul", "a l", "c", "right"),
        node("Add", "b c", "y", "add"),
    )
    fused = (node("Relu", "x", "a", "relu"), node("Fused", "a", "y", "f"))
    assert attribute(source, fused) == (("relu",), ("left", "right", "add"))


def test_a_graph_that_onnxruntime_optimised_is_covered(tmp_path: Path):
    """Conv, Relu fused in blocked layout on x86; nothing of the source is lost anywhere."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(16, 16, 3, 3)).astype("f4"), "w")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "x"], ["y"], name="add"),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 16, 8, 8)) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options)
    optimised = read_nodes((tmp_path / "optimised.onnx").read_bytes())
    assert list(optimised) == as_onnx_reads(onnx.load(tmp_path / "optimised.onnx"))
    got = attribute(as_onnx_reads(model), optimised)
    assert {name for names in got for name in names} == {"conv", "relu", "add"}
