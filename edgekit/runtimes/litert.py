"""LiteRT, the runtime of ``.tflite`` files: ai_edge_litert, or tflite_runtime where that is all.

Layout. A ``.tflite`` keeps images channels last, the bundle's interface is NCHW. The rule, per
4-D tensor: the file holds the NHWC form of the manifest's shape; where only the unchanged shape
fits, it holds that. A shape that fits both ways (1x4x4x4) is therefore NHWC in the file;
``options={"layout": "same"}`` says that nothing is to be converted. Tensors of any other rank are
the same in both.

    manifest (1, 3, 224, 224)  file (1, 224, 224, 3)  converted
    manifest (1, 3, 224, 224)  file (1, 3, 224, 224)  as it is
    manifest (1, 4, 4, 4)      file (1, 4, 4, 4)      converted, unless layout is "same"

Inputs are written straight into the interpreter's memory, so that the conversion is the only
copy, and a plain one when the caller's array is an NCHW view of NHWC memory.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgekit import optional
from edgekit.bundle import TensorSpec
from edgekit.errors import BundleError, MissingDependencyError, UsageError
from edgekit.runtimes import RUNTIMES, numpy_conflict, provider
from edgekit.runtimes.session import (
    Array,
    EngineCall,
    KernelTime,
    Session,
    check_options,
    fits,
    match_names,
)

SIGNATURE = "serving_default"

_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_LAYOUTS = ("NHWC", "same")


class LiteRtSession(Session):
    """A ``.tflite`` file.

    Options:
        layout: ``"NHWC"`` (default) or ``"same"``: how the file keeps 4-D tensors.
    """

    runtime = "litert"

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._file, self._options = files[0], dict(options or {})
        layout = _layout(self._options)
        self._package, self._engine = _open(files[0], threads)
        takes, gives = _tensors(self._engine)
        super().__init__(
            inputs or [spec for spec, _ in takes], outputs or [spec for spec, _ in gives], threads
        )
        if not inputs:  # a bare file: its own interface, nothing to convert
            layout = "same"
        self._lock = threading.Lock()
        self._in = _bind(self.inputs, takes, "inputs", files[0], layout, _TO_NHWC)
        bound = _bind(self.outputs, gives, "outputs", files[0], layout, _TO_NCHW)
        names = (spec.name for spec in self.outputs)
        self._out = tuple((name, *tensor) for name, tensor in zip(names, bound, strict=True))

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        with self._lock:
            self._write(arrays)
            self._engine.invoke()
            return self._read()

    def _write(self, arrays: list[Array]) -> None:
        engine = self._engine
        for (index, axes), array in zip(self._in, arrays, strict=True):
            if not array.shape:  # tensor() would give a number, not a view
                engine.set_tensor(index, array)
                continue
            # A view of the interpreter's memory: it must be gone before invoke().
            np.copyto(engine.tensor(index)(), array if axes is None else array.transpose(axes))

    def _read(self) -> dict[str, Array]:
        results = {}
        for name, index, axes in self._out:
            array = np.asarray(self._engine.get_tensor(index))  # a copy
            results[name] = array if axes is None else _nchw(array)
        return results

    def _engine_call(self, arrays: list[Array]) -> EngineCall:
        """``invoke``: within 1 % of the CompiledModel that ``litert-benchmark`` runs (measured)."""
        with self._lock:
            self._write(arrays)
            return EngineCall(self.runtime, self._engine.invoke, self._read)

    def _layer_times(self, arrays: list[Array], inferences: int) -> list[KernelTime]:
        raise UsageError(
            "LiteRT gives no times per operator to Python; its C++ tool does: "
            "benchmark_model --enable_op_profiling=true"
        )

    def clone(self) -> LiteRtSession:
        """The file opened again: interpreters share nothing."""
        return LiteRtSession(
            [self._file], self.inputs, self.outputs, threads=self.threads, options=self._options
        )

    def close(self) -> None:
        """Free the interpreter once a run in another thread has ended."""
        super().close()
        with self._lock:
            self._engine = None

    def _facts(self) -> dict[str, str]:
        return {
            "version": f"{self._package} {optional.version(self._package) or 'unknown'}",
            "precision": "as in the graph",
        }


def _nchw(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(_TO_NCHW))


def _layout(options: Mapping[str, str]) -> str:
    check_options("litert", options, ("layout",))
    layout = options.get("layout", "NHWC")
    if layout not in _LAYOUTS:
        raise UsageError(f"litert: layout {layout!r} is none of {', '.join(_LAYOUTS)}")
    return layout


# ---- the package -----------------------------------------------------------------------------


def _import() -> tuple[str, ModuleType]:
    """The interpreter's module and the package it came from."""
    row = RUNTIMES["litert"]
    package = provider(row)
    if package is None:
        raise MissingDependencyError("running .tflite files", row.imports[0], row.remedy)
    conflict = numpy_conflict(package)
    if conflict:
        raise MissingDependencyError(
            "running .tflite files",
            "a numpy that tflite_runtime was built for",
            f"{conflict}, or {row.remedy}",
            detail=f"numpy {np.__version__} is, and it fails with numpy 2",
        )
    try:
        return package, importlib.import_module(f"{package}.interpreter")
    except ImportError as error:
        raise MissingDependencyError(
            "running .tflite files", package, row.remedy, detail=f"its import fails: {error}"
        ) from error


def _open(file: Path, threads: int) -> tuple[str, Any]:
    package, module = _import()
    try:
        with _quiet():
            engine = module.Interpreter(model_path=str(file), num_threads=threads)
            engine.allocate_tensors()
    except (ValueError, RuntimeError, SystemError) as error:
        raise BundleError(f"litert cannot open {file.name}: {error}") from error
    return package, engine


_QUIET = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the C++ library's start-up lines ("INFO: Created ... delegate") off stderr.

    It writes to the file descriptor and has no setting for it. What it says about a failure is
    in the exception as well.
    """
    with _QUIET:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, AttributeError, ValueError):  # no stderr: nothing to keep quiet
            yield
            return
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


# ---- tensors ---------------------------------------------------------------------------------

_Tensor = tuple[TensorSpec, int]  # as the file has it, and its index in the interpreter


def _tensors(engine: Any) -> tuple[list[_Tensor], list[_Tensor]]:
    """Inputs and outputs, named by the signature when the file has one."""
    takes, gives = engine.get_input_details(), engine.get_output_details()
    if SIGNATURE not in engine.get_signature_list():
        return _named({d["name"]: d for d in takes}, takes), _named(
            {d["name"]: d for d in gives}, gives
        )
    runner = engine.get_signature_runner(SIGNATURE)
    return _named(runner.get_input_details(), takes), _named(runner.get_output_details(), gives)


def _named(
    details: Mapping[str, Mapping[str, Any]], in_order: Sequence[Mapping[str, Any]]
) -> list[_Tensor]:
    """Tensors in the order of the graph; a signature's own order is alphabetical."""
    place = {detail["index"]: place for place, detail in enumerate(in_order)}
    rows = sorted(details.items(), key=lambda item: place.get(item[1]["index"], len(place)))
    return [
        (
            TensorSpec(name, np.dtype(row["dtype"]).name, tuple(int(n) for n in row["shape"])),
            int(row["index"]),
        )
        for name, row in rows
    ]


def _bind(
    specs: Sequence[TensorSpec],
    tensors: Sequence[_Tensor],
    kind: str,
    file: Path,
    layout: str,
    axes: tuple[int, ...],
) -> tuple[tuple[int, tuple[int, ...] | None], ...]:
    """Per spec: the tensor's index and the transposition to apply, or None."""
    order = match_names(specs, [tensor.name for tensor, _ in tensors], kind, file)
    bound = []
    for spec, position in zip(specs, order, strict=True):
        tensor, index = tensors[position]
        converts = _converts(spec, tensor, kind, file, layout)
        bound.append((index, axes if converts else None))
    return tuple(bound)


def _converts(spec: TensorSpec, tensor: TensorSpec, kind: str, file: Path, layout: str) -> bool:
    """Whether ``spec`` lies in the file as NHWC: the rule in the module's docstring."""
    if tensor.dtype == spec.dtype:
        may_convert = layout == "NHWC" and len(spec.shape) == 4
        if may_convert and fits(tensor.shape, [spec.shape[axis] for axis in _TO_NHWC]):
            return True
        if fits(tensor.shape, spec.shape):
            return False
    raise BundleError(
        f"{file.name}: {kind} {spec.name!r} is {tensor.dtype} {tensor.shape} in the file, "
        f"{spec.dtype} {spec.shape} in the manifest"
    )
