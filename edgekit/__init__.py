"""edgekit takes a tiny model from training to a measured deployment.

    import edgekit
    edgekit.export_zoo("micronet-m1", "rpi4")                     # writes ./micronet-m1-rpi4
    edgekit.export_model(module, example_inputs, target="rpi4")   # your own torch module
    model = edgekit.load("micronet-m1-rpi4")
    model.predict("cat.jpg")                                      # [("label", score), ...]

Every name is imported when it is first used: ``import edgekit`` alone costs milliseconds and
brings in neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.bundle import Bundle, open_bundle
    from edgekit.errors import (
        BundleError,
        DeviceError,
        EdgekitError,
        InputError,
        MissingDependencyError,
        ParityError,
        UsageError,
    )
    from edgekit.export.pipeline import export_model, export_onnx, export_zoo
    from edgekit.export.sources import ImageFacts
    from edgekit.models.zoo import list_models
    from edgekit.profiling.profile import profile_bundle
    from edgekit.runtimes.finish import finish_bundle
    from edgekit.runtimes.loading import load
    from edgekit.runtimes.model import Model
    from edgekit.runtimes.session import Session

__version__ = "0.1.0"

# Public name -> the module that has it.
_HOMES = {
    "load": "edgekit.runtimes.loading",
    "Model": "edgekit.runtimes.model",
    "Session": "edgekit.runtimes.session",
    "open_bundle": "edgekit.bundle",
    "Bundle": "edgekit.bundle",
    "export_model": "edgekit.export.pipeline",
    "export_onnx": "edgekit.export.pipeline",
    "export_zoo": "edgekit.export.pipeline",
    "ImageFacts": "edgekit.export.sources",
    "finish_bundle": "edgekit.runtimes.finish",
    "list_models": "edgekit.models.zoo",
    "profile_bundle": "edgekit.profiling.profile",
    "EdgekitError": "edgekit.errors",
    "UsageError": "edgekit.errors",
    "InputError": "edgekit.errors",
    "BundleError": "edgekit.errors",
    "ParityError": "edgekit.errors",
    "DeviceError": "edgekit.errors",
    "MissingDependencyError": "edgekit.errors",
}

__all__ = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "EdgekitError",
    "ImageFacts",
    "InputError",
    "MissingDependencyError",
    "Model",
    "ParityError",
    "Session",
    "UsageError",
    "__version__",
    "export_model",
    "export_onnx",
    "export_zoo",
    "finish_bundle",
    "list_models",
    "load",
    "open_bundle",
    "profile_bundle",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value  # from now on an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
