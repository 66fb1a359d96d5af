"""Counting with a program in QEMU's place: every way in which it can go wrong has its words."""

import dataclasses
import json
import os
import signal
import subprocess

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.errors import (
    BundleError,
    DeviceError,
    EdgekitError,
    MeasurementError,
    MissingDependencyError,
    ParityError,
    UsageError,
)
from edgekit.profiling.emulation import count, count_instructions
from edgekit.profiling.emulation import emulator as qemu
from edgekit.profiling.emulation.cores import CORES
from edgekit.profiling.emulation.guest import mark_rounds
from edgekit.profiling.emulation.sysroot import open_sysroot
from edgekit.profiling.result import result_from_json
from tests.bundle import sample_bundle
from tests.profiling import fake_qemu

(ARTIFACT,) = sample_bundle.MANIFEST.artifacts
A72 = CORES["cortex-a72"]


@pytest.fixture
def bundle(tmp_path):
    """Artifacts for three runtimes; nothing here opens them."""
    names = ("litert", "onnxruntime", "tensorrt")
    artifacts = tuple(dataclasses.replace(ARTIFACT, runtime=name) for name in names)
    return sample_bundle.write(tmp_path / "tiny-arm", artifacts=artifacts, skipped=())


@pytest.fixture
def sysroot(tmp_path):
    return fake_qemu.write_sysroot(tmp_path / "sysroot")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Puts the program on PATH; no compiler is needed."""
    folder = tmp_path / "bin"

    def behave(**facts):
        fake_qemu.write_qemu(folder, **facts)
        return folder

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(qemu, "build_plugin", lambda *_: tmp_path / "plugin.so")
    behave()
    return behave


def test_a_count_is_the_difference_of_two_regions(bundle, sysroot, machine):
    said: list[str] = []
    (row,) = count_instructions(bundle, "cortex-a72", sysroot=sysroot, progress=said.append)
    assert row.core == "cortex-a72" and row.runtime == "onnxruntime" and row.threads == 1
    assert row.per_inference == 8_000_000 and row.spread == 0
    assert row.counts == (8_000_000,) * count.PROCESSES * count.ROUNDS
    assert row.emulator.startswith("qemu-aarch64 7.2.22")
    assert said == ["counting the instructions of onnxruntime on an emulated cortex-a72"]


def test_nothing_of_the_user_reaches_the_guest(bundle, sysroot, machine, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("QEMU_CPU", "max")
    count_instructions(bundle, "cortex-a72", sysroot=sysroot)
    words, environment, request = fake_qemu.asked(machine())
    assert words[words.index("-cpu") + 1] == "cortex-a72" and "-seed" in words
    assert environment["PYTHONHASHSEED"] == "0" and environment["OPENBLAS_NUM_THREADS"] == "1"
    assert "/somewhere" not in environment["PYTHONPATH"] and "QEMU_CPU" not in environment
    assert request["runtime"] == "onnxruntime" and request["rounds"] == count.ROUNDS


def test_the_guest_sees_the_sysroot_and_its_core_and_no_more(sysroot, machine, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    system = open_sysroot(sysroot)
    guest = count.prepare(scratch, A72, system, qemu.find_emulator())
    prefix = scratch / "prefix"
    assert sorted(p.name for p in prefix.iterdir()) == ["bin", "etc", "proc", "sys", "usr"]
    assert (prefix / "bin/python3.11").samefile(sysroot / "usr/bin/python3.11")
    assert guest.python == prefix / "usr/bin/python3.11"
    assert "0xd08" in (prefix / "proc/cpuinfo").read_text()
    assert [p.name for p in (scratch / "site").iterdir()] == ["edgekit"]


def test_a_link_of_the_sysroot_stays_inside(tmp_path):
    """lib -> /usr/lib means the sysroot's /usr/lib, not this machine's."""
    (tmp_path / "absolute").symlink_to("/usr/lib")
    (tmp_path / "relative").symlink_to("usr/lib")
    assert count._real(tmp_path / "absolute", tmp_path) == tmp_path / "usr/lib"
    assert count._real(tmp_path / "relative", tmp_path) == tmp_path / "usr/lib"


# ---- what is refused before anything runs ----------------------------------------------------


@pytest.mark.parametrize(
    ("core", "words"),
    [("max", "no core but every feature"), ("cortex-a27", "did you mean .*cortex-a72")],
)
def test_other_cores_are_refused(core, words, bundle, sysroot, machine):
    with pytest.raises(UsageError, match=words):
        count_instructions(bundle, core, sysroot=sysroot)


def test_a_core_that_this_qemu_lacks_is_refused(bundle, sysroot, machine):
    with pytest.raises(UsageError, match="core of qemu-aarch64 7.2.22"):
        count_instructions(bundle, "cortex-a76", sysroot=sysroot)


def test_a_runtime_that_the_bundle_lacks_is_refused(bundle, sysroot, machine):
    with pytest.raises(UsageError, match="has no artifact for runtime 'openvino'"):
        count_instructions(bundle, "cortex-a72", ["openvino"], sysroot=sysroot)


def test_tensorrt_has_no_core(bundle, sysroot, machine):
    with pytest.raises(UsageError, match="computes on a GPU"):
        count_instructions(bundle, "cortex-a72", ["tensorrt"], sysroot=sysroot)


def test_a_runtime_that_the_sysroot_lacks_has_the_command(bundle, sysroot, machine):
    with pytest.raises(MissingDependencyError, match=f"emulation.sysroot {sysroot}") as caught:
        count_instructions(bundle, "cortex-a72", ["litert"], sysroot=sysroot)
    assert "ai_edge_litert or tflite_runtime" in str(caught.value)


def test_a_sysroot_without_any_runtime_is_refused(bundle, tmp_path, machine):
    bare = fake_qemu.write_sysroot(tmp_path / "bare", ("numpy",))
    with pytest.raises(MissingDependencyError):
        count_instructions(bundle, "cortex-a72", sysroot=bare)


# ---- what can go wrong inside ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        ({"signal": signal.SIGSEGV, "err": "qemu: uncaught target signal 11"}, DeviceError,
         "crashed with signal SIGSEGV: qemu: uncaught target signal 11"),
        ({"status": 3, "err": "first\nlast words\n\n"}, DeviceError, "status 3: last words"),
        ({"status": 1}, DeviceError, "crashed with status 1"),
        ({"out": ""}, DeviceError, "instead of an answer"),
        ({"out": "\x1b[31mhello\n"}, DeviceError, "instead of an answer"),
        ({"out": '{"errors": {}}\n'}, DeviceError, "instead of an answer"),
        ({"out": "[1]\n"}, DeviceError, "instead of an answer"),
        ({"marks": ""}, DeviceError, "marks are not whole"),
        ({"marks": fake_qemu.marks(10)[:-20]}, DeviceError, "marks are not whole"),
        ({"marks": "0 nonsense\n"}, DeviceError, "marks are not whole"),
        ({"marks": fake_qemu.marks(0)}, DeviceError, "no more instructions"),
        ({"marks": fake_qemu.marks(1000, others=20)}, MeasurementError, "2.0% of the instruct"),
        ({"out": json.dumps({**fake_qemu.ANSWER, "midr": 0x410FD034})}, MeasurementError,
         "calls itself 0x410fd034, not 0x410fd083"),
        ({"out": json.dumps({**fake_qemu.ANSWER, "errors": {"logits": 0.04}})}, ParityError,
         "'logits' differs .* by 4.0e-02"),
        ({"out": json.dumps({**fake_qemu.ANSWER, "errors": {"logits": float("nan")}})},
         ParityError, "differs"),
        ({"out": json.dumps({"error": "model.onnx is broken", "exit_code": 1})}, BundleError,
         "onnxruntime on an emulated cortex-a72: model.onnx is broken"),
        ({"out": json.dumps({"error": "needs numpy", "exit_code": 7})}, MissingDependencyError,
         "needs numpy"),
    ],
)  # fmt: skip
def test_failures_have_one_line(facts, kind, words, bundle, sysroot, machine):
    machine(**facts)
    with pytest.raises(kind, match=words) as caught:
        count_instructions(bundle, "cortex-a72", sysroot=sysroot)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_guest_that_hangs_is_ended(bundle, sysroot, machine, monkeypatch):
    machine(sleep_s=600)
    monkeypatch.setattr(count, "_BASE_LIMIT_S", 0.5)
    with pytest.raises(DeviceError, match="did not end within 1? ?[01] s: it hangs"):
        count_instructions(bundle, "cortex-a72", sysroot=sysroot)


def test_a_little_of_other_threads_is_allowed(bundle, sysroot, machine):
    machine(marks=fake_qemu.marks(10_000, others=9))
    (row,) = count_instructions(bundle, "cortex-a72", sysroot=sysroot)
    assert row.per_inference == 10_000


def test_a_heavy_network_is_counted_with_fewer_inferences(tmp_path):
    light = count._work(A72, "litert", "fp32", tmp_path, count.HEAVY_MACS)
    heavy = count._work(A72, "litert", "fp32", tmp_path, count.HEAVY_MACS + 1)
    assert light.many == count.MANY and heavy.many == count.MANY_OF_HEAVY > count.FEW


# ---- the guest -------------------------------------------------------------------------------


def test_the_guest_marks_around_few_and_many():
    events: list[str | int] = []
    mark_rounds(lambda: events.append("call"), 2, 3, events.append)
    first = events.index(0)
    assert set(events[:first]) == {"call"}  # the warm-up
    a_round = [["call"], ["call"] * 3]
    wanted: list[str | int] = []
    for number in range(4):
        wanted += [2 * number, *a_round[number % 2], 2 * number + 1]
    assert events[first:] == wanted


def test_an_answer_of_a_wrong_network_is_refused():
    answer = {**fake_qemu.ANSWER, "errors": {"logits": float(np.float32(1e-4)) * 1.01}}
    with pytest.raises(ParityError):
        count.check_answer(answer, A72, "fp32", "somebody")
    count.check_answer(fake_qemu.ANSWER, A72, "fp32", "somebody")


@pytest.mark.parametrize("code", [1, 2, 3, 6, 7])
def test_the_exit_code_comes_out_of_the_guest(code):
    with pytest.raises(EdgekitError) as caught:
        count.check_answer({"error": "why", "exit_code": code}, A72, "fp32", "somebody")
    assert caught.value.exit_code == code


# ---- the command -----------------------------------------------------------------------------


def test_the_command_prints_a_count_and_never_a_time(bundle, sysroot, machine, capsys):
    words = ["profile", str(bundle), "--emulate", "cortex-a72", "--sysroot", str(sysroot)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "instructions (a count, not a time)" in out and "8,000,000 an inference" in out
    assert "p50" not in out
    assert main([*words, "--json"]) == 0
    result = result_from_json(capsys.readouterr().out)
    assert result.instructions[0].per_inference == 8_000_000
    assert result.runs == () and result.complete and result.verdict == "stable"


@pytest.mark.parametrize(
    "words",
    [["--threads", "2"], ["--scope", "copies"], ["--pace", "30"], ["--sustain", "60"],
     ["--reference", "other"], ["--references"], ["--quick"], ["--cpus", "0"],
     ["--option", "litert.layout=same"]],
)  # fmt: skip
def test_what_has_no_answer_is_refused(words, bundle, sysroot, machine, capsys):
    line = ["profile", str(bundle), "--emulate", "cortex-a72", "--sysroot", str(sysroot)]
    assert main([*line, *words]) == 2
    assert f"--emulate does not go with {words[0]}" in capsys.readouterr().err


def test_a_comma_in_a_path_is_doubled(tmp_path):
    """QEMU takes one for the end of an argument."""
    words = count.plugin_words(tmp_path / "a,b.so", tmp_path / "c,d")
    assert words == ("-plugin", f"{tmp_path}/a,,b.so,out={tmp_path}/c,,d")


def test_an_interrupt_ends_every_process(machine, tmp_path, monkeypatch):
    """Ctrl-C while the first answers: the second must not go on."""
    program = str(machine(sleep_s=600) / "qemu-aarch64")
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            started.append(self)

        def communicate(self, *words, **options):
            if options.get("timeout"):
                raise KeyboardInterrupt
            return super().communicate(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    commands = [(program, "-plugin", f"p,out={tmp_path / name}") for name in ("one", "two")]
    with pytest.raises(KeyboardInterrupt):
        list(count.run_all(commands, "{}", {}, 60, "somebody"))
    assert [process.poll() for process in started] == [-signal.SIGKILL] * 2
