"""The few calls of the CUDA runtime that running a plan needs, through ``ctypes``.

No package: the library is the one that JetPack, the CUDA toolkit or a wheel put here, and the
same calls exist from CUDA 10.2 to 13. Every function has its argument types set, because ctypes
does not notice a wrong one; every result is checked and becomes a ``DeviceError`` with CUDA's
own words.

    memory   malloc, malloc_host (pinned, DMA can read it), copy_async
    stream   stream, synchronize
    graph    begin_capture ... end_capture, instantiate, launch
    timing   event, record, elapsed_ms
    device   device_count, device
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import DeviceError

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_CAPTURE_THREAD_LOCAL = 1  # cudaStreamCaptureMode: other threads may go on calling CUDA
_NON_BLOCKING = 1  # cudaStreamNonBlocking: not serialised with the default stream
_MAJOR, _MINOR, _MULTIPROCESSORS, _INTEGRATED = 75, 76, 16, 18  # cudaDeviceAttr
_NAME_BYTES = 256  # cudaDeviceProp starts with char name[256] in every version,
_PROPERTIES_BYTES = 1 << 14  # and has grown to 1 KiB since; this leaves room

_Pointer = POINTER(c_void_p)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaMalloc": (_Pointer, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaMallocHost": (_Pointer, c_size_t),
    "cudaFreeHost": (c_void_p,),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (_Pointer, c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, _Pointer),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaEventCreateWithFlags": (_Pointer, c_uint),
    "cudaEventDestroy": (c_void_p,),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaGetDevice": (POINTER(c_int),),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaDriverGetVersion": (POINTER(c_int),),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaGetLastError": (),
}
# Present in some versions only; the first that exists is used.
_ONE_OF: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceProperties_v2": (c_void_p, c_int),  # CUDA 12
    "cudaGetDeviceProperties": (c_void_p, c_int),  # before, and after
    "cudaGraphInstantiateWithFlags": (_Pointer, c_void_p, c_ulonglong),  # some CUDA 11, and later
    "cudaGraphInstantiate": (_Pointer, c_void_p, _Pointer, c_char_p, c_size_t),  # CUDA 10 and 11
}


@dataclass(frozen=True)
class Device:
    """The GPU, as a plan is bound to it.

    Attributes:
        name: e.g. ``"Orin"``.
        compute_capability: e.g. ``"8.7"``.
        driver: newest CUDA version that the driver knows, e.g. ``"12.6"``.
        runtime: version of the CUDA runtime library.
        multiprocessors: their number.
        integrated: shares the memory of the CPU, as on a Jetson.
    """

    name: str
    compute_capability: str
    driver: str
    runtime: str
    multiprocessors: int
    integrated: bool


class Cudart:
    """A loaded libcudart. Pointers, streams, events and graphs are plain integers.

    Args:
        library: anything with CUDA's functions as attributes: a ``ctypes.CDLL``.

    Raises:
        DeviceError: a function is missing: not libcudart, or one before CUDA 10.2.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._functions = {name: self._bind(name, types) for name, types in _SIGNATURES.items()}
        for name, types in _ONE_OF.items():
            if hasattr(library, name):
                self._functions[name] = self._bind(name, types)
        library.cudaGetErrorString.argtypes = (c_int,)
        library.cudaGetErrorString.restype = c_char_p

    def _bind(self, name: str, types: tuple[Any, ...]) -> Callable[..., int]:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise DeviceError(f"the CUDA runtime library lacks {name}: it is too old") from None
        function.argtypes, function.restype = types, c_int
        return function  # type: ignore[no-any-return]

    def _call(self, name: str, *arguments: Any) -> None:
        code = self._functions[name](*arguments)
        if code != 0:
            self._functions["cudaGetLastError"]()  # else the next call reports this error again
            words = self._library.cudaGetErrorString(code).decode("utf-8", "replace")
            raise DeviceError(f"CUDA: {name}: {words} (error {code})")

    def _create(self, name: str, *arguments: Any) -> int:
        handle = c_void_p()
        self._call(name, byref(handle), *arguments)
        return handle.value or 0

    def _number(self, name: str, *arguments: Any) -> int:
        number = c_int()
        self._call(name, byref(number), *arguments)
        return number.value

    # ---- memory -------------------------------------------------------------------------------

    def malloc(self, size: int) -> int:
        """``size`` bytes on the device; to be freed with ``free``."""
        return self._create("cudaMalloc", size)

    def free(self, pointer: int) -> None:
        """Give back what ``malloc`` gave."""
        self._call("cudaFree", pointer)

    def malloc_host(self, size: int) -> int:
        """``size`` bytes of pinned host memory; to be freed with ``free_host``."""
        return self._create("cudaMallocHost", size)

    def free_host(self, pointer: int) -> None:
        """Give back what ``malloc_host`` gave."""
        self._call("cudaFreeHost", pointer)

    def copy_async(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        """Queue a copy; ``kind`` is ``HOST_TO_DEVICE`` or ``DEVICE_TO_HOST``."""
        self._call("cudaMemcpyAsync", to, source, size, kind, stream)

    def free_memory(self) -> int:
        """Bytes of the device that nobody uses; on a Jetson of the whole board."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value

    # ---- streams, graphs, events --------------------------------------------------------------

    def stream(self) -> int:
        """A new stream, independent of the default one."""
        return self._create("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        """Give back a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until everything queued on ``stream`` is done; its errors surface here."""
        self._call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """From here, what this thread queues on ``stream`` is recorded and not run."""
        self._call("cudaStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Stop recording; the graph is to be destroyed with ``destroy_graph``."""
        graph = c_void_p()
        self._call("cudaStreamEndCapture", stream, byref(graph))
        return graph.value or 0

    def instantiate(self, graph: int) -> int:
        """An executable of ``graph``, to be destroyed with ``destroy_executable``.

        ``cudaGraphInstantiate`` has changed its arguments with CUDA 12, so it is used only by
        the versions that lack ``cudaGraphInstantiateWithFlags``.
        """
        if "cudaGraphInstantiateWithFlags" in self._functions:
            return self._create("cudaGraphInstantiateWithFlags", graph, 0)
        return self._create("cudaGraphInstantiate", graph, None, None, 0)

    def launch(self, executable: int, stream: int) -> None:
        """Queue a whole graph with one call."""
        self._call("cudaGraphLaunch", executable, stream)

    def destroy_graph(self, graph: int) -> None:
        """Give back a graph."""
        self._call("cudaGraphDestroy", graph)

    def destroy_executable(self, executable: int) -> None:
        """Give back an executable graph."""
        self._call("cudaGraphExecDestroy", executable)

    def event(self) -> int:
        """A point in time on a stream."""
        return self._create("cudaEventCreateWithFlags", 0)

    def destroy_event(self, event: int) -> None:
        """Give back an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Mark the point that ``stream`` has reached."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two recorded and reached events; resolution about 0.5 us."""
        milliseconds = c_float()
        self._call("cudaEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value

    # ---- device -------------------------------------------------------------------------------

    def device_count(self) -> int:
        """Number of GPUs.

        Raises:
            DeviceError: also when there is none, or no driver.
        """
        return self._number("cudaGetDeviceCount")

    def device(self) -> Device:
        """The current GPU."""
        index = self._number("cudaGetDevice")
        major, minor, multiprocessors, integrated = (
            self._number("cudaDeviceGetAttribute", attribute, index)
            for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS, _INTEGRATED)
        )
        return Device(
            name=self._device_name(index),
            compute_capability=f"{major}.{minor}",
            driver=_cuda_version(self._number("cudaDriverGetVersion")),
            runtime=_cuda_version(self._number("cudaRuntimeGetVersion")),
            multiprocessors=multiprocessors,
            integrated=bool(integrated),
        )

    def _device_name(self, index: int) -> str:
        versions = ("cudaGetDeviceProperties_v2", "cudaGetDeviceProperties")
        name = next(name for name in versions if name in self._functions)
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call(name, ctypes.cast(properties, c_void_p), index)
        return properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")


def _cuda_version(number: int) -> str:
    """12060 -> "12.6"."""
    return f"{number // 1000}.{number % 1000 // 10}"


# ---------------------------------------------------------------------------
# Finding the library
# ---------------------------------------------------------------------------


def load() -> Cudart:
    """The CUDA runtime of this machine.

    Raises:
        DeviceError: there is none, or none loads; lists where it was looked for.
    """
    failures = []
    for path in candidates():
        try:
            return Cudart(ctypes.CDLL(str(path)))
        except (OSError, DeviceError) as error:
            failures.append(f"{path}: {error}")
    if failures:
        raise DeviceError(f"the CUDA runtime library cannot be loaded: {failures[0]}")
    looked = ", ".join(str(folder) for folder in _folders())
    raise DeviceError(
        f"no CUDA runtime library (libcudart.so) in {looked}: on a Jetson JetPack brings it "
        "(sudo apt install nvidia-jetpack); elsewhere add its folder to LD_LIBRARY_PATH"
    )


def candidates() -> Iterator[Path]:
    """Every libcudart, by folder; within one the newest version first."""
    seen = set()
    for folder in _folders():
        for path in sorted(folder.glob("libcudart.so*"), key=_version, reverse=True):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _folders() -> tuple[Path, ...]:
    from_user = [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if p]
    wheels = [
        folder
        for site in dict.fromkeys(map(Path, sys.path))
        for folder in sorted(site.glob("nvidia/c*/lib"))  # cuda_runtime; cu13 since CUDA 13
    ]
    system = (
        Path("/usr/local/cuda/lib64"),
        Path("/usr/lib/aarch64-linux-gnu"),
        Path("/usr/lib/x86_64-linux-gnu"),
    )
    return (*from_user, *system, *wheels)


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name.partition(".so")[2]))
