"""The doubles of TensorRT and CUDA have nothing that the real ones lack."""

import ctypes
import re
from pathlib import Path

import pytest

from tests.runtimes import cuda_double, trt_double

ABSTRACT = {"is_initialised"}
CLASSES = (
    "ILogger", "IProfiler", "IProgressMonitor", "Builder", "IBuilderConfig", "OnnxParser",
    "ParserError", "INetworkDefinition", "ITimingCache", "ICudaEngine", "IExecutionContext",
    "Runtime", "DataType", "TensorIOMode", "MemoryPoolType", "NetworkDefinitionCreationFlag",
    "BuilderFlag",
)  # fmt: skip
# Of TensorRT 10, gone from 11 and from the RTX edition that is here.
ONLY_IN_10 = {("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"), ("BuilderFlag", "FP16")}


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_name_of_the_tensorrt_double_is_real(name, version):
    real = getattr(pytest.importorskip("tensorrt_rtx"), name)
    double = getattr(trt_double.make(None, version), name)
    names = {n for n in vars(double) if not n.startswith("_")} - ABSTRACT
    lacking = {n for n in names if not hasattr(real, n)}
    allowed = {n for kind, n in ONLY_IN_10 if kind == name and version.startswith("10")}
    assert lacking == allowed


def test_the_network_flags_have_the_real_numbers():
    real = pytest.importorskip("tensorrt_rtx").NetworkDefinitionCreationFlag
    double = trt_double.make(None, "11.4.1").NetworkDefinitionCreationFlag
    assert int(double.STRONGLY_TYPED) == int(real.STRONGLY_TYPED)


def test_the_prototypes_of_the_cuda_double_are_those_of_the_header():
    header = Path("/usr/local/cuda/include/cuda_runtime_api.h")
    if not header.is_file():
        pytest.skip("no CUDA toolkit here")
    text = header.read_text(encoding="utf-8", errors="replace")
    for name, types in cuda_double.PROTOTYPES.items():
        found = re.search(rf"CUDARTAPI {name}\(([^)]*?)\)", text.replace("__dv(0)", ""))
        assert found, name
        arguments = [a.strip() for a in found[1].split(",") if a.strip() not in ("", "void")]
        assert len(arguments) == len(types), name
        for argument, kind in zip(arguments, types, strict=True):
            assert _kind(argument) == kind, f"{name}({argument})"


def _kind(argument):
    """C declaration -> ctypes type: handles are pointers, enums are ints."""
    for pattern, kind in (
        (r"^void \*\*|^cuda(Stream|Graph|GraphExec|Event)_t \*", cuda_double.OUT),
        (r"^(const )?void \*|^cuda(Stream|Graph|GraphExec|Event)_t |^struct ", ctypes.c_void_p),
        (r"^int \*", cuda_double.NUMBER),
        (r"^float \*", ctypes.POINTER(ctypes.c_float)),
        (r"^size_t \*", ctypes.POINTER(ctypes.c_size_t)),
        (r"^size_t ", ctypes.c_size_t),
        (r"^unsigned long long ", ctypes.c_ulonglong),
        (r"^unsigned int ", ctypes.c_uint),
        (r"^(enum cuda\w+|int) ", ctypes.c_int),
    ):
        if re.match(pattern, argument):
            return kind
    return None
