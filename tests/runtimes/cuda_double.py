"""A CUDA runtime without a GPU: real C calls, memory in this process, queued work.

Every function is a real C function pointer with the prototype of CUDA's header, so a wrong
argument order or width shows. Work put on a stream is done when the stream is synchronised and
not before, so a missing synchronisation shows. Addresses are checked against what was
allocated, so a copy in the wrong direction, a use after free and a leak show.
"""

# ruff: noqa: N802 -- methods are named after CUDA's functions

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong
from ctypes import c_void_p as pointer
from typing import Any

OUT = POINTER(pointer)
NUMBER = POINTER(c_int)
HOST, DEVICE = "host", "device"
WORDS = {
    1: b"invalid argument",
    2: b"out of memory",
    35: b"CUDA driver version is insufficient for CUDA runtime version",
    100: b"no CUDA-capable device is detected",
    700: b"an illegal memory access was encountered",
    900: b"operation not permitted when stream is capturing",
}
MEMORY = 8 << 30
ATTRIBUTES = {75: 8, 76: 7, 16: 8, 18: 1}

# From cuda_runtime_api.h of CUDA 13.0; GraphInstantiate of CUDA 11 beside it.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cudaMalloc": (OUT, c_size_t),
    "cudaFree": (pointer,),
    "cudaMallocHost": (OUT, c_size_t),
    "cudaFreeHost": (pointer,),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaMemcpyAsync": (pointer, pointer, c_size_t, c_int, pointer),
    "cudaStreamCreateWithFlags": (OUT, c_uint),
    "cudaStreamDestroy": (pointer,),
    "cudaStreamSynchronize": (pointer,),
    "cudaStreamBeginCapture": (pointer, c_int),
    "cudaStreamEndCapture": (pointer, OUT),
    "cudaGraphDestroy": (pointer,),
    "cudaGraphLaunch": (pointer, pointer),
    "cudaGraphExecDestroy": (pointer,),
    "cudaEventCreateWithFlags": (OUT, c_uint),
    "cudaEventDestroy": (pointer,),
    "cudaEventRecord": (pointer, pointer),
    "cudaEventElapsedTime": (POINTER(c_float), pointer, pointer),
    "cudaGetDeviceCount": (NUMBER,),
    "cudaGetDevice": (NUMBER,),
    "cudaDeviceGetAttribute": (NUMBER, c_int, c_int),
    "cudaDriverGetVersion": (NUMBER,),
    "cudaRuntimeGetVersion": (NUMBER,),
    "cudaGetLastError": (),
    "cudaGetDeviceProperties": (pointer, c_int),
    "cudaGraphInstantiateWithFlags": (OUT, pointer, c_ulonglong),
}
OLD_INSTANTIATE = (OUT, pointer, OUT, c_char_p, c_size_t)

Work = Callable[[], int]


class CudaDouble:
    """What ``cudart.Cudart`` is given in place of a ``ctypes.CDLL``.

    Attributes:
        fail: function name -> the error it answers with.
        calls: names of the functions called, in order.
        live: address or handle -> (kind, what it is); empty when everything was given back.
    """

    def __init__(self, *, gpus=1, name=b"Orin", old_graphs=False):
        self.gpus, self.name, self.old_graphs = gpus, name, old_graphs
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.live: dict[int, tuple[str, Any]] = {}
        self.queues: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work]] = {}
        self._next = 0x1000
        prototypes = dict(PROTOTYPES)
        if old_graphs:
            del prototypes["cudaGraphInstantiateWithFlags"]
            prototypes["cudaGraphInstantiate"] = OLD_INSTANTIATE
        self._kept = []
        for function, types in prototypes.items():
            thunk = CFUNCTYPE(c_int, *types)(self._counted(function))
            self._kept.append(thunk)
            # A second view of the same code, whose types are the caller's to set, as in a CDLL.
            setattr(self, function, _untyped(thunk))
        self.cudaGetErrorString = _Words()

    def _counted(self, name):
        body = getattr(self, f"_{name}")

        def function(*arguments):
            self.calls.append(name)
            return self.fail[name] if name in self.fail else body(*arguments)

        return function

    # ---- handles and memory

    def _handle(self, out, kind, what=None):
        self._next += 16
        self.live[self._next] = (kind, what)
        out[0] = self._next
        return 0

    def _give_back(self, handle, kind):
        if self.live.get(handle, ("", None))[0] != kind:
            return 1
        del self.live[handle]
        return 0

    def _allocate(self, out, size, kind):
        memory = (ctypes.c_ubyte * size)(*([0xA5] * min(size, 64)))  # not zeros
        address = ctypes.addressof(memory)
        self.live[address] = (kind, memory)
        out[0] = address
        return 0

    def holds(self, address, size, kind):
        """Whether ``address`` is an allocation of that kind and at least that size."""
        found_kind, memory = self.live.get(address or 0, ("", b""))
        return found_kind == kind and ctypes.sizeof(memory) >= size

    def _cudaMalloc(self, out, size):
        return self._allocate(out, size, DEVICE)

    def _cudaMallocHost(self, out, size):
        return self._allocate(out, size, HOST)

    def _cudaMemGetInfo(self, free, total):
        used = sum(ctypes.sizeof(what) for kind, what in self.live.values() if kind == DEVICE)
        free[0], total[0] = MEMORY - used, MEMORY
        return 0

    def _cudaFree(self, address):
        return self._give_back(address, DEVICE)

    def _cudaFreeHost(self, address):
        return self._give_back(address, HOST)

    def _cudaMemcpyAsync(self, to, source, size, kind, stream):
        kinds = {1: (DEVICE, HOST), 2: (HOST, DEVICE)}.get(kind)
        if kinds is None or not self.holds(to, size, kinds[0]):
            return 1
        if not self.holds(source, size, kinds[1]):
            return 1

        def work():
            ctypes.memmove(to, source, size)
            return 0

        return self.submit(stream, work)

    # ---- streams and graphs

    def submit(self, stream, work):
        """Queue work, or record it while the stream is captured."""
        if self.live.get(stream or 0, ("",))[0] != "stream":
            return 1
        self.captures.get(stream, self.queues[stream]).append(work)
        return 0

    def _cudaStreamCreateWithFlags(self, out, flags):
        if flags != 1:
            return 1
        self._handle(out, "stream")
        self.queues[out[0]] = []
        return 0

    def _cudaStreamDestroy(self, stream):
        return self._give_back(stream, "stream")

    def _cudaStreamSynchronize(self, stream):
        if stream in self.captures:
            return 900
        work, self.queues[stream] = self.queues[stream], []
        return next((code for code in [item() for item in work] if code), 0)

    def _cudaStreamBeginCapture(self, stream, mode):
        if stream in self.captures or mode != 1:
            return 1
        self.captures[stream] = []
        return 0

    def _cudaStreamEndCapture(self, stream, out):
        if stream not in self.captures:
            return 1
        return self._handle(out, "graph", self.captures.pop(stream))

    def _cudaGraphInstantiateWithFlags(self, out, graph, flags):
        if flags != 0 or self.live.get(graph or 0, ("",))[0] != "graph":
            return 1
        return self._handle(out, "executable", self.live[graph][1])

    def _cudaGraphInstantiate(self, out, graph, node, log, size):
        if node or log or size:
            return 1
        return self._cudaGraphInstantiateWithFlags(out, graph, 0)

    def _cudaGraphLaunch(self, executable, stream):
        kind, work = self.live.get(executable or 0, ("", None))
        return self.submit(stream, lambda: _all(work)) if kind == "executable" else 1

    def _cudaGraphDestroy(self, graph):
        return self._give_back(graph, "graph")

    def _cudaGraphExecDestroy(self, executable):
        return self._give_back(executable, "executable")

    # ---- events and device

    def _cudaEventCreateWithFlags(self, out, flags):
        return self._handle(out, "event", []) if flags == 0 else 1

    def _cudaEventDestroy(self, event):
        return self._give_back(event, "event")

    def _cudaEventRecord(self, event, stream):
        marks = self.live[event][1]

        def work():
            marks.append(True)
            return 0

        return self.submit(stream, work)

    def _cudaEventElapsedTime(self, out, start, end):
        if not (self.live[start][1] and self.live[end][1]):
            return 1  # not reached
        out[0] = 0.25
        return 0

    def _cudaGetDeviceCount(self, out):
        out[0] = self.gpus
        return 0 if self.gpus else 100

    def _cudaGetDevice(self, out):
        out[0] = 0
        return 0

    def _cudaDeviceGetAttribute(self, out, attribute, device):
        out[0] = ATTRIBUTES[attribute]
        return device

    def _cudaDriverGetVersion(self, out):
        out[0] = 12060
        return 0

    def _cudaRuntimeGetVersion(self, out):
        out[0] = 12060
        return 0

    def _cudaGetLastError(self):
        return 0

    def _cudaGetDeviceProperties(self, out, device):
        ctypes.memmove(out, self.name + b"\0", len(self.name) + 1)
        return device


class _Words:
    """``cudaGetErrorString``: a pointer to text is not among the results a callback may have."""

    argtypes: object = None
    restype: object = None

    def __call__(self, code):
        return WORDS.get(code, b"unrecognized error code")


def _untyped(thunk):
    base = ctypes.CFUNCTYPE(c_int).__mro__[1]  # ctypes._CFuncPtr
    kind = type("Function", (base,), {"_flags_": 1, "_restype_": c_int})
    return kind(ctypes.cast(thunk, pointer).value)


def _all(work):
    return next((code for code in [item() for item in work] if code), 0)
