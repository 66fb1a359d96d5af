"""Reading onnxruntime's record of kernels, and finding them in the graph that it optimised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import UsageError
from edgekit.runtimes import open_session
from edgekit.runtimes.onnx_nodes import OnnxNode
from edgekit.runtimes.ort import _events, _places

LINE = (
    '{"cat" : "Node","dur" :%d,"ts" :1,"name" :"%s_kernel_time","args" : '
    '{"op_name" : "Conv","node_index" : "%d"}}'
)
RUN = '{"cat" : "Session","dur" :9,"name" :"model_run","args" : {}}'
OTHER = '{"cat" : "Session","dur" :9,"name" :"model_loading_uri","args" : {}}'


def record(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "record.json"
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    return path


def test_kernels_are_told_apart_by_run(tmp_path: Path):
    lines = [OTHER, LINE % (5, "a", 7), LINE % (2, "b", 3), RUN, LINE % (4, "a", 7), RUN]
    runs = _events(record(tmp_path, *lines, LINE % (9, "cut off", 1)))
    assert runs == [
        [("a", "Conv", 7, 0.005), ("b", "Conv", 3, 0.002)],
        [("a", "Conv", 7, 0.004)],
    ]


def test_a_broken_record_is_one_line(tmp_path: Path):
    with pytest.raises(UsageError, match="record of kernels cannot be read") as caught:
        _events(record(tmp_path, LINE % (5, 'a "name"', 7)))
    assert "\n" not in str(caught.value)


def test_kernels_are_found_by_name_and_by_turn():
    def node(name, op_type="Conv"):
        return OnnxNode(name, op_type, (), ())

    optimised = [node("b"), node("a"), node("a"), node(""), node(""), node("", "Add")]
    keys = [
        ("a", "Conv", 9),
        ("a", "Conv", 4),
        ("b", "Conv", 5),
        ("Conv_8", "Conv", 8),
        ("Conv_6", "Conv", 6),
        ("Add_2", "Add", 2),
        ("Conv_7", "Mul", 7),
        ("a", "Conv", 11),
    ]
    places = _places(keys, optimised)
    assert [places.get(key) for key in keys] == [2, 1, 0, 4, 3, 5, None, None]


def write(folder: Path, *nodes: onnx.NodeProto) -> Path:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 8)) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


X = {"x": np.zeros((1, 8), np.float32)}


def test_layers_without_names_are_all_timed(tmp_path: Path):
    file = write(
        tmp_path,
        helper.make_node("Sin", ["x"], ["a"]),
        helper.make_node("Sin", ["a"], ["b"]),
        helper.make_node("Cos", ["b"], ["y"]),
    )
    with open_session("onnxruntime", [file]) as session:
        times = session.layer_times(X, 5)
    assert [(time.kind, time.layers) for time in times] == [
        ("Sin", ("a",)),
        ("Sin", ("b",)),
        ("Cos", ("y",)),
    ]


def test_any_name_will_do(tmp_path: Path):
    name = 'say "sine",\n{\\}'
    file = write(tmp_path, helper.make_node("Sin", ["x"], ["y"], name=name))
    with open_session("onnxruntime", [file]) as session:
        assert [time.layers for time in session.layer_times(X, 5)] == [(name,)]


def test_where_nothing_can_be_written_the_reason_is_given(tmp_path: Path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    file = write(tmp_path, helper.make_node("Sin", ["x"], ["y"]))
    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with (
        open_session("onnxruntime", [file]) as session,
        pytest.raises(UsageError, match=r"No space left on device.*set TMPDIR"),
    ):
        session.layer_times(X, 5)
