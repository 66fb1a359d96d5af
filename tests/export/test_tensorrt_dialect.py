"""The dialect against small graphs, and against the real parser and builder of tensorrt-rtx."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import GraphError, UnsupportedOperatorError
from edgekit.export import tensorrt_dialect as dialect
from edgekit.export.onnx_file import to_bytes
from edgekit.export.passes.notation import parse
from edgekit.runtimes import trt_probe

FLOAT = TensorProto.FLOAT
X = ("x", FLOAT, [1, 8, 6, 6])


def graph(nodes, constants=(), inputs=(X,), outputs=("y",), opset=18):
    """A graph with inferred types; ``constants`` are (name, array)."""
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def one(
    op, *inputs, constants=(), outputs=("y",), opset=18, graph_inputs=(X,), asked=None, **attrs
):
    """A graph of one node named ``the_node``."""
    node = helper.make_node(op, list(inputs), list(outputs), name="the_node", **attrs)
    return graph([node], constants, graph_inputs, asked or outputs, opset)


def quantised(zero_point, kind="QuantizeLinear"):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dequantise"),
    ]
    return graph(nodes, [("s", np.float32(0.1)), ("z", zero_point)])


def resize(**attrs):
    scales = ("s", np.array([1, 1, 2, 2], "f4"))
    return one("Resize", "x", "", "s", constants=[scales], **attrs)


AXES = ("axes", np.array([2, 3]))
RUNTIME_AXES = (X, ("axes", TensorProto.INT64, [2]))
KERNEL = ("w", np.ones((4, 8, 3, 3), "f4"))
THREE = ("k", np.array([3]))
INDEX = ("i", np.array([[0, 1]]))
UPDATE = ("u", np.ones((1, 6, 6), "f4"))
SCALE = ("s", np.ones(6, "f4"))
MATRICES = (("a", FLOAT, [1, 4, 4]), ("b", FLOAT, [1, 4, 4]))

# One row a limit, in the order of the table: what is refused, and words of the reason.
REFUSED = {
    "conv weights": (
        lambda: one("Conv", "x", "w", graph_inputs=(X, ("w", FLOAT, [4, 8, 3, 3]))),
        "weights must not depend on the input .* weights 'w' are computed",
    ),
    "reduce axes": (
        lambda: one("ReduceMean", "x", "axes", graph_inputs=RUNTIME_AXES),
        "axes must be an initializer .* 'axes' is computed",
    ),
    "squeeze axes": (
        lambda: one("Squeeze", "x", "axes", graph_inputs=RUNTIME_AXES),
        "axes must be constant",
    ),
    "cumsum axis": (
        lambda: one("CumSum", "x", "a", graph_inputs=(X, ("a", TensorProto.INT64, []))),
        "axis must be constant",
    ),
    "onehot depth": (
        lambda: one(
            "OneHot", "i", "d", "v", constants=[INDEX, ("v", np.array([0.0, 1.0], "f4"))],
            graph_inputs=(("d", TensorProto.INT64, [1]),),
        ),
        "depth must be constant",
    ),
    "pad axes": (
        lambda: one(
            "Pad", "x", "p", "", "axes", constants=[("p", np.array([1, 1, 1, 1]))],
            graph_inputs=RUNTIME_AXES,
        ),
        "axes must be constant before 10.4",
    ),
    "pool dilations": (
        lambda: one("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2]),
        r"dilations must be 1 .* dilations are \[2, 2\]",
    ),
    "pool rank": (
        lambda: one("MaxPool", "x", kernel_shape=[2], graph_inputs=(("x", FLOAT, [1, 8, 6]),)),
        "pooling is 2-D or 3-D .* the kernel has 1 dimensions",
    ),
    "second output": (
        lambda: one("MaxPool", "x", outputs=("y", "where"), kernel_shape=[2, 2]),
        "only its first output is supported .* 'where' is used",
    ),
    "training": (
        lambda: one(
            "BatchNormalization", "x", "c", "c", "c", "c", constants=[("c", np.ones(8, "f4"))],
            training_mode=1,
        ),
        "training mode is not supported .* training_mode is 1",
    ),
    "resize mode": (lambda: resize(mode="cubic"), "mode is one of nearest, linear .* 'cubic'"),
    "resize coordinates": (
        lambda: resize(coordinate_transformation_mode="half_pixel_symmetric"),
        "coordinate mode is one of half_pixel, .*half_pixel_symmetric",
    ),
    "resize antialias": (lambda: resize(mode="linear", antialias=1), "no antialiasing"),
    "resize aspect": (
        lambda: resize(keep_aspect_ratio_policy="not_larger"),
        "aspect ratio policy is stretch .* 'not_larger'",
    ),
    "topk order": (
        lambda: one("TopK", "x", "k", constants=[THREE], outputs=("y", "i"), sorted=0),
        "results are sorted .* sorted is 0",
    ),
    "topk size": (
        lambda: one("TopK", "x", "k", constants=[("k", np.array([3840]))], outputs=("y", "i")),
        "K is below 3840 .* K is 3840",
    ),
    "zero point": (lambda: quantised(np.int8(3)), "zero point must be 0 .* it is 3"),
    "unsigned": (lambda: quantised(np.uint8(0)), "signed .* it is UINT8"),
    "einsum": (
        lambda: one("Einsum", "a", "b", equation="...ij,...jk->...ik", graph_inputs=MATRICES),
        "come with 10.12",
    ),
    "pow": (
        lambda: one("Pow", "x", "two", constants=[("two", np.int64(2))]),
        "integer operands .* it raises FLOAT to INT64",
    ),
    "scatternd opset": (
        lambda: one("ScatterND", "x", "i", "u", constants=[INDEX, UPDATE]),
        "imported wrongly before 10.9 .* opset 18",
    ),
    "lstm forget": (lambda: lstm(input_forget=1), "input_forget is 0 .* input_forget is 1"),
    "lstm layout": (lambda: lstm(layout=1), "the layout is 0 .* layout is 1"),
    "scatternd reduction": (
        lambda: one(
            "ScatterND", "x", "i", "u", constants=[INDEX, UPDATE], opset=16, reduction="add"
        ),
        "there is no reduction .* reduction is 'add'",
    ),
}  # fmt: skip


def lstm(**attrs):
    weights = [("w", np.ones((1, 8, 4), "f4")), ("r", np.ones((1, 8, 2), "f4"))]
    return one(
        "LSTM", "x", "w", "r", constants=weights, graph_inputs=(("x", FLOAT, [1, 1, 4]),),
        hidden_size=2, **attrs,
    )  # fmt: skip


# The same operators within the limits; the real parser must agree about each.
TAKEN = {
    "conv": lambda: one("Conv", "x", "w", constants=[KERNEL], auto_pad="SAME_UPPER"),
    "reduce": lambda: one("ReduceMean", "x", "axes", constants=[AXES], keepdims=0),
    "reduce noop": lambda: one("ReduceMean", "x", noop_with_empty_axes=1),
    "pad axes": lambda: one(
        "Pad", "x", "p", "", "axes", constants=[("p", np.array([1, 1, 1, 1])), AXES]
    ),
    "max pool": lambda: one("MaxPool", "x", kernel_shape=[2, 2], dilations=[1, 1]),
    "average pool": lambda: one("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "layer norm": lambda: one("LayerNormalization", "x", "s", constants=[SCALE]),
    "resize": lambda: resize(mode="linear"),
    "topk": lambda: one(
        "TopK", "x", "k", constants=[("k", np.array([3]))], outputs=("y", "i"), asked=("y",), axis=1
    ),
    "symmetric int8": lambda: quantised(np.int8(0)),
    "einsum": lambda: one("Einsum", "a", "b", equation="bij,bjk->bik", graph_inputs=MATRICES),
    "pow": lambda: one("Pow", "x", "two", constants=[("two", np.float32(2))]),
    "shuffle": lambda: one(
        "Gather", "x", "i", constants=[("i", np.arange(8).reshape(2, 4).T.ravel())], axis=1
    ),
    "one channel": lambda: one("Gather", "x", "i", constants=[("i", np.int64(3))], axis=1),
    "hard swish": lambda: one("HardSwish", "x"),
    "hard sigmoid": lambda: one("HardSigmoid", "x", alpha=1 / 6, beta=0.5),
    "clip": lambda: one(
        "Clip", "x", "lo", "hi", constants=[("lo", np.float32(0)), ("hi", np.float32(6))]
    ),
    "clip above only": lambda: one("Clip", "x", "", "hi", constants=[("hi", np.float32(6))]),
    "split": lambda: one(
        "Split", "x", "n", constants=[("n", np.array([3, 5]))], outputs=("y", "z"), axis=1
    ),
    "erf": lambda: one("Erf", "x"),
    "gelu": lambda: one("Gelu", "x", opset=20),
    "max of three": lambda: one("Max", "x", "x", "x"),
    "transpose": lambda: one("Transpose", "x", perm=[0, 2, 3, 1]),
    "int64 input": lambda: one("Cast", "i", graph_inputs=(("i", TensorProto.INT64, [1, 4]),), to=1),
}

MICRO = """
    image: float[1, 3, 8, 8]
    a = Conv(image, w1[8, 3, 3, 3], b1[8], pads=[1, 1, 1, 1])
    s = Gather(a, [0, 4, 1, 5, 2, 6, 3, 7], axis=1)
    p = GlobalAveragePool(s)
    q = Conv(p, w2[16, 8, 1, 1], b2[16])
    h = HardSigmoid(q)
    g, f = Split(h, [8, 8], axis=1)
    m = Mul(s, g)
    n = Mul(a, f)
    y = Max(m, n)
    return y
"""


def test_every_limit_of_the_table_is_tried():
    assert len(REFUSED) == len(dialect._LIMITS) == 24


@pytest.mark.parametrize("name", REFUSED)
def test_a_limit_names_the_node_and_the_rule(name):
    make, words = REFUSED[name]
    with pytest.raises(UnsupportedOperatorError, match=words) as caught:
        dialect.check_dialect(make())
    assert caught.value.node in {"the_node", "quantise"}
    assert caught.value.lowering == "tensorrt"


@pytest.mark.parametrize("name", TAKEN)
def test_within_the_limits_the_real_parser_and_builder_agree(name):
    pytest.importorskip("tensorrt_rtx")
    model = TAKEN[name]()
    dialect.check_dialect(model)
    checks = dialect.parse_and_build(to_bytes(model))
    assert checks["parser"].startswith("tensorrt-rtx ")
    assert checks["builder"].endswith("built for SM86, TF32 off")


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("QLinearConv", "no quantised operators"),
        ("DynamicQuantizeLinear", "no quantised operators"),
        ("NonZero", "output shape depends on the data"),
        ("NonMaxSuppression", "output shape depends on the data"),
        ("Loop", "control flow"),
        ("RandomNormal", "ignores its seed"),
        ("HannWindow", "10.4 brings it"),
        ("STFT", "10.5 brings it"),
        ("StringNormalizer", "10.3 does not import it"),
    ],
)
def test_an_operator_that_is_not_taken_says_why(op, why):
    node = ir.Node("", op, [], name="the_node")
    model = ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 18}), ir_version=10)
    with pytest.raises(UnsupportedOperatorError, match=f"{op} at node 'the_node'.*{why}"):
        dialect.check_dialect(model)


def test_the_real_parser_knows_every_operator_of_the_table():
    trt = pytest.importorskip("tensorrt_rtx")
    from edgekit.runtimes.trt_vendor import logger

    builder = trt.Builder(logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger(trt))
    unknown = {op for op in dialect._SUPPORTED if not parser.supports_operator(op)}
    assert unknown == {"DeformConv"}  # of TensorRT, not of its RTX edition
    known = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if not schema.domain and schema.since_version < dialect.OPSETS.stop
    }
    assert known > dialect._SUPPORTED
    # What the parser takes and the table does not even refuse would be refused with a lie.
    left = {op for op in known - dialect._SUPPORTED if parser.supports_operator(op)}
    assert left <= dialect._REFUSED.keys()


def test_opset_beyond_the_range_is_refused():
    with pytest.raises(GraphError, match=r"opset 21 is beyond TensorRT 10.3, which takes 9 to 20"):
        dialect.check_dialect(one("Relu", "x", opset=21))


def test_a_dynamic_input_is_refused():
    with pytest.raises(GraphError, match=r"input 'x' has shape .*static shapes"):
        dialect.check_dialect(one("Relu", "x", graph_inputs=(("x", FLOAT, ["N", 8]),)))


def test_doubles_are_refused_wherever_they_are():
    double = TensorProto.DOUBLE
    with pytest.raises(GraphError, match="input 'x' is DOUBLE"):
        dialect.check_dialect(one("Relu", "x", graph_inputs=(("x", double, [1, 8]),)))
    with pytest.raises(UnsupportedOperatorError, match="output 'y' is DOUBLE"):
        dialect.check_dialect(one("Cast", "x", to=double))
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="the_node")]
    with pytest.raises(GraphError, match="constant 'c' is DOUBLE"):
        dialect.check_dialect(graph(nodes, [("c", np.ones(2))]))


def test_a_foreign_domain_is_refused():
    model = one("Relu", "x")
    model.graph[0].domain = "acme"
    with pytest.raises(UnsupportedOperatorError, match="of the domain 'acme'"):
        dialect.check_dialect(model)


def test_too_many_dimensions_are_refused():
    shape = [1] * 9
    node = one("Reshape", "x", "s", constants=[("s", np.array(shape))],
               graph_inputs=(("x", FLOAT, [1]),))  # fmt: skip
    with pytest.raises(UnsupportedOperatorError, match="9 dimensions"):
        dialect.check_dialect(node)


def test_a_refusal_names_the_module_the_node_came_from():
    model = one("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])
    scopes = "['', 'features', 'features.3', 'max_pool2d']"
    model.graph[0].metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    with pytest.raises(UnsupportedOperatorError, match=r"\(from features.3\)"):
        dialect.check_dialect(model)


def test_dequantised_weights_count_as_constant():
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="dequantise"),
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
    ]
    constants = [
        ("q", np.ones((4, 8, 3, 3), "i1")), ("s", np.float32(0.1)), ("z", np.int8(0)),
    ]  # fmt: skip
    assert dialect.check_dialect(graph(nodes, constants)) == ()


def test_int64_interfaces_are_noted():
    (note,) = dialect.check_dialect(TAKEN["int64 input"]())
    assert note == "i is int64 on the device too: TensorRT 9 and later do not narrow it"


def test_lowering_writes_the_same_onnx_and_a_recipe():
    model = parse(MICRO)
    files = dialect.lower_tensorrt(model)
    assert list(files) == ["model.onnx", "tensorrt.json"]
    assert files == dialect.lower_tensorrt(model)
    assert files["model.onnx"] == to_bytes(model)
    recipe = json.loads(files["tensorrt.json"])
    assert recipe["opset"] == 18
    assert recipe["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert recipe["options"] == {"workspace_mib": 512, "strongly_typed": True, "tf32": False}
    for option in ("--stronglyTyped", "--noTF32", "--memPoolSize=workspace:512"):
        assert option in recipe["trtexec"].split()


def test_a_micro_network_is_built_by_the_real_builder():
    pytest.importorskip("tensorrt_rtx")
    checks = dialect.check_build(dialect.lower_tensorrt(parse(MICRO)))
    assert checks["device"] == "not yet executed on a device"
    assert "parsed" in checks["parser"]
    assert "SM86" in checks["builder"]
    only_parsed = dialect.parse_and_build(
        dialect.lower_tensorrt(parse(MICRO))["model.onnx"], build=False
    )
    assert "builder" not in only_parsed
    assert only_parsed["parser"] == checks["parser"]


def test_the_real_parser_names_the_node_it_refuses():
    pytest.importorskip("tensorrt_rtx")
    model = resize(mode="linear", antialias=1)
    with pytest.raises(UnsupportedOperatorError, match=r"Resize at node 'the_node'.*ntialias"):
        dialect.parse_and_build(to_bytes(model))


def test_the_real_parser_refuses_bytes_that_are_no_onnx():
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(GraphError, match="TensorRT cannot parse the graph"):
        dialect.parse_and_build(b"\x00not onnx\xff" * 20)


def test_the_real_builder_refusing_is_an_error():
    """Parsing a dynamic graph works; building it does not, and the builder's words are shown."""
    pytest.importorskip("tensorrt_rtx")
    model = one("Relu", "x", graph_inputs=(("x", FLOAT, ["N", 8, 6, 6]),))
    with pytest.raises(GraphError, match=r"cannot build a plan: .*optimization profile"):
        dialect.parse_and_build(to_bytes(model))


def test_without_tensorrt_the_outcome_says_so(monkeypatch):
    monkeypatch.setattr(trt_probe, "is_installed", lambda name: False)
    assert dialect.parse_and_build(b"") == {
        "parser": 'not checked: tensorrt-rtx is not installed (pip install "edgekit[tensorrt]")'
    }


def test_a_child_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(trt_probe, "is_installed", lambda name: True)
    monkeypatch.setattr(trt_probe, "_COMMAND", ("-c", "import time; time.sleep(60)"))
    with pytest.raises(GraphError, match=r"did not finish with this graph within 0.2 s"):
        dialect.parse_and_build(b"", timeout=0.2)


def test_a_child_that_crashes_costs_one_line(monkeypatch):
    monkeypatch.setattr(trt_probe, "is_installed", lambda name: True)
    monkeypatch.setattr(trt_probe, "_COMMAND", ("-c", "import os; os.abort()"))
    with pytest.raises(GraphError, match=r"TensorRT broke down on this graph \(exit -6\)"):
        dialect.parse_and_build(b"")
