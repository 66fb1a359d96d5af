"""budget.toml: strict to read, and a model held against it."""

import dataclasses
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle import Parity
from edgekit.errors import EdgekitError, InputError, MissingDependencyError, UsageError
from edgekit.profiling.budget import (
    CHOICES,
    KEYS,
    MAX_BUDGET_BYTES,
    Budget,
    judge,
    parse_budget,
    read_budget,
    read_result,
    request,
)
from edgekit.profiling.result import result_to_json
from tests.bundle.sample_bundle import MANIFEST
from tests.profiling.sample_results import everything, memory, result, run

EXAMPLE = """
[budget]
max_mmacs = 7
p90_ms = 2.5
scope = "copies"
[budget.latency.onnxruntime]
p90_ms = 4.0
threads = 2
[budget.rpi4]
p90_ms = 12.0
peak_rss_mb = 80
[budget.rpi4.latency.litert]
p50_ms = 10
"""

TWO = tuple(
    dataclasses.replace(MANIFEST.artifacts[0], runtime=name) for name in ("litert", "onnxruntime")
)


def manifest(**changes):
    files = {name: dataclasses.replace(facts) for name, facts in _files().items()}
    base = dataclasses.replace(MANIFEST, files=files, target="rpi4", artifacts=TWO)
    return dataclasses.replace(base, **changes)


def _files():
    from edgekit.bundle import FileFacts

    return {
        "model.dat": FileFacts("0" * 64, 700),
        "labels.txt": FileFacts("0" * 64, 13),
        "golden.npz": FileFacts("0" * 64, 500),
    }


def budget(**limits):
    return Budget(limits=limits)


def rows(limits, measured=None, **changes):
    return judge(limits, manifest(**changes), measured)


def read(tmp_path, text, target="rpi4"):
    path = tmp_path / "budget.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_budget(path, target)


# ---- the file --------------------------------------------------------------------------------


def test_a_target_replaces_single_keys(tmp_path):
    found = read(tmp_path, EXAMPLE)
    assert found.limits == {"max_mmacs": 7, "p90_ms": 12.0, "scope": "copies", "peak_rss_mb": 80}
    assert found.latency == {"onnxruntime": {"p90_ms": 4.0, "threads": 2}, "litert": {"p50_ms": 10}}


def test_another_target_has_the_common_ones(tmp_path):
    found = read(tmp_path, EXAMPLE, "x86")
    assert found.limits == {"max_mmacs": 7, "p90_ms": 2.5, "scope": "copies"}
    assert set(found.latency) == {"onnxruntime"}


def test_a_runtime_replaces_single_keys(tmp_path):
    found = read(tmp_path, EXAMPLE)
    assert found.of_runtime("onnxruntime") == {
        "p90_ms": 4.0,
        "threads": 2,
        "scope": "copies",
        "pace_hz": 0.0,
    }
    assert found.of_runtime("litert") == {
        **CHOICES,
        "p90_ms": 12.0,
        "p50_ms": 10,
        "scope": "copies",
    }
    assert found.of_runtime("openvino") == {**CHOICES, "p90_ms": 12.0, "scope": "copies"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[budget]\np90 = 1", "did you mean p90_ms"),
        ("[budget]\nmax_macs = 1", "did you mean max_mmacs"),
        ("[budgets]\np90_ms = 1", "unknown key 'budgets': did you mean budget"),
        ("p90_ms = 1", "unknown key 'p90_ms': known: budget"),
        ("[budget.rpi9]\np90_ms = 1", "did you mean rpi"),
        ("[budget.latency.onnx]\np90_ms = 1", "unknown runtime 'onnx': did you mean onnxruntime"),
        (
            "[budget.latency.litert]\nmax_mmacs = 1",
            "budget.latency.litert: unknown key 'max_mmacs'",
        ),
        ("[budget.rpi4.latency.openvino]\np90_ms = 1", "unknown runtime of rpi4 'openvino'"),
        ("[budget.jetson]\np90 = 1", "budget.jetson: unknown key 'p90'"),  # not even this target
        ("[budget]\np90_ms = nan", "expected a finite number above 0, got nan"),
        ("[budget]\np90_ms = inf", "expected a finite number above 0, got inf"),
        ("[budget]\np90_ms = 1e999", "expected a finite number above 0, got inf"),
        ("[budget]\np90_ms = 0", "expected a finite number above 0, got 0"),
        ("[budget]\np90_ms = -1", "expected a finite number above 0, got -1"),
        ("[budget]\nmax_params = 1" + "0" * 400, "expected a finite number above 0"),
        ("[budget]\np90_ms = '1'", "expected a number, got '1'"),
        ("[budget]\np90_ms = true", "expected a number, got True"),
        ("[budget]\np90_ms = [1]", "expected a number, got [1]"),
        ("[budget]\np90_ms = 2026-11-23", "expected a number, got datetime.date"),
        ("[budget]\nthreads = 1.5\np90_ms = 1", "expected a whole number from 1, got 1.5"),
        ("[budget]\nthreads = 0\np90_ms = 1", "expected a whole number from 1, got 0"),
        ("[budget]\nscope = 'all'\np90_ms = 1", "'all' is none of engine, copies, pipeline"),
        ("[budget]\nscope = 3\np90_ms = 1", "3 is none of engine, copies, pipeline"),
        ("[budget]\nlatency = 3", "expected a table, got 3"),
        ("budget = 3", "expected a table, got 3"),
        ("[budget]\nthreads = 2", "limits nothing for target rpi4"),
        ("[budget.x86]\np90_ms = 2", "limits nothing for target rpi4"),
        ("", "limits nothing for target rpi4"),
        ("[budget", "is not TOML"),
        ("[budget]\np90_ms = 1\np90_ms = 2", "is not TOML"),
        (b"[budget]\n\xff = 1", "is not UTF-8"),
        (b"\0\0\0", "is not TOML"),
        ("[budget]\nx = " + "[\n" * 20_000, "budget.toml is not"),
        ("[budget]\np90_ms" + ".a" * 400 + " = 1", "expected a number, got {"),
        ("[budget]\np90_ms" + ".a" * 20_000 + " = 1", "a line of more than 1000 characters"),
        ("[budget]\n'\x1b[2J' = 1", "is not TOML"),
        ('[budget]\n"\\u001b[2J" = 1', "unknown key"),
        ("[budget]\n" + "#" * MAX_BUDGET_BYTES, "no budget has"),
    ],
)
def test_what_is_refused_in_one_printable_line(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert words in line
    assert line.isprintable()
    assert len(line) < 1000


def test_python_3_10_is_told_what_it_lacks(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("sys.version_info", (3, 10, 12))
    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"tomli, .*: pip install tomli$"):
        read(tmp_path, EXAMPLE)


def test_a_pipe_a_folder_and_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "no plain file"), (".", "Is a directory"), ("no", "No such file")):
        with pytest.raises(UsageError, match=words):
            read_budget(tmp_path / name, "x86")


@given(st.text(max_size=200))
def test_any_text_is_refused_or_read(text):
    if text in (*KEYS, "threads", "pace_hz"):
        assert parse_budget({"budget": {text: 1}}, "x86").limits == {text: 1}
    else:
        with pytest.raises(EdgekitError) as caught:
            parse_budget({"budget": {text: 1}}, "x86")
        assert str(caught.value).isprintable()


def test_the_largest_file_is_read_quickly(tmp_path):
    lines = "\n".join(f"[budget.a{'.b' * 450}{n}]" for n in range(300))
    began = time.monotonic()
    with pytest.raises(UsageError):
        read(tmp_path, lines[: MAX_BUDGET_BYTES - 1].rpartition("\n")[0])
    assert time.monotonic() - began < 20  # a guard against quadratic parsing, not a measurement


# ---- held against it -------------------------------------------------------------------------


def test_counts_sizes_and_parity():
    found = rows(
        budget(
            max_mmacs=1e-5,
            max_mmadds=1,
            max_mflops=1,
            max_params=10,
            max_size_kb=0.7,
            max_bundle_kb=1,
            max_relative_error=1e-6,
        )
    )
    table = {(row.limit, row.subject): (row.got, row.verdict) for row in found}
    assert table == {
        ("max_mmacs", "model"): (20e-6, "over"),
        ("max_mmadds", "model"): (23e-6, "ok"),
        ("max_mflops", "model"): (43e-6, "ok"),
        ("max_params", "model"): (10, "ok"),  # as many as allowed
        ("max_size_kb", "litert"): (0.7, "ok"),
        ("max_size_kb", "onnxruntime"): (0.7, "ok"),
        ("max_bundle_kb", "bundle"): (1.213, "over"),
        ("max_relative_error", "litert"): (2e-6, "over"),
        ("max_relative_error", "onnxruntime"): (2e-6, "over"),
    }
    assert [row.limit for row in found] == sorted(
        (row.limit for row in found), key=list(KEYS).index
    )


def test_the_worst_output_counts():
    worst = dataclasses.replace(TWO[0], parity=Parity("torch", 5, 1e-4, {"a": 1e-7, "b": 3e-6}))
    (row,) = rows(budget(max_relative_error=1e-6), artifacts=(worst,))
    assert (row.got, row.verdict) == (3e-6, "over")


def test_an_artifact_that_nobody_could_run_has_no_error():
    bare = dataclasses.replace(TWO[0], parity=None)
    (row,) = rows(budget(max_relative_error=1e-6), artifacts=(bare,))
    assert row.verdict == "not measured"


def test_the_point_estimate_decides_and_the_interval_says_how_surely():
    measured = result(runs=(dataclasses.replace(run(), p50_ms=1.0, p50_interval_ms=(0.9, 1.1)),))
    table = {
        limit: (row.verdict, row.close)
        for limit in (0.8, 0.95, 1.0, 1.05, 1.2)
        for row in rows(budget(p50_ms=limit), measured)
    }
    assert table == {
        0.8: ("over", False),
        0.95: ("over", True),
        1.0: ("ok", True),
        1.05: ("ok", True),
        1.2: ("ok", False),
    }


def test_each_runtime_that_was_measured_is_held_against_a_common_limit():
    measured = result(runs=(run(), run(runtime="onnxruntime"), run(threads=4), run(scope="copies")))
    found = rows(budget(p90_ms=1, p50_ms=1), measured)
    assert [(row.limit, row.subject) for row in found] == [
        ("p50_ms", "litert, 1 thread, engine"),
        ("p50_ms", "onnxruntime, 1 thread, engine"),
        ("p90_ms", "litert, 1 thread, engine"),
        ("p90_ms", "onnxruntime, 1 thread, engine"),
    ]


def test_threads_scope_and_pace_choose_the_run():
    measured = everything()
    (row,) = rows(budget(p50_ms=9, threads=4), result(runs=measured.runs[1:2]))
    assert row.subject == "litert, 4 threads, engine" and row.verdict == "ok"
    found = rows(budget(p50_ms=9, scope="pipeline"), measured)
    assert {(row.subject, row.verdict) for row in found} == {
        ("litert, 1 thread, pipeline", "ok"),
        ("onnxruntime, 1 thread, pipeline", "not measured"),
    }
    paced = rows(budget(p50_ms=9, pace_hz=30.0), measured)
    assert (paced[0].subject, paced[0].trust) == ("litert, 1 thread, engine, 30/s", "noisy")


def test_a_limit_that_nothing_measured_is_no_pass():
    for limits, words in (
        (budget(p50_ms=1), "--runtime litert --threads 1 --scope engine"),
        (budget(peak_rss_mb=1), "edgekit profile BUNDLE"),
        (budget(minstructions=1), "--emulate"),
        (budget(p50_ms=1, pace_hz=30), "--pace 30"),
    ):
        (row,) = rows(limits, None)
        assert row.verdict == "not measured"
        assert words in row.hint


def test_p99_needs_its_samples():
    few = result(runs=(run(each=100),))
    (row,) = rows(budget(p99_ms=100), few)
    assert row.verdict == "not measured"
    assert "300 samples are too few" in row.hint
    (row,) = rows(budget(p99_ms=100), result(runs=(run(each=400),)))
    assert row.verdict == "ok"


def test_a_runtime_with_its_own_table_must_be_measured():
    limits = Budget(latency={"onnxruntime": {"p90_ms": 1.0}})
    (row,) = rows(limits, result(runs=(run(),)))
    assert (row.subject, row.verdict) == ("onnxruntime, 1 thread, engine", "not measured")


def test_a_common_table_may_speak_of_runtimes_of_other_targets():
    limits = Budget(limits={"max_mmacs": 1}, latency={"openvino": {"p90_ms": 1.0}})
    assert [row.limit for row in rows(limits, None)] == ["max_mmacs"]
    (_, row) = rows(limits, None, target="x86")
    assert row.subject.startswith("openvino")


def test_memory_is_of_every_runtime_that_was_measured():
    measured = result(memory=(memory(), memory("onnxruntime")))
    found = rows(budget(peak_rss_mb=57.6), measured)
    assert [(row.subject, row.verdict) for row in found] == [
        ("litert, 1 thread", "over"),  # 55 MiB are 57.67 MB
        ("onnxruntime, 1 thread", "over"),
    ]
    assert {row.verdict for row in rows(budget(peak_rss_mb=57.7), measured)} == {"ok"}


def test_nothing_takes_no_memory_no_time_and_no_instructions():
    """Where /proc is missing, the row of memory is there, and holds zeros and a note."""
    unknown = dataclasses.replace(memory(), peak_use=0, note="not measured: no /proc")
    (row,) = rows(budget(peak_rss_mb=1), result(memory=(unknown,)))
    assert (row.verdict, row.hint) == ("not measured", "not measured: no /proc")
    for ms in (0.0, -1.0):
        timed = dataclasses.replace(run(), p50_ms=ms)
        assert [row.verdict for row in rows(budget(p50_ms=1), result(runs=(timed,)))] == [
            "not measured"
        ]
    count = dataclasses.replace(everything().instructions[0], per_inference=0.0)
    (row,) = rows(budget(minstructions=1), result(instructions=(count,)))
    assert row.verdict == "not measured"
    assert "--emulate" in row.hint


def test_instructions():
    measured = everything()
    (row,) = rows(budget(minstructions=11), measured)
    assert (row.subject, row.verdict) == ("litert, 1 thread, cortex-a72", "over")
    (row,) = rows(budget(minstructions=12), measured)
    assert row.verdict == "ok"


# ---- what to measure -------------------------------------------------------------------------


def asked(limits, baseline=None, **changes):
    return request("b", limits, manifest(**changes), baseline)


def test_static_limits_need_no_measuring():
    assert asked(budget(max_mmacs=1, max_relative_error=1, minstructions=1, threads=2)) is None


def test_only_what_is_limited_is_measured():
    wanted = asked(budget(p90_ms=1))
    assert (wanted.runtimes, wanted.threads, wanted.scopes) == ((), (1,), ("engine",))
    assert (wanted.layers, wanted.memory, wanted.pace_hz) == (False, False, 0.0)
    wanted = asked(Budget(latency={"litert": {"p50_ms": 1, "threads": 4, "scope": "copies"}}))
    assert (wanted.runtimes, wanted.threads, wanted.scopes) == (("litert",), (4,), ("copies",))
    wanted = asked(budget(peak_rss_mb=1))
    assert (wanted.memory, wanted.scopes) == (True, ("engine",))


def test_what_the_baseline_has_is_measured_too():
    wanted = asked(budget(max_mmacs=1), everything())
    assert wanted.runtimes == ("litert", "onnxruntime")
    assert wanted.threads == (1, 4)
    assert wanted.scopes == ("engine", "copies", "pipeline")
    assert wanted.pace_hz == 30.0
    assert wanted.memory is True


def test_what_is_asked_for_leaves_nothing_open():
    """A result with exactly the runs of the request answers every limit."""
    limits = Budget(
        limits={"p90_ms": 9, "threads": 2},
        latency={"litert": {"p50_ms": 9, "scope": "copies", "threads": 1}},
    )
    wanted = asked(limits)
    made = tuple(
        run(runtime=runtime, threads=threads, scope=scope)
        for runtime in ("litert", "onnxruntime")
        for threads in wanted.threads
        for scope in wanted.scopes
    )
    found = rows(limits, result(runs=made))
    assert len(found) == 3
    assert {row.verdict for row in found} == {"ok"}


# ---- result files ----------------------------------------------------------------------------


def test_a_result_comes_back(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(result_to_json(everything()))
    assert read_result(path) == everything()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "r.json: not a usable profile result"),
        (b"{}", "this file is something else"),
        (b"[1, 2]", "this file is something else"),
        (b'{"kind": "edgekit-profile", "schema_version": 99}', "the file has 99"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"kind": "edgekit-profile", "schema_version": 1, "x": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_result(tmp_path, data, words):
    path = tmp_path / "r.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_result(path)


def test_a_truncated_result(tmp_path):
    text = result_to_json(result())
    path = tmp_path / "r.json"
    for share in (0.1, 0.5, 0.99):
        path.write_text(text[: int(share * len(text))])
        with pytest.raises(InputError, match="not JSON"):
            read_result(path)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.profiling.budget.MAX_RESULT_BYTES", 1000)
    path = tmp_path / "r.json"
    path.write_bytes(b" " * 1001)
    with pytest.raises(InputError, match="MiB: no result has"):
        read_result(path)


def test_a_result_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no plain file"):
        read_result(tmp_path / "pipe")
    with pytest.raises(InputError, match="No such file"):
        read_result(tmp_path / "missing")
