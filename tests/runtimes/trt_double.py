"""A TensorRT without a GPU: the Python names of 10.3 or 11, and plans run by onnxruntime.

A plan of the double is its version and the ONNX file. It reads its inputs from and writes its
outputs to the "device" memory of ``CudaDouble``, when the stream is synchronised; so names,
copies, order and synchronisation are the tested code's own. ``test_trt_double.py`` checks that
every name it has, the real package (``tensorrt_rtx``) has too.
"""

import ctypes
import enum
import types
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

MAGIC = b"double of a plan\0"


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self):
        self.is_initialised = True


class IProgressMonitor:
    def __init__(self):
        self.is_initialised = True


class IProfiler:
    def __init__(self):
        self.is_initialised = True


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    INT64 = 4
    BF16 = 5


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
}
FROM_ONNX = {1: DataType.FLOAT, 6: DataType.INT32, 7: DataType.INT64, 10: DataType.HALF}


def nptype(trt_type):
    if trt_type not in NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return NUMPY[trt_type]


class Trouble:
    """What the double does wrong on purpose, and what it saw.

    Attributes:
        no_gpu, refuse_build, refuse_context, refuse_capture, fail_runs: as they say.
        refused_op: operator type that the parser refuses.
        factor: the engine multiplies every output by it.
        layer_ms: what the next run reports of its layers.
        builds: how many plans were built.
        configs: the builder's settings at each build.
    """

    def __init__(self):
        self.no_gpu = self.refuse_build = self.refuse_context = False
        self.refuse_capture = self.fail_runs = False
        self.refused_op = ""
        self.factor = 1.0
        self.layer_ms = [64.0, 32.0, 16.0]
        self.on_build = lambda: None
        self.builds = 0
        self.configs: list[dict[str, Any]] = []


class IHostMemory:
    """Only what ``bytes()`` needs."""

    def __init__(self, data):
        self.nbytes, self._data = len(data), data

    def __bytes__(self):
        return self._data


def make(cuda, version="10.3.0", name="tensorrt"):
    """The module, whose ``trouble`` is a ``Trouble``."""
    major = int(version.split(".")[0])
    trouble = Trouble()
    trt = types.ModuleType(name)

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1 if major < 11 else 0
        if major < 11:
            EXPLICIT_BATCH = 0

    class BuilderFlag(enum.IntEnum):
        TF32 = 7
        if major < 11:
            FP16 = 0

    class ParserError:
        def __init__(self, node):
            self._node = node

        def desc(self):
            return f"No importer registered\nfor op: {self._node.op_type}"

        def node_name(self):
            return self._node.name

        def node_operator(self):
            return self._node.op_type

    class INetworkDefinition:
        def __init__(self, flags):
            self.flags, self.onnx, self.num_layers, self.num_outputs = flags, b"", 0, 0

    class OnnxParser:
        def __init__(self, network, logger):
            assert logger.is_initialised
            self._network, self._errors = network, []

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

        def parse(self, model):
            graph = onnx.load_from_string(model).graph
            self._errors = [ParserError(n) for n in graph.node if n.op_type == trouble.refused_op]
            self._network.onnx = bytes(model)
            self._network.num_layers = len(graph.node)
            self._network.num_outputs = len(graph.output)
            return not self._errors

    class ITimingCache:
        def __init__(self, data):
            self._data = data

        def serialize(self):
            return IHostMemory(self._data)

    class IBuilderConfig:
        def __init__(self):
            self.flags, self.pools = {BuilderFlag.TF32}, {}
            self.timing_cache, self.progress_monitor = None, None

        def set_flag(self, flag):
            self.flags.add(flag)

        def clear_flag(self, flag):
            self.flags.discard(flag)

        def set_memory_pool_limit(self, pool, pool_size):
            self.pools[pool] = pool_size

        def create_timing_cache(self, serialized_timing_cache):
            if serialized_timing_cache in (b"", b"timings"):
                return ITimingCache(serialized_timing_cache)
            return None

        def set_timing_cache(self, cache, ignore_mismatch):
            self.timing_cache = cache
            return not ignore_mismatch

        def get_timing_cache(self):
            return ITimingCache(b"timings")

    class Builder:
        def __init__(self, logger):
            self._logger = logger
            if trouble.no_gpu:
                logger.log(Severity.ERROR, "CUDA initialization failure\nwith error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags=0):
            return INetworkDefinition(flags)

        def create_builder_config(self):
            return IBuilderConfig()

        def build_serialized_network(self, network, config):
            if trouble.refuse_build:
                self._logger.log(Severity.ERROR, "Could not find any implementation for node c1")
                return None
            trouble.builds += 1
            trouble.on_build()
            trouble.configs.append(
                {
                    "network_flags": network.flags,
                    "flags": set(config.flags),
                    "pools": dict(config.pools),
                    "timings": bytes(config.timing_cache.serialize()),
                }
            )
            monitor = config.progress_monitor
            if monitor is not None:
                monitor.phase_start("Building Engine", None, 2)
                monitor.phase_start("Tactics", "Building Engine", 4)
                assert monitor.step_complete("Building Engine", 0)
                monitor.phase_finish("Building Engine")
            return IHostMemory(MAGIC + version.encode() + b"\0" + network.onnx)

    class IExecutionContext:
        profiler: Any = None

        def __init__(self, engine, logger):
            self._engine, self._logger, self._addresses = engine, logger, {}

        def set_tensor_address(self, name, memory):
            self._addresses[name] = memory
            return name in self._engine.tensors

        def execute_async_v3(self, stream_handle):
            if trouble.fail_runs:
                self._logger.log(Severity.ERROR, "an illegal memory access was encountered")
                return False
            if stream_handle in cuda.captures and trouble.refuse_capture:
                self._logger.log(Severity.ERROR, "operation not permitted in a capture")
                return False
            if self.profiler is not None:
                assert self.profiler.is_initialised
                assert stream_handle not in cuda.captures, "of a graph nothing is timed"
                for place, layer in enumerate(self._engine.layers):
                    self.profiler.report_layer_time(layer, trouble.layer_ms[place % 3])
                trouble.layer_ms = [ms / 2 for ms in trouble.layer_ms]  # the first run is cold
            return cuda.submit(stream_handle, self._work) == 0

        def _work(self):
            views = {}
            for tensor, (mode, kind, shape) in self._engine.tensors.items():
                dtype = np.dtype(nptype(kind))
                size = int(np.prod(shape)) * dtype.itemsize
                address = self._addresses.get(tensor)
                if not cuda.holds(address, size, "device"):
                    return 700
                memory = (ctypes.c_ubyte * size).from_address(address)
                views[tensor] = (mode, np.frombuffer(memory, dtype).reshape(shape))
            feed = {n: v for n, (mode, v) in views.items() if mode == TensorIOMode.INPUT}
            wanted = [n for n, (mode, _) in views.items() if mode == TensorIOMode.OUTPUT]
            for name_, value in zip(wanted, self._engine.session.run(wanted, feed), strict=True):
                views[name_][1][...] = value * np.asarray(trouble.factor, value.dtype)
            return 0

    class ICudaEngine:
        def __init__(self, model, logger):
            self._logger = logger
            self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            graph = onnx.load_from_string(model).graph
            self.tensors = {
                value.name: (
                    mode,
                    FROM_ONNX.get(value.type.tensor_type.elem_type, DataType.BF16),
                    [d.dim_value or -1 for d in value.type.tensor_type.shape.dim],
                )
                for mode, values in (
                    (TensorIOMode.INPUT, graph.input),
                    (TensorIOMode.OUTPUT, graph.output),
                )
                for value in values
            }
            names = [node.name for node in graph.node]
            self.layers = [  # as TensorRT names a fused layer, a reformat and a plain one
                " + ".join(names[:-1]),
                f"Reformatting CopyNode for Input Tensor 0 to {names[-1]}",
                names[-1],
            ]
            if major < 11:
                self.device_memory_size = 4096
            self.device_memory_size_v2 = 4096

        @property
        def num_io_tensors(self):
            return len(self.tensors)

        def get_tensor_name(self, index):
            return list(self.tensors)[index]

        def get_tensor_mode(self, name):
            return self.tensors[name][0]

        def get_tensor_dtype(self, name):
            return self.tensors[name][1]

        def get_tensor_shape(self, name):
            return self.tensors[name][2]

        def create_execution_context(self):
            if trouble.refuse_context:
                self._logger.log(Severity.ERROR, "out of memory")
                return None
            return IExecutionContext(self, self._logger)

    class Runtime:
        def __init__(self, logger):
            assert logger.is_initialised
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            head, _, model = serialized_engine.removeprefix(MAGIC).partition(b"\0")
            if not serialized_engine.startswith(MAGIC) or head != version.encode():
                self._logger.log(Severity.ERROR, "Version tag does not match.\nNote: Current")
                return None
            return ICudaEngine(model, self._logger)

    for item in (
        ILogger, IProgressMonitor, IProfiler, DataType, TensorIOMode, MemoryPoolType,
        NetworkDefinitionCreationFlag, BuilderFlag, ParserError, INetworkDefinition, OnnxParser,
        ITimingCache, IBuilderConfig, Builder, IExecutionContext, ICudaEngine, Runtime, IHostMemory,
    ):  # fmt: skip
        setattr(trt, item.__name__, item)
    for name_, value in (
        ("nptype", nptype),
        ("init_libnvinfer_plugins", lambda logger, namespace: namespace == ""),
        ("__version__", version),
        ("trouble", trouble),
    ):
        setattr(trt, name_, value)
    return trt
