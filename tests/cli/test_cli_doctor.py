"""``edgekit doctor`` and ``edgekit finish``."""

import json

import pytest

from edgekit import optional
from edgekit.cli import doctor, finish, main
from edgekit.runtimes import finish as finish_module
from edgekit.runtimes.finish import FinishReport


def test_the_runtimes_that_are_here_have_run_something(capsys):
    assert main(["doctor", "--json", "-q"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = {row["runtime"]: row for row in document["runtimes"]}
    assert list(found) == ["onnxruntime", "openvino", "litert", "tensorrt"]
    for name in ("onnxruntime", "openvino", "litert"):
        assert found[name]["problem"] == ""
        assert found[name]["version"]
    assert document["packages"]["numpy"]
    assert document["machine"]["python"]


@pytest.fixture
def quick(monkeypatch):
    """No child processes: every runtime works, except as a test says."""
    broken: dict[str, str] = {}
    monkeypatch.setattr(doctor, "why_broken", lambda name: broken.get(name, ""))
    return broken


def test_what_is_installed_and_broken_is_said(quick, capsys):
    quick["litert"] = "illegal instruction"
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "BROKEN" in shown
    assert "litert is installed and does not work: illegal instruction" in shown
    assert 'for litert: pip install "edgekit[tflite]"' in shown


def test_what_is_absent_has_its_pip_line(quick, capsys, monkeypatch):
    monkeypatch.setattr(optional, "version", lambda name: None)
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert 'for onnxruntime: pip install "edgekit[onnx]"' in shown
    assert 'for openvino: pip install "edgekit[openvino]"' in shown
    assert 'pip install "torch==2.13.0" "edgekit[export]"' in shown
    assert "comes with JetPack" in shown
    assert shown.rstrip().endswith("next: edgekit targets")


def test_the_cache_and_the_network_are_the_environments(quick, capsys, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", "/somewhere/else")
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "/somewhere/else" in shown
    assert "off (EDGEKIT_OFFLINE)" in shown


REPORT = FinishReport(
    bundle="b",
    model="micronet-m1",
    plan="/cache/plan",
    built=True,
    tensorrt="tensorrt 10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    driver="12.6",
    layers=300,
    self_test={"logits": 2e-6},
    tolerance=1e-4,
    cuda_graph="yes",
    notes=("the fans are loud",),
)


@pytest.fixture
def finished(monkeypatch):
    monkeypatch.setattr(finish_module, "finish_bundle", lambda *_, **__: REPORT)


def test_finish_prints_the_self_test_and_where_the_plan_is(finished, capsys):
    assert main(["finish", "b"]) == 0
    shown = capsys.readouterr().out
    assert "logits    2.0e-06    1e-04" in shown
    assert "plan: /cache/plan (built now)" in shown
    assert "the fans are loud" in shown
    assert shown.rstrip().endswith("next: edgekit run b photo.jpg --runtime tensorrt")


def test_finish_as_json(finished, capsys):
    assert main(["finish", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["self_test"] == {"logits": 2e-6}


def test_a_bundle_without_tensorrt_needs_no_finish(bundle, capsys):
    assert main(["finish", str(bundle)]) == 2
    assert "has no TensorRT artifact to finish" in capsys.readouterr().err


def test_the_verb_has_only_a_bundle_and_force():
    import argparse

    parser = argparse.ArgumentParser()
    finish.add_arguments(parser)
    assert vars(parser.parse_args(["b"])).keys() == {"bundle", "force"}
