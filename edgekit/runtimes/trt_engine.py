"""A plan in memory: pinned host arrays, device buffers, one stream, and a CUDA graph.

    host array --copy--> device  execute_async_v3  device --copy--> host array
    `-------------------------- one CUDA graph --------------------------'

For a tiny network the launches cost more than the arithmetic, so copies and kernels are captured
once and launched with one call. A plan that cannot be captured runs launch by launch, and
``graph_note`` says why.

Not yet executed on a device: the tests run it against doubles of TensorRT and CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, DeviceError, UsageError
from edgekit.runtimes.cudart import DEVICE_TO_HOST, HOST_TO_DEVICE, Cudart
from edgekit.runtimes.trt_vendor import last_error, listening, logger, title, vendor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Buffer:
    """One tensor: the pinned array that the host sees, and its memory on the device."""

    spec: TensorSpec
    is_input: bool
    host: Array
    host_address: int
    device_address: int

    @property
    def nbytes(self) -> int:
        return self.host.nbytes


class Engine:
    """A deserialised plan, ready to run. Runs take turns (a lock); ``twin`` for another thread.

    Args:
        plan: what ``trt_build.build_plan`` made on this device.
        cuda: the CUDA runtime.
        graph: capture a CUDA graph, if the plan allows it.

    Raises:
        MissingDependencyError: no TensorRT.
        BundleError: TensorRT refuses the plan, or its shapes are not static.
        DeviceError: CUDA fails, e.g. for want of memory.
    """

    def __init__(self, plan: bytes, cuda: Cudart, *, graph: bool = True) -> None:
        trt = vendor()
        with listening() as said:
            # The runtime must outlive its engine, and the binding does not see to that.
            runtime = trt.Runtime(logger(trt))
            engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BundleError(f"TensorRT cannot load the plan: {said.because()}")
        self._start(trt, (runtime, engine), cuda, graph)

    def twin(self, *, graph: bool | None = None) -> Engine:
        """Another engine on the same plan, with its own buffers and stream."""
        plan = self._open_plan()
        twin = Engine.__new__(Engine)
        graph = self._wants_graph if graph is None else graph
        twin._start(self._trt, plan, self._cuda, graph)
        return twin

    def _start(self, trt: ModuleType, plan: tuple[Any, Any], cuda: Cudart, graph: bool) -> None:
        self._trt, self._cuda, self._wants_graph = trt, cuda, graph
        self._plan: tuple[Any, Any] | None = plan
        self._lock = threading.Lock()
        self._executable = self._compute_executable = 0
        stack = ExitStack()
        # Also runs when the engine is garbage or the interpreter ends.
        self._release = weakref.finalize(self, stack.close)
        try:
            self._stream = _owned(stack, cuda.stream(), cuda.destroy_stream)
            self._buffers = tuple(_buffers(trt, plan[1], cuda, stack))
            self._context = _context(plan[1])
            for buffer in self._buffers:
                self._context.set_tensor_address(buffer.spec.name, buffer.device_address)
            self.graph_note = self._warm_up(stack) if graph else "switched off"
        except BaseException:
            self._release()
            raise
        self._facts = _facts(trt, plan[1], self.graph_note)
        self.inputs = tuple(buffer.spec for buffer in self._buffers if buffer.is_input)
        self.outputs = tuple(buffer.spec for buffer in self._buffers if not buffer.is_input)

    # ---- running ------------------------------------------------------------------------------

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; ``arrays`` by name, of exactly the dtype and shape of ``inputs``.

        Raises:
            DeviceError: CUDA or TensorRT fails.
            UsageError: the engine is closed.
        """
        with self._lock:
            self._open_plan()
            self._fill(arrays)
            if self._executable:
                self._cuda.launch(self._executable, self._stream)
            else:
                self._queue_all()
            self._cuda.synchronize(self._stream)
            return self._outputs()

    def place(self, arrays: Mapping[str, Array]) -> None:
        """Put inputs on the device, for ``compute``."""
        with self._lock:
            self._open_plan()
            self._fill(arrays)
            self._queue_inputs()
            self._cuda.synchronize(self._stream)

    def compute(self) -> None:
        """Run once on what lies on the device, until it is done; nothing is copied."""
        with self._lock:
            self._open_plan()
            self._start_compute()
            self._cuda.synchronize(self._stream)

    def fetch(self) -> dict[str, Array]:
        """What the last run left on the device."""
        with self._lock:
            self._open_plan()
            self._queue_outputs()
            self._cuda.synchronize(self._stream)
            return self._outputs()

    def _fill(self, arrays: Mapping[str, Array]) -> None:
        for buffer in self._buffers:
            if buffer.is_input:
                np.copyto(buffer.host, arrays[buffer.spec.name], casting="no")

    def _outputs(self) -> dict[str, Array]:
        return {b.spec.name: b.host.copy() for b in self._buffers if not b.is_input}

    def device_milliseconds(self, count: int) -> list[float]:
        """Time on the GPU of ``count`` runs without copies, on the inputs of the last run."""
        cuda = self._cuda
        with self._lock, ExitStack() as stack:
            self._open_plan()
            start, end = (_owned(stack, cuda.event(), cuda.destroy_event) for _ in range(2))
            return [self._time_once(start, end) for _ in range(count)]

    def layer_milliseconds(self, warm_up: int, inferences: int) -> dict[str, list[float]]:
        """Time on the GPU of each layer of the plan, on what lies on the device.

        Of a CUDA graph TensorRT times nothing, so kernels are launched one by one; and it has
        no way to stop, so this is for a ``twin`` that is closed afterwards.
        """
        recorder = _recorder(self._trt)
        with self._lock:
            self._open_plan()
            self._context.profiler = recorder
            for _ in range(warm_up + inferences):
                self._queue_compute()
                self._cuda.synchronize(self._stream)
        return {name: times[warm_up:] for name, times in recorder.times.items()}

    def _open_plan(self) -> tuple[Any, Any]:
        """The plan, if it is still there: what a closed engine gave back must not be touched."""
        if self._plan is None:
            raise UsageError("this TensorRT engine is closed")
        return self._plan

    def _time_once(self, start: int, end: int) -> float:
        self._cuda.record(start, self._stream)
        self._start_compute()
        self._cuda.record(end, self._stream)
        self._cuda.synchronize(self._stream)
        return self._cuda.elapsed_ms(start, end)

    def _start_compute(self) -> None:
        if self._compute_executable:
            self._cuda.launch(self._compute_executable, self._stream)
        else:
            self._queue_compute()

    def _queue_all(self) -> None:
        self._queue_inputs()
        self._queue_compute()
        self._queue_outputs()

    def _queue_inputs(self) -> None:
        for b in self._buffers:
            if b.is_input:
                self._cuda.copy_async(
                    b.device_address, b.host_address, b.nbytes, HOST_TO_DEVICE, self._stream
                )

    def _queue_outputs(self) -> None:
        for b in self._buffers:
            if not b.is_input:
                self._cuda.copy_async(
                    b.host_address, b.device_address, b.nbytes, DEVICE_TO_HOST, self._stream
                )

    def _queue_compute(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise DeviceError(f"TensorRT cannot run the plan: {last_error()}")

    # ---- the CUDA graph -----------------------------------------------------------------------

    def _warm_up(self, stack: ExitStack) -> str:
        """Run once on zeros, as TensorRT asks before a capture; then capture. Why not, or ""."""
        self._queue_all()
        self._cuda.synchronize(self._stream)
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream):
            return "TensorRT says that this plan cannot be captured"
        try:
            self._executable = self._capture(self._queue_all, stack)
            self._compute_executable = self._capture(self._queue_compute, stack)
        except DeviceError as error:
            self._executable = self._compute_executable = 0
            return str(error)
        return ""

    def _capture(self, queue: Callable[[], None], stack: ExitStack) -> int:
        cuda = self._cuda
        cuda.begin_capture(self._stream)
        try:
            queue()
        except DeviceError:
            with contextlib.suppress(DeviceError):  # a capture must be ended whatever befell it
                cuda.destroy_graph(cuda.end_capture(self._stream))
            raise
        with ExitStack() as recorded:
            graph = _owned(recorded, cuda.end_capture(self._stream), cuda.destroy_graph)
            return _owned(stack, cuda.instantiate(graph), cuda.destroy_executable)

    # ---- the rest -----------------------------------------------------------------------------

    def describe(self) -> dict[str, str]:
        """Version, device memory and whether a CUDA graph runs."""
        return dict(self._facts)

    def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        with self._lock:
            self._release()
            self._context = self._plan = None  # the plan's weights lie on the device


def _recorder(trt: ModuleType) -> Any:
    """An ``IProfiler`` that keeps what it is told: ``times``, milliseconds by layer."""

    class Recorder(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(float(ms))

    return Recorder()


def _facts(trt: ModuleType, engine: Any, graph_note: str) -> dict[str, str]:
    sizes = ("device_memory_size_v2", "device_memory_size")  # 11 has only the first
    size = next((getattr(engine, name) for name in sizes if hasattr(engine, name)), None)
    return {
        "version": title(trt),
        "cuda_graph": f"no: {graph_note}" if graph_note else "yes",
        "device_memory": "unknown" if size is None else f"{size} bytes",
    }


def _owned(stack: ExitStack, handle: int, release: Callable[[int], None]) -> int:
    """``handle``, which ``stack`` gives back; failures of that are of no use to anybody."""

    def give_back() -> None:
        with contextlib.suppress(DeviceError):
            release(handle)

    stack.callback(give_back)
    return handle


def _context(engine: Any) -> Any:
    with listening() as said:
        context = engine.create_execution_context()
    if context is None:
        raise DeviceError(f"TensorRT cannot prepare the plan to run: {said.because()}")
    return context


def _buffers(trt: ModuleType, engine: Any, cuda: Cudart, stack: ExitStack) -> list[_Buffer]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [_buffer(trt, engine, name, cuda, stack) for name in names]


def _buffer(trt: ModuleType, engine: Any, name: str, cuda: Cudart, stack: ExitStack) -> _Buffer:
    spec = _spec(trt, engine, name)
    dtype = np.dtype(spec.dtype)
    count = int(np.prod(spec.shape, dtype=np.int64))
    size = max(count * dtype.itemsize, 1)  # CUDA gives no address for nothing
    host = _owned(stack, cuda.malloc_host(size), cuda.free_host)
    device = _owned(stack, cuda.malloc(size), cuda.free)
    memory = (ctypes.c_byte * size).from_address(host)
    array = np.frombuffer(memoryview(memory), dtype=dtype, count=count).reshape(spec.shape)
    array[...] = 0
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    return _Buffer(spec, is_input, array, host, device)


def _spec(trt: ModuleType, engine: Any, name: str) -> TensorSpec:
    shape = tuple(int(size) for size in engine.get_tensor_shape(name))
    if any(size < 0 for size in shape):
        raise BundleError(f"the plan's tensor {name!r} has the dynamic shape {shape}")
    kind = engine.get_tensor_dtype(name)
    try:
        dtype = np.dtype(trt.nptype(kind)).name
    except TypeError as error:  # bfloat16 and smaller have no numpy type
        raise BundleError(f"the plan's tensor {name!r} is {kind}, which numpy lacks") from error
    return TensorSpec(name, dtype, shape)
