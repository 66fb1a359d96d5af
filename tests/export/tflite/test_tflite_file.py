"""The file itself: format, names, constants, and graphs with unusual borders."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from onnx import helper

from edgekit.export.tflite import lower_tflite
from edgekit.export.tflite.schema import SIGNATURE, Tensor, pack
from tests.export.tflite.comparing import Const, check, codes, graph, noise, run_tflite, single

X = noise(1, 4, 6, 6)


def conv_file() -> bytes:
    weights, bias = Const(noise(5, 4, 3, 3)), Const(noise(5))
    return lower_tflite(single("Conv", [X, weights, bias], pads=[1, 1, 1, 1])[0])


def unpacked(file: bytes):
    return schema.ModelT.InitFromPackedBuf(file)


def test_identifier_and_schema_version():
    assert conv_file()[4:8] == b"TFL3"
    assert unpacked(conv_file()).version == 3


def test_buffer_0_is_empty_and_marks_what_is_not_constant():
    model = unpacked(conv_file())
    assert model.buffers[0].data is None
    (graph_,) = model.subgraphs
    for index in (*graph_.inputs, *graph_.outputs):
        assert graph_.tensors[index].buffer == 0
    assert sum(tensor.buffer > 0 for tensor in graph_.tensors) == 2


def test_constants_start_at_multiples_of_16_bytes():
    file = conv_file()
    root = schema.Model.GetRootAs(file)
    starts = []
    for i in range(root.BuffersLength()):
        buffer = root.Buffers(i)
        if buffer.DataLength():
            data = np.frombuffer(file, np.uint8)
            offset = buffer.DataAsNumpy().__array_interface__["data"][0]
            starts.append(offset - data.__array_interface__["data"][0])
    assert len(starts) == 2
    assert all(start % 16 == 0 for start in starts)


def test_operator_codes_are_written_for_old_readers_too():
    (code,) = unpacked(conv_file()).operatorCodes
    assert (code.builtinCode, code.deprecatedBuiltinCode, code.version) == (3, 3, 1)
    (code,) = unpacked(lower_tflite(single("Gelu", [X], opset=20)[0])).operatorCodes
    assert (code.builtinCode, code.deprecatedBuiltinCode) == (150, 127)


def test_forms_that_old_runtimes_lack_have_a_version_they_refuse():
    grouped = single("Conv", [X, Const(noise(4, 2, 1, 1))], group=2)[0]
    (code,) = unpacked(lower_tflite(grouped)).operatorCodes
    assert code.version == 6


def test_the_signature_has_the_names_of_the_graph():
    interpreter = Interpreter(model_content=conv_file())
    assert interpreter.get_signature_list() == {SIGNATURE: {"inputs": ["in0"], "outputs": ["out0"]}}
    (graph_,) = unpacked(conv_file()).subgraphs
    assert graph_.tensors[graph_.inputs[0]].name == b"in0"
    assert graph_.tensors[graph_.outputs[0]].name == b"out0"
    assert len({tensor.name for tensor in graph_.tensors}) == len(graph_.tensors)


def test_maps_are_nhwc_in_the_file():
    interpreter = Interpreter(model_content=conv_file())
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 6, 6, 4]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 6, 6, 5]


def test_equal_constants_are_stored_once():
    same = noise(4, 4, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"]),
    ]
    model = graph(nodes, {"x": X}, {"w1": same, "w2": same.copy()}, ["y"])
    assert check(model, {"x": X}, tolerance=1e-5) == ["CONV_2D"] * 3
    assert len(unpacked(lower_tflite(model)).buffers) == 3  # the sentinel, weights, zero bias


def test_what_no_output_needs_is_left_out():
    nodes = [
        helper.make_node("Exp", ["x"], ["unused"]),
        helper.make_node("Split", ["x"], ["y", "rest"], axis=1, num_outputs=2),
    ]
    model = graph(nodes, {"x": X}, {}, ["y"])
    assert check(model, {"x": X}, tolerance=0.0) == ["SPLIT"]


def test_operators_that_no_output_needs_are_not_looked_at():
    nodes = [
        helper.make_node("Add", ["x", "x"], ["unread"]),
        helper.make_node("Det", ["unread"], ["unreadable"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    model = graph(nodes, {"x": X}, {}, ["y"])
    assert check(model, {"x": X}, tolerance=0.0) == ["RELU"]


def test_an_operator_written_twice_runs_once():
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Exp", ["x"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    model = graph(nodes, {"x": X}, {}, ["y"])
    assert check(model, {"x": X}, tolerance=1e-5) == ["EXP", "ADD"]


def test_an_output_that_is_an_input():
    model = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": X}, {}, ["y"])
    check(model, {"x": X}, tolerance=0.0)
    model.graph.outputs[0] = model.graph.inputs[0]
    file = lower_tflite(model)
    assert np.array_equal(run_tflite(file, {"x": X})["x"], X)


def test_an_output_that_is_a_constant():
    data = noise(2, 3)
    nodes = [helper.make_node("Identity", ["c"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    check(graph(nodes, {"x": X}, {"c": data}, ["y", "z"]), {"x": X}, tolerance=0.0)


def test_two_outputs_that_are_one_value():
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("Identity", ["y"], ["z"]),
        helper.make_node("Transpose", ["y"], ["t"], perm=[0, 2, 3, 1]),
    ]
    model = graph(nodes, {"x": X}, {}, ["y", "z", "t"])
    check(model, {"x": X}, tolerance=0.0)


def test_several_inputs_of_which_one_is_not_used():
    feeds = {"x": X, "unused": noise(2, 3), "z": noise(4, 1, 1)}
    model = graph([helper.make_node("Add", ["x", "z"], ["y"])], feeds, {}, ["y"])
    assert check(model, feeds, tolerance=0.0) == ["RESHAPE", "ADD"]


def test_integer_inputs_keep_their_dtype():
    ids = np.asarray([[3, 1, 2]], np.int64)
    model, feeds = single("Gather", [Const(noise(5, 4)), ids])
    file = lower_tflite(model)
    assert Interpreter(model_content=file).get_input_details()[0]["dtype"] == np.int64
    check(model, feeds, tolerance=0.0)


def test_shapes_that_are_not_recorded_are_inferred():
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    model = graph(nodes, {"x": X}, {}, ["y"])
    hidden = next(iter(model.graph)).outputs[0]
    hidden.shape, hidden.type = None, None
    assert codes(lower_tflite(model)) == ["NEG", "EXP"]
    assert hidden.shape is None  # the caller's model is not touched


def test_constant_nodes_and_scalars():
    constant = helper.make_node("Constant", [], ["c"], value_float=0.25)
    model = graph([constant, helper.make_node("Mul", ["x", "c"], ["y"])], {"x": X}, {}, ["y"])
    assert check(model, {"x": X}, tolerance=1e-6) == ["MUL"]


def test_an_option_that_the_schema_lacks_is_a_programming_error():
    x = Tensor("x", (1,), np.dtype(np.float32))
    y = Tensor("y", (1,), np.dtype(np.float32))
    from edgekit.export.tflite.schema import Operator

    operator = Operator("SOFTMAX", (x,), (y,), {"gamma": 1.0})
    with pytest.raises(AttributeError, match="SoftmaxOptions has no field 'gamma'"):
        pack([operator], {"x": x}, {"y": y})
