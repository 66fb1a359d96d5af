"""The TensorRT session, as ``load`` and the tools above open it, on doubles."""

import numpy as np
import pytest

import edgekit
from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, DeviceError, InputError, ParityError, UsageError
from edgekit.runtimes import RUNTIMES, open_session
from edgekit.runtimes.trt import TensorRtSession, _layers
from tests.runtimes.trt_fixture import (
    INPUTS,
    OUTPUTS,
    expected,
    install,
    make_bundle,
    model_bytes,
    sample_input,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda name: name == "tensorrt")
    return install(monkeypatch)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes())
    return path


def assert_runs(session, rename=lambda name: name):
    inputs = sample_input()
    wanted = expected(inputs)
    got = session.run({session.inputs[0].name: inputs["image"]})
    assert list(got) == [spec.name for spec in session.outputs]
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[rename(name)], value)


def test_the_first_load_builds_proves_and_caches(board, tmp_path):
    bundle = make_bundle(tmp_path)
    with edgekit.load(bundle, runtime="tensorrt") as model:
        assert_runs(model.session)
        facts = model.session.describe()
    assert facts["runtime"] == "tensorrt"
    assert facts["version"] == "tensorrt 10.3.0"
    assert facts["cuda_graph"] == "yes"
    assert facts["gpu"] == "Orin"
    assert facts["threads"] == "1"
    with edgekit.load(bundle) as model:  # tensorrt is installed: no need to name it
        assert model.session.runtime == "tensorrt"
    assert board.trouble.builds == 1
    assert not board.cuda.live


def test_load_refuses_a_plan_that_computes_something_else(board, tmp_path):
    board.trouble.factor = 1.01
    with pytest.raises(ParityError):
        edgekit.load(make_bundle(tmp_path), runtime="tensorrt")
    assert not board.cuda.live


def test_a_zipped_bundle_loads_too(board, tmp_path):
    from edgekit.bundle import open_bundle, write_bundle

    with open_bundle(make_bundle(tmp_path)) as bundle:
        files = {name: bundle.file(name).read_bytes() for name in bundle.manifest.files}
        write_bundle(tmp_path / "toy.edgekit", bundle.manifest, files, force=False)
    with edgekit.load(tmp_path / "toy.edgekit", runtime="tensorrt") as model:
        assert_runs(model.session)


def test_a_bare_file_has_its_own_interface(board, file):
    with open_session("tensorrt", [file]) as session:
        assert [(s.name, s.shape) for s in session.inputs] == [("image", (1, 3, 4, 4))]
        assert [s.name for s in session.outputs] == ["logits", "pooled"]
        assert_runs(session)


def test_names_of_the_manifest_are_matched_by_order(board, file):
    inputs = (TensorSpec("picture", "float32", (1, 3, 4, 4), "NCHW"),)
    outputs = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (1, 3)))
    with open_session("tensorrt", [file], inputs, outputs) as session:
        assert_runs(session, {"logits": "a", "pooled": "b"}.__getitem__)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((TensorSpec("image", "float32", (1, 3, 8, 8)),), r"\(1, 3, 4, 4\) in the file"),
        ((TensorSpec("image", "float16", (1, 3, 4, 4)),), "float32 .* in the file"),
    ],
)
def test_another_interface_is_refused(board, file, inputs, words):
    with pytest.raises(BundleError, match=words):
        open_session("tensorrt", [file], inputs, OUTPUTS)


def test_inputs_are_checked_before_the_gpu_sees_them(board, file):
    with open_session("tensorrt", [file], INPUTS, OUTPUTS) as session:
        with pytest.raises(InputError, match="takes"):
            session.run({"image": np.zeros((1, 3, 4, 5), "f4")})
        assert_runs(session)


def test_a_clone_outlives_the_session(board, file):
    session = open_session("tensorrt", [file], INPUTS, OUTPUTS)
    twin = session.clone()
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(sample_input())
    assert_runs(twin)
    twin.close()
    assert not board.cuda.live


def test_the_cuda_graph_can_be_switched_off(board, file):
    options = {"cuda_graph": "off"}
    with open_session("tensorrt", [file], options=options) as session:
        assert session.describe()["cuda_graph"] == "no: switched off"
        assert_runs(session)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"graph": "on"}, "unknown option 'graph'"), ({"cuda_graph": "yes"}, "is on or off")],
)
def test_options_are_checked(board, file, options, words):
    with pytest.raises(UsageError, match=words):
        open_session("tensorrt", [file], options=options)


def test_a_gpu_that_fails_keeps_its_exit_code(board, file):
    with open_session("tensorrt", [file], INPUTS, OUTPUTS) as session:
        board.cuda.fail["cudaGraphLaunch"] = 700
        with pytest.raises(DeviceError, match="illegal memory access") as caught:
            session.run(sample_input())
    assert caught.value.exit_code == 6


def test_device_time_is_offered_to_the_profiler(board, file):
    session = TensorRtSession([file], INPUTS, OUTPUTS)
    session.run(sample_input())
    assert session.device_milliseconds(2) == [0.25, 0.25]
    session.close()


@pytest.mark.parametrize("graph", ["on", "off"])
def test_an_engine_call_copies_nothing(board, file, graph):
    inputs = sample_input()
    with open_session(
        "tensorrt", [file], INPUTS, OUTPUTS, options={"cuda_graph": graph}
    ) as session:
        call = session.engine_call(inputs)
        board.cuda.calls.clear()
        call()
        launch = ["cudaGraphLaunch"] if graph == "on" else []
        assert board.cuda.calls == [*launch, "cudaStreamSynchronize"]
        got = call.results()
        for name, value in expected(inputs).items():
            np.testing.assert_array_equal(got[name], value)
        board.trouble.fail_runs = graph == "off"
        board.cuda.fail["cudaGraphLaunch"] = 700
        with pytest.raises(DeviceError, match="illegal memory access"):
            call()
    with pytest.raises(UsageError, match="engine is closed"):
        call()


def test_layers_are_timed_without_a_graph(board, file):
    with open_session("tensorrt", [file], INPUTS, OUTPUTS) as session:
        live = len(board.cuda.live)
        times = session.layer_times(sample_input(), 1)
        assert len(board.cuda.live) == live
        session.run(sample_input())
        assert "not yet executed on a device" in session.layer_source
    warm = 2.0**-5  # the double's times halve with every run, and the first five do not count
    assert [(time.kind, time.layers, time.ms) for time in times] == [
        ("", ("stem/act", "pool"), 64 * warm),
        ("Reformat", (), 32 * warm),
        ("", ("head",), 16 * warm),
    ]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("a + b", ("a", "b")),
        ("PWN(PWN(a), b)", ("a", "b")),
        ("PWN(a, PWN(b + c))", ("a", "b", "c")),
        ("{ForeignNode[a...c]}", ()),  # a range: what lies between is not said
        ("Reformatting CopyNode for Input Tensor 0 to a + b", ()),
        ("x", ()),
    ],
)
def test_names_of_fused_layers(name, layers):
    assert _layers(name, {"a", "b", "c"}) == layers


def test_what_no_board_has_run_is_labelled():
    assert RUNTIMES["tensorrt"].note == "not yet executed on a device"
