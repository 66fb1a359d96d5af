"""Fresh processes, and every way they can go wrong: the parent gets one line and no leftovers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import schema
from edgekit.errors import (
    BundleError,
    EdgekitError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgekit.profiling.job import Job, run_job, time_limit
from edgekit.profiling.worker import KINDS, do, pin
from tests.bundle import sample_bundle

QUICK: dict[str, Any] = {
    "seconds": 0.05,
    "samples": 5,
    "warm_seconds": 0.02,
    "most_warm_seconds": 0.2,
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundle(tmp_path):
    return str(sample_bundle.write(tmp_path / "tiny"))


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch):
    """Puts a package named onnxruntime in front, with this code; the child finds it there too."""

    def install(code):
        package = tmp_path / "packages" / "onnxruntime"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(str(package.parent))
        return Job("latency", str(tmp_path), "onnxruntime", **QUICK)

    return install


def test_a_job_is_done_in_a_fresh_process(bundle):
    job = Job("latency", bundle, "null", scopes=("engine", "copies", "pipeline"), **QUICK)
    before = time.perf_counter_ns()
    document = run_job(job)
    assert set(document["runs"]) == {"engine", "copies", "pipeline"}
    assert all(len(run["samples_ns"]) >= 5 for run in document["runs"].values())
    assert document["problems"] == {}
    # Interpreter, imports and opening, all within the life of the process.
    assert document["import_ms"] > 5
    assert document["load_ms"] > 0
    elapsed = (time.perf_counter_ns() - before) / 1e6
    assert document["import_ms"] + document["load_ms"] + document["first_ms"] < elapsed


def test_every_kind_of_job_has_its_work(bundle):
    for kind in KINDS.keys() - {"stages"}:  # which takes a bundle of several graphs
        others = (bundle,) if kind == "turns" else ()
        job = Job(kind, bundle, "null", others=others, most_seconds=0.1, **QUICK)
        options = {"sleep_us": "200"}
        assert isinstance(run_job(Job(**{**vars(job), "options": options})), dict)


def test_the_child_is_pinned_before_it_works(bundle):
    cpu = max(os.sched_getaffinity(0))
    job = Job("latency", bundle, "null", cpus=(cpu,), **QUICK)
    code = "import os, sys; from edgekit.profiling.worker import pin; pin((int(sys.argv[1]),)); "
    code += "print(os.sched_getaffinity(0))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(cpu)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == f"{{{cpu}}}"
    run_job(job)
    with pytest.raises(UsageError, match="cannot pin to CPUs 9999.*allowed here"):
        run_job(Job("latency", bundle, "null", cpus=(9999,), **QUICK))


def test_errors_come_back_as_what_they_were(bundle, tmp_path):
    with pytest.raises(BundleError, match="no bundle|not a bundle|does not exist|missing"):
        run_job(Job("latency", str(tmp_path / "nothing"), "null", **QUICK))
    with pytest.raises(UsageError, match="null: unknown option 'speed'"):
        run_job(Job("latency", bundle, "null", options={"speed": "1"}, **QUICK))
    with pytest.raises(UnknownNameError, match="unknown kind of job 'dance'"):
        run_job(Job("dance", bundle, "null", **QUICK))


def test_a_missing_package_comes_back_with_its_remedy(fake_runtime):
    job = fake_runtime("raise ImportError('libfoo.so is not there')")
    with pytest.raises(MissingDependencyError, match=r"libfoo.so is not there") as raised:
        run_job(job)
    assert raised.value.package == "onnxruntime"
    assert raised.value.remedy == 'pip install "edgekit[onnx]"'
    assert raised.value.exit_code == 7


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory ran out"),
        ("import os; os._exit(3)", "ended with exit code 3"),
        ("raise RuntimeError('engine on fire')", "it said: RuntimeError: engine on fire"),
        ("raise MemoryError", "ran out of memory"),
    ],
)
def test_a_process_that_dies_is_named(fake_runtime, code, message):
    with pytest.raises(EdgekitError, match=message) as raised:
        run_job(fake_runtime(code))
    assert "\n" not in str(raised.value)
    if "memory" not in message:
        assert "latency process of onnxruntime with 1 thread" in str(raised.value)


def test_what_a_library_prints_does_not_get_into_the_answer(fake_runtime):
    code = "import os\nprint('hello')\nos.write(1, b'{\"result\": 7}')\nraise ImportError('x')"
    with pytest.raises(MissingDependencyError):  # the answer, and not what was printed
        run_job(fake_runtime(code))


def test_a_python_that_prints_when_it_starts_is_found_out(tmp_path, monkeypatch, bundle):
    noisy = tmp_path / "python"
    noisy.write_text("#!/bin/sh\necho welcome to this machine\n")
    noisy.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(noisy))
    with pytest.raises(EdgekitError, match="printed no result but b'welcome.*sitecustomize"):
        run_job(Job("latency", bundle, "null"))


@pytest.mark.parametrize("answer", ["[1, 2]", '{"other": 1}', "7"])
def test_an_answer_of_another_shape_is_refused(tmp_path, monkeypatch, bundle, answer):
    liar = tmp_path / "python"
    liar.write_text(f"#!/bin/sh\necho '{answer}'\n")
    liar.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(liar))
    with pytest.raises(EdgekitError, match="something else than a result"):
        run_job(Job("latency", bundle, "null"))


HANGS = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({path!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""


def test_a_process_that_hangs_is_stopped_with_its_children(fake_runtime, tmp_path):
    pids = tmp_path / "pids"
    job = fake_runtime(HANGS.format(path=str(pids)))
    _hang(job, pids)
    for pid in map(int, pids.read_text().split()):
        _wait_for(lambda pid=pid: _is_gone(pid))


def _hang(job, told):
    """Let it time out; again with more time where it had not come to its hanging by then."""
    for limit in (2, 30):
        with pytest.raises(EdgekitError, match=f"did not finish within {limit} s and was stopped"):
            run_job(job, timeout_s=limit)
        if told.exists() and told.read_text():
            return


def test_a_process_that_is_stopped_leaves_no_temporary_files(fake_runtime, tmp_path):
    code = """
import pathlib, tempfile, time
with tempfile.TemporaryDirectory(dir={folder!r}) as name:
    pathlib.Path({told!r}).write_text("hangs")
    time.sleep(600)
"""
    (tmp_path / "temporary").mkdir()
    told = tmp_path / "told"
    job = fake_runtime(code.format(folder=str(tmp_path / "temporary"), told=str(told)))
    _hang(job, told)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_time_limit_has_room_for_all_that_a_job_may_take():
    job = Job("latency", "b", "null", scopes=("engine", "copies"), seconds=5, most_seconds=20)
    assert time_limit(job) > 2 * (job.most_warm_seconds + job.most_seconds)


def test_a_worker_dies_with_its_parent(fake_runtime, tmp_path):
    """Also when the parent has no chance to clean up."""
    pids = tmp_path / "pids"
    job = fake_runtime(HANGS.format(path=str(pids)))
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from edgekit.profiling.job import Job, run_job; run_job(Job(*sys.argv[2:5]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(sys.path), job.kind, job.bundle, job.runtime]
    )
    try:
        _wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        parent.kill()
        parent.wait()
        worker, grandchild = map(int, pids.read_text().split())
        _wait_for(lambda: _is_gone(worker))
        os.kill(grandchild, signal.SIGKILL)  # it is not the worker's doing that this one stays
    finally:
        parent.kill()


def test_a_worker_whose_parent_was_gone_before_it_asked_ends(bundle):
    job = json.dumps(schema.encode(Job("latency", bundle, "null", **QUICK)))
    code = "from edgekit.profiling.worker import main; main(1 << 30)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=job, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_it_also_answers_on_its_own(bundle):
    """``python -m edgekit.profiling.worker``, as a person would look into it."""
    job = Job("latency", bundle, "null", **QUICK)
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.profiling.worker"],
        input=json.dumps(schema.encode(job)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert "engine" in json.loads(line)["result"]["runs"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": 1}', '{"kind": "latency"}'])
def test_what_is_no_job_is_an_error(text):
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.profiling.worker"],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert "not a job" in json.loads(done.stdout)["error"]["message"]


def test_the_environment_is_the_users(fake_runtime, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    code = "import os; raise ImportError('OMP ' + os.environ['OMP_NUM_THREADS'])"
    with pytest.raises(MissingDependencyError, match="OMP 3"):
        run_job(fake_runtime(code))


def test_work_in_this_process():
    with pytest.raises(UnknownNameError):
        do(Job("dance", "b", "null"))
    pin(())  # nothing happens


def _is_gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # dead; whoever inherited it has not looked yet


def _wait_for(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
