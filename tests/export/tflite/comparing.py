"""Small ONNX graphs, run by unoptimised ONNX Runtime and, lowered, by LiteRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from edgekit.export.tflite import lower_tflite

Array = np.ndarray[Any, np.dtype[Any]]

CODES = {number: name for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"}


@dataclass(frozen=True)
class Const:
    """A constant input of a node."""

    data: Any

    def array(self) -> Array:
        data = np.asarray(self.data)
        return data.astype(np.float32) if data.dtype == np.float64 else data


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def single(
    op: str,
    inputs: Sequence[Array | Const | None],
    outputs: int = 1,
    opset: int = 18,
    typed_as: int | None = None,
    **attrs: Any,
) -> tuple[ir.Model, dict[str, Array]]:
    """A graph of one node, and values for its inputs.

    ``typed_as``: the input whose dtype and shape the output has, where ONNX infers none.
    """
    names = ["" if value is None else f"in{i}" for i, value in enumerate(inputs)]
    node = helper.make_node(
        op, names, [f"out{i}" for i in range(outputs)], name="the_node", **attrs
    )
    feeds = {n: v for n, v in zip(names, inputs, strict=True) if isinstance(v, np.ndarray)}
    constants = {n: v.array() for n, v in zip(names, inputs, strict=True) if isinstance(v, Const)}
    model = graph([node], feeds, constants, [f"out{i}" for i in range(outputs)], opset)
    if typed_as is not None:
        like = model.graph.inputs[typed_as]
        model.graph.outputs[0].type, model.graph.outputs[0].shape = like.type, like.shape
    return model, feeds


def graph(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array],
    outputs: Sequence[str],
    opset: int = 18,
) -> ir.Model:
    """A model whose inputs have the shapes of ``feeds``."""

    def info(name: str, value: Array) -> onnx.ValueInfoProto:
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        return helper.make_tensor_value_info(name, dtype, value.shape)

    proto = helper.make_graph(
        list(nodes),
        "graph",
        [info(name, value) for name, value in feeds.items()],
        [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return ir.from_proto(inferred)


def run_onnx(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_tflite(file: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """``feeds`` and results as ONNX has them: four axes are turned round at the border."""
    interpreter = Interpreter(model_content=file, num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    results = runner(**{name: _to_file(value) for name, value in feeds.items()})
    return {name: _from_file(value) for name, value in results.items()}


def _to_file(value: Array) -> Array:
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if value.ndim == 4 else value


def _from_file(value: Array) -> Array:
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def relative_error(result: Array, expected: Array) -> float:
    """max|a - b| / max|b|; infinite where shapes, dtypes or finiteness differ."""
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return float("inf")
    if not expected.size:
        return 0.0
    worst = np.abs(result.astype(np.float64) - expected.astype(np.float64)).max()
    scale = np.abs(expected.astype(np.float64)).max()
    if not np.isfinite(worst):
        return float("inf")
    return float(worst) if scale == 0 else float(worst / scale)


def check(model: ir.Model, feeds: Mapping[str, Array], *, tolerance: float) -> list[str]:
    """Assert that LiteRT computes what ONNX Runtime does; returns the operators of the file."""
    expected = run_onnx(model, feeds)
    file = lower_tflite(model)
    results = run_tflite(file, feeds)
    assert set(results) == set(expected)
    for name, value in expected.items():
        error = relative_error(results[name], value)
        assert error <= tolerance, f"{name}: {error:.2g} with {codes(file)}"
    return codes(file)


def codes(file: bytes) -> list[str]:
    """Operators of a file in order."""
    model = schema.ModelT.InitFromPackedBuf(file)
    kinds = [CODES[code.builtinCode] for code in model.operatorCodes]
    return [kinds[operator.opcodeIndex] for operator in model.subgraphs[0].operators]
