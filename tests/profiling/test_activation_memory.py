"""Peak memory of small graphs, by hand."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgekit.profiling.counts import count_graph

_TEXT = """<ir_version: 8, opset_import: ["" : 18]>
g (float[1,16] x) => (float[1,{out}] y) <float[16,64] w = {w}, float[64,4] v = {v}>
{{ {body} }}"""


# Bytes of float32: x 64, h 256, y 16 or 256.
GRAPHS: dict[str, tuple[str, int, int]] = {
    "x and h, then h and y": ("h = MatMul(x, w) y = MatMul(h, v)", 4, 64 + 256),
    "nothing in place": ("h = MatMul(x, w) y = Relu(h)", 64, 256 + 256),
    "x lives on for a later reader": (
        "h = MatMul(x, w) a = Relu(h) b = MatMul(x, w) y = Add(a, b)",
        64,
        3 * 256,
    ),
    "a view takes nothing": (
        "h = MatMul(x, w) r = Identity(h) q = Identity(r) y = Relu(q)",
        64,
        2 * 256,
    ),
    "a view keeps what it views": (
        "h = MatMul(x, w) r = Identity(h) a = Relu(h) b = Relu(a) y = Add(b, r)",
        64,
        3 * 256,
    ),
    "what nobody reads dies at once": (
        "h = MatMul(x, w) dead = Relu(h) y = Relu(h)",
        64,
        2 * 256,
    ),
}


def _ones(count: int) -> str:
    return f"{{{', '.join(['1.0'] * count)}}}"


def _model(body: str, out: int) -> ir.Model:
    model = ir.from_onnx_text(_TEXT.format(body=body, out=out, w=_ones(1024), v=_ones(256)))
    for node in model.graph:
        for value in node.outputs:
            value.shape, value.dtype = ir.Shape([1, 64]), ir.DataType.FLOAT
    model.graph.outputs[0].shape = ir.Shape([1, out])
    return model


@pytest.mark.parametrize("name", GRAPHS)
def test_peak_is_what_is_alive_at_once(name: str) -> None:
    body, out, peak = GRAPHS[name]
    assert count_graph(_model(body, out)).peak_activation_bytes == peak


def test_the_peak_has_a_place() -> None:
    model = _model("h = MatMul(x, w) a = Relu(h) y = MatMul(a, v)", 4)
    model.graph[1].name = "the relu"
    assert count_graph(model).peak_at == "the relu"


def test_smaller_types_take_less() -> None:
    model = _model("h = MatMul(x, w) y = Relu(h)", 64)
    for value in (model.graph[0].outputs[0], model.graph[1].outputs[0]):
        value.dtype = ir.DataType.FLOAT16
    assert count_graph(model).peak_activation_bytes == 2 * 128


def test_texts_have_no_size() -> None:
    model = _model("h = MatMul(x, w) y = Relu(h)", 64)
    model.graph[0].outputs[0].dtype = ir.DataType.STRING
    assert count_graph(model).peak_activation_bytes is None
