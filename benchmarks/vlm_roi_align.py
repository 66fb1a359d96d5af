"""RoIAlign in numpy, or in the graph?

    taskset -c 1 python benchmarks/vlm_roi_align.py

300 boxes of random sizes read the maps of a 384 x 512 canvas, in turns in one process on a thread:

    numpy     what the bundle's runtime does between two graphs
    gather    a graph of Gather, Reshape and MatMul that every runtime has, fed with the indices and
              shares that numpy computes, which is part of its time
    RoiAlign  ONNX's operator on each of the four maps, and the right one of the four results;
              TFLite has none

All give the same numbers. The table is why the bundle does it in numpy or in the graph.
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
from numpy.typing import NDArray
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.export.lowerings import LOWERINGS
from edgekit.models.minivlm.specs import TEE0
from edgekit.runtimes import open_session
from edgekit.runtimes.session import Session
from edgekit.runtimes.vision_language import regions

CANVAS = (384, 512)
ROUNDS = 30
SAME = 1e-4
_SAMPLED = TEE0.pooled * TEE0.samples * 2  # cells along an axis that a box reads
_SIZES = regions.map_sizes(*CANVAS)[: regions.POOLED]

Call = Callable[[], NDArray[np.float32]]


def main() -> int:
    """Build, compare, time in turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(sum(h * w for h, w in _SIZES), TEE0.width)).astype(np.float32)
    boxes = _boxes(rng)
    calls: dict[str, Call] = {"numpy": lambda: _numpy(cells, boxes)}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in ("onnxruntime", "openvino", "litert"):
            session = _open(_gather_graph(len(cells)), runtime, Path(folder) / f"g-{runtime}")
            calls[f"gather, {runtime}"] = _gather(session, cells, boxes)
        for runtime in ("onnxruntime", "openvino"):
            session = _open(_operator_graph(), runtime, Path(folder) / f"r-{runtime}")
            calls[f"RoiAlign, {runtime}"] = _operator(session, cells, boxes)
        _compare(calls)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                begun = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - begun) * 1e3)
    print("| form | p10 ms | median ms |\n|-|-:|-:|")
    for name, each in times.items():
        print(f"| {name} | {np.quantile(each, 0.1):.2f} | {statistics.median(each):.2f} |")
    return 0


def _boxes(rng: np.random.Generator) -> NDArray[np.float32]:
    """Centres anywhere, sides from 16 pixels to the whole image."""
    centres = rng.uniform(0, 1, (TEE0.proposals, 2)) * (CANVAS[1], CANVAS[0])
    halves = 2 ** rng.uniform(3, 8, (TEE0.proposals, 2))
    boxes = np.concatenate([centres - halves, centres + halves], 1).astype(np.float32)
    return regions.clip(boxes, *CANVAS)


def _numpy(cells: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return regions.roi_align(cells, CANVAS, boxes, TEE0.pooled, TEE0.samples)


def _compare(calls: dict[str, Call]) -> None:
    wanted = calls["numpy"]()
    for name, call in calls.items():
        apart = float(np.abs(call() - wanted).max() / np.abs(wanted).max())
        if apart > SAME:
            raise SystemExit(f"{name} is not the same function: {apart:.1e}")


def _open(model: onnx.ModelProto, runtime: str, folder: Path) -> Session:
    folder.mkdir()
    paths = []
    for name, data in LOWERINGS[runtime].lower(ir.from_proto(model)).items():
        (folder / name).write_bytes(data)
        paths.append(folder / name)
    return open_session(runtime, paths)


def _model(nodes: list[Any], inputs: list[Any], output: Any, constants: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "roi", inputs, [output], constants)
    opset = [helper.make_opsetid("", 18)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opset, ir_version=8)
    )


def _float(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


# ---- gather ------------------------------------------------------------------------------------


def _gather_graph(count: int) -> Any:
    bins, read = TEE0.proposals * TEE0.pooled**2, (_SAMPLED // TEE0.pooled) ** 2
    nodes = [
        helper.make_node("Gather", ["cells", "index"], ["read"], name="gather"),
        helper.make_node("MatMul", ["shares", "read"], ["mean"], name="mean"),
        helper.make_node("Reshape", ["mean", "shape"], ["pooled"], name="shape_it"),
    ]
    index = helper.make_tensor_value_info("index", TensorProto.INT32, (bins, read))
    inputs = [_float("cells", count, TEE0.width), index, _float("shares", bins, 1, read)]
    shape = np.array([TEE0.proposals, TEE0.pooled**2, TEE0.width])
    output = _float("pooled", *shape.tolist())
    return _model(nodes, inputs, output, [onnx.numpy_helper.from_array(shape, "shape")])


def _gather(session: Session, cells: NDArray[np.float32], boxes: NDArray[np.float32]) -> Call:
    sizes = np.array(_SIZES)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(1))])
    side, each = TEE0.pooled, _SAMPLED // TEE0.pooled

    def call() -> NDArray[np.float32]:
        level = regions.level_of(boxes)
        scaled = boxes / np.array(regions.STRIDES[:4], np.float32)[level, None]
        count = side * TEE0.samples
        row, row_share = regions._points(scaled[:, 1], scaled[:, 3], sizes[level, 0], count)
        column, share = regions._points(scaled[:, 0], scaled[:, 2], sizes[level, 1], count)
        first = (starts[level][:, None] + row * sizes[level, 1][:, None]).reshape(
            -1, side, 1, each, 1
        )
        index = first + column.reshape(-1, 1, side, 1, each)
        both = row_share.reshape(-1, side, 1, each, 1) * share.reshape(-1, 1, side, 1, each)
        both /= TEE0.samples**2
        given = {
            "cells": cells,
            "index": index.reshape(-1, each * each).astype(np.int32),
            "shares": both.reshape(-1, 1, each * each),
        }
        return np.asarray(session.run(given)["pooled"], np.float32)

    return call


# ---- RoiAlign ----------------------------------------------------------------------------------


def _operator_graph() -> Any:
    count, side = TEE0.proposals, TEE0.pooled
    inputs = [_float("boxes", count, 4)]
    nodes = []
    for level, (height, width) in enumerate(_SIZES):
        inputs += [_float(f"map{level}", 1, TEE0.width, height, width)]
        nodes.append(
            helper.make_node(
                "RoiAlign", [f"map{level}", "boxes", "images"], [f"read{level}"],
                name=f"read_{level}", output_height=side, output_width=side,
                sampling_ratio=TEE0.samples, spatial_scale=1 / regions.STRIDES[level],
                coordinate_transformation_mode="output_half_pixel",
            )
        )  # fmt: skip
        inputs.append(_float(f"is{level}", count, 1, 1, 1))
        nodes.append(helper.make_node("Mul", [f"read{level}", f"is{level}"], [f"part{level}"]))
    nodes += [
        helper.make_node("Sum", [f"part{level}" for level in range(4)], ["sum"]),
        helper.make_node("Reshape", ["sum", "flat"], ["bins"]),
        helper.make_node("Transpose", ["bins"], ["pooled"], perm=[0, 2, 1]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.zeros(count, np.int64), "images"),
        onnx.numpy_helper.from_array(np.array([count, TEE0.width, side * side]), "flat"),
    ]
    return _model(nodes, inputs, _float("pooled", count, side * side, TEE0.width), constants)


def _operator(session: Session, cells: NDArray[np.float32], boxes: NDArray[np.float32]) -> Call:
    starts = np.cumsum([0, *(h * w for h, w in _SIZES)])
    maps = {
        f"map{n}": np.ascontiguousarray(
            cells[starts[n] : starts[n + 1]].reshape(1, *size, TEE0.width).transpose(0, 3, 1, 2)
        )
        for n, size in enumerate(_SIZES)
    }

    def call() -> NDArray[np.float32]:
        level = regions.level_of(boxes)
        flags = {f"is{n}": (level == n).astype(np.float32)[:, None, None, None] for n in range(4)}
        return np.asarray(session.run({"boxes": boxes, **maps, **flags})["pooled"], np.float32)

    return call


if __name__ == "__main__":
    sys.exit(main())
