"""What ``Session.run`` costs on top of the bare runtime, for one 1x3x224x224 float32 image.

    python benchmarks/run_overhead.py [--rounds 40] [--calls 50]

The model computes almost nothing (average pool, so that every input value counts), so what is
measured is the way in and out. Bare and ``Session.run`` calls are interleaved in rounds, in one
process, on the same array. ``same layout`` passes the layout the runtime wants; ``converted``
passes the other one, where both sides must convert. Budget: 20 us at the median, same layout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from edgekit.bundle import TensorSpec
from edgekit.export.tflite import lower_tflite
from edgekit.runtimes import open_session

BUDGET_US = 20.0
SHAPE = (1, 3, 224, 224)
INPUTS = (TensorSpec("x", "float32", SHAPE, "NCHW"),)
OUTPUTS = (TensorSpec("y", "float32", (1, 3), "NC"),)

Call = Callable[[], Any]


def main() -> int:
    """Print one row a runtime and layout; exit 1 when one is over budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=50)
    arguments = parser.parse_args()
    print(
        f"{'runtime':<12}{'layout':<12}{'':>6}{'bare us':>9}{'run us':>9}{'more us':>9}{'ratio':>7}"
    )
    over = False
    with tempfile.TemporaryDirectory() as folder:
        files = _write_models(Path(folder))
        for runtime, bare in _BARE.items():
            for layout, array in _arrays(runtime).items():
                with open_session(runtime, [files[runtime]], INPUTS, OUTPUTS) as session:
                    ours = lambda s=session, a=array: s.run({"x": a})  # noqa: E731
                    times = _interleave(bare(files[runtime], array), ours, arguments)
                over |= _print_rows(runtime, layout, *times) and layout == "same"
    print(f"budget: {BUDGET_US:g} us more at the median, same layout:", "OVER" if over else "kept")
    return int(over)


def _print_rows(runtime: str, layout: str, bare: list[float], ours: list[float]) -> bool:
    """Print p10 and median; whether the median is over budget."""
    for name, pick in (("p10", _p10), ("median", statistics.median)):
        a, b = pick(bare), pick(ours)
        print(f"{runtime:<12}{layout:<12}{name:>6}{a:9.1f}{b:9.1f}{b - a:+9.1f}{b / a:7.2f}")
    return statistics.median(ours) - statistics.median(bare) > BUDGET_US


def _p10(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 10]


def _interleave(bare: Call, ours: Call, arguments: argparse.Namespace) -> tuple[list[float], ...]:
    """Microseconds of each call: rounds of bare, then of ours, alternating."""
    samples: tuple[list[float], list[float]] = ([], [])
    for call in (bare, ours):
        _time(call, arguments.calls)
    for _ in range(arguments.rounds):
        for call, kept in zip((bare, ours), samples, strict=True):
            kept += _time(call, arguments.calls)
    return samples


def _time(call: Call, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return times


# ---- the bare calls, set up as the sessions are ------------------------------------------------


def _bare_ort(file: Path, array: np.ndarray) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    engine = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: engine.run(["y"], {"x": np.ascontiguousarray(array)})


def _bare_openvino(file: Path, array: np.ndarray) -> Call:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = ov.Core().compile_model(str(file), "CPU", settings)
    # Its own callable, as its tutorials have it: shares inputs, copies outputs.
    return lambda: compiled(np.ascontiguousarray(array))


def _bare_litert(file: Path, array: np.ndarray) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    engine = Interpreter(model_path=str(file), num_threads=1)
    engine.allocate_tensors()
    takes, gives = engine.get_input_details()[0]["index"], engine.get_output_details()[0]["index"]

    def call() -> Any:
        engine.set_tensor(takes, np.ascontiguousarray(array.transpose(0, 2, 3, 1)))
        engine.invoke()
        return engine.get_tensor(gives)

    return call


_BARE = {"onnxruntime": _bare_ort, "openvino": _bare_openvino, "litert": _bare_litert}


def _arrays(runtime: str) -> dict[str, np.ndarray]:
    """The same image in NCHW memory, and as an NCHW view of NHWC memory."""
    nchw = np.random.default_rng(0).random(SHAPE, np.float32)
    view = np.ascontiguousarray(nchw.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    same, other = (view, nchw) if runtime == "litert" else (nchw, view)
    return {"same": same, "converted": other}


def _write_models(folder: Path) -> dict[str, Path]:
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["y"]),
        ],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.tflite").write_bytes(lower_tflite(ir.from_proto(model)))
    return {
        "onnxruntime": folder / "model.onnx",
        "openvino": folder / "model.onnx",
        "litert": folder / "model.tflite",
    }


if __name__ == "__main__":
    sys.exit(main())
