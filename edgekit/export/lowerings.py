"""The lowerings, one row a runtime: graph in, files out, nothing about a model family inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgekit.export.onnx_file import lower_onnx
from edgekit.export.openvino_ir import lower_openvino
from edgekit.export.tensorrt_dialect import check_build, lower_tensorrt
from edgekit.export.tflite import lower_tflite


def _no_checks(files: Mapping[str, bytes]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Lowering:
    """How one runtime's files are made.

    Attributes:
        lower: graph -> {file name: bytes}, the file to open first standing first.
        host_runs: whether the host can run the files, so that parity is measured here.
        dynamic_batch: whether one file can take any number of images.
        check: what else is checked about the files, for the manifest.
    """

    lower: Callable[[ir.Model], dict[str, bytes]]
    host_runs: bool = True
    dynamic_batch: bool = False
    check: Callable[[Mapping[str, bytes]], Mapping[str, str]] = _no_checks


def _lower_litert(model: ir.Model) -> dict[str, bytes]:
    return {"model.tflite": lower_tflite(model)}


LOWERINGS: dict[str, Lowering] = {
    "onnxruntime": Lowering(lower_onnx, dynamic_batch=True),
    "openvino": Lowering(lower_openvino, dynamic_batch=True),
    # The lowering works every shape out beforehand, layouts and permutations too.
    "litert": Lowering(_lower_litert),
    # A plan is for the shapes of its graph, and runs on the GPU it was built for only: the device
    # proves it against the golden output.
    "tensorrt": Lowering(lower_tensorrt, host_runs=False, check=check_build),
}
