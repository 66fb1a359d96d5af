"""What precision a graph is in: it lives in the graph, as types and Q/DQ nodes, not in a flag."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.errors import GraphError

_HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinear", "Integer")


def check_fp32(model: ir.Model) -> None:
    """Make sure that a bundle that says fp32 holds nothing coarser.

    Raises:
        GraphError: a half-precision value or a quantised operator; the message names it.
    """
    constants = model.graph.initializers.values()
    for value in (*model.graph.inputs, *constants, *(v for n in model.graph for v in n.outputs)):
        if value.dtype in _HALF:
            raise GraphError(
                f"{value.name!r} is {str(value.dtype).lower()}, and only fp32 is exported so far: "
                "export the float32 model (in torch, model.float())"
            )
    for node in model.graph:
        if any(part in node.op_type for part in _QUANTISED):
            raise GraphError(
                f"{node.op_type} at node {node.name!r}: the model is quantised, and only fp32 is "
                "exported so far: export the float model"
            )
