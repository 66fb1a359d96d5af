"""The graph as one ONNX file: what onnxruntime and TensorRT open."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgekit.errors import GraphError

# protobuf refuses to serialise more; tiny models are three orders of magnitude below it.
_PROTOBUF_LIMIT = 2**31 - 1


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """``model`` as a checked ONNX message, weights inside.

    Raises:
        GraphError: the graph is not valid ONNX.
    """
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise GraphError(f"the graph is not valid ONNX: {first_line}") from error
    return proto


def to_bytes(model: ir.Model) -> bytes:
    """``model`` as the bytes of a single ``.onnx`` file; equal graphs give equal bytes.

    Raises:
        GraphError: the graph is not valid ONNX, or too large for a single file.
    """
    proto = to_proto(model)
    size = proto.ByteSize()
    if size > _PROTOBUF_LIMIT:
        raise GraphError(f"the graph takes {size} bytes and one ONNX file holds {_PROTOBUF_LIMIT}")
    return bytes(proto.SerializeToString(deterministic=True))


def lower_onnx(model: ir.Model) -> dict[str, bytes]:
    """Lowering for onnxruntime."""
    return {"model.onnx": to_bytes(model)}
