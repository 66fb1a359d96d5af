"""OpenVINO on the CPU.

Its own default precision is bfloat16 on CPUs that have it, an error of 3e-3; edgekit asks for
float32. One stream with the latency hint, not pinned to a core: an inference may use the CPUs that
the process had when openvino was imported, whatever affinity its thread was given since (seen
in /proc). Each session owns one infer request, which is reused; input memory is shared with the
caller during the call, outputs are copied.
"""

from __future__ import annotations

import functools
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError
from edgekit.runtimes.session import (
    Array,
    EngineCall,
    KernelTime,
    Session,
    check_file_tensor,
    check_options,
    match_names,
    warm_up_of,
)


class OpenVinoSession(Session):
    """An OpenVINO ``.xml`` (its ``.bin`` beside it) or an ``.onnx``. No options."""

    runtime = "openvino"
    layer_source = (
        "OpenVINO's counters: means in whole microseconds, rounded down; median of three engines"
    )

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        check_options(self.runtime, options)
        file, compiled = files[0], _compile(files[0], threads)
        takes, gives = _specs(compiled.inputs), _specs(compiled.outputs)
        super().__init__(inputs or takes, outputs or gives, threads)
        self._compiled, self._file = compiled, file
        self._precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()
        self._input_ports = _ports_in_order(self.inputs, compiled.inputs, takes, "inputs", file)
        results = _ports_in_order(self.outputs, compiled.outputs, gives, "outputs", file)
        names = (spec.name for spec in self.outputs)
        self._output_ports = tuple(zip(names, results, strict=True))
        self._tensor = optional.require("openvino", "running OpenVINO models").Tensor

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        with self._lock:
            for port, array in zip(self._input_ports, arrays, strict=True):
                flags = array.flags
                if not (flags.c_contiguous and flags.writeable):  # what Tensor can share
                    array = np.array(array, order="C")
                self._request.set_input_tensor(port, self._tensor(array, shared_memory=True))
            self._request.infer(share_outputs=True)
            return self._read(self._request)

    def _read(self, request: Any) -> dict[str, Array]:
        return {
            name: request.get_output_tensor(port).data.copy() for name, port in self._output_ports
        }

    def _engine_call(self, arrays: list[Array]) -> EngineCall:
        """Tensors in memory of OpenVINO's own, and ``infer``.

        It takes 2 us more than the ``latency`` that the request itself reports and that
        ``benchmark_app`` prints; start_async and wait take 13 us more (measured).
        """
        with self._lock:  # close() waits for it
            request = self._compiled.create_infer_request()
        for port, array in zip(self._input_ports, arrays, strict=True):
            request.set_input_tensor(port, self._tensor(np.array(array, order="C")))
        call = functools.partial(request.infer, share_outputs=True)
        return EngineCall(self.runtime, call, functools.partial(self._read, request))

    def _layer_times(self, arrays: list[Array], inferences: int) -> list[KernelTime]:
        """From several engines: their counters are means, which one interruption can spoil."""
        each = -(-inferences // _ENGINES)
        times = [self._count(arrays, each) for _ in range(_ENGINES)]
        return [
            replace(kernel, ms=statistics.median(kernels[kernel.kernel].ms for kernels in times))
            for kernel in times[0].values()
            if all(kernel.kernel in kernels for kernels in times)
        ]

    def _count(self, arrays: list[Array], inferences: int) -> dict[str, KernelTime]:
        """Kernels by name, from an engine of their own."""
        compiled = _compile(self._file, self.threads, counters=True)
        request = compiled.create_infer_request()
        for port, array in zip(self._input_ports, arrays, strict=True):
            request.set_input_tensor(port, self._tensor(np.array(array, order="C")))
        warm_up = warm_up_of(inferences)
        readings = []
        for count in (warm_up, inferences):
            for _ in range(count):
                request.infer(share_outputs=True)
            readings.append(request.get_profiling_info())
        means = _means(readings[0], warm_up, readings[1], inferences)
        layers = _layers_of(compiled, self._file)
        return {
            row.node_name: KernelTime(
                row.node_name,
                f"{row.node_type} {row.exec_type}",
                layers[row.node_name],
                means[row.node_name],
            )
            for row in readings[1]
            if row.node_name in layers
        }

    def clone(self) -> OpenVinoSession:
        """The model compiled again: requests of one compiled model, with one stream, queue up."""
        return OpenVinoSession([self._file], self.inputs, self.outputs, threads=self.threads)

    def close(self) -> None:
        """Free the compiled model once a run in another thread has ended."""
        super().close()
        with self._lock:
            self._compiled = self._request = None

    def _facts(self) -> dict[str, str]:
        return {
            "version": optional.version("openvino") or "unknown",
            "precision": self._precision,
            "streams": "1",
            "pinned": "no",
        }


@functools.cache
def _core() -> Any:
    """One Core for the process: its plugins are loaded once."""
    return optional.require("openvino", "running OpenVINO models").Core()


def _compile(file: Path, threads: int, *, counters: bool = False) -> Any:
    settings = {
        "PERF_COUNT": counters,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinning puts every model of the process on the same first core: two sessions in two
        # threads then take twice as long. Alone, a pinned model is no faster (measured).
        "ENABLE_CPU_PINNING": False,
    }
    core = _core()
    try:
        return core.compile_model(core.read_model(str(file)), "CPU", settings)
    except RuntimeError as error:
        raise BundleError(f"openvino cannot open {file.name}: {error}") from error


def _specs(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """The file's own interface; a free size is -1."""
    return tuple(
        TensorSpec(
            port.any_name if port.names else f"tensor{position}",
            np.dtype(port.element_type.to_dtype()).name,
            tuple(size.get_length() if size.is_static else -1 for size in port.get_partial_shape()),
        )
        for position, port in enumerate(ports)
    )


def _ports_in_order(
    specs: Sequence[TensorSpec],
    ports: Sequence[Any],
    tensors: Sequence[TensorSpec],
    kind: str,
    file: Path,
) -> tuple[int, ...]:
    """Port numbers in the order of ``specs``. A port may have several names: any counts."""
    wanted = {spec.name for spec in specs}
    names = [
        next(iter(sorted(wanted & port.names)), tensor.name)
        for port, tensor in zip(ports, tensors, strict=True)
    ]
    order = match_names(specs, names, kind, file)
    for spec, position in zip(specs, order, strict=True):
        check_file_tensor(spec, tensors[position].dtype, tensors[position].shape, kind, file)
    return order


# ---- times per layer -------------------------------------------------------------------------

# The reader of ONNX makes a convolution and an addition of a Conv, with this suffix.
_PART_OF_CONV = "/WithoutBiases"


# Three are enough to tell an interruption, which spoils the means of one, from the rule.
_ENGINES = 3
_DATA = frozenset({"Input", "Output", "Const"})
_MOVER = "Reorder"


def _means(
    early: Sequence[Any], warm_up: int, late: Sequence[Any], inferences: int
) -> dict[str, float]:
    """Milliseconds without the warm-up: what is read are means since the model was compiled."""
    warm = {row.node_name: row.real_time.total_seconds() * warm_up for row in early}
    totals = {row.node_name: row.real_time.total_seconds() * (warm_up + inferences) for row in late}
    return {
        name: max(total - warm.get(name, 0.0), 0.0) / inferences * 1e3
        for name, total in totals.items()
    }


def _layers_of(compiled: Any, file: Path) -> dict[str, tuple[str, ...]]:
    """Per kernel the names of what it computes, as the file has them; the engine keeps them.

    A part that it added by a rewrite (the split of a split and concatenation that stand for a
    gather) computes what the kernels after it compute; a reorder computes nothing.
    """
    known = {op.get_friendly_name() for op in _core().read_model(str(file)).get_ops()}
    layers: dict[str, tuple[str, ...]] = {}
    for op in reversed(compiled.get_runtime_model().get_ordered_ops()):
        facts = {key: str(value.value) for key, value in op.get_rt_info().items()}
        names = facts.get("originalLayersNames", "").split(",")
        found = [name.removesuffix(_PART_OF_CONV) for name in names if name in known]
        if not found and facts.get("layerType") != _MOVER:
            readers = (port.get_node() for out in op.outputs() for port in out.get_target_inputs())
            found = [name for node in readers for name in layers.get(node.get_friendly_name(), ())]
        if facts.get("layerType") not in _DATA:
            layers[op.get_friendly_name()] = tuple(dict.fromkeys(found))
    return layers
