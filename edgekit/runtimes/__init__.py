"""The runtimes: one table, one way to open a model file with each.

    runtime      module     takes                thread safety
    onnxruntime  ort.py     .onnx                the engine's own
    openvino     ov.py      .xml + .bin, .onnx   a lock; clone() compiles again
    litert       litert.py  .tflite              a lock; clone() opens the file again
    tensorrt     trt.py     .onnx                a lock; clone() shares the plan
    null         null.py    any file             nothing is computed (tests, examples)

A vendor's library is imported in its one module only, when a session is opened.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekit import optional
from edgekit.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from edgekit.bundle import TensorSpec
    from edgekit.runtimes.session import Session


@dataclass(frozen=True)
class Runtime:
    """One row.

    Attributes:
        name: what the user types after ``--runtime``, and the key in manifests.
        title: its name in prose.
        session: ``"module:Class"`` of its ``Session``.
        imports: top-level packages that provide it, the preferred one first; none are needed
            for null.
        remedy: what to type when none of them is installed.
        suffixes: of the file to open first.
        threads: whether ``run`` may be called from several threads, and how that is done.
        note: what a user should know before relying on it.
        stand_ins: packages that open it where asked for by name and are never chosen.
        builds: whether it compiles the file on the device, and so proves it on the golden data
            when a bundle is opened.
        settings: options that a user may give, see its module.
    """

    name: str
    title: str
    session: str
    imports: tuple[str, ...]
    remedy: str
    suffixes: tuple[str, ...]
    threads: str
    note: str = ""
    stand_ins: tuple[str, ...] = ()
    builds: bool = False
    settings: tuple[str, ...] = ()


RUNTIMES: dict[str, Runtime] = {
    row.name: row
    for row in (
        Runtime(
            "onnxruntime",
            "ONNX Runtime",
            "edgekit.runtimes.ort:OrtSession",
            ("onnxruntime",),
            optional.pip_line("onnx"),
            (".onnx",),
            "runs concurrently; clone() shares the engine",
        ),
        Runtime(
            "openvino",
            "OpenVINO",
            "edgekit.runtimes.ov:OpenVinoSession",
            ("openvino",),
            optional.pip_line("openvino"),
            (".xml", ".onnx"),
            "one run at a time (lock); clone() compiles the model again",
        ),
        Runtime(
            "litert",
            "LiteRT (TFLite)",
            "edgekit.runtimes.litert:LiteRtSession",
            ("ai_edge_litert", "tflite_runtime"),
            optional.pip_line("tflite"),
            (".tflite",),
            "one run at a time (lock); clone() opens the file again",
            settings=("layout",),
        ),
        Runtime(
            "tensorrt",
            "TensorRT",
            "edgekit.runtimes.trt:TensorRtSession",
            ("tensorrt",),
            "on a Jetson it comes with JetPack, not from pip: sudo apt install python3-libnvinfer, "
            "then run edgekit with the system's /usr/bin/python3 or a venv made from it with "
            "--system-site-packages; on any other machine, run this on the Jetson instead",
            (".onnx",),
            "one run at a time (lock); clone() shares the plan",
            "not yet executed on a device",
            ("tensorrt_rtx",),
            builds=True,
            settings=("cuda_graph",),
        ),
        Runtime(
            "null",
            "none (zeros, for tests)",
            "edgekit.runtimes.null:NullSession",
            (),
            "",
            ("",),
            "runs concurrently",
            "computes nothing",
            settings=("output", "sleep_us", "drift"),
        ),
    )
}


def get_runtime(name: str) -> Runtime:
    """The row of ``name``.

    Raises:
        UnknownNameError: no such runtime.
    """
    if name not in RUNTIMES:
        known = [row.name for row in RUNTIMES.values() if row.imports]  # null is for tests
        raise UnknownNameError("runtime", name, known)
    return RUNTIMES[name]


def provider(row: Runtime) -> str | None:
    """The installed package that provides a runtime; "" when none is needed, None when none is."""
    if not row.imports:
        return ""
    return next((name for name in row.imports if optional.is_installed(name)), None)


def require_runtime(name: str) -> Runtime:
    """The row of ``name``, if its package is installed.

    Raises:
        UnknownNameError: no such runtime.
        MissingDependencyError: no package that provides it is installed.
    """
    row = get_runtime(name)
    if provider(row) is None and not _has_stand_in(row):
        raise MissingDependencyError(f"runtime {name!r}", row.imports[0], row.remedy)
    return row


def _has_stand_in(row: Runtime) -> bool:
    # On a board nothing stands in for what JetPack brings.
    return platform.machine() != "aarch64" and any(map(optional.is_installed, row.stand_ins))


def is_available(name: str) -> bool:
    """Whether the runtime's package is installed; it is not imported."""
    return provider(get_runtime(name)) is not None


def available() -> tuple[str, ...]:
    """Runtimes whose package is installed here, in the order of the table."""
    return tuple(name for name in RUNTIMES if is_available(name))


@dataclass(frozen=True)
class RuntimeStatus:
    """What ``edgekit doctor`` prints of one runtime.

    Attributes:
        runtime: the row.
        installed: whether a package that provides it is found.
        version: of that package, or "".
        works: whether it can be used, as far as can be told without importing it.
        remedy: what to type when it cannot, or "".
    """

    runtime: Runtime
    installed: bool
    version: str
    works: bool
    remedy: str


def status() -> tuple[RuntimeStatus, ...]:
    """One row a runtime. No vendor library is imported."""
    return tuple(_status(row) for row in RUNTIMES.values())


def _status(row: Runtime) -> RuntimeStatus:
    package = provider(row)
    if package is None:
        return RuntimeStatus(row, False, "", False, row.remedy)
    version = (optional.version(package) or "unknown") if package else ""
    remedy = numpy_conflict(package)
    return RuntimeStatus(row, True, version, not remedy, remedy)


def numpy_conflict(package: str) -> str:
    """What to type when ``package`` cannot run beside the installed numpy, or "".

    tflite_runtime 2.14 is compiled for numpy 1 and does not say so in its metadata: with
    numpy 2 it imports and then fails with "_ARRAY_API not found".
    """
    if package != "tflite_runtime":
        return ""
    major = (optional.version("numpy") or "0").partition(".")[0]
    return 'pip install "numpy<2"' if int(major) >= 2 else ""


def open_session(
    runtime: str,
    files: Sequence[Path],
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
    *,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Open model files with one runtime.

    Args:
        runtime: key of ``RUNTIMES``.
        files: the model; the first is the one to open.
        inputs: the bundle's interface; when empty, the file's own is taken.
        outputs: likewise.
        threads: how many threads to compute with.
        options: the runtime's own, see its module.

    Raises:
        UnknownNameError: no such runtime.
        MissingDependencyError: its package is not installed.
        BundleError: the runtime refuses the file.
    """
    row = require_runtime(runtime)
    module, _, name = row.session.partition(":")
    session_class = getattr(importlib.import_module(module), name)
    session = session_class(files, inputs, outputs, threads=threads, options=options or {})
    return cast("Session", session)
