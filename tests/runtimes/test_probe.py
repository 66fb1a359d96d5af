from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import optional
from edgekit.errors import GraphError, MissingDependencyError
from edgekit.runtimes import probe
from edgekit.runtimes.probe import open_unknown, probe_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in children are scripts")


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.xml"])
def test_sound_files_pass_from_any_folder(models: Path, name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runtime = {"onnx": "onnxruntime", "tflite": "litert", "xml": "openvino"}[name.split(".")[1]]
    probe_file(models / "oblong" / name, runtime)
    monkeypatch.chdir(models / "oblong")
    probe_file(Path(name), runtime)


def test_what_lies_in_the_users_folder_is_not_imported(models: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("import os; os._exit(9)")
    monkeypatch.chdir(tmp_path)
    probe_file(models / "oblong" / "model.onnx", "onnxruntime")


def test_texts_are_refused_by_their_type(tmp_path: Path):
    value = helper.make_tensor_value_info("x", TensorProto.STRING, [2])
    result = helper.make_tensor_value_info("y", TensorProto.STRING, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match=r"m\.onnx: 'x' is tensor\(string\), and edgekit runs"):
        open_unknown(tmp_path / "m.onnx", "onnxruntime")


def test_a_refusal_comes_back_as_one_line(tmp_path: Path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x08\x0a\x3a\x02\x12\x00")
    with pytest.raises(GraphError, match=r"onnxruntime cannot open bad.onnx: ") as caught:
        open_unknown(bad, "onnxruntime")
    assert "\n" not in str(caught.value)


def test_what_fails_only_when_run_is_found(tmp_path: Path):
    """Reshape of 4 values to 5: no engine sees it before it runs."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64),
            helper.make_node("Add", ["shape", "five"], ["five_more"]),
            helper.make_node("Reshape", ["data", "five_more"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([5], np.int64), "five"),
            numpy_helper.from_array(np.zeros(4, np.float32), "data"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="onnxruntime failed while running"):
        open_unknown(tmp_path / "m.onnx", "onnxruntime")


def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A child that behaves as an engine might."""
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\n{script}\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", r"crashes on it \(a child process ended with SIGSEGV\)"),
        ("kill -ABRT $$", r"ended with SIGABRT\); the file is damaged or hostile, and is not"),
        ("exit 1", r"ended with exit status 1\)"),
        ("echo 'it is bad'; exit 3", "^it is bad$"),
    ],
)
def test_a_crash_stays_in_the_child(models: Path, tmp_path: Path, monkeypatch, script, message):
    _stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(GraphError, match=message):
        open_unknown(models / "oblong" / "model.onnx", "onnxruntime")


def test_a_hang_ends(models: Path, tmp_path: Path, monkeypatch):
    _stand_in(tmp_path, monkeypatch, "exec sleep 60")
    start = time.monotonic()
    with pytest.raises(GraphError, match=r"onnxruntime did not finish opening it in 0\.2 s"):
        open_unknown(models / "oblong" / "model.onnx", "onnxruntime", timeout=0.2)
    assert time.monotonic() - start < 10


def test_memory_is_limited(tmp_path: Path):
    """A file of 200 bytes that asks for 2 GB, where 1 GB is allowed."""
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["many"]),
            helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([1 << 29], np.int64), "size")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    program = (
        "import sys; from edgekit.runtimes import probe; probe.MEMORY_BYTES = 1 << 30;"
        "sys.exit(probe.main(['onnxruntime', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m.onnx")],
        env=probe._environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "onnxruntime" in done.stdout
    assert "alloc" in done.stdout


def test_a_missing_package_is_said_without_a_child(models: Path, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match=r'pip install "edgekit\[onnx\]"'):
        probe_file(models / "oblong" / "model.onnx", "onnxruntime")


def test_what_is_no_file(tmp_path: Path, monkeypatch):
    with pytest.raises(GraphError, match="no model at"):
        open_unknown(tmp_path / "gone.onnx", "onnxruntime")
    with pytest.raises(GraphError, match="cannot open .*Is a directory"):
        open_unknown(tmp_path, "onnxruntime")
    (tmp_path / "big.onnx").write_bytes(bytes(10))
    monkeypatch.setattr(probe, "MAX_FILE_BYTES", 9)
    with pytest.raises(GraphError, match=r"big.onnx is larger than 9 bytes"):
        open_unknown(tmp_path / "big.onnx", "onnxruntime")
