"""ONNX Runtime on the CPU.

Sequential execution, ``threads`` threads in an operator, all graph optimisations; only errors
are logged. An ``InferenceSession`` may be run from several threads at once.

Spinning: with two threads and more, the pool spins within a run and stops when the run ends.
Six 3x3 convolutions of 0.76 ms, 2 threads, one run every 10 ms (p10 of ms, cores kept busy):
spinning on .45 and 1.0, off .80 and .08, on within a run only .45 and .1.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError
from edgekit.runtimes.session import (
    Array,
    EngineCall,
    Session,
    check_file_tensor,
    check_options,
    match_names,
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


def _open(file: Path, threads: int) -> Any:
    ort = optional.require("onnxruntime", "running .onnx files")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ONLY_ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # when the run ends
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
