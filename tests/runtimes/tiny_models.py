"""Tiny models for every runtime, computing one function that a mixed-up layout would change.

    image (1, 4, H, W), bias (1, 4)  ->  pooled (1, 4) = mean(relu(image * gain)) + bias
                                         map (1, 4, H, W) = relu(image * gain)

``gain`` differs per channel. ``square`` has H = W = 4, where NCHW and NHWC look alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import openvino
from onnx import TensorProto, helper, numpy_helper

from edgekit.bundle import TensorSpec
from edgekit.export.tflite import lower_tflite

Array = npt.NDArray[np.float32]

SIZES = {"oblong": (6, 5), "square": (4, 4)}
GAIN = np.array([1.0, -2.0, 3.0, -4.0], np.float32).reshape(1, 4, 1, 1)
FILES = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "litert": ("model.tflite",),
}


def specs(form: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    shape = (1, 4, *SIZES[form])
    return (
        (TensorSpec("image", "float32", shape, "NCHW"), TensorSpec("bias", "float32", (1, 4))),
        (TensorSpec("pooled", "float32", (1, 4)), TensorSpec("map", "float32", shape, "NCHW")),
    )


def expected(inputs: dict[str, Array]) -> dict[str, Array]:
    """The function in numpy."""
    scaled = np.maximum(inputs["image"] * GAIN, 0)
    return {"pooled": scaled.mean((2, 3)) + inputs["bias"], "map": scaled}


def inputs(form: str, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal(spec.shape).astype(np.float32) for spec in specs(form)[0]
    }


def model(form: str) -> onnx.ModelProto:
    takes, gives = specs(form)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "gain"], ["scaled"]),
            helper.make_node("Relu", ["scaled"], ["map"]),
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Add", ["flat", "bias"], ["pooled"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(s.name, TensorProto.FLOAT, s.shape) for s in takes],
        [helper.make_tensor_value_info(s.name, TensorProto.FLOAT, s.shape) for s in gives],
        [numpy_helper.from_array(GAIN, "gain")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def write(folder: Path, form: str) -> Path:
    """All files of one form in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model(form), folder / "model.onnx")
    converted = openvino.convert_model(folder / "model.onnx")
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    (folder / "model.tflite").write_bytes(lower_tflite(ir.from_proto(model(form))))
    return folder
