"""The operators: one small function each, and the table of them."""

from __future__ import annotations

from edgekit.export.tflite.emission import Emitter
from edgekit.export.tflite.ops.convolution import EMITTERS as CONVOLUTION
from edgekit.export.tflite.ops.elementwise import EMITTERS as ELEMENTWISE
from edgekit.export.tflite.ops.indexing import EMITTERS as INDEXING
from edgekit.export.tflite.ops.linear import EMITTERS as LINEAR
from edgekit.export.tflite.ops.normalization import EMITTERS as NORMALIZATION
from edgekit.export.tflite.ops.pooling import EMITTERS as POOLING
from edgekit.export.tflite.ops.reduction import EMITTERS as REDUCTION
from edgekit.export.tflite.ops.resizing import EMITTERS as RESIZING
from edgekit.export.tflite.ops.shaping import EMITTERS as SHAPING
from edgekit.export.tflite.ops.upsampling import EMITTERS as UPSAMPLING
from edgekit.export.tflite.reader import Op

# ONNX operator -> its emitter. Families of one form are rows in their file.
EMITTERS: dict[str, Emitter] = {
    **ELEMENTWISE,
    **CONVOLUTION,
    **UPSAMPLING,
    **POOLING,
    **LINEAR,
    **NORMALIZATION,
    **REDUCTION,
    **SHAPING,
    **INDEXING,
    **RESIZING,
}

# What is left out on purpose: ONNX operator -> why, and what to do.
_QUANTIZED = ("8-bit graphs are not lowered to TFLite", "export the float model")
_RECURRENT = ("TFLite has no such layer in one piece", "unroll it into MatMul and Sigmoid")
_CONTROL = ("only graphs without control flow are lowered", "export with the branch taken")

REFUSED: dict[str, tuple[str, str]] = {
    "DequantizeLinear": _QUANTIZED,
    "DynamicQuantizeLinear": _QUANTIZED,
    "QLinearConv": _QUANTIZED,
    "QuantizeLinear": _QUANTIZED,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    "If": _CONTROL,
    "Loop": _CONTROL,
    "Scan": _CONTROL,
    "Einsum": ("it has no fixed form", "write it as Transpose, Reshape and MatMul"),
    "NonMaxSuppression": (
        "the number of its results is not static",
        "end the model at boxes and scores, and select in the app",
    ),
}
_UNKNOWN = (
    "the TFLite lowering has no such operator",
    "write the model without it",
)


def emitter(op: Op) -> Emitter:
    """The emitter of ``op``.

    Raises:
        UnsupportedOperatorError: there is none.
    """
    if op.type not in EMITTERS:
        raise op.refusal(*REFUSED.get(op.type, _UNKNOWN))
    return EMITTERS[op.type]
