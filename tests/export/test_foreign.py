"""A toolkit, not a MicroNet converter: strangers' graphs export, count and run everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import edgekit
from edgekit.bundle import PARITY_TOLERANCE, relative_error
from edgekit.export.parity import sample_inputs
from edgekit.export.pipeline import ExportResult, export_onnx
from tests.export.foreign_graphs import HAND_MADE, INPUT_SHAPES, MODULES, NAMES, write_foreign

TOLERANCE = PARITY_TOLERANCE["fp32"]

# Every runtime that a host can run is proven by one of these two targets.
RUNTIMES = {"arm": ("litert", "onnxruntime"), "x86": ("openvino", "onnxruntime")}


def test_there_are_enough_strangers() -> None:
    assert len(MODULES) == 12
    assert len(HAND_MADE) == 3


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_graph_runs_everywhere(name: str, foreign: Path, tmp_path: Path) -> None:
    file = write_foreign(name, foreign)
    for target, runtimes in RUNTIMES.items():
        result = export_onnx(
            file, target, out=tmp_path / target, input_shapes=INPUT_SHAPES.get(name)
        )
        assert {a.runtime for a in result.manifest.artifacts} == set(runtimes)
        assert result.manifest.model.params >= 0
        for artifact in result.manifest.artifacts:
            assert artifact.parity is not None
            assert set(artifact.parity.max_relative_error) == {
                spec.name for spec in result.manifest.outputs
            }
            _run_like_the_original(file, result, artifact.runtime)


def _run_like_the_original(file: Path, result: ExportResult, runtime: str) -> None:
    """An app's view: load, run, and compare with the user's own file in plain onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    original = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = sample_inputs(result.manifest.inputs, seed=99)
    with edgekit.load(result.path, runtime=runtime) as model:
        got = model.run(inputs)
        wanted = dict(
            zip((o.name for o in original.get_outputs()), original.run(None, inputs), strict=True)
        )
    assert set(got) == set(wanted)
    for output, value in wanted.items():
        assert relative_error(np.asarray(got[output]), np.asarray(value)) <= TOLERANCE


def test_counts_of_a_foreign_graph_are_a_hand_count(foreign: Path, tmp_path: Path) -> None:
    file = write_foreign("opset11_classifier", foreign)
    model = export_onnx(file, "arm", out=tmp_path / "bundle").manifest.model
    assert model.macs == 8 * 8 * 8 * 27 + 5 * 8
    assert model.params == 8 * 27 + 5 * 8 + 5 + 2  # weights, bias and the two bounds of Clip
