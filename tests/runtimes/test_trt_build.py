"""Building: the settings, the names of 10.3 and 11, the errors; and a real build."""

import pytest

from edgekit.errors import BundleError, DeviceError, GraphError, UnsupportedOperatorError
from edgekit.runtimes import finish
from edgekit.runtimes.cudart import Cudart
from edgekit.runtimes.trt_build import (
    BuildOptions,
    build_plan,
    default_options,
    total_memory_mib,
    workspace_mib,
)
from edgekit.runtimes.trt_engine import Engine
from tests.runtimes.cuda_double import CudaDouble
from tests.runtimes.trt_fixture import install, model_bytes

OPTIONS = BuildOptions(workspace_mib=256)


@pytest.mark.parametrize(
    ("version", "network_flags"),
    [
        ("10.3.0", 0b11),  # EXPLICIT_BATCH is bit 0, STRONGLY_TYPED bit 1
        ("11.4.1", 0b01),  # EXPLICIT_BATCH is gone and STRONGLY_TYPED has another number
    ],
)
def test_a_plan_is_strongly_typed_without_tf32_and_with_little_workspace(
    monkeypatch, version, network_flags
):
    board = install(monkeypatch, version=version)
    built = build_plan(model_bytes(), OPTIONS)
    assert built.layers == 3
    assert built.timing_cache == b"timings"
    (config,) = board.trouble.configs
    assert config == {
        "network_flags": network_flags,
        "flags": set(),
        "pools": {board.trt.MemoryPoolType.WORKSPACE: 256 << 20},
        "timings": b"",
    }


def test_options_that_ask_for_other_settings_get_them(monkeypatch):
    board = install(monkeypatch)
    build_plan(model_bytes(), BuildOptions(64, strongly_typed=False, tf32=True))
    (config,) = board.trouble.configs
    assert config["network_flags"] == 0b01
    assert config["flags"] == {board.trt.BuilderFlag.TF32}


def test_timings_of_an_earlier_build_are_used_and_broken_ones_are_not(monkeypatch):
    board = install(monkeypatch)
    build_plan(model_bytes(), OPTIONS, timing_cache=b"timings")
    build_plan(model_bytes(), OPTIONS, timing_cache=b"broken")
    assert [config["timings"] for config in board.trouble.configs] == [b"timings", b""]


def test_progress_is_a_line_a_phase(monkeypatch):
    install(monkeypatch)
    lines: list[str] = []
    build_plan(model_bytes(), OPTIONS, progress=lines.append)
    assert lines == ["TensorRT: Building Engine (2 steps)"]


def test_a_parse_error_names_the_node(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refused_op = "Relu"
    words = "Relu at node 'stem/act' is not supported: No importer registered for op: Relu"
    with pytest.raises(UnsupportedOperatorError, match=words) as caught:
        build_plan(model_bytes(), OPTIONS)
    assert (caught.value.node, caught.value.op_type) == ("stem/act", "Relu")


def test_a_parse_error_without_names_is_still_an_error(monkeypatch):
    """Python bindings before 10 have no node_name."""
    board = install(monkeypatch)
    board.trouble.refused_op = "Relu"
    monkeypatch.delattr(board.trt.ParserError, "node_name")
    monkeypatch.delattr(board.trt.ParserError, "node_operator")
    with pytest.raises(GraphError, match="cannot parse the graph: No importer registered for op"):
        build_plan(model_bytes(), OPTIONS)


def test_a_build_that_fails_says_why(monkeypatch):
    board = install(monkeypatch)
    board.trouble.refuse_build = True
    words = "cannot build a plan: Could not find any implementation for node c1"
    with pytest.raises(GraphError, match=words):
        build_plan(model_bytes(), OPTIONS)


def test_no_gpu_is_a_device_error(monkeypatch):
    board = install(monkeypatch)
    board.trouble.no_gpu = True
    with pytest.raises(DeviceError, match="finds no GPU to build for: CUDA initialization failure"):
        build_plan(model_bytes(), OPTIONS)


@pytest.mark.parametrize(
    ("memory", "workspace"),
    [
        (0, 64),
        (900, 64),  # a quarter of it is already 225
        (3_964, 256),  # a 4 GB board, as it reports itself
        (7_486, 512),  # 8 GB
        (15_655, 1024),
        (125_749, 1024),
    ],
)
def test_workspace_is_at_most_an_eighth_of_the_memory(memory, workspace):
    assert workspace_mib(memory) == workspace


def test_memory_is_read_from_the_kernel(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemFree:         100 kB\nMemTotal:        7665768 kB\n")
    assert total_memory_mib(meminfo) == 7486
    meminfo.write_text("MemTotal: lots\n")
    assert total_memory_mib(meminfo) == 8192
    assert total_memory_mib(tmp_path / "none") == 8192
    assert default_options().workspace_mib in (64, 128, 256, 512, 1024)


def test_the_real_builder_takes_and_gives_everything():
    trt = pytest.importorskip("tensorrt_rtx")
    lines: list[str] = []
    first = build_plan(model_bytes(), OPTIONS, architecture="SM86", progress=lines.append)
    again = build_plan(model_bytes(), OPTIONS, timing_cache=first.timing_cache, architecture="SM86")
    assert first.layers >= 3
    assert first.plan == again.plan  # equal files give equal plans here
    assert len(first.plan) > 1000
    assert (
        build_plan(model_bytes(), OPTIONS, timing_cache=b"broken" * 50, architecture="SM86").layers
        == first.layers
    )
    assert trt.__version__


def test_the_real_runtime_loads_no_plan_without_a_gpu():
    """Recorded, because it is why a host checks a build and never a run."""
    pytest.importorskip("tensorrt_rtx")
    if _has_gpu():
        pytest.skip("this machine has a GPU")
    plan = build_plan(model_bytes(), OPTIONS, architecture="SM86").plan
    with pytest.raises(BundleError, match=r"cannot load the plan: .*CUDA"):
        Engine(plan, Cudart(CudaDouble()))


def test_the_real_tensorrt_without_a_gpu_is_a_device_error():
    pytest.importorskip("tensorrt_rtx")
    if _has_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError) as caught:
        finish.prepare(model_bytes(), golden=None, tolerance=1e-4)
    assert caught.value.exit_code == 6


def _has_gpu():
    try:
        finish.find_gpu()
    except DeviceError:
        return False
    return True
