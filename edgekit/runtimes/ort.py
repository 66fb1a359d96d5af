"""ONNX Runtime on the CPU.

Sequential execution, ``threads`` threads in an operator, all graph optimisations; only errors
are logged. An ``InferenceSession`` may be run from several threads at once.

Spinning: with two threads and more, the pool spins within a run and stops when the run ends.
Six 3x3 convolutions of 0.76 ms, 2 threads, one run every 10 ms (p10 of ms, cores kept busy):
spinning on .45 and 1.0, off .80 and .08, on within a run only .45 and .1.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, UsageError
from edgekit.runtimes.onnx_nodes import OnnxNode, attribute, read_nodes
from edgekit.runtimes.session import (
    Array,
    EngineCall,
    KernelTime,
    Session,
    check_file_tensor,
    check_options,
    match_names,
    middle_mean,
    warm_up_of,
)

# ONNX Runtime's names of element types.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_ONLY_ERRORS = 3


class OrtSession(Session):
    """An ``.onnx`` file in ONNX Runtime. No options."""

    runtime = "onnxruntime"
    layer_source = "ONNX Runtime's profiler: whole microseconds, rounded down"

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
        engine = _open(files[0], threads)
        self._bind(engine, files[0], inputs, outputs, threads)

    def _bind(
        self,
        engine: Any,
        file: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int,
    ) -> None:
        takes, gives = _specs(engine.get_inputs(), file), _specs(engine.get_outputs(), file)
        super().__init__(inputs or takes, outputs or gives, threads)
        self._engine, self._file = engine, file
        self._input_names = _names_in_order(self.inputs, takes, "inputs", file)
        self._output_names = _names_in_order(self.outputs, gives, "outputs", file)
        self._results = tuple(spec.name for spec in self.outputs)

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        # Not ascontiguousarray, which gives a number an axis.
        contiguous = [np.asarray(array, order="C") for array in arrays]
        feed = dict(zip(self._input_names, contiguous, strict=True))
        return dict(zip(self._results, self._engine.run(self._output_names, feed), strict=True))

    def _engine_call(self, arrays: list[Array]) -> EngineCall:
        """Bound inputs and outputs: ``InferenceSession.run`` looks names up, allocates, wraps.

        That is 5 to 10 us a call, which a program in C++ does not have (measured, 0.7 ms net).
        """
        values = optional.require("onnxruntime", "running .onnx files").OrtValue
        binding = self._engine.io_binding()
        for name, array in zip(self._input_names, arrays, strict=True):
            place = values.ortvalue_from_shape_and_type(array.shape, array.dtype)
            place.update_inplace(np.asarray(array, order="C"))
            binding.bind_ortvalue_input(name, place)
        for name, spec in zip(self._output_names, self.outputs, strict=True):
            if min(spec.shape, default=1) < 1:  # of a free size: the engine allocates it
                binding.bind_output(name)
            else:
                place = values.ortvalue_from_shape_and_type(spec.shape, np.dtype(spec.dtype))
                binding.bind_ortvalue_output(name, place)

        def read() -> dict[str, Array]:
            outputs = [value.numpy().copy() for value in binding.get_outputs()]
            return dict(zip(self._results, outputs, strict=True))

        call = functools.partial(self._engine.run_with_iobinding, binding)
        return EngineCall(self.runtime, call, read)

    def _layer_times(self, arrays: list[Array], inferences: int) -> list[KernelTime]:
        feed = {
            name: np.asarray(array, order="C")
            for name, array in zip(self._input_names, arrays, strict=True)
        }
        try:
            with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
                return self._profile(feed, inferences, Path(name))
        except OSError as error:
            raise UsageError(
                f"onnxruntime writes times per layer to a file, and that fails: {error}; "
                "set TMPDIR to a folder with room"
            ) from error

    def _profile(
        self, feed: Mapping[str, Array], inferences: int, folder: Path
    ) -> list[KernelTime]:
        """Times from a second engine, which writes its graph and its record into ``folder``."""
        engine = _open(self._file, self.threads, folder)
        warm_up = warm_up_of(inferences)
        for _ in range(warm_up + inferences):
            engine.run(self._output_names, feed)
        runs = _events(Path(engine.end_profiling()))[warm_up:]
        optimised = read_nodes((folder / _GRAPH).read_bytes())
        layers = attribute(read_nodes(self._file.read_bytes()), optimised)
        return _kernel_times(runs, optimised, layers)

    def clone(self) -> OrtSession:
        """Another session on the same engine, which runs from several threads as it is."""
        twin = OrtSession.__new__(OrtSession)
        twin._bind(self._engine, self._file, self.inputs, self.outputs, self.threads)
        return twin

    def close(self) -> None:
        """Let go of the engine, which lives on in clones."""
        super().close()
        self._engine = None

    def _facts(self) -> dict[str, str]:
        return {
            "version": optional.version("onnxruntime") or "unknown",
            "precision": "as in the graph",
            "provider": "CPUExecutionProvider",
            "spinning": "within a run",
        }


_GRAPH = "optimised.onnx"


def _open(file: Path, threads: int, profile: Path | None = None) -> Any:
    """An engine; given a folder, one that writes what it optimised and how long it took."""
    ort = optional.require("onnxruntime", "running .onnx files")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ONLY_ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # when the run ends
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile / "record")
        options.optimized_model_filepath = str(profile / _GRAPH)
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class but Exception
        raise BundleError(f"onnxruntime cannot open {file.name}: {error}") from error


def _specs(tensors: Sequence[Any], file: Path) -> tuple[TensorSpec, ...]:
    """The file's own interface; a symbolic size is -1."""
    for tensor in tensors:
        if tensor.type not in _DTYPES:  # texts, sequences, bfloat16
            raise BundleError(
                f"{file.name}: {tensor.name!r} is {tensor.type}, and edgekit runs models of "
                f"{', '.join(_DTYPES.values())}"
            )
    return tuple(
        TensorSpec(
            tensor.name,
            _DTYPES[tensor.type],
            tuple(size if isinstance(size, int) and size > 0 else -1 for size in tensor.shape),
        )
        for tensor in tensors
    )


def _names_in_order(
    specs: Sequence[TensorSpec], tensors: Sequence[TensorSpec], kind: str, file: Path
) -> list[str]:
    """The file's names in the order of ``specs``, each checked against its spec."""
    order = match_names(specs, [tensor.name for tensor in tensors], kind, file)
    for spec, position in zip(specs, order, strict=True):
        check_file_tensor(spec, tensors[position].dtype, tensors[position].shape, kind, file)
    return [tensors[position].name for position in order]


# ---- times per layer -------------------------------------------------------------------------

_KERNEL = "_kernel_time"  # suffix of a node's name in the record
_Event = tuple[str, str, int, float]  # name, operator type, index in the graph, milliseconds


def _events(record: Path) -> list[list[_Event]]:
    """The kernels of each run, in order; a run's own entry comes after them.

    The record is a JSON list with an entry a line. It is read by line, since it takes a megabyte
    for every thousand kernels, and ten in memory.

    Raises:
        UsageError: not JSON.
    """
    runs: list[list[_Event]] = [[]]
    with record.open(encoding="utf-8") as lines:
        for line in lines:
            text = line.strip().rstrip(",")
            entry = _entry(text) if text.startswith("{") else {}
            if entry.get("cat") == "Node" and entry["name"].endswith(_KERNEL):
                name, facts = entry["name"].removesuffix(_KERNEL), entry["args"]
                event = (name, facts["op_name"], int(facts["node_index"]), entry["dur"] / 1e3)
                runs[-1].append(event)
            elif entry.get("name") == "model_run":
                runs.append([])
    return runs[:-1]


def _entry(text: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise UsageError(f"onnxruntime's record of kernels cannot be read: {error}") from None
    return entry


def _kernel_times(
    runs: Sequence[Sequence[_Event]],
    optimised: Sequence[OnnxNode],
    layers: Sequence[tuple[str, ...]],
) -> list[KernelTime]:
    durations: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        for name, op_type, index, ms in run:
            durations.setdefault((name, op_type, index), []).append(ms)
    places = _places(list(durations), optimised)
    return [
        KernelTime(key[0], key[1], layers[places[key]] if key in places else (), middle_mean(ms))
        for key, ms in durations.items()
    ]


def _places(
    keys: Sequence[tuple[str, str, int]], optimised: Sequence[OnnxNode]
) -> dict[tuple[str, str, int], int]:
    """Where in ``optimised`` each kernel is. The record's index is not the file's order.

    Nodes of one name, or of none (the record then has the type and the index), are taken in
    the order of their indices.
    """
    waiting: dict[tuple[str, str], list[int]] = {}
    for place, node in enumerate(optimised):
        waiting.setdefault((node.name, node.op_type), []).append(place)
    places = {}
    for key in sorted(keys, key=lambda key: key[2]):
        name, op_type, index = key
        unnamed = name in ("", f"{op_type}_{index}") and (name, op_type) not in waiting
        found = waiting.get(("" if unnamed else name, op_type))
        if found:
            places[key] = found.pop(0)
    return places
