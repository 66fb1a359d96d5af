from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit import optional
from edgekit.bundle import (
    Artifact,
    Manifest,
    ModelFacts,
    Preprocessing,
    TensorSpec,
    WeightsFacts,
    golden_bytes,
    write_bundle,
)
from edgekit.errors import (
    BundleError,
    GraphError,
    InputError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgekit.runtimes.model import RANDOM_WEIGHTS, load
from tests.runtimes import tiny_models

# A classifier that can be checked by eye: the score of a class is the mean of its colour.
SHAPE = (1, 3, 8, 8)
MANIFEST = Manifest(
    model=ModelFacts("colours", "tiny", "classification", 0, 0, 0),
    weights=WeightsFacts("by hand", "", random=False),
    target="x86",
    precision="fp32",
    opset=18,
    inputs=(TensorSpec("image", "float32", SHAPE, "NCHW"),),
    outputs=(TensorSpec("logits", "float32", (1, 3), "NC"),),
    preprocessing=Preprocessing(8, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    labels="labels.txt",
    golden="golden.npz",
    passes=(),
    artifacts=(
        Artifact("openvino", ("copy.onnx",), (), None, 0, {}),
        Artifact("onnxruntime", ("model.onnx",), (), None, 0, {}),
    ),
    skipped=(),
    tools={},
    files={},
)
GREEN = np.zeros((20, 30, 3), np.uint8) + np.array([10, 200, 30], np.uint8)


def classifier() -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Mul", ["flat", "ten"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.array([10], np.float32), "ten")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def bundle(where: Path, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
    golden = golden_bytes(
        {"image": np.zeros(SHAPE, np.float32)}, {"logits": np.zeros((1, 3), np.float32)}
    )
    content = {
        "model.onnx": classifier(),
        "copy.onnx": classifier(),
        "labels.txt": b"red\ngreen\nblue\n",
        "golden.npz": golden,
        **(files or {}),
    }
    return write_bundle(where, dataclasses.replace(MANIFEST, **changes), content, force=False)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return bundle(tmp_path / "colours-x86")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As on a machine that lacks these."""
    real = optional.is_installed
    monkeypatch.setattr(optional, "is_installed", lambda name: name not in packages and real(name))


# ---- which runtime ---------------------------------------------------------------------------


def test_the_first_artifact_that_is_installed(colours: Path, monkeypatch: pytest.MonkeyPatch):
    assert load(colours).session.runtime == "openvino"
    without(monkeypatch, "openvino")
    with load(colours) as model:
        assert model.session.runtime == "onnxruntime"
        (warning,) = model.warnings
        assert warning.startswith("openvino skipped: it is not installed here")
    assert load(colours, "onnxruntime").warnings == ()  # asked for, so nothing was passed over
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(MissingDependencyError, match="one of openvino, onnxruntime") as caught:
        load(colours)
    assert 'pip install "edgekit[openvino]"; or pip install "edgekit[onnx]"' in str(caught.value)


def test_a_runtime_asked_for(colours: Path, monkeypatch: pytest.MonkeyPatch):
    assert load(colours, runtime="onnxruntime", threads=2).session.threads == 2
    with pytest.raises(UsageError, match=r"no artifact for runtime 'litert'; it has: openvino, on"):
        load(colours, runtime="litert")
    with pytest.raises(UnknownNameError, match="unknown runtime 'onxruntime': did you mean onnxr"):
        load(colours, runtime="onxruntime")
    with pytest.raises(UsageError, match="threads is 1 or more, got 0"):
        load(colours, threads=0)
    without(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r'pip install "edgekit\[onnx\]"'):
        load(colours, runtime="onnxruntime")


def test_null_stands_in_for_any(colours: Path):
    with load(colours, runtime="null") as model:
        name, score = model.predict(GREEN)[0]
        assert (name, round(score, 6)) == ("red", 0.333333)


def test_a_runtime_of_a_later_edgekit_is_passed_over(tmp_path: Path):
    later = Artifact("warp", ("model.onnx",), (), None, 0, {})
    path = bundle(tmp_path / "a", artifacts=(later, MANIFEST.artifacts[1]))
    assert load(path).session.runtime == "onnxruntime"
    path = bundle(tmp_path / "b", artifacts=(later,))
    with pytest.raises(BundleError, match="has artifacts for warp only, which this edgekit does"):
        load(path)


def test_a_runtime_that_refuses_the_file_is_no_silent_fallback(tmp_path: Path):
    empty = onnx.ModelProto(ir_version=10, graph=onnx.GraphProto(name="empty"))
    path = bundle(tmp_path / "a", files={"copy.onnx": empty.SerializeToString()})
    with pytest.raises(BundleError, match=r"openvino cannot open copy\.onnx|copy\.onnx has 0 inpu"):
        load(path)


def test_a_zip_is_removed_from_temp_when_loading_fails(tmp_path: Path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = bundle(tmp_path / "a.edgekit")
    with load(path) as model:
        assert model.predict(GREEN, top=1)[0][0] == "green"
    with pytest.raises(UsageError):
        load(path, runtime="litert")
    assert list(scratch.iterdir()) == []


# ---- predict ---------------------------------------------------------------------------------


def test_predict(colours: Path):
    with edgekit.load(colours) as model:
        found = model.predict(GREEN)
        assert [name for name, _ in found] == ["green", "blue", "red"]
        assert sum(score for _, score in found) == pytest.approx(1)
        want = np.exp(10 * 200 / 255) / np.exp(10 * np.array([10, 200, 30]) / 255).sum()
        assert found[0][1] == pytest.approx(want, rel=1e-5)
        assert model.predict(GREEN, top=1) == found[:1]
        assert model.manifest is not None
        assert model.manifest.model.id == "colours"
        assert model.warnings == ()
        assert repr(model).startswith("Model(colours, OpenVinoSession(image float32 (1, 3, 8, 8)")
        with pytest.raises(UsageError, match="top is 1 or more, got 0"):
            model.predict(GREEN, top=0)
        with pytest.raises(InputError, match="no image at 'gone.jpg'"):
            model.predict("gone.jpg")
    with pytest.raises(UsageError, match="session is closed"):
        model.predict(GREEN)


def test_every_runtime_gets_the_same_bits(colours: Path):
    with load(colours, "openvino") as one, load(colours, "onnxruntime") as other:
        a, b = (m.preprocess(GREEN)["image"] for m in (one, other))
        assert a.tobytes() == b.tobytes()


def test_random_weights_are_called_random(tmp_path: Path):
    path = bundle(tmp_path / "a", weights=WeightsFacts("seed 0", "", random=True))
    with load(path) as model:
        assert model.warnings == (RANDOM_WEIGHTS,)
        assert RANDOM_WEIGHTS in repr(model)
        model.predict(GREEN)


def test_without_labels_classes_have_numbers(tmp_path: Path):
    with load(bundle(tmp_path / "a", labels=None)) as model:
        assert model.predict(GREEN, top=1)[0][0] == "class 1"


def test_what_cannot_predict_says_why(tmp_path: Path):
    with (
        load(bundle(tmp_path / "a", preprocessing=None)) as model,
        pytest.raises(UsageError, match="export it with --mean and --std, or give a .npy"),
    ):
        model.predict(GREEN)
    facts = dataclasses.replace(MANIFEST.model, task="detection")
    with (
        load(bundle(tmp_path / "b", model=facts)) as model,
        pytest.raises(UsageError, match="is no classifier .task 'detection'.: call run"),
    ):
        model.predict(GREEN)
    with (
        load(bundle(tmp_path / "c", files={"labels.txt": b"one\ntwo\n"})) as model,
        pytest.raises(InputError, match="2 labels for 3 classes"),
    ):
        model.predict(GREEN)


def test_broken_weights_do_not_become_a_prediction(colours: Path):
    with load(colours) as model:
        outputs = {"logits": np.array([[1, np.nan, 2]], np.float32)}
        with pytest.raises(InputError, match="the model's output has NaN or Inf"):
            model.classify(outputs)


# ---- bare files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "runtime", "opened"),
    [
        ("model.onnx", None, "onnxruntime"),
        ("model.onnx", "openvino", "openvino"),
        ("model.xml", None, "openvino"),
        ("model.tflite", None, "litert"),
    ],
)
def test_bare_files(models: Path, name: str, runtime: str | None, opened: str):
    with load(models / "oblong" / name, runtime) as model:
        assert model.session.runtime == opened
        assert model.manifest is None
        assert model.warnings == ()
        assert repr(model).startswith(f"Model({name}, ")
        with pytest.raises(UsageError, match="does not say how an image becomes its input"):
            model.predict(GREEN)
        if opened != "litert":
            inputs = tiny_models.inputs("oblong")
            got = model.run(inputs)["pooled"]
            assert np.allclose(got, tiny_models.expected(inputs)["pooled"], atol=1e-6)


def test_bare_files_that_cannot_be_opened(models: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"'litert' does not open .onnx files; these do: onnxrunt"):
        load(models / "oblong" / "model.onnx", "litert")
    with pytest.raises(GraphError, match="no model at 'gone.onnx'"):
        load("gone.onnx")
    (tmp_path / "text.tflite").write_text("hello, I am a text file")
    with pytest.raises(GraphError, match=r"text.tflite is not a TFLite model"):
        load(tmp_path / "text.tflite")
    with pytest.raises(BundleError, match=r"no bundle at 'gone.pt'"):
        load("gone.pt")
