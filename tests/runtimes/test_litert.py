"""What is LiteRT's own: layouts, signatures, and the older package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, MissingDependencyError, UsageError
from edgekit.runtimes import open_session
from tests.runtimes import tiny_models


def _edit(source: Path, to: Path, change: Any) -> Path:
    """The file with its object tree changed."""
    import flatbuffers

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes()))
    change(tree)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    to.write_bytes(bytes(builder.Output()))
    return to


def _pooled(models: Path, form: str, image: np.ndarray, **options: str) -> np.ndarray:
    takes, gives = tiny_models.specs(form)
    file = [models / form / "model.tflite"]
    with open_session("litert", file, takes, gives, options=options) as session:
        bias = np.zeros((1, 4), np.float32)
        results = session.run({"image": image, "bias": bias})
    # "map" comes back in the layout that the image went in.
    assert np.allclose(results["map"].mean(tuple(_spatial(options))), results["pooled"])
    return results["pooled"]


def _spatial(options: dict[str, str]) -> tuple[int, int]:
    return (1, 2) if options.get("layout") == "same" else (2, 3)


def test_a_shape_that_fits_both_ways_is_channels_last_in_the_file(models: Path):
    inputs = tiny_models.inputs("square")
    image = inputs["image"]
    right = tiny_models.expected({**inputs, "bias": np.zeros((1, 4), np.float32)})["pooled"]
    wrong = _pooled(models, "square", image, layout="same")
    assert np.allclose(_pooled(models, "square", image), right)
    assert np.allclose(_pooled(models, "square", image, layout="NHWC"), right)
    assert not np.allclose(wrong, right)
    by_hand = _pooled(models, "square", image.transpose(0, 2, 3, 1), layout="same")
    assert np.allclose(by_hand, right)


def test_a_file_that_keeps_channels_second_is_taken_as_it_is(models: Path):
    """Only the unchanged shape fits: the manifest's (1, 6, 5, 4) lies as (1, 6, 5, 4)."""
    takes, gives = tiny_models.specs("oblong")
    takes = (TensorSpec("image", "float32", (1, 6, 5, 4)), takes[1])
    gives = (gives[0], TensorSpec("map", "float32", (1, 6, 5, 4)))
    inputs = tiny_models.inputs("oblong")
    image = inputs["image"].transpose(0, 2, 3, 1)
    with open_session("litert", [models / "oblong" / "model.tflite"], takes, gives) as session:
        results = session.run({**inputs, "image": image})
    want = tiny_models.expected(inputs)
    assert np.allclose(results["map"].transpose(0, 3, 1, 2), want["map"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "NCHW"}, "layout 'NCHW' is none of NHWC, same"),
        ({"delegate": "gpu"}, "unknown option 'delegate'; known: layout"),
    ],
)
def test_unknown_options(models: Path, options, message: str):
    with pytest.raises(UsageError, match=message):
        open_session("litert", [models / "oblong" / "model.tflite"], options=options)


def test_names_come_from_the_signature_whatever_the_tensors_are_called(
    models: Path, tmp_path: Path
):
    def rename(tree: Any) -> None:
        for number, tensor in enumerate(tree.subgraphs[0].tensors):
            tensor.name = f"t{number}".encode()

    file = _edit(models / "oblong" / "model.tflite", tmp_path / "m.tflite", rename)
    inputs = tiny_models.inputs("oblong")
    with open_session("litert", [file], *tiny_models.specs("oblong")) as session:
        results = session.run(inputs)
    assert np.allclose(results["map"], tiny_models.expected(inputs)["map"])


def test_without_a_signature_the_tensors_names_count(models: Path, tmp_path: Path):
    def strip(tree: Any) -> None:
        tree.signatureDefs = []

    file = _edit(models / "oblong" / "model.tflite", tmp_path / "m.tflite", strip)
    inputs = tiny_models.inputs("oblong")
    with open_session("litert", [file], *tiny_models.specs("oblong")) as session:
        results = session.run(inputs)
    assert np.allclose(results["pooled"], tiny_models.expected(inputs)["pooled"], atol=1e-6)


def test_an_operator_the_runtime_lacks_is_one_line(models: Path, tmp_path: Path):
    def replace(tree: Any) -> None:
        code = tree.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, 32
        code.customCode = b"NO_SUCH_OP"

    file = _edit(models / "oblong" / "model.tflite", tmp_path / "m.tflite", replace)
    with pytest.raises(BundleError, match=r"litert cannot open m.tflite: .*NO_SUCH_OP") as caught:
        open_session("litert", [file], *tiny_models.specs("oblong"))
    assert "\n" not in str(caught.value)


# ---- the older package -----------------------------------------------------------------------


def _only_tflite_runtime(monkeypatch: pytest.MonkeyPatch, numpy: str) -> None:
    """As on a board that has tflite_runtime 2.14 and a numpy of that version."""
    versions = {"numpy": numpy, "tflite_runtime": "2.14.0"}
    monkeypatch.setattr(optional, "is_installed", lambda name: name == "tflite_runtime")
    monkeypatch.setattr(optional, "version", versions.get)


def test_tflite_runtime_beside_numpy_2_is_said_before_it_crashes(
    models: Path, monkeypatch: pytest.MonkeyPatch
):
    _only_tflite_runtime(monkeypatch, "2.4.6")
    with pytest.raises(MissingDependencyError, match=r'pip install "numpy<2", or pip install'):
        open_session("litert", [models / "oblong" / "model.tflite"])


def test_tflite_runtime_is_used_where_it_is_all_there_is(
    models: Path, monkeypatch: pytest.MonkeyPatch
):
    import ai_edge_litert.interpreter as engine  # its interface is the same

    _only_tflite_runtime(monkeypatch, "1.26.4")
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", engine)
    with open_session("litert", [models / "oblong" / "model.tflite"]) as session:
        assert session.describe()["version"] == "tflite_runtime 2.14.0"


def test_a_broken_package_is_one_line(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependencyError, match=r'its import fails.*pip install "edgekit\[tf'):
        open_session("litert", [models / "oblong" / "model.tflite"])
