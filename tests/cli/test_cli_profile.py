"""``edgekit profile``: what it prints, saves, and says with its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.cli import main, profile_tables
from edgekit.profiling import plan
from edgekit.profiling.plan import Preset
from edgekit.profiling.result import SCOPES, result_from_json
from tests.bundle import sample_bundle
from tests.profiling import sample_results as samples

TINY = Preset(1, 0.05, 5, 0.1, 0.02, 0.1, SCOPES, layers=False, memory=False)
LONG_ENOUGH = replace(TINY, processes=2, samples=200, most_seconds=5, scopes=("engine",))
FULL = replace(TINY, layers=True, memory=True)
ROOT = Path(__file__).resolve().parents[2]
CALM = ["--option", "null.sleep_us=200", "--allow-noisy"]
# Slower with every inference, in every process: throttled on any machine.
THROTTLED = ["--option", "null.sleep_us=200", "--option", "null.drift=40"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name in plan.PRESETS:
        monkeypatch.setitem(plan.PRESETS, name, TINY)


@pytest.fixture
def sample(tmp_path):
    return str(sample_bundle.write(tmp_path / "tiny"))


def profile(capsys, *arguments, code=0):
    assert main(["profile", *map(str, arguments)]) == code
    return capsys.readouterr()


def test_json_is_one_document_with_the_promised_keys(sample, capsys):
    printed = profile(capsys, sample, *CALM, "--threads", "1", "--json")
    document = json.loads(printed.out)
    assert {"bundle", "model", "runs", "environment"} <= document.keys()
    keys = {"runtime", "threads", "scope", "p50_ms", "p90_ms", "p99_ms", "min_ms"}
    assert keys | {"samples", "verdict"} <= document["runs"][0].keys()
    assert isinstance(document["runs"][0]["samples"], int)
    assert document["runs"][0]["samples"] == sum(
        len(process["samples_ns"]) for process in document["runs"][0]["processes"]
    )
    assert document["bundle"] == sample
    assert document["command"] == ["edgekit", "profile", sample, *CALM, "--threads", "1", "--json"]
    result_from_json(printed.out)


def test_raw_samples_stand_on_one_line(sample, capsys):
    out = profile(capsys, sample, *CALM, "--scope", "engine", "--json").out
    lines = [line for line in out.splitlines() if '"samples_ns": [' in line]
    assert len(lines) == 1
    assert all(line.rstrip().endswith(("]", "],")) for line in lines)


def test_tables_for_people(sample, capsys, monkeypatch):
    monkeypatch.setitem(plan.PRESETS, "default", FULL)
    printed = profile(capsys, sample, *CALM, "--reference", sample, "--pace", "50")
    lines = printed.out.splitlines()
    assert lines[0].startswith("tiny-net for x86, fp32, 0.00 M MACs")
    header = next(line for line in lines if line.startswith("runtime"))
    assert header.split()[:5] == ["runtime", "threads", "scope", "p50", "ms"]
    rows = [line.split() for line in lines if line.startswith("null  ")]
    assert [row[2] for row in rows[:4]] == ["engine", "copies", "pipeline", "engine"]
    text = printed.out
    assert "engine at 50/s" in text
    assert "cold start" in text and "memory" in text and "in turns with" in text
    assert "per layer, null: " in text
    assert "the profiler's own cost, inside every sample: " in text
    assert "pipeline: drawn JPEG, 640 x 480" in text
    assert lines[-1].startswith("next: edgekit profile ")
    assert lines[-1].endswith("--save runs; edgekit report runs/*.json -o report.html")
    assert "null, 1 thread: process 1 of 1 (about " in printed.err
    assert "random weights: fit for latency work, not for predictions" in printed.err


def test_quiet_is_quiet_and_warns_all_the_same(sample, capsys):
    printed = profile(capsys, sample, *CALM, "-q")
    assert "process 1 of 1" not in printed.err
    assert "random weights" in printed.err
    assert "next:" not in printed.out


def test_saved_results_are_whole_and_never_replaced(sample, tmp_path, capsys):
    folder = tmp_path / "runs"
    printed = profile(capsys, sample, *CALM, "--scope", "engine", "--save", folder)
    profile(capsys, sample, *CALM, "--scope", "engine", "--save", folder)
    paths = list(folder.iterdir())
    assert len(paths) == 2
    assert all(result_from_json(path.read_text()).complete for path in paths)
    assert printed.out.splitlines()[-1] in {
        f"next: edgekit report {path} -o report.html" for path in paths
    }


def test_what_cannot_be_printed_is_saved_and_the_reverse(sample, tmp_path, capsys, monkeypatch):
    flags = [*CALM, "--scope", "engine", "--save", tmp_path / "runs"]
    with monkeypatch.context() as patched:
        patched.setattr(profile_tables, "show", _refuse(OSError(5, "Input/output error")))
        profile(capsys, sample, *flags, code=1)
    (path,) = (tmp_path / "runs").iterdir()
    assert result_from_json(path.read_text()).complete
    monkeypatch.setattr("edgekit.profiling.saving._link", _refuse(OSError(28, "No space left")))
    printed = profile(capsys, sample, *flags, code=1)
    assert "p50 ms" in printed.out and "saved" not in printed.out
    assert "cannot save the result" in printed.err.splitlines()[-1]
    assert "No space left" in printed.err.splitlines()[-1]


def _refuse(error):
    def refuse(*words):
        raise error

    return refuse


def test_a_board_may_send_words_and_series_that_edgekit_does_not_know(sample, capsys, monkeypatch):
    empty = replace(samples.everything().sustained[0], p50_ms=())

    def lie(request, *, progress, keep):
        keep(samples.result(runs=(samples.run(verdict="marvellous"),), sustained=(empty,)))

    monkeypatch.setattr("edgekit.profiling.profile.run_profile", lie)
    printed = profile(capsys, sample, code=5)
    assert "1 of 1 figures cannot be trusted" in printed.err


def test_a_figure_that_cannot_be_trusted_is_exit_5_after_everything_is_there(
    sample, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(plan.PRESETS, "default", LONG_ENOUGH)
    folder = tmp_path / "runs"
    printed = profile(capsys, sample, *THROTTLED, "--save", folder, code=5)
    assert "null, 1 thread, engine" in printed.err.splitlines()[-1]
    assert "--allow-noisy" in printed.err.splitlines()[-1]
    (row,) = [
        line for line in printed.out.splitlines() if line.startswith("null  ") and "eng" in line
    ]
    assert row.split()[-1] in ("throttled", "contended")  # on a busy machine it is both
    assert "throttled: latency rose while timing and stayed up in every process" in " ".join(
        printed.out.split()
    )
    (path,) = folder.iterdir()
    assert result_from_json(path.read_text()).verdict in ("throttled", "contended")


def test_unless_noise_is_allowed(sample, capsys, monkeypatch):
    monkeypatch.setitem(plan.PRESETS, "default", LONG_ENOUGH)
    document = json.loads(profile(capsys, sample, *THROTTLED, "--allow-noisy", "--json").out)
    assert document["runs"][0]["verdict"] in ("throttled", "contended")


def test_quick_says_that_it_is_a_first_look(sample, capsys):
    printed = profile(capsys, sample, *CALM, "--quick", "--json")
    (warning,) = [text for text in json.loads(printed.out)["warnings"] if "a first look" in text]
    assert f"edgekit: warning: {warning}" in printed.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threads", "0"], "'0' is not a positive whole number"),
        (["--threads", "1,x"], "'x' is not a positive whole number"),
        (["--threads", ","], "',' is not a list like a,b"),
        (["--pace", "0"], "'0' is not a rate"),
        (["--pace", "-3"], "'-3' is not a rate"),
        (["--pace", "inf"], "'inf' is not a rate"),
        (["--pace", "nan"], "'nan' is not a rate"),
        (["--sustain", "soon"], "'soon' is not a time like 60, 90s or 5m"),
        (["--sustain", "0"], "'0' is not a time"),
        (["--sustain", "5d"], "'5d' is not a time"),
        (["--runtime", "openvin"], "did you mean openvino"),
        (["--runtime", "openvino"], "has no artifact for runtime 'openvino'"),
        (["--scope", "gpu"], "unknown scope 'gpu'"),
        (["--cpus", "99999"], "99999"),
        (["--option", "cuda_graph"], "is not RUNTIME.NAME=VALUE"),
        (["--option", "null.speed=1"], "null has no setting 'speed'; it has output"),
        (["--quick", "--thorough"], "not allowed with"),
        (["--install"], "--install is for a board"),
        (["--sysroot", "/tmp"], "--sysroot is for an emulated core"),
        (["--scope", "gpu"], "known: engine, copies, pipeline, all"),
        (["--device", "ssh://pi", "--emulate", "cortex-a72"], "give one of them"),
    ],
)
def test_what_cannot_be_is_one_line(sample, capsys, flags, message):
    printed = profile(capsys, sample, *flags, "-q", code=2)
    assert printed.out == "" or "incomplete" in printed.out
    assert message in printed.err.splitlines()[-1]


def test_a_network_of_the_zoo_is_no_bundle(capsys):
    printed = profile(capsys, "micronet-m1", code=2)
    assert "edgekit export micronet-m1 --target x86" in printed.err


def test_a_name_that_is_no_utf8_is_refused_before_measuring(sample, tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"b\xff")
    odd.symlink_to(sample)
    assert "is no UTF-8" in profile(capsys, odd, *CALM, code=2).err


def test_words_that_are_no_utf8_are_kept_as_escapes(sample, tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"runs\xff")
    profile(capsys, sample, *CALM, "--save", str(folder), "--scope", "engine")
    (path,) = folder.iterdir()
    assert result_from_json(path.read_text()).command[-3].endswith("runs\\udcff")


def test_a_bundle_that_is_not_there(capsys, tmp_path):
    printed = profile(capsys, tmp_path / "nothing", "-q", code=1)
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_where_nothing_can_be_saved_is_said_before_measuring(sample, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    printed = profile(capsys, sample, "--save", tmp_path / "file", code=2)
    assert printed.err.count("\n") == 1
    assert "cannot save to" in printed.err


def test_flags_become_the_request(sample):
    import argparse

    from edgekit.cli import profile as verb

    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    words = [sample, "--runtime", "null,litert", "--runtime", "openvino", "--threads", "1,2"]
    words += ["--scope", "all", "--pace", "30", "--sustain", "5m", "--cpus", "0-3", "--thorough"]
    words += ["--no-layers", "--no-memory", "--image", "cat.jpg", "--reference", "a"]
    arguments = parser.parse_args([*words, "--reference", "b", "--option", "null.output=echo"])
    arguments.words = words
    request = verb.request_of(arguments)
    assert request.runtimes == ("null", "litert", "openvino")
    assert (request.threads, request.scopes) == ((1, 2), SCOPES)
    assert (request.pace_hz, request.sustain_s, request.cpus) == (30, 300, "0-3")
    assert (request.preset, request.layers, request.memory) == ("thorough", False, False)
    assert (request.image, request.references) == ("cat.jpg", ("a", "b"))
    assert request.options == {"null.output": "echo"}


def test_the_real_thing_on_a_real_runtime(bundle, capsys, monkeypatch):
    """The bundle of the other commands' tests, with a real engine."""
    monkeypatch.setitem(plan.PRESETS, "default", FULL)
    flags = ["--runtime", "onnxruntime", "--threads", "1", "--allow-noisy", "--json"]
    document = json.loads(profile(capsys, bundle, *flags).out)
    assert [run["scope"] for run in document["runs"]] == list(SCOPES)
    assert all(0 < run["min_ms"] <= run["p50_ms"] for run in document["runs"])
    by_scope = {run["scope"]: run["min_ms"] for run in document["runs"]}
    assert by_scope["engine"] < by_scope["pipeline"]
    assert document["layers"][0]["layers"]
    assert document["memory"][0]["loaded"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_who_is_stopped_leaves_what_was_measured(sample, tmp_path, number):
    """The real thing: a process group that a terminal would interrupt."""
    folder = tmp_path / "runs"
    flags = ["--scope", "engine", "--no-layers", "--no-memory", "--save", str(folder)]
    command = [sys.executable, "-m", "edgekit", "profile", sample, *CALM, *flags]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, these tests perhaps among them, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "process 2 of 3" in line:
            break
    time.sleep(0.5)  # the second is at work
    workers = _children(child.pid)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-1] == "edgekit: error: interrupted"
    assert "incomplete: this is what was finished" in out
    (path,) = folder.iterdir()
    result = result_from_json(path.read_text())
    assert not result.complete
    assert len(result.runs[0].processes) == 1
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _children(parent):
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(name))
    return found


def test_starts_that_were_missed_are_said(sample, capsys):
    flags = ["--option", "null.sleep_us=30000", "--allow-noisy", "--pace", "100"]
    text = " ".join(profile(capsys, sample, *flags, "--scope", "engine").out.split())
    assert "starts were missed: an inference still ran" in text
