"""What the child process answers; the process itself is in test_tensorrt_dialect.py."""

import json

import pytest

from edgekit.errors import GraphError, UnsupportedOperatorError
from edgekit.runtimes import trt_probe, trt_vendor
from edgekit.runtimes.trt_probe import Outcome
from tests.runtimes.trt_fixture import install, model_bytes


def answered(*, build=True, data=None):
    """The answer, through JSON and back, as the parent reads it."""
    return trt_probe._read(json.dumps(trt_probe._answer(data or model_bytes(), build=build)))


def test_a_graph_that_is_taken(monkeypatch):
    board = install(monkeypatch)
    assert answered() == Outcome("tensorrt 10.3.0", 3, "this machine's GPU")
    assert answered(build=False) == Outcome("tensorrt 10.3.0", 3)
    assert board.trouble.builds == 1


def test_a_refused_node_keeps_its_name(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refused_op = "Gemm"
    with pytest.raises(UnsupportedOperatorError, match="Gemm at node 'head'") as caught:
        answered()
    assert caught.value.why == "No importer registered for op: Gemm"


def test_a_build_that_fails_keeps_its_reason(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refuse_build = True
    with pytest.raises(GraphError, match="cannot build a plan: Could not find"):
        answered()


def test_tensorrt_without_a_gpu_is_no_fault_of_the_graph(monkeypatch):
    board = install(monkeypatch)
    board.trouble.no_gpu = True
    assert answered().unavailable.startswith("TensorRT finds no GPU")


def test_tensorrt_that_does_not_import_is_no_fault_of_the_graph(monkeypatch):
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: False)
    assert answered().unavailable.startswith("runtime 'tensorrt' needs tensorrt")
