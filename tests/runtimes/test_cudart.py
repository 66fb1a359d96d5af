"""libcudart through ctypes: against a double with CUDA's prototypes, and the real library."""

import ctypes
import sys

import pytest

from edgekit.errors import DeviceError
from edgekit.runtimes import cudart
from edgekit.runtimes.cudart import DEVICE_TO_HOST, HOST_TO_DEVICE, Cudart
from tests.runtimes import cuda_double
from tests.runtimes.cuda_double import CudaDouble


def test_the_argument_types_are_those_of_the_header():
    """The double's prototypes are checked against the header in test_trt_double.py."""
    ours = {**cudart._SIGNATURES, **cudart._ONE_OF}
    for name, types in cuda_double.PROTOTYPES.items():
        assert ours[name] == types, name
    assert ours["cudaGraphInstantiate"] == cuda_double.OLD_INSTANTIATE
    assert ours["cudaGetDeviceProperties_v2"] == ours["cudaGetDeviceProperties"]
    rest = {"cudaGraphInstantiate", "cudaGetDeviceProperties_v2"}
    assert ours.keys() == cuda_double.PROTOTYPES.keys() | rest


def test_a_copy_there_and_back():
    double = CudaDouble()
    cuda = Cudart(double)
    stream, device = cuda.stream(), cuda.malloc(4)
    here, there = cuda.malloc_host(4), cuda.malloc_host(4)
    ctypes.memmove(here, b"abcd", 4)
    cuda.copy_async(device, here, 4, HOST_TO_DEVICE, stream)
    cuda.copy_async(there, device, 4, DEVICE_TO_HOST, stream)
    assert ctypes.string_at(there, 4) != b"abcd"  # queued, not done
    cuda.synchronize(stream)
    assert ctypes.string_at(there, 4) == b"abcd"
    cuda.free(device)
    cuda.free_host(here)
    cuda.free_host(there)
    cuda.destroy_stream(stream)
    assert not double.live


@pytest.mark.parametrize("old_graphs", [False, True])
def test_a_captured_copy_runs_when_launched(old_graphs):
    double = CudaDouble(old_graphs=old_graphs)
    cuda = Cudart(double)
    stream, device, host = cuda.stream(), cuda.malloc(4), cuda.malloc_host(4)
    cuda.begin_capture(stream)
    cuda.copy_async(host, device, 4, DEVICE_TO_HOST, stream)
    graph = cuda.end_capture(stream)
    executable = cuda.instantiate(graph)
    cuda.destroy_graph(graph)
    ctypes.memmove(device, b"wxyz", 4)
    cuda.launch(executable, stream)
    cuda.synchronize(stream)
    assert ctypes.string_at(host, 4) == b"wxyz"
    wanted = "cudaGraphInstantiate" if old_graphs else "cudaGraphInstantiateWithFlags"
    assert wanted in double.calls


def test_events_measure_between_two_points():
    cuda = Cudart(CudaDouble())
    stream, start, end = cuda.stream(), cuda.event(), cuda.event()
    cuda.record(start, stream)
    cuda.record(end, stream)
    with pytest.raises(DeviceError, match="cudaEventElapsedTime"):  # not reached yet
        cuda.elapsed_ms(start, end)
    cuda.synchronize(stream)
    assert cuda.elapsed_ms(start, end) == 0.25
    cuda.destroy_event(start)
    cuda.destroy_event(end)


def test_the_device_is_described():
    device = Cudart(CudaDouble(name=b"NVIDIA Thor")).device()
    assert device == cudart.Device("NVIDIA Thor", "8.7", "12.6", "12.6", 8, True)


def test_an_error_has_cudas_own_words():
    double = CudaDouble()
    double.fail["cudaMalloc"] = 2
    with pytest.raises(DeviceError, match=r"CUDA: cudaMalloc: out of memory \(error 2\)"):
        Cudart(double).malloc(1)
    assert double.calls[-1] == "cudaGetLastError"


def test_a_library_that_lacks_a_function_is_refused():
    double = CudaDouble()
    delattr(double, "cudaStreamBeginCapture")
    with pytest.raises(DeviceError, match="lacks cudaStreamBeginCapture: it is too old"):
        Cudart(double)


# ---- finding the library ----------------------------------------------------------------------


@pytest.fixture
def only(tmp_path, monkeypatch):
    """Folders of this test are the only ones that are searched."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(cudart, "_folders", lambda: tuple(folders))
    return folders


def test_candidates_stand_by_folder_then_newest_first(only):
    names = ["libcudart.so.11.0", "libcudart.so.12", "libcudart.so.12.6.77"]
    for name in names:
        (only[1] / name).touch()
    (only[0] / "libcudart.so.9.0").touch()
    (only[1] / "libcudart.so").symlink_to(only[1] / "libcudart.so.12")  # the same file once
    (only[1] / "libcudart_static.a").touch()
    found = [path.name for path in cudart.candidates()]
    assert found == ["libcudart.so.9.0", "libcudart.so.12.6.77", "libcudart.so.12", names[0]]


def test_folders_are_the_users_then_the_systems_then_wheels(tmp_path, monkeypatch):
    wheel = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    wheel.mkdir(parents=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/opt/mine:{tmp_path}")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    folders = [str(folder) for folder in cudart._folders()]
    assert folders[:3] == ["/opt/mine", str(tmp_path), "/usr/local/cuda/lib64"]
    assert "/usr/lib/aarch64-linux-gnu" in folders
    assert folders[-1] == str(wheel)


def test_no_library_says_where_it_was_looked_for(only):
    with pytest.raises(DeviceError, match=r"no CUDA runtime library \(libcudart.so\) in .*/a, "):
        cudart.load()


def test_a_library_that_does_not_load_says_why(only):
    (only[0] / "libcudart.so.12").write_bytes(b"not an ELF file")
    with pytest.raises(DeviceError, match=r"cannot be loaded: .*libcudart.so.12: "):
        cudart.load()


def test_the_real_library_binds_and_answers():
    """No GPU is needed: without one CUDA says so, in its own words."""
    if not list(cudart.candidates()):
        pytest.skip("no CUDA runtime library on this machine")
    cuda = cudart.load()
    assert cuda._number("cudaRuntimeGetVersion") >= 10020
    answer = _words_of(cuda.device_count)
    assert answer == "" or answer.startswith("CUDA: cudaGetDeviceCount: ")
    assert "unrecognized" not in answer


def _words_of(call):
    try:
        call()
    except DeviceError as error:
        return str(error)
    return ""
