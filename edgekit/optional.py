"""Optional packages: imported late, and when absent, answered with the exact pip line.

``EXTRAS`` maps each optional import to the extra of edgekit that brings it.
Nothing is ever installed on the user's behalf.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgekit.errors import MissingDependencyError

# import name -> (distribution on the package index, extra of edgekit)
EXTRAS: dict[str, tuple[str, str]] = {
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino"),
    "ai_edge_litert": ("ai-edge-litert", "tflite"),
    "flatbuffers": ("flatbuffers", "export"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt"),
    "torch": ("torch", "export"),
    "onnx": ("onnx", "export"),
    "onnx_ir": ("onnx-ir", "export"),
    "onnxscript": ("onnxscript", "export"),
    "safetensors": ("safetensors", "export"),
    "accelerate": ("accelerate", "train"),
    "datasets": ("datasets", "train"),
    "kornia": ("kornia", "train"),
    "sklearn": ("scikit-learn", "train"),
    "tensorboard": ("tensorboard", "train"),
    "tomli_w": ("tomli-w", "train"),
    "tokenizers": ("tokenizers", "vlm"),
}

# Import name -> distribution, where they differ and every install of edgekit brings it.
_BASE = {"PIL": "pillow"}

# torch's default wheel brings gigabytes of CUDA: the version that is tested is
# named on the same line as everything that needs it.
_TORCH_PIN = '"torch==2.13.0" '


def pip_line(extra: str) -> str:
    """The exact command that installs an extra of edgekit."""
    pin = _TORCH_PIN if extra in ("export", "train", "all") else ""
    return f'pip install {pin}"edgekit[{extra}]"'


def is_installed(name: str) -> bool:
    """Whether top-level package ``name`` can be found; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def version(name: str) -> str | None:
    """Version of the distribution behind import ``name``, or None when not installed."""
    distribution = EXTRAS.get(name, (name, ""))[0]
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


# Both runtimes report to their vendors unless told not to before they are imported.
_SILENCING_ENVIRONMENT = {"onnxruntime": {"ORT_DISABLE_TELEMETRY": "1"}}
# OpenVINO's reporter is a package of its own; without it OpenVINO takes the stub that it ships.
_REPORTERS = {"openvino": "openvino_telemetry"}


def require(name: str, feature: str) -> ModuleType:
    """Import ``name`` (a dotted path is fine) or say how to get it; telemetry stays off.

    Raises:
        MissingDependencyError: not installed, or installed and broken.
    """
    top = name.partition(".")[0]
    try:
        with _silent(top):
            return importlib.import_module(name)
    except ImportError as error:
        distribution, extra = EXTRAS.get(top, (_BASE.get(top, top), ""))
        remedy = pip_line(extra) if extra else f"pip install {distribution}"
        detail = "" if not is_installed(top) else f"installed, but its import fails: {error}"
        raise MissingDependencyError(feature, distribution, remedy, detail=detail) from error


@contextmanager
def _silent(package: str) -> Iterator[None]:
    """Import ``package`` in here, and it does not report to its vendor."""
    for variable, value in _SILENCING_ENVIRONMENT.get(package, {}).items():
        os.environ.setdefault(variable, value)
    reporter = _REPORTERS.get(package)
    if reporter is None or reporter in sys.modules:
        yield
        return
    sys.modules[reporter] = None  # type: ignore[assignment] # an import of it fails
    try:
        yield
    finally:
        del sys.modules[reporter]
