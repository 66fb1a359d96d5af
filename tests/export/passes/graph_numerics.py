"""What the tests of the passes share: run a graph as it is written, and compare two graphs.

onnxruntime runs with its own optimiser off, in float64 where it has the kernels: then an exact
rewrite agrees to 1e-12, and a wrong one cannot hide in rounding.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float64]]


def to_double(model: ir.Model) -> ir.Model:
    """A clone of a float32 graph that computes in float64."""
    model = model.clone()
    for value in _values(model.graph):
        if value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(ir.DataType.DOUBLE)  # clones share their type objects
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float64), name=value.name)
    return model


def _values(graph: ir.Graph) -> list[ir.Value]:
    computed = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *computed]


def sample(model: ir.Model, seed: int) -> Tensors:
    """Random inputs; wide enough that every clamp of the graph is at work."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for value in model.graph.inputs:
        sizes = value.shape.numpy() if value.shape else ()
        draw = rng.normal(0.5, 2.0, sizes)
        inputs[str(value.name)] = draw.astype(value.dtype.numpy()) if value.dtype else draw
    return inputs


def run(model: ir.Model, inputs: Tensors) -> list[NDArray[np.float64]]:
    """Outputs of onnxruntime without optimisation; of the reference where it lacks kernels."""
    proto = ir.to_proto(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options)
    except Exception as error:  # its exceptions have no public base class
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        return list(onnx.reference.ReferenceEvaluator(proto).run(None, inputs))
    return list(session.run(None, inputs))


def relative_difference(before: ir.Model, after: ir.Model, *, seeds: int) -> float:
    """max|a - b| / max|b| over the outputs, the worst of ``seeds`` inputs."""
    worst = 0.0
    for seed in range(seeds):
        inputs = sample(before, seed)
        for b, a in zip(run(before, inputs), run(after, inputs), strict=True):
            assert a.shape == b.shape and np.isfinite(b).all() and np.abs(b).max() > 1e-3
            worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst
