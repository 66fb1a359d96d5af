"""Versions of what made a bundle: same inputs and same tools give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.optional import version

_ALWAYS = ("edgekit", "numpy", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "torch")
_OF_RUNTIME = {
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert", "flatbuffers"),
    "tensorrt": ("tensorrt_rtx",),
}


def tool_versions(runtimes: Iterable[str]) -> dict[str, str]:
    """Import name -> version, for the tools that took part in an export for ``runtimes``."""
    names = {*_ALWAYS, *(name for runtime in runtimes for name in _OF_RUNTIME.get(runtime, ()))}
    found = {name: version(name) for name in sorted(names)}
    return {name: number for name, number in found.items() if number is not None}
