"""ONNX to TFLite, in this process, with nothing but the schema's own classes.

    ir.Model --read--> list of Op --fuse--> list of Op --EMITTERS--> Operators --pack--> bytes

    reader.py    the graph as a list, shapes and dtypes checked
    fuse.py      what TFLite has in one piece
    layout.py    where the axes of a value lie in memory: NHWC without transpositions
    emission.py  what an emitter has at hand
    ops/         one function an ONNX operator, and the table of them
    schema.py    the file format

To add an operator, write its function in ``ops/`` and give it a row in ``EMITTERS``.
"""

from __future__ import annotations

import onnx_ir as ir

from edgekit.export.tflite.emission import Emission
from edgekit.export.tflite.fuse import fuse
from edgekit.export.tflite.layout import Held
from edgekit.export.tflite.ops import emitter
from edgekit.export.tflite.reader import Op, read

__all__ = ["lower_tflite"]


def lower_tflite(model: ir.Model) -> bytes:
    """The ``.tflite`` file that computes what ``model`` computes.

    Inputs and outputs keep their names (signature ``serving_default``) and dtypes; those with
    four axes are N, H, W, C in the file, all others as in ``model``. Equal models give equal
    bytes. ``model`` is not changed.

    Raises:
        GraphError: a shape is not static, a dtype is not one of TFLite's, or the opset is
            older than 13.
        UnsupportedOperatorError: an operator, or a setting of it, cannot be expressed exactly.
        MissingDependencyError: ``ai-edge-litert`` or ``flatbuffers`` is not installed.
    """
    graph = read(model)
    emission = Emission(graph)
    for op in fuse(graph):
        emission.bind(op, _emit(emission, op))
    return emission.pack()


def _emit(emission: Emission, op: Op) -> list[Held]:
    results = emitter(op)(emission, op)
    if not isinstance(results, Held):
        return list(results)
    # Further outputs (a Dropout's mask) are None unless somebody reads them.
    if any(value is not None for value in op.outputs[1:]):
        raise op.refusal("its second output is used", "use the first only")
    return [results] * len(op.outputs)
