"""Resident memory of a process, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bundle.schema import SchemaError
from edgekit.profiling import memory
from edgekit.profiling.clock import SystemClock
from edgekit.profiling.job import Job, run_job
from tests.profiling.wide_net import write_bundle
from tests.runtimes.trt_fixture import install, make_bundle

STATUS = """Name:\tpython3
VmPeak:\t  190000 kB
VmHWM:\t   54321 kB
VmRSS:\t   12345 kB
Threads:\t1
"""


def tree(root: Path, text: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/status").write_text(text, encoding="utf-8")
    return root


def test_the_kernel_tells_in_kilobytes(tmp_path: Path):
    want = {"VmHWM": 54321 * 1024, "VmRSS": 12345 * 1024}
    assert memory.read_status(tree(tmp_path, STATUS)) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        STATUS.replace("VmRSS", "VmFoo"),
        STATUS.replace("12345 kB", "12345 MB"),
        STATUS.replace("12345", "many"),
        STATUS.replace("12345", "-1"),
        STATUS.replace("12345", "\u0663"),
        "\0" * 9000,
        "x" * (memory._MOST_BYTES) + STATUS,
    ],
)
def test_garbage_is_not_a_figure(tmp_path: Path, text: str):
    assert memory.read_status(tree(tmp_path, text)) == {}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "wide")


def test_a_fresh_process_is_measured(bundle: Path):
    """It cannot be smaller than the interpreter with numpy, and a model makes it larger."""
    got = memory.memory(run_job(Job("memory", str(bundle), "litert")))
    assert (got.runtime, got.threads, got.device) == ("litert", 1, None)
    weights = (bundle / "model.tflite").stat().st_size
    assert 8 << 20 < got.imported < got.loaded <= got.peak_load <= got.peak_use < 1 << 30
    assert got.loaded - got.imported > weights / 2
    assert "VmHWM" in got.note


def test_a_system_without_proc_is_a_note(bundle: Path, tmp_path: Path):
    job = Job("memory", str(bundle), "litert")
    got = memory.memory(memory.work(job, SystemClock(), root=tmp_path))
    assert (got.imported, got.loaded, got.peak_load, got.peak_use) == (0, 0, 0, 0)
    assert got.note.startswith("not measured: ")


def test_memory_of_a_gpu_is_what_it_has_less_of(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    board = install(monkeypatch)
    monkeypatch.setattr("edgekit.optional.is_installed", lambda name: name == "tensorrt")
    job = Job("memory", str(make_bundle(tmp_path)), "tensorrt")
    got = memory.memory(memory.work(job, SystemClock()))
    assert got.device == 4 * (3 * 4 * 4 + 2 + 3)  # the three tensors of the double's plan
    assert "cudaMemGetInfo" in got.note
    assert not board.cuda.live
    board.cuda.fail["cudaMemGetInfo"] = 35
    assert memory.memory(memory.work(job, SystemClock())).device is None


@pytest.mark.parametrize("broken", [{}, {"runtime": "litert"}, {"peak_use": "much"}])
def test_something_else_is_refused(broken):
    with pytest.raises(SchemaError):
        memory.memory(broken)
