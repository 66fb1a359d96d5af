"""Open a graph in a runtime and time several of them side by side: shared by the scripts here.

Bare runtime calls on one thread, without edgekit's sessions around them: what is compared is
the graph. OpenVINO computes in float32 (its own default is bfloat16 where the CPU has it).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

Call = Callable[[], object]

_OPENVINO = {
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
}


def open_engine(runtime: str, model: ir.Model) -> Call:
    """``model`` with one random input bound, ready to be called."""
    value = model.graph.inputs[0]
    sizes = value.shape.numpy() if value.shape else ()
    x = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    return _OPENERS[runtime](model, str(value.name), x)


def _onnxruntime(model: ir.Model, name: str, x: NDArray[np.float32]) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def _openvino(model: ir.Model, name: str, x: NDArray[np.float32]) -> Call:
    import openvino as ov

    core = ov.Core()
    read = core.read_model(io.BytesIO(ir.to_proto(model).SerializeToString()))
    request = core.compile_model(read, "CPU", _OPENVINO).create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return lambda: request.infer(share_outputs=True)


def _litert(model: ir.Model, name: str, x: NDArray[np.float32]) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.export.tflite import lower_tflite

    interpreter = Interpreter(model_content=lower_tflite(model), num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(index, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    return lambda: interpreter.invoke()


def plain_export(module: torch.nn.Module, size: int = 224) -> ir.Model:
    """The graph that PyTorch's exporter writes by itself, with its own optimisation."""
    image = torch.zeros(1, 3, size, size)
    program = torch.onnx.export(
        module.eval(), (image,), dynamo=True, opset_version=18, input_names=["image"],
        output_names=["logits"], verbose=False,
    )  # fmt: skip
    assert program is not None
    return program.model


def difference(wanted: Path, got: Path) -> float:
    """How far apart two graphs of one 224 x 224 image are, max|a - b| / max|b|."""
    import onnxruntime as ort

    x = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    b, a = (ort.InferenceSession(file).run(None, {"image": x})[0] for file in (wanted, got))
    return float(np.abs(a - b).max() / np.abs(b).max())


_OPENERS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}
RUNTIMES = tuple(_OPENERS)


def time_calls(calls: Sequence[Call], *, rounds: int, block_s: float) -> NDArray[np.float64]:
    """Microseconds per call, one row per call and one column per round, blocks interleaved.

    Each block repeats its call for about ``block_s`` seconds after one that does not count (it
    pays for the caches of the others).
    """
    repeats = [_repeats(call, block_s) for call in calls]
    times = np.empty((len(calls), rounds))
    for column in range(rounds):
        for row, call in enumerate(calls):
            call()
            start = time.perf_counter()
            for _ in range(repeats[row]):
                call()
            times[row, column] = (time.perf_counter() - start) / repeats[row] * 1e6
    return times


def _repeats(call: Call, block_s: float) -> int:
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    return max(1, int(block_s / max(time.perf_counter() - start, 1e-7)))
