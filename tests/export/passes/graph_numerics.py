"""What the tests of the passes share: run a graph as it is written, and compare two graphs.

onnxruntime runs with its own optimiser off and in float64: then an exact rewrite agrees to
1e-12, and a wrong one cannot hide in rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from edgekit.export.passes.graph import Builder, attribute, replace

Tensors = Mapping[str, NDArray[np.float64]]

EXACT = 1e-11  # float64, after some hundred nodes


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
        draw = rng.normal(0.5, 2.0, value.shape.numpy() if value.shape else ())
        inputs[str(value.name)] = draw.astype(value.dtype.numpy()) if value.dtype else draw
    return inputs


def run(model: ir.Model, inputs: Tensors) -> list[NDArray[np.float64]]:
    """Outputs of onnxruntime without optimisation; of the reference where it lacks kernels."""
    proto = ir.to_proto(_spelled_out(model))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options)
    except Exception as error:  # its exceptions have no public base class
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        return list(onnx.reference.ReferenceEvaluator(proto).run(None, dict(inputs)))
    return list(session.run(None, dict(inputs)))


def _spelled_out(model: ir.Model) -> ir.Model:
    """Hard activations as arithmetic: onnxruntime has no float64 kernels for them.

    Their slope is 1/6, which an attribute keeps in float32 only.
    """
    model = model.clone()
    for node in tuple(model.graph):
        if node.op_type in ("HardSigmoid", "HardSwish"):
            alpha = attribute(node, "alpha", 1 / 6)
            slope = 1 / 6 if np.float32(alpha) == np.float32(1 / 6) else alpha
            builder, x, beta = Builder(node), node.inputs[0], attribute(node, "beta", 0.5)
            assert x is not None and x.dtype is not None
            number = [builder.constant(n, "n", x.dtype.numpy()) for n in (slope, beta, 0.0, 1.0)]
            line = builder.one("Add", builder.one("Mul", x, number[0]), number[1])
            gate = builder.one("Clip", line, number[2], number[3])
            replace(
                node.outputs[0],
                gate if node.op_type == "HardSigmoid" else builder.one("Mul", x, gate),
            )
    return model


def relative_difference(before: ir.Model, after: ir.Model, *, seeds: int) -> float:
    """max|a - b| / max|b| over the outputs, the worst of ``seeds`` inputs."""
    samples = [sample(before, seed) for seed in range(seeds)]
    return max(worst_difference(run(before, x), run(after, x)) for x in samples)


def worst_difference(
    expected: Sequence[NDArray[np.float64]], found: Sequence[NDArray[np.float64]]
) -> float:
    """max|a - b| / max|b|, the worst output; outputs that tell nothing are an error."""
    worst = 0.0
    for b, a in zip(expected, found, strict=True):
        assert a.shape == b.shape and np.isfinite(b).all() and np.abs(b).max() > 1e-3
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst
