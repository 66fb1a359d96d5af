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
