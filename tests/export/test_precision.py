"""A bundle that says fp32 holds nothing coarser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import edgekit
from edgekit.errors import GraphError
from edgekit.export.precision import check_fp32


def _graph(dtype: int, *nodes: tuple[str, list[str], list[str]]) -> ir.Model:
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, f"the_{op}") for op, ins, outs in nodes],
        "g",
        [helper.make_tensor_value_info("x", dtype, [2, 2])],
        [helper.make_tensor_value_info("y", dtype, [2, 2])],
        [
            numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "z"),
        ],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def test_float32_passes() -> None:
    check_fp32(_graph(TensorProto.FLOAT, ("Relu", ["x"], ["y"])))


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_named(dtype: int) -> None:
    with pytest.raises(GraphError, match=r"'x' is b?float16, and only fp32"):
        check_fp32(_graph(dtype, ("Relu", ["x"], ["y"])))


def test_a_quantised_graph_is_named() -> None:
    model = _graph(
        TensorProto.FLOAT,
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["y"]),
    )
    with pytest.raises(GraphError, match="QuantizeLinear at node 'the_QuantizeLinear'.*quantised"):
        check_fp32(model)


def test_a_half_module_makes_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="only fp32 is exported so far"):
        edgekit.export_model(
            nn.Linear(4, 4).half(),
            torch.ones(1, 4, dtype=torch.float16),
            target="x86",
            out=tmp_path / "b",
        )
    assert list(tmp_path.iterdir()) == []
