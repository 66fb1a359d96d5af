"""A user's .onnx is read as untrusted input: one clear line for each way it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import EdgekitError, GraphError, UsageError
from edgekit.export import user_onnx
from edgekit.export.user_onnx import UserModel, load_onnx


def _weights(name: str = "w") -> TensorProto:
    return numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), name)


def _conv_model(
    shape: tuple[int | str, ...] = (1, 3, 8, 8), opset: int = 18, weight: TensorProto | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "the_conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight or _weights()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _load(path: Path, **shapes: tuple[int, ...]) -> UserModel:
    return load_onnx(path, opset=18, input_shapes=shapes)


def test_a_plain_file_loads(tmp_path: Path) -> None:
    model = _load(_saved(tmp_path, _conv_model())).graph
    assert [tuple(value.shape or ()) for value in model.graph.outputs] == [(1, 4, 6, 6)]
    assert model.opset_imports[""] == 18


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_other_opsets_become_ours(tmp_path: Path, opset: int) -> None:
    assert _load(_saved(tmp_path, _conv_model(opset=opset))).graph.opset_imports[""] == 18


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"no such ONNX file: .*nowhere\.onnx"):
        _load(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a protobuf at all" * 10, b"\x00" * 100, b"\x08\x08"],
    ids=["empty", "text", "zeros", "header only"],
)
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match="ONNX"):
        _load(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = _conv_model().SerializeToString()
    for cut in (len(whole) // 4, len(whole) // 2, len(whole) - 3):
        path = tmp_path / "model.onnx"
        path.write_bytes(whole[:cut])
        with pytest.raises(GraphError):
            _load(path)


def test_an_invalid_graph_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = _conv_model()
    model.graph.node[0].input[0] = "nobody"
    with pytest.raises(EdgekitError, match="nobody"):
        _load(_saved(tmp_path, model))


def test_a_dynamic_shape_asks_for_input_shape(tmp_path: Path) -> None:
    path = _saved(tmp_path, _conv_model(("batch", 3, 8, 8)))
    with pytest.raises(
        GraphError, match=r"'x' has dynamic shape \[batch, 3, 8, 8\]: .*--input-shape x:1,3,8,8 \("
    ):
        _load(path)
    assert tuple(_load(path, x=(1, 3, 8, 8)).graph.graph.inputs[0].shape or ()) == (1, 3, 8, 8)
    fixed = load_onnx(path, opset=18, input_shapes={"": (2, 3, 8, 8)})
    assert tuple(fixed.graph.graph.outputs[0].shape or ()) == (2, 4, 6, 6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 3, 8, 8)}, "names 'z'; the inputs are x"),
        ({"x": (1, 4, 8, 8)}, "1,4,8,8 does not fit input 'x'"),
        ({"x": (1, 3, 8)}, "does not fit input 'x'"),
        ({"x": (0, 3, 8, 8)}, "does not fit input 'x'"),
    ],
)
def test_a_wrong_input_shape_is_usage(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _load(_saved(tmp_path, _conv_model(("batch", 3, 8, 8))), **shapes)


def _external(location: str, offset: str = "0", length: str = "432") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.ones(108, np.float32).tobytes())
    user = _load(_saved(tmp_path, _conv_model(weight=_external("weights.bin"))))
    assert b"weights.bin" not in user.original
    weight = user.graph.graph.initializers["w"].const_value
    assert weight is not None
    assert weight.numpy().sum() == 108


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/b", "..", "", "a\\b", "."])
def test_external_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    path = _saved(tmp_path, _conv_model(weight=_external(location)))
    with pytest.raises(GraphError, match="only a file beside the model is read"):
        _load(path)


def _in_a_function(weight: TensorProto) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=weight)
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    opset = helper.make_opsetid("", 18)
    function = helper.make_function("local", "F", ["x"], ["y"], [constant, conv], [opset])
    model = _conv_model()
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="local"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def _sparse(weight: TensorProto) -> onnx.ModelProto:
    del weight.dims[:]
    weight.dims.append(108)
    indices = numpy_helper.from_array(np.arange(108, dtype=np.int64), "i")
    model = _conv_model()
    del model.graph.initializer[:]
    model.graph.sparse_initializer.add(values=weight, indices=indices, dims=[4, 3, 3, 3])
    return model


@pytest.mark.parametrize("hidden", [_in_a_function, _sparse])
def test_external_weights_are_found_wherever_they_hide(
    tmp_path: Path, hidden: Callable[[TensorProto], onnx.ModelProto]
) -> None:
    with pytest.raises(GraphError, match="only a file beside the model is read"):
        _load(_saved(tmp_path, hidden(_external("../secret"))))


def test_external_weights_of_sparse_tensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.ones(108, np.float32).tobytes())
    assert _load(_saved(tmp_path, _in_a_function(_external("weights.bin")))).original
    with pytest.raises(GraphError, match="save the model without external data"):
        _load(_saved(tmp_path, _sparse(_external("weights.bin"))))


def test_external_weights_lie_beside_the_file_that_a_link_points_to(tmp_path: Path) -> None:
    real, elsewhere = tmp_path / "real", tmp_path / "elsewhere"
    real.mkdir()
    elsewhere.mkdir()
    (real / "weights.bin").write_bytes(np.ones(108, np.float32).tobytes())
    link = elsewhere / "model.onnx"
    link.symlink_to(_saved(real, _conv_model(weight=_external("weights.bin"))))
    assert _load(link).graph.graph.initializers["w"].const_value is not None


def test_what_the_child_runs_is_what_is_opened_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        user_onnx, "probe_file", lambda path, runtime: seen.append(path.read_bytes())
    )
    user = _load(_saved(tmp_path, _conv_model(("batch", 3, 8, 8))), x=(1, 3, 8, 8))
    assert seen == [user.original]


def test_what_cannot_be_run_at_all_is_named(tmp_path: Path) -> None:
    model = _conv_model()
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(GraphError, match="input 'x' is no tensor"):
        _load(_saved(tmp_path, model))
    del model.graph.input[:]
    with pytest.raises(GraphError, match="has no inputs"):
        _load(_saved(tmp_path, model))


def test_an_external_link_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(432))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(secret)
    with pytest.raises(GraphError, match="missing or a link"):
        _load(_saved(folder, _conv_model(weight=_external("weights.bin"))))


@pytest.mark.parametrize(
    ("offset", "length"), [("0", "433"), ("400", "100"), ("-4", "8"), ("x", "1"), ("9" * 30, "4")]
)
def test_external_weights_out_of_the_file_are_refused(
    tmp_path: Path, offset: str, length: str
) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(432))
    path = _saved(tmp_path, _conv_model(weight=_external("weights.bin", offset, length)))
    with pytest.raises(GraphError, match=r"lies at bytes|not a number"):
        _load(path)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], "twice", domain="local")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(
        graph,
        functions=[function],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("local", 1)],
        ir_version=8,
    )
    assert [node.op_type for node in _load(_saved(tmp_path, model)).graph.graph] == ["Add"]


def test_nothing_of_the_writers_machine_is_kept(tmp_path: Path) -> None:
    model = _conv_model()
    model.doc_string = "made in /home/someone"
    model.graph.node[0].doc_string = "File /home/someone/net.py"
    model.metadata_props.add(key="path", value="/home/someone")
    graph = _load(_saved(tmp_path, model)).graph
    assert graph.graph[0].doc_string is None
    assert not graph.metadata_props
    assert graph.doc_string is None
