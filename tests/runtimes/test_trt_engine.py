"""Running a plan on doubles: names, copies, order, graph on and off, nothing leaked."""

import gc
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import BundleError, DeviceError, UsageError
from edgekit.runtimes.cudart import Cudart
from edgekit.runtimes.trt_build import BuildOptions, build_plan
from edgekit.runtimes.trt_engine import Engine
from tests.runtimes.trt_fixture import (
    INPUTS,
    OUTPUTS,
    expected,
    install,
    model_bytes,
    sample_input,
)


def plan_of(data=None):
    return build_plan(data or model_bytes(), BuildOptions(64)).plan


def open_engine(board, **options):
    return Engine(plan_of(), Cudart(board.cuda), **options)


def assert_runs(engine, seed=1):
    inputs = sample_input(seed)
    got, wanted = engine.run(inputs), expected(inputs)
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value)
    return got


@pytest.mark.parametrize("version", ["10.3.0", "10.16.2", "11.4.1"])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("old_graphs", [True, False])
def test_a_plan_computes_what_the_model_computes(monkeypatch, version, graph, old_graphs):
    board = install(monkeypatch, version=version, old_graphs=old_graphs)
    engine = open_engine(board, graph=graph)
    assert [(s.name, s.dtype, s.shape) for s in engine.inputs] == [
        (s.name, s.dtype, s.shape) for s in INPUTS
    ]
    assert {s.name: s.shape for s in engine.outputs} == {s.name: s.shape for s in OUTPUTS}
    first = assert_runs(engine, 1)
    kept = {name: value.copy() for name, value in first.items()}
    assert_runs(engine, 2)
    for name, value in kept.items():  # results are the caller's own
        np.testing.assert_array_equal(first[name], value)
    facts = engine.describe()
    assert facts["cuda_graph"] == ("yes" if graph else "no: switched off")
    assert facts["device_memory"] == "4096 bytes"
    assert facts["version"] == f"tensorrt {version}"
    engine.close()
    engine.close()
    assert not board.cuda.live


def test_a_graph_is_one_launch_a_run(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    board.cuda.calls.clear()
    assert_runs(engine)
    assert board.cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_without_a_graph_copies_stand_around_the_kernels(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board, graph=False)
    board.cuda.calls.clear()
    assert_runs(engine)
    assert board.cuda.calls == ["cudaMemcpyAsync"] * 3 + ["cudaStreamSynchronize"]


def test_any_view_in_memory_is_taken(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    inputs = sample_input()
    nhwc = np.ascontiguousarray(inputs["image"].transpose(0, 2, 3, 1))
    got = engine.run({"image": nhwc.transpose(0, 3, 1, 2)})
    np.testing.assert_array_equal(got["logits"], expected(inputs)["logits"])


def test_a_plan_that_cannot_be_captured_runs_launch_by_launch(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refuse_capture = True
    engine = open_engine(board)
    assert "operation not permitted in a capture" in engine.describe()["cuda_graph"]
    assert_runs(engine)
    assert_runs(engine, 2)
    engine.close()
    assert not board.cuda.live


def test_a_graph_that_cannot_be_instantiated_is_a_note_too(monkeypatch):
    board = install(monkeypatch)
    board.cuda.fail["cudaGraphInstantiateWithFlags"] = 900
    engine = open_engine(board)
    assert "not permitted when stream is capturing" in engine.describe()["cuda_graph"]
    assert_runs(engine)
    engine.close()
    assert not board.cuda.live


def test_a_context_may_say_that_it_is_not_capturable(monkeypatch):
    board = install(monkeypatch)
    board.trt.IExecutionContext.is_stream_capturable = lambda self, stream: False
    engine = open_engine(board)
    assert engine.describe()["cuda_graph"].startswith("no: TensorRT says")
    assert_runs(engine)


def test_a_twin_shares_the_plan_and_nothing_else(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    twin = engine.twin()
    engine.close()
    assert_runs(twin)
    twin.close()
    assert not board.cuda.live
    with pytest.raises(UsageError, match="engine is closed"):
        engine.twin()


def test_a_closed_engine_touches_no_memory(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    engine.close()
    for use in (lambda: engine.run(sample_input(1)), lambda: engine.device_milliseconds(1)):
        with pytest.raises(UsageError, match="engine is closed"):
            use()


def test_threads_take_turns(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    failures = []

    def work(seed):
        try:
            for _ in range(20):
                assert_runs(engine, seed)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_device_time_is_measured_by_events(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    engine.run(sample_input())
    before = dict(board.cuda.live)
    assert engine.device_milliseconds(3) == [0.25] * 3
    assert board.cuda.live == before
    engine.close()
    without = open_engine(board, graph=False)
    assert without.device_milliseconds(2) == [0.25] * 2


def test_an_engine_that_is_forgotten_gives_everything_back(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board)
    assert board.cuda.live
    del engine
    gc.collect()
    assert not board.cuda.live


def test_a_plan_of_another_version_is_refused_in_tensorrts_words(monkeypatch):
    board = install(monkeypatch)
    plan = plan_of()
    newer = install(monkeypatch, version="10.16.2")
    words = "TensorRT cannot load the plan: Version tag does not match. Note: Current"
    with pytest.raises(BundleError, match=words):
        Engine(plan, Cudart(newer.cuda))
    assert not board.cuda.live
    assert not newer.cuda.live


def test_a_context_that_cannot_be_made_is_a_device_error(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refuse_context = True
    with pytest.raises(DeviceError, match="cannot prepare the plan to run: out of memory"):
        open_engine(board)
    assert not board.cuda.live


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags"])
def test_running_out_of_memory_leaves_nothing_behind(monkeypatch, function):
    board = install(monkeypatch)
    board.cuda.fail[function] = 2
    with pytest.raises(DeviceError, match=f"{function}: out of memory"):
        open_engine(board)
    assert not board.cuda.live


def test_a_run_that_fails_says_so(monkeypatch):
    board = install(monkeypatch)
    engine = open_engine(board, graph=False)
    board.trouble.fail_runs = True
    with pytest.raises(DeviceError, match="cannot run the plan: an illegal memory access"):
        engine.run(sample_input())
    board.trouble.fail_runs = False
    board.cuda.fail["cudaStreamSynchronize"] = 700
    with pytest.raises(DeviceError, match=r"cudaStreamSynchronize: an illegal .*\(error 700\)"):
        engine.run(sample_input())


def one_node(shape, kind):
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ([None, 3], TensorProto.FLOAT, r"tensor 'x' has the dynamic shape \(-1, 3\)"),
        ([1, 3], TensorProto.BFLOAT16, "tensor 'x' is .*BF16.*, which numpy lacks"),
    ],
)
def test_tensors_that_numpy_cannot_hold_are_refused(monkeypatch, shape, kind, words):
    board = install(monkeypatch)
    with pytest.raises(BundleError, match=words):
        Engine(plan_of(one_node(shape, kind)), Cudart(board.cuda))
    assert not board.cuda.live


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.INT64, "int64"), (TensorProto.INT32, "int32"), (TensorProto.FLOAT16, "float16")],
)
def test_other_types_pass_through(monkeypatch, kind, dtype):
    board = install(monkeypatch)
    engine = Engine(plan_of(one_node([2, 3], kind)), Cudart(board.cuda))
    value = np.arange(6).reshape(2, 3).astype(dtype)
    got = engine.run({"x": value})["y"]
    assert got.dtype == value.dtype
    np.testing.assert_array_equal(got, value)
