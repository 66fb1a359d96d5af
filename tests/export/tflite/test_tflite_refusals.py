"""What cannot be lowered is refused by name, with the reason and what to do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgekit.errors import GraphError, UnsupportedOperatorError
from edgekit.export.tflite import lower_tflite
from edgekit.export.tflite.ops import EMITTERS, REFUSED, emitter
from edgekit.export.tflite.reader import Op, Value
from tests.export.tflite.comparing import Const, graph, noise, single

MAP = noise(1, 4, 6, 6)
KERNEL = Const(noise(4, 4, 3, 3))
ONES = [Const(np.ones(4, np.float32))] * 4


def ints(*values: int) -> Const:
    return Const(np.asarray(values, np.int64))


SETTINGS = [
    ("Conv", [MAP, noise(4, 4, 3, 3)], {}, "weights 'in1' are computed at run time"),
    ("Conv", [noise(1, 2, 3, 4, 5), Const(noise(2, 2, 1, 1, 1))], {}, "has 5 axes and only 1-D"),
    ("ConvTranspose", [MAP, noise(4, 4, 3, 3)], {}, "weights 'in1' are computed at run time"),
    ("MaxPool", [MAP], {"kernel_shape": [2, 2], "dilations": [2, 2]}, r"dilated by \(2, 2\)"),
    ("MaxPool", [MAP], {"kernel_shape": [2, 2], "outputs": 2}, "its second output is used"),
    ("Det", [noise(3, 3)], {}, "has no such operator. write the model without it"),
    ("BatchNormalization", [MAP, noise(4), *ONES[:3]], {}, "its scale 'in1' is computed at run"),
    ("Clip", [MAP, noise()], {}, "its lower bound 'in1' is computed at run time. make the lower"),
    ("Resize", [MAP, None, None, ints(1, 4, 9, 9)], {"mode": "cubic"}, "its mode is 'cubic'"),
    ("Resize", [MAP, None, None, ints(2, 4, 9, 9)], {"mode": "linear"}, "the batch or the chan"),
    ("Resize", [MAP, None, None, ints(1, 4, 3, 3)], {"antialias": 1, "mode": "linear"}, "antial"),
    (
        "Resize",
        [MAP, Const(np.asarray([0, 0, 0, 0, 1, 1, 1, 1], np.float32)), None, ints(1, 4, 9, 9)],
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "its coordinate mode is 'tf_crop_and_resize'. use one of half_pixel",
    ),
    (
        "Resize",
        [MAP, None, Const(np.asarray([1, 1, 1.45, 1.45], np.float32))],
        {"mode": "linear"},
        r"cannot interpolate from \(6, 6\) to \(8, 8\) in coordinate mode 'half_pixel'",
    ),
    ("ArgMax", [MAP], {"select_last_index": 1}, "the last of equal elements"),
    ("TopK", [MAP, ints(2)], {"outputs": 2, "largest": 0}, "the smallest elements. negate"),
    ("GatherND", [MAP, Const(np.asarray([[0]], np.int64))], {"batch_dims": 1}, "has batch_dims"),
    ("MatMul", [noise(1, 1, 1, 1, 2, 2), noise(2, 2)], {}, "stacks of more than 5 axes"),
    ("MatMul", [np.ones((2, 2), np.int32)] * 2, {}, "'in0' is int32. multiply float32 matrices"),
    (
        "QuantizeLinear",
        [MAP, Const(np.float32(0.1)), Const(np.int8(0))],
        {},
        "8-bit graphs are not lowered to",
    ),
    ("Einsum", [noise(2, 3), noise(3, 2)], {"equation": "ij,jk->ik"}, "write it as Transpose"),
    ("Pow", [MAP, np.asarray([2, 3, 2, 3, 2, 3], np.int32)], {}, "base and exponent differ"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "why"), SETTINGS)
def test_a_refusal_names_operator_node_and_reason(op, inputs, attributes, why):
    model, _ = single(op, inputs, **attributes)
    with pytest.raises(UnsupportedOperatorError, match=why) as caught:
        lower_tflite(model)
    assert (caught.value.lowering, caught.value.op_type) == ("tflite", op)
    assert caught.value.node == "the_node"
    assert f"tflite: {op} at node 'the_node'" in str(caught.value)


@pytest.mark.parametrize("op", REFUSED)
def test_what_is_left_out_on_purpose_says_what_to_do(op):
    x = Value("x", (2, 3), np.dtype(np.float32))
    with pytest.raises(UnsupportedOperatorError, match=f"{op} at node 'n' .*{REFUSED[op][1]}"):
        emitter(Op(op, "n", (x,), (x,)))
    assert op not in EMITTERS


def test_a_refusal_names_the_module_that_made_the_node():
    model, _ = single("Det", [noise(3, 3)])
    scopes = "['', 'features', 'features.3', 'linalg_det']"
    next(iter(model.graph)).metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    with pytest.raises(UnsupportedOperatorError, match=r"\(from features.3\)"):
        lower_tflite(model)


def test_batch_normalization_in_training_mode_is_refused():
    model, _ = single("BatchNormalization", [MAP, *ONES])
    next(iter(model.graph)).attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
    with pytest.raises(UnsupportedOperatorError, match=r"training mode. export .* model.eval\(\)"):
        lower_tflite(model)


def test_another_operator_domain_is_refused():
    model, _ = single("Relu", [MAP])
    next(iter(model.graph)).domain = "com.microsoft"
    with pytest.raises(UnsupportedOperatorError, match="operator domain 'com.microsoft'"):
        lower_tflite(model)


def test_a_dynamic_shape_is_refused_by_the_name_of_the_tensor():
    model, _ = single("Relu", [MAP])
    model.graph.inputs[0].shape = ir.Shape(["batch", 4, 6, 6])
    with pytest.raises(GraphError, match=r"shape of 'in0' is not static .*batch.*fixed input shap"):
        lower_tflite(model)


def test_an_unknown_shape_is_refused_by_the_name_of_the_tensor():
    node = helper.make_node("NonZero", ["x"], ["y"], name="the_node")
    tail = helper.make_node("Abs", ["y"], ["z"])
    model = graph([node, tail], {"x": MAP}, {}, ["z"])
    with pytest.raises(
        GraphError, match=r"the shape of 'y', which NonZero 'the_node' computes, is not"
    ):
        lower_tflite(model)


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [(np.float64, r"model.float\(\)"), (np.float16, r"model.float\(\)"), (np.int16, "cast it")],
)
def test_a_dtype_that_is_not_lowered_is_refused_by_the_name_of_the_tensor(dtype, remedy):
    model, _ = single("Identity", [MAP.astype(dtype)])
    with pytest.raises(
        GraphError, match=f"'in0' is {np.dtype(dtype).name}; lowered are .*{remedy}"
    ):
        lower_tflite(model)


def test_a_constant_of_such_a_dtype_is_refused_too():
    nodes = [
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    model = graph(nodes, {"x": MAP}, {"c": np.ones(1, np.float64)}, ["y"])
    with pytest.raises(GraphError, match="'c' is float64"):
        lower_tflite(model)


def test_an_old_opset_is_refused():
    model, _ = single("Relu", [MAP])
    model.graph.opset_imports[""] = 11
    with pytest.raises(GraphError, match="uses ONNX opset 11; 13 and later"):
        lower_tflite(model)


def test_float64_weights_are_refused():
    model, _ = single("Conv", [MAP, KERNEL])
    weights = ir.tensor(noise(4, 4, 3, 3).astype(np.float64))
    model.graph.initializers["in1"].const_value = weights
    with pytest.raises(UnsupportedOperatorError, match="not float32 but float32 with float64 wei"):
        lower_tflite(model)


def test_a_recorded_shape_that_is_wrong_is_found():
    model, _ = single("Relu", [MAP])
    model.graph.outputs[0].shape = ir.Shape([1, 4, 6, 7])
    with pytest.raises(GraphError, match=r"lowered to float32 \(1, 4, 6, 6\), but the graph says"):
        lower_tflite(model)


def test_a_tensor_without_elements_is_refused():
    model, _ = single("Identity", [noise(2, 0, 3)])
    with pytest.raises(GraphError, match="'in0' has no elements"):
        lower_tflite(model)


def test_a_reshape_that_loses_elements_is_found():
    model, _ = single("Flatten", [MAP])
    model.graph.outputs[0].shape = ir.Shape([1, 7])
    with pytest.raises(GraphError, match=r"'in0' cannot be reshaped to \(1, 7\)"):
        lower_tflite(model)
