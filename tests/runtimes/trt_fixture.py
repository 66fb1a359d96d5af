"""A device made of doubles, for the tests of everything that runs a plan."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgekit.bundle import (
    Artifact,
    Manifest,
    ModelFacts,
    TensorSpec,
    WeightsFacts,
    golden_bytes,
    write_bundle,
)
from edgekit.runtimes import cudart, trt_vendor
from tests.runtimes import trt_double
from tests.runtimes.cuda_double import CudaDouble

INPUTS = (TensorSpec("image", "float32", (1, 3, 4, 4), "NCHW"),)
OUTPUTS = (TensorSpec("logits", "float32", (1, 2), "NC"), TensorSpec("pooled", "float32", (1, 3)))


@dataclass
class Board:
    """The doubles, installed."""

    cuda: CudaDouble
    trt: ModuleType

    @property
    def trouble(self) -> trt_double.Trouble:
        trouble: trt_double.Trouble = self.trt.trouble
        return trouble


def install(monkeypatch, *, version="10.3.0", **cuda):
    """Make ``import tensorrt`` and libcudart of this process the doubles."""
    double = CudaDouble(**cuda)
    trt = trt_double.make(double, version)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(trt_vendor, "is_installed", lambda name: name == "tensorrt")
    monkeypatch.setattr(trt_vendor, "_LOG", trt_vendor._Log())
    monkeypatch.setattr(cudart, "load", lambda: cudart.Cudart(double))
    return Board(double, trt)


def model_bytes(op="Relu"):
    """image -> op -> mean -> pooled, and -> Gemm -> logits; nodes have names."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(2, 3)).astype("f4"), "w")
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        helper.make_node(op, ["image"], ["a"], name="stem/act"),
        helper.make_node("ReduceMean", ["a", "axes"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["pooled", "w"], ["logits"], name="head", transB=1),
    ]
    values = {
        spec.name: helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape)
        for spec in (*INPUTS, *OUTPUTS)
    }
    graph = helper.make_graph(
        nodes, "g", [values["image"]], [values["logits"], values["pooled"]], [weights, axes]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def sample_input(seed=1):
    rng = np.random.default_rng(seed)
    return {"image": rng.normal(size=INPUTS[0].shape).astype("f4")}


def expected(inputs, data=None):
    """What the model computes, by plain onnxruntime."""
    session = ort.InferenceSession(data or model_bytes(), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in OUTPUTS]
    return dict(zip(names, session.run(names, inputs), strict=True))


def make_bundle(folder: Path, *, runtime="tensorrt", precision="fp32", data=None):
    """A bundle with one artifact."""
    data = data or model_bytes()
    golden = sample_input(0)
    manifest = Manifest(
        model=ModelFacts("toy", "toy", "features", 6, 6, 0),
        weights=WeightsFacts("random", "0" * 64, random=True),
        target="jetson",
        precision=precision,
        opset=18,
        inputs=INPUTS,
        outputs=OUTPUTS,
        preprocessing=None,
        labels=None,
        golden="golden.npz",
        passes=(),
        artifacts=(Artifact(runtime, ("model.onnx",), (), None, 6, {}),),
        skipped=(),
        tools={},
        files={},
    )
    files = {"model.onnx": data, "golden.npz": golden_bytes(golden, expected(golden, data))}
    path = folder / "toy-jetson"
    write_bundle(path, manifest, files, force=True)
    return path
