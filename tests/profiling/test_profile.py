"""A whole profile with the null runtime: the plan, what is kept, and what is refused."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import Artifact, TensorSpec, golden_bytes, open_bundle
from edgekit.errors import (
    BundleError,
    EdgekitError,
    InputError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgekit.profiling import plan
from edgekit.profiling.job import Job
from edgekit.profiling.plan import Preset, make_plan
from edgekit.profiling.profile import run_profile
from edgekit.profiling.request import Request
from edgekit.profiling.result import (
    PRESETS,
    SCOPES,
    ProfileResult,
    result_from_json,
    result_to_json,
)
from edgekit.profiling.saving import check_folder, save_result
from tests.bundle import sample_bundle

TINY = Preset(2, 0.05, 5, 0.1, 0.02, 0.1, SCOPES, layers=True, memory=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundle(tmp_path):
    return str(sample_bundle.write(tmp_path / "tiny"))


@pytest.fixture
def two(tmp_path):
    """A bundle for two runtimes; the null one computes, the other is made up by the tests."""
    null = sample_bundle.MANIFEST.artifacts[0]
    other = Artifact("onnxruntime", null.files, (), null.parity, 20, {})
    return str(sample_bundle.write(tmp_path / "two", artifacts=(null, other)))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(plan.PRESETS, "default", TINY)


def planned(request):
    with open_bundle(Path(request.bundle)) as opened:
        return make_plan(request, opened)


def canned(job):
    """What a process answers, without the process."""
    process = {
        "start_ms": 1.0,
        "warm_up": {"runs": 10, "seconds": 1.0, "settled": True},
        "samples_ns": [1_000_000, 1_010_000, 1_020_000] * 200,
        "cpu_share": 1.0,
        "preempted": 0,
    }
    answers = {
        "latency": {
            "import_ms": 100,
            "load_ms": 20,
            "first_ms": 3,
            "runs": dict.fromkeys(job.scopes, process),
            "problems": {},
            "image": "a drawing",
            "cost": {"clock_ns": 40, "call_ns": 20},
        },
        "memory": {
            "runtime": job.runtime,
            "threads": job.threads,
            "imported": 1,
            "loaded": 2,
            "peak_load": 3,
            "peak_use": 4,
            "device": None,
            "note": "",
        },
        "layers": {
            "runtime": job.runtime,
            "threads": job.threads,
            "source": "",
            "note": "none",
            "inferences": 0,
            "kernels": [],
        },
    }
    return answers[job.kind]


# ---- the whole -------------------------------------------------------------------------------


def test_a_profile_has_every_part(bundle, tiny):
    lines: list[str] = []
    kept: list[ProfileResult] = []
    options = {"null.sleep_us": "300"}
    request = Request(bundle, sustain_s=0.3, pace_hz=100, references=(bundle,), options=options)
    result = run_profile(request, progress=lines.append, keep=kept.append)
    steady = [run for run in result.runs if not run.pace_hz]
    paced = [run for run in result.runs if run.pace_hz]
    assert [(run.runtime, run.threads, run.scope) for run in steady] == [
        ("null", 1, scope) for scope in SCOPES
    ]
    assert [run.scope for run in paced] == ["engine"]
    for run in result.runs:
        assert len(run.processes) == 2 and run.complete
        assert run.samples == sum(len(process.samples_ns) for process in run.processes)
        assert 0.3 <= run.min_ms <= run.p50_ms <= run.p90_ms <= run.max_ms
    assert len(result.starts) == 2  # of the paced processes none is counted again
    assert len(result.layers) == len(result.memory) == len(result.references) == 1
    assert len(result.sustained) == 1 and result.sustained[0].p50_ms
    assert result.cost is not None and result.cost.clock_ns > 0
    assert result.complete
    assert result.environment.after is not None
    assert result.facts.id == result.model == "tiny-net"
    assert result.image.startswith("drawn JPEG")
    assert any("random weights" in warning for warning in result.warnings)
    # It is a valid document, and says the same when it is read again.
    assert result_from_json(result_to_json(result)) == result
    # One line a piece, each with the time left; every piece was kept, and the last is whole.
    assert len(lines) == 2 + 2 + 2 + 1 + 1
    assert all("s left)" in line for line in lines)
    assert [each.complete for each in kept] == [False] * 7 + [True]
    assert len(kept[0].runs[0].processes) == 1 and not kept[0].runs[0].complete


def test_the_public_name(bundle, tiny):
    options = {"scopes": "copies", "threads": 1, "runtimes": ["null"], "layers": False}
    result = edgekit.profile_bundle(Path(bundle), memory=False, references=Path(bundle), **options)
    assert [run.scope for run in result.runs] == ["copies"]
    assert not result.layers and not result.memory
    assert len(result.references) == 1


def test_a_scope_that_cannot_be_timed_is_a_warning(tmp_path, tiny):
    path = sample_bundle.write(tmp_path / "bare", preprocessing=None)
    result = run_profile(Request(str(path), layers=False, memory=False))
    assert [run.scope for run in result.runs] == ["engine", "copies"]
    (warning,) = [text for text in result.warnings if "scope pipeline is not measured" in text]
    assert "does not say how an image becomes its input" in warning


def _of_batch(where, size, images):
    """The bundle with that first size of its interface, and a golden input of so many images."""
    image, logits = np.zeros((images, 3, 4, 4), np.float32), np.zeros((images, 3), np.float32)
    return str(
        sample_bundle.write(
            where,
            inputs=(TensorSpec("image", "float32", (size, 3, 4, 4), "NCHW"),),
            outputs=(TensorSpec("logits", "float32", (size, 3), "NC"),),
            files={"golden.npz": golden_bytes({"image": image}, {"logits": logits})},
        )
    )


def test_of_any_batch_one_image_is_measured_and_said(tmp_path, tiny):
    result = run_profile(Request(_of_batch(tmp_path / "any", -1, 1), layers=False, memory=False))
    assert [run.scope for run in result.runs] == list(SCOPES)
    assert result.facts.inputs == {"image": (1, 3, 4, 4)}
    assert "the bundle takes any batch, and batch 1 is measured" in result.warnings
    assert result_from_json(result_to_json(result)) == result


def test_what_an_inference_of_several_images_is(tmp_path, tiny):
    result = run_profile(Request(_of_batch(tmp_path / "four", 4, 4), layers=False, memory=False))
    assert [run.scope for run in result.runs] == ["engine", "copies"]
    assert result.facts.inputs == {"image": (4, 3, 4, 4)}
    said = "an inference is of 4 images, the counts of the model are of one"
    assert said in result.warnings
    (warning,) = [text for text in result.warnings if "scope pipeline is not measured" in text]
    assert "give 4 at once" in warning


def test_few_samples_are_said(bundle, tiny):
    request = Request(bundle, scopes=("engine",), options={"null.sleep_us": "2000"})
    result = run_profile(request)
    assert result.runs[0].p99_ms is None
    assert any("samples instead of 1000" in warning for warning in result.warnings)


# ---- the order -------------------------------------------------------------------------------


def test_processes_of_all_engines_take_turns(two):
    request = Request(two, runtimes=("null", "onnxruntime"), threads=(1, 2), sustain_s=9, pace_hz=5)
    pieces = planned(request).pieces
    order = [(piece.job.kind, piece.job.runtime, piece.job.threads) for piece in pieces]
    engines = [(runtime, threads) for runtime in ("null", "onnxruntime") for threads in (1, 2)]
    assert order[:12] == [("latency", *engine) for engine in engines] * 3
    assert order[12:16] == [
        (kind, runtime, 1) for kind in ("memory", "layers") for runtime in ("null", "onnxruntime")
    ]
    assert [piece.job.pace_hz for piece in pieces[16:28]] == [5] * 12
    assert {piece.job.scopes for piece in pieces[16:28]} == {("engine",)}
    assert [kind for kind, _, _ in order[28:]] == ["sustained"] * 4


def test_presets():
    assert tuple(plan.PRESETS) == PRESETS
    assert [preset.processes for preset in plan.PRESETS.values()] == [1, 3, 5]
    for name in ("default", "thorough"):
        preset = plan.PRESETS[name]
        assert preset.processes * preset.seconds > 10
        assert preset.processes * preset.samples > 1000


@pytest.mark.parametrize(("preset", "limit"), [("quick", 12), ("default", 60)])
def test_a_runtime_is_measured_within_its_time(bundle, preset, limit):
    """As planned, and the caps leave it no way to take much longer."""
    pieces = planned(Request(bundle, preset)).pieces
    assert sum(piece.seconds for piece in pieces) < limit


def test_thorough_also_takes_the_big_cores_and_a_pace(bundle, monkeypatch):
    monkeypatch.setattr(plan, "big_cpus", lambda root: (0, 1, 2, 3))
    pieces = planned(Request(bundle, "thorough")).pieces
    assert {piece.job.threads for piece in pieces} == {1, 4}
    assert {piece.job.pace_hz for piece in pieces} == {0, 30}
    assert sum(piece.job.kind == "sustained" for piece in pieces) == 2


def test_more_threads_than_cpus_are_said(bundle):
    warnings = planned(Request(bundle, threads=(4096,))).warnings
    assert any("4096 threads share" in warning for warning in warnings)


def test_options_go_to_their_runtime(two):
    request = Request(
        two, runtimes=("null", "onnxruntime"), options={"null.sleep_us": "5", "null.drift": "1"}
    )
    options = {piece.job.runtime: piece.job.options for piece in planned(request).pieces}
    assert options == {"null": {"sleep_us": "5", "drift": "1"}, "onnxruntime": {}}


def test_runtimes_that_are_not_installed_are_left_out_and_said(two, monkeypatch):
    monkeypatch.setattr(plan, "is_available", lambda name: name == "null")
    made = planned(Request(two))
    assert {piece.job.runtime for piece in made.pieces} == {"null"}
    assert made.warnings[0].startswith("onnxruntime is not measured: it is not installed here")
    monkeypatch.setattr(plan, "is_available", lambda name: False)
    with pytest.raises(MissingDependencyError, match="needs one of null, onnxruntime"):
        planned(Request(two))


# ---- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"runtimes": ("onnxruntim",)}, UnknownNameError, "did you mean onnxruntime"),
        ({"runtimes": ("litert",)}, UsageError, "has no artifact for runtime 'litert'; it has: nu"),
        ({"threads": (0,)}, UsageError, "threads is 1 or more, got 0"),
        ({"scopes": ("engin",)}, UnknownNameError, "did you mean engine"),
        ({"preset": "fast"}, UnknownNameError, "unknown preset 'fast'"),
        ({"pace_hz": -1}, UsageError, "pace: -1 is not possible"),
        ({"pace_hz": float("inf")}, UsageError, "pace: inf is not possible"),
        ({"pace_hz": float("nan")}, UsageError, "pace: nan is not possible"),
        ({"pace_hz": 1e9}, UsageError, "give 0 to 10000 starts a second"),
        ({"sustain_s": -5}, UsageError, "sustained run: -5 is not possible"),
        ({"sustain_s": 1e9}, UsageError, "give 0 to 86400 seconds"),
        ({"cpus": "all"}, UsageError, "'all' is not a list of CPUs"),
        ({"cpus": "4000"}, UsageError, "CPU 4000 is not for this process"),
        ({"options": {"speed": "1"}}, UnknownNameError, "unknown runtime 'speed'"),
        ({"options": {"null": "1"}}, UsageError, "option 'null' names no setting"),
        ({"options": {"null.x": "1"}}, UsageError, "'null.x': null has no setting 'x'; it has out"),
        ({"references": ("/nowhere",)}, BundleError, "/nowhere"),
        (
            {"image": str(ROOT / "examples" / "photo.jpg"), "scopes": ("engine",)},
            UsageError,
            "would feed the scope pipeline",
        ),
        ({"image": "/nowhere.jpg"}, InputError, "cannot read image '/nowhere.jpg'"),
        ({"bundle": "/nowhere"}, BundleError, "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(bundle, changes, error, message):
    def run(job):
        raise AssertionError("a process was started")

    request = dataclasses.replace(Request(bundle), **changes)
    with pytest.raises(error, match=message):
        run_profile(request, run=run)


def test_a_damaged_bundle_is_refused(bundle):
    (Path(bundle) / "model.dat").write_bytes(b"something else")
    with pytest.raises(BundleError, match="model.dat"):
        run_profile(Request(bundle))


# ---- what is kept when something fails -------------------------------------------------------


def test_a_runtime_that_crashes_costs_itself_only(two, monkeypatch):
    """The real thing: a package named onnxruntime that crashes when it is imported."""
    packages = Path(two).parent / "packages" / "onnxruntime"
    packages.mkdir(parents=True)
    (packages / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.syspath_prepend(str(packages.parent))
    monkeypatch.setitem(plan.PRESETS, "default", dataclasses.replace(TINY, processes=1))
    kept: list[ProfileResult] = []
    with pytest.raises(EdgekitError, match=r"latency process of onnxruntime .* crashed \(SIGABRT"):
        run_profile(Request(two, runtimes=("onnxruntime", "null")), keep=kept.append)
    result = kept[-1]
    assert not result.complete
    assert [run.runtime for run in result.runs] == ["null"] * 3
    assert len(result.memory) == len(result.layers) == 1
    assert any(text.startswith("onnxruntime is incomplete: ") for text in result.warnings)


def test_a_failed_runtime_is_not_tried_again_and_keeps_what_it_has(two):
    seen = []

    def run(job):
        seen.append((job.runtime, job.kind))
        if job.runtime == "onnxruntime" and len(seen) > 3:
            raise EdgekitError("it fell over")
        return canned(job)

    kept: list[ProfileResult] = []
    with pytest.raises(EdgekitError, match="it fell over"):
        run_profile(Request(two, runtimes=("null", "onnxruntime")), keep=kept.append, run=run)
    assert seen.count(("onnxruntime", "latency")) == 2
    assert seen.count(("null", "latency")) == 3
    runs = {(run.runtime, run.scope): run for run in kept[-1].runs}
    assert len(runs["onnxruntime", "engine"].processes) == 1
    assert not runs["onnxruntime", "engine"].complete
    assert runs["null", "engine"].complete


def test_ctrl_c_leaves_what_was_finished(two):
    started = []

    def run(job):
        started.append(job)
        if len(started) == 4:
            raise KeyboardInterrupt
        return canned(job)

    kept: list[ProfileResult] = []
    with pytest.raises(KeyboardInterrupt):
        run_profile(Request(two, runtimes=("null", "onnxruntime")), keep=kept.append, run=run)
    assert not kept[-1].complete
    assert [len(r.processes) for r in kept[-1].runs if r.scope == "engine"] == [2, 1]
    assert result_from_json(result_to_json(kept[-1])) == kept[-1]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"runs": 7},
        {"runs": {"engine": {"samples_ns": "all"}}, "problems": {}},
        {"runs": {"engine": {}}, "problems": {}, "image": "", "cost": {}},
    ],
)
def test_an_answer_that_is_nonsense_is_an_error(bundle, answer):
    with pytest.raises(EdgekitError, match="latency process of null answered nonsense"):
        run_profile(Request(bundle), run=lambda job: answer)


@pytest.mark.parametrize("kind", ["memory", "layers"])
def test_so_is_nonsense_of_the_other_processes(bundle, kind):
    kept: list[ProfileResult] = []
    with pytest.raises(EdgekitError, match=f"{kind} process of null answered nonsense"):
        run_profile(
            Request(bundle),
            run=lambda job: {"x": 1} if job.kind == kind else canned(job),
            keep=kept.append,
        )
    assert all(run.complete for run in kept[-1].runs)
    assert not kept[-1].complete


def test_canned_answers_make_a_stable_result(bundle):
    result = run_profile(Request(bundle, cpus="none"), run=canned)
    reasons = {reason for run in result.runs for reason in run.reasons}
    # What this machine does meanwhile may be said; the samples themselves are calm.
    machine = ("tasks were runnable", "hypervisor", "the board reports")
    assert all(any(words in text for words in machine) for text in reasons)
    assert result.environment.cpus == ()


# ---- files -----------------------------------------------------------------------------------


def test_results_are_saved_beside_each_other_and_never_over(bundle, tmp_path):
    result = run_profile(Request(bundle), run=canned)
    folder = tmp_path / "runs" / "today"
    check_folder(folder)
    first, second = save_result(result, folder), save_result(result, folder)
    assert first != second
    assert first.name.startswith("tiny-net-x86-")
    assert first.name.endswith("Z.json")
    assert result_from_json(first.read_text()) == result
    assert sorted(folder.iterdir()) == sorted([first, second])  # no leftovers


def test_so_they_are_on_a_file_system_without_links(bundle, tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")  # what FAT says

    monkeypatch.setattr("os.link", refuse)
    result = run_profile(Request(bundle), run=canned)
    check_folder(tmp_path / "runs")
    first, second = save_result(result, tmp_path / "runs"), save_result(result, tmp_path / "runs")
    assert result_from_json(first.read_text()) == result_from_json(second.read_text()) == result
    assert sorted((tmp_path / "runs").iterdir()) == sorted([first, second])


def test_hostile_names_stay_in_the_folder(bundle, tmp_path):
    result = run_profile(Request(bundle), run=canned)
    hostile = dataclasses.replace(result, model="../../etc/passwd", device="; rm -rf ~\x00")
    path = save_result(hostile, tmp_path)
    assert path.parent == tmp_path
    assert ".." not in path.name and ";" not in path.name


def test_where_nothing_can_be_saved_is_said_first(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UsageError, match="cannot save to"):
            check_folder(folder)


def test_what_is_measured_needs_no_torch():
    import subprocess

    code = "import sys, edgekit.profiling.profile; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_jobs_and_requests_are_plain_json(bundle):
    from edgekit.bundle import schema

    pieces = planned(Request(bundle)).pieces
    for piece in pieces:
        text = json.dumps(schema.encode(piece.job))
        assert schema.decode(Job, schema.loads(text)) == piece.job
