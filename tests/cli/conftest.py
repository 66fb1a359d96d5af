"""A small ONNX file of the user's own, and its bundle."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.cli import main

CLASSES = ("cat", "dog", "neither", "both")


def classifier(*, size):
    """Pooled colours to four classes: [1, 3, size, size] -> [1, 4]; "N" for a dynamic batch."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"], name="pool"),
        helper.make_node("Conv", ["pooled", "weight"], ["scores"], name="head"),
        helper.make_node("Flatten", ["scores"], ["logits"], name="flatten", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [*size[:1], 3, *size[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [size[0], 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "colours.onnx"
    onnx.save(classifier(size=(1, 32, 32)), path)
    return path


@pytest.fixture(scope="session")
def dynamic_onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "dynamic.onnx"
    onnx.save(classifier(size=("N", "H", "W")), path)
    return path


@pytest.fixture(scope="session")
def labels_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(CLASSES) + "\n")
    return path


@pytest.fixture(scope="session")
def bundle(onnx_file, labels_file, tmp_path_factory):
    """The file as a bundle for x86, made once by the command itself."""
    out = tmp_path_factory.mktemp("bundle") / "colours-x86"
    facts = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--labels", str(labels_file)]
    assert main(["export", str(onnx_file), "--target", "x86", "-o", str(out), "-q", *facts]) == 0
    return out
