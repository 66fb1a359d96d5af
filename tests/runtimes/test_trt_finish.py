"""From a bundle to a proven, cached plan, on doubles of TensorRT and CUDA."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Golden
from edgekit.errors import (
    BundleError,
    DeviceError,
    MissingDependencyError,
    ParityError,
    UnknownNameError,
    UnsupportedOperatorError,
    UsageError,
)
from edgekit.runtimes import finish, trt_vendor
from edgekit.runtimes.finish import finish_bundle
from tests.runtimes.cuda_double import ATTRIBUTES
from tests.runtimes.trt_fixture import install, make_bundle, model_bytes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plans(cache):
    return sorted(cache.glob("plans/*/*"))


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1"])
def test_a_bundle_is_built_proven_and_cached_once(monkeypatch, tmp_path, cache, version):
    board = install(monkeypatch, version=version)
    bundle = make_bundle(tmp_path)
    lines: list[str] = []
    first = finish_bundle(bundle, progress=lines.append)
    assert first.built
    assert (first.model, first.gpu, first.compute_capability) == ("toy", "Orin", "8.7")
    assert (first.tensorrt, first.driver, first.layers) == (f"tensorrt {version}", "12.6", 3)
    assert first.self_test == {"logits": 0.0, "pooled": 0.0}
    assert (first.tolerance, first.cuda_graph, first.notes) == (1e-4, "yes", ())
    assert Path(first.plan).is_file()
    assert lines[0].startswith("build a TensorRT plan")
    assert lines[-1] == "self-test against the golden output"
    second = finish_bundle(bundle)
    assert second == dataclasses.replace(first, built=False)
    assert board.trouble.builds == 1
    assert finish_bundle(bundle, force=True).built
    assert board.trouble.configs[-1]["timings"] == b"timings"  # of the first build
    assert not board.cuda.live
    json.dumps(dataclasses.asdict(first))  # what the command line prints


def test_the_record_says_what_the_plan_was_built_from(monkeypatch, tmp_path, cache):
    install(monkeypatch)
    report = finish_bundle(make_bundle(tmp_path))
    record = json.loads(Path(report.plan).with_name("plan.json").read_text())
    facts = record["fingerprint"]
    assert facts["tensorrt"] == "tensorrt 10.3.0"
    assert facts["multiprocessors"] == 8
    assert set(facts["options"]) == {"workspace_mib", "strongly_typed", "tf32"}
    assert record["self_test"] == report.self_test


@pytest.mark.parametrize("factor", [1.01, 1.0002, float("nan")])
def test_a_plan_that_computes_something_else_is_not_kept(monkeypatch, tmp_path, cache, factor):
    board = install(monkeypatch)
    board.trouble.factor = factor
    with pytest.raises(ParityError, match=r"output '\w+' differs .*0\.0001 is allowed") as caught:
        finish_bundle(make_bundle(tmp_path))
    assert caught.value.exit_code == 3
    assert plans(cache) == []
    assert not board.cuda.live
    board.trouble.factor = 1.0
    assert finish_bundle(make_bundle(tmp_path)).built


def test_rounding_passes_and_is_written_down(monkeypatch, tmp_path):
    board = install(monkeypatch)
    board.trouble.factor = 1.00005
    report = finish_bundle(make_bundle(tmp_path))
    assert report.self_test["logits"] == pytest.approx(5e-5, rel=0.02)


def test_another_golden_output_is_proven_again(monkeypatch, tmp_path, cache):
    """The same model in a bundle with other golden data: the plan is taken, and tested."""
    board = install(monkeypatch)
    onnx_bytes = model_bytes()
    made = finish.prepare(onnx_bytes, golden=None, tolerance=1e-4)
    made.engine.close()
    assert made.record.self_test == {}
    lines: list[str] = []
    report = finish_bundle(make_bundle(tmp_path, data=onnx_bytes), progress=lines.append)
    assert not report.built
    assert report.self_test == {"logits": 0.0, "pooled": 0.0}
    assert lines == ["load the cached plan", "self-test against the golden output"]
    assert board.trouble.builds == 1
    record = json.loads(Path(report.plan).with_name("plan.json").read_text())
    assert record["golden_sha256"]


def test_a_cached_plan_that_fails_its_first_proof_is_an_error(monkeypatch, tmp_path):
    board = install(monkeypatch)
    finish.prepare(model_bytes(), golden=None, tolerance=1e-4).engine.close()
    board.trouble.factor = 1.01
    with pytest.raises(ParityError):
        finish_bundle(make_bundle(tmp_path))
    assert not board.cuda.live


def test_a_new_jetpack_builds_again(monkeypatch, tmp_path):
    install(monkeypatch)
    bundle = make_bundle(tmp_path)
    old = finish_bundle(bundle)
    board = install(monkeypatch, version="10.16.2")
    new = finish_bundle(bundle)
    assert new.built
    assert board.trouble.builds == 1
    assert new.plan != old.plan


def test_another_module_of_the_same_family_builds_again(monkeypatch, tmp_path):
    """Orin Nano and AGX Orin have one name and one compute capability."""
    board = install(monkeypatch)
    bundle = make_bundle(tmp_path)
    finish_bundle(bundle)
    monkeypatch.setitem(ATTRIBUTES, 16, 16)  # its multiprocessors
    assert finish_bundle(bundle).built
    assert board.trouble.builds == 2


def test_a_damaged_plan_is_built_again_with_a_note(monkeypatch, tmp_path):
    install(monkeypatch)
    bundle = make_bundle(tmp_path)
    plan = Path(finish_bundle(bundle).plan)
    plan.write_bytes(plan.read_bytes()[:-1])
    report = finish_bundle(bundle)
    assert report.built
    assert report.notes == ("the cached plan is damaged (its sha256 differs): built again",)
    assert finish_bundle(bundle).notes == ()


def test_a_plan_that_tensorrt_refuses_is_built_again_with_a_note(monkeypatch, tmp_path):
    board = install(monkeypatch)
    bundle = make_bundle(tmp_path)
    finish_bundle(bundle)
    good, refusals = board.trt.Runtime.deserialize_cuda_engine, [True]

    def once(self, data):
        return None if refusals and refusals.pop() else good(self, data)

    monkeypatch.setattr(board.trt.Runtime, "deserialize_cuda_engine", once)
    report = finish_bundle(bundle)
    assert report.built
    assert report.notes[0].startswith("TensorRT cannot load the plan")


def test_without_a_cache_it_still_works_and_says_so(monkeypatch, tmp_path):
    install(monkeypatch)
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("EDGEKIT_CACHE", str(blocked))
    report = finish_bundle(make_bundle(tmp_path))
    assert (report.built, report.plan) == (True, "")
    assert "the plan is not cached" in report.notes[0]


def test_a_refused_node_is_named(monkeypatch, tmp_path, cache):
    board = install(monkeypatch)
    board.trouble.refused_op = "Relu"
    with pytest.raises(UnsupportedOperatorError, match="node 'stem/act'"):
        finish_bundle(make_bundle(tmp_path))
    assert plans(cache) == []


def test_a_bundle_without_tensorrt_is_a_usage_error(monkeypatch, tmp_path):
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: False)  # told before anything
    with pytest.raises(UsageError, match="no TensorRT artifact to finish, only onnxruntime"):
        finish_bundle(make_bundle(tmp_path, runtime="onnxruntime"))


def test_an_unknown_precision_is_refused(monkeypatch, tmp_path):
    install(monkeypatch)
    with pytest.raises(UnknownNameError, match="unknown precision 'fp4'"):
        finish_bundle(make_bundle(tmp_path, precision="fp4"))


def test_no_tensorrt_is_a_missing_dependency(monkeypatch, tmp_path):
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: False)
    with pytest.raises(MissingDependencyError) as caught:
        finish_bundle(make_bundle(tmp_path))
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(("machine", "told"), [("x86_64", True), ("aarch64", False)])
def test_a_pc_without_a_gpu_is_told_to_go_to_the_board(monkeypatch, tmp_path, machine, told):
    board = install(monkeypatch)
    board.cuda.fail["cudaGetDeviceCount"] = 100
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(DeviceError) as caught:
        finish_bundle(make_bundle(tmp_path))
    assert ("run this on the Jetson" in str(caught.value)) == told


@pytest.mark.parametrize(("error", "words"), [(100, "no CUDA-capable"), (35, "insufficient")])
def test_no_gpu_or_driver_is_a_device_error(monkeypatch, tmp_path, error, words):
    board = install(monkeypatch)
    board.cuda.fail["cudaGetDeviceCount"] = error
    with pytest.raises(DeviceError, match=f"needs an NVIDIA GPU and its driver: .*{words}") as e:
        finish_bundle(make_bundle(tmp_path))
    assert e.value.exit_code == 6


def test_golden_data_of_another_interface_is_refused(monkeypatch):
    install(monkeypatch)
    other, logits = np.zeros((1, 3, 5, 5), "f4"), np.zeros((1, 2), "f4")
    golden = Golden({"image": other}, {"logits": logits})
    with pytest.raises(BundleError, match="the TensorRT plan has the inputs"):
        finish.prepare(model_bytes(), golden=golden, tolerance=1e-4)


SCRIPT = """
import sys, time
import pytest
from edgekit.runtimes.finish import finish_bundle
from tests.runtimes.trt_fixture import install

def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(1.0)

board = install(pytest.MonkeyPatch())
board.trouble.on_build = build
lines = []
report = finish_bundle(sys.argv[1], progress=lines.append)
print(report.built, any("waiting" in line for line in lines))
"""


def test_two_processes_build_one_plan(monkeypatch, tmp_path):
    bundle, log = make_bundle(tmp_path), tmp_path / "log"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(bundle), str(log)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = sorted(child.communicate(timeout=60)[0].split()[0] for child in children)
    assert [child.returncode for child in children] == [0, 0]
    assert answers == ["False", "True"]
    assert log.read_text() == "built\n"
