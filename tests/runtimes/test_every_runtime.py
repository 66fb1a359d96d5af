"""What every runtime must do, for every row of the table."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, InputError, UsageError
from edgekit.runtimes import RUNTIMES, open_session
from edgekit.runtimes.session import Session
from tests.runtimes import tiny_models

# tensorrt needs a GPU: test_trt*.py. null computes nothing: test_null.py.
TESTED = [name for name in RUNTIMES if name not in ("tensorrt", "null")]
FORMS = list(tiny_models.SIZES)
CLOSE = 1e-6  # relative to the largest value


def test_no_runtime_was_left_out():
    assert TESTED == list(tiny_models.FILES) == ["onnxruntime", "openvino", "litert"]


def open_tiny(models: Path, runtime: str, form: str = "oblong", threads: int = 1) -> Session:
    files = [models / form / name for name in tiny_models.FILES[runtime]]
    return open_session(runtime, files, *tiny_models.specs(form), threads=threads)


def assert_right(results, inputs):
    wanted = tiny_models.expected(inputs)
    assert list(results) == ["pooled", "map"]
    for name, want in wanted.items():
        assert results[name].dtype == np.float32
        assert results[name].shape == want.shape
        assert np.abs(results[name] - want).max() <= CLOSE * np.abs(want).max()


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_the_function(models: Path, runtime: str, form: str, threads: int):
    inputs = tiny_models.inputs(form)
    with open_tiny(models, runtime, form, threads) as session:
        assert_right(session.run(inputs), inputs)
        reordered = dict(reversed(inputs.items()))
        assert_right(session.run(reordered), inputs)


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize("form", FORMS)
def test_any_layout_in_memory_will_do(models: Path, runtime: str, form: str):
    inputs = tiny_models.inputs(form)
    image = inputs["image"]
    nhwc = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    fortran = np.asfortranarray(image)
    wider = np.zeros((1, 8, *image.shape[2:]), np.float32)
    wider[:, ::2] = image
    frozen = image.copy()
    frozen.flags.writeable = False
    backwards = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    with open_tiny(models, runtime, form) as session:
        for view in (nhwc, fortran, wider[:, ::2], frozen, backwards):
            assert_right(session.run({**inputs, "image": view}), inputs)
            assert view.tobytes() == image.tobytes(), "an input was written to"


@pytest.mark.parametrize("runtime", TESTED)
def test_a_result_stays_as_it_was(models: Path, runtime: str):
    first, second = tiny_models.inputs("oblong"), tiny_models.inputs("oblong", seed=1)
    with open_tiny(models, runtime) as session:
        results = session.run(first)
        session.run(second)
        assert_right(results, first)
        for result in results.values():  # and it is the caller's own
            result += 1
        assert_right(session.run(first), first)
    assert np.isfinite(results["map"]).all()


@pytest.mark.parametrize("runtime", TESTED)
def test_a_result_outlives_its_session(models: Path, runtime: str):
    inputs = tiny_models.inputs("oblong")
    session = open_tiny(models, runtime)
    results = session.run(inputs)
    session.close()
    del session
    assert_right(results, inputs)


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize("cloned", [False, True])
def test_threads_get_what_one_thread_gets(models: Path, runtime: str, cloned: bool):
    batches = [[tiny_models.inputs("oblong", seed=10 * t + i) for i in range(5)] for t in range(4)]
    with open_tiny(models, runtime) as session:
        wanted = [[session.run(inputs) for inputs in batch] for batch in batches]
        sessions = [session.clone() if cloned else session for _ in batches]
        wrong: list[object] = []

        def work(session: Session, batch: list[dict[str, Any]], want: list[dict[str, Any]]) -> None:
            try:
                for turn in range(50):
                    got = session.run(batch[turn % 5])
                    same = all((got[n] == v).all() for n, v in want[turn % 5].items())
                    wrong.extend([] if same else [turn])
            except BaseException as error:
                wrong.append(error)
                raise

        threads = [
            threading.Thread(target=work, args=row)
            for row in zip(sessions, batches, wanted, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert wrong == []
        assert not any(thread.is_alive() for thread in threads)
        if cloned:
            for twin in sessions:
                twin.close()
            session.run(batches[0][0])  # the original lives on


@pytest.mark.parametrize("runtime", TESTED)
def test_clones_have_the_same_interface(models: Path, runtime: str):
    with open_tiny(models, runtime, threads=2) as session, session.clone() as twin:
        assert twin is not session
        assert (twin.inputs, twin.outputs, twin.threads) == (
            session.inputs,
            session.outputs,
            session.threads,
        )
        session.close()
        inputs = tiny_models.inputs("oblong")
        assert_right(twin.run(inputs), inputs)


@pytest.mark.parametrize("runtime", TESTED)
def test_a_closed_session_says_so(models: Path, runtime: str):
    session = open_tiny(models, runtime)
    session.close()
    session.close()
    with pytest.raises(UsageError, match=f"this {runtime} session is closed"):
        session.run(tiny_models.inputs("oblong"))
    assert session.describe()["runtime"] == runtime


@pytest.mark.parametrize("runtime", TESTED)
def test_it_describes_itself(models: Path, runtime: str):
    with open_tiny(models, runtime, threads=2) as session:
        facts = session.describe()
    assert facts["runtime"] == runtime
    assert facts["threads"] == "2"
    assert facts["version"][-1].isdigit()
    assert facts["precision"] in ("f32", "as in the graph")
    assert "image float32 (1, 4, 6, 5)" in repr(session)


@pytest.mark.parametrize("runtime", TESTED)
def test_a_bare_file_brings_its_own_interface(models: Path, runtime: str):
    file = models / "oblong" / tiny_models.FILES[runtime][0]
    with open_session(runtime, [file]) as session:
        shapes = {spec.name: spec.shape for spec in session.inputs + session.outputs}
        image = (1, 6, 5, 4) if runtime == "litert" else (1, 4, 6, 5)
        assert shapes == {"image": image, "bias": (1, 4), "pooled": (1, 4), "map": image}
        inputs = tiny_models.inputs("oblong")
        nhwc = runtime == "litert"
        given = inputs["image"].transpose(0, 2, 3, 1) if nhwc else inputs["image"]
        got = session.run({**inputs, "image": given})
        pooled = tiny_models.expected(inputs)["pooled"]
        assert np.abs(got["pooled"] - pooled).max() <= CLOSE * np.abs(pooled).max()


@pytest.mark.parametrize("runtime", TESTED)
def test_other_names_are_matched_by_order(models: Path, runtime: str):
    takes, gives = tiny_models.specs("oblong")
    takes = tuple(dataclasses.replace(spec, name=f"in_{spec.name}") for spec in takes)
    gives = tuple(dataclasses.replace(spec, name=f"a_{spec.name}") for spec in gives)
    files = [models / "oblong" / name for name in tiny_models.FILES[runtime]]
    inputs = tiny_models.inputs("oblong")
    with open_session(runtime, files, takes, gives) as session:
        got = session.run({f"in_{name}": array for name, array in inputs.items()})
    assert_right({name.removeprefix("a_"): array for name, array in got.items()}, inputs)


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, o: (i[:1], o), r"has 2 inputs \(image, bias\), the manifest says 1 \(image\)"),
        (lambda i, o: (i, o[1:]), r"has 2 outputs \(.*\), the manifest says 1 \(map\)"),
        (
            lambda i, o: ((dataclasses.replace(i[0], shape=(1, 4, 6, 6)), i[1]), o),
            r"inputs 'image' is float32 \(.*\) in the file, float32 \(1, 4, 6, 6\) in the manifest",
        ),
        (
            lambda i, o: (i, (dataclasses.replace(o[0], dtype="int8"), o[1])),
            r"outputs 'pooled' is float32 \(1, 4\) in the file, int8 \(1, 4\) in the manifest",
        ),
    ],
)
def test_a_file_that_is_not_the_manifests(models: Path, runtime: str, change, message: str):
    files = [models / "oblong" / name for name in tiny_models.FILES[runtime]]
    with pytest.raises(BundleError, match=message):
        open_session(runtime, files, *change(*tiny_models.specs("oblong")))


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize("part", [0, 0.1, 0.5])
def test_a_damaged_file_is_one_line(models: Path, tmp_path: Path, runtime: str, part: float, capfd):
    name = tiny_models.FILES[runtime][0]
    broken = tmp_path / name
    data = (models / "oblong" / name).read_bytes()
    broken.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BundleError, match=f"{runtime} cannot open {name}: ") as caught:
        open_session(runtime, [broken], *tiny_models.specs("oblong"))
    assert "\n" not in str(caught.value)
    if runtime != "openvino":  # which tries its reader of every other format, aloud
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", TESTED)
def test_unknown_options_are_refused(models: Path, runtime: str):
    file = models / "oblong" / tiny_models.FILES[runtime][0]
    with pytest.raises(UsageError, match=f"{runtime}: unknown option 'speed'; known: "):
        open_session(runtime, [file], options={"speed": "high"})


@pytest.mark.parametrize("runtime", TESTED)
def test_it_is_quiet(models: Path, runtime: str, capfd):
    with open_tiny(models, runtime) as session, session.clone() as twin:
        session.run(tiny_models.inputs("oblong"))
        twin.run(tiny_models.inputs("oblong"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", TESTED)
def test_inputs_are_checked_before_the_engine_sees_them(models: Path, runtime: str):
    with open_tiny(models, runtime) as session:
        with pytest.raises(InputError, match="input 'bias'.* is missing"):
            session.run({"image": tiny_models.inputs("oblong")["image"]})
        with pytest.raises(InputError, match="NaN or Inf"):
            session.run({**tiny_models.inputs("oblong"), "bias": np.full((1, 4), np.nan, "f4")})


def test_a_session_needs_no_layout_to_run(models: Path):
    """Only the number of axes decides what is converted, never the ``layout`` text."""
    takes, gives = tiny_models.specs("oblong")
    plain = [TensorSpec(s.name, s.dtype, s.shape) for s in takes]
    inputs = tiny_models.inputs("oblong")
    with open_session("litert", [models / "oblong" / "model.tflite"], plain, gives) as session:
        assert_right(session.run(inputs), inputs)


@pytest.mark.parametrize("runtime", TESTED)
@pytest.mark.parametrize("form", FORMS)
def test_an_engine_call_computes_what_run_does(models: Path, runtime: str, form: str):
    first, second = tiny_models.inputs(form), tiny_models.inputs(form, seed=1)
    nhwc = np.ascontiguousarray(second["image"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    with open_tiny(models, runtime, form) as session:
        call = session.engine_call(first)
        call()
        kept = call.results()
        assert_right(kept, first)
        wanted = session.run(second)
        call = session.engine_call({**second, "image": nhwc})
        nhwc[...] = 7  # what is in place is not the caller's array
        for _ in range(3):
            call()
        got = call.results()
        assert all((got[name] == value).all() for name, value in wanted.items())
        assert_right(kept, first)


@pytest.mark.parametrize("runtime", TESTED)
def test_an_engine_call_refuses_what_run_refuses(models: Path, runtime: str):
    inputs = tiny_models.inputs("oblong")
    session = open_tiny(models, runtime)
    bad = [
        {"image": inputs["image"]},
        {**inputs, "bias": np.full((1, 4), np.nan, "f4")},
        {**inputs, "image": inputs["image"].astype("f8")},
        {**inputs, "extra": inputs["bias"]},
    ]
    for given in bad:
        with pytest.raises(InputError) as from_run:
            session.run(given)
        with pytest.raises(InputError) as from_call:
            session.engine_call(given)
        assert str(from_call.value) == str(from_run.value)
    session.close()
    with pytest.raises(UsageError, match=f"this {runtime} session is closed"):
        session.engine_call(inputs)


@pytest.mark.parametrize("runtime", TESTED)
def test_layers_are_timed_or_it_is_said_why_not(models: Path, runtime: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    inputs = tiny_models.inputs("oblong")
    with open_tiny(models, runtime) as session:
        if runtime == "litert":
            with pytest.raises(UsageError, match="LiteRT gives no times per operator to Python"):
                session.layer_times(inputs, 5)
            assert session.layer_source == ""
            return
        times = session.layer_times(inputs, 5)
        assert_right(session.run(inputs), inputs)  # the session is as it was
    assert session.layer_source
    assert len({time.kernel for time in times}) == len(times)
    assert all(time.kind and time.ms >= 0 for time in times)
    # Its nodes have no names: those of their outputs stand for them.
    named = {name for time in times for name in time.layers}
    assert named == {"scaled", "map", "mean", "flat", "pooled"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", TESTED)
def test_layer_times_refuse_what_run_refuses(models: Path, runtime: str):
    session = open_tiny(models, runtime)
    with pytest.raises(InputError, match="'bias'.* is missing"):
        session.layer_times({"image": tiny_models.inputs("oblong")["image"]}, 5)
    session.close()
    with pytest.raises(UsageError, match=f"this {runtime} session is closed"):
        session.layer_times(tiny_models.inputs("oblong"), 5)
