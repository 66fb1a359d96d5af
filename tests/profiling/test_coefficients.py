"""Which products count: each form that does, and each that looks like one and does not."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import pytest

from edgekit.profiling.coefficients import ACTIVATION, COEFFICIENT, PRODUCT, SCALING
from edgekit.profiling.counts import count_graph

# The body of a graph of x [1, 4, H, W] and the weights below, and what the last Mul is, that of y.
_HEAD = "g (float[1,4,{h},{w}] x, float[1,4] v) => (float[1,4,{h},{w}] y)"
_SIXTEEN = f"{{{', '.join(['1.0'] * 16)}}}"
_GRID = f"<float[4,4,2,2] grid = {{{', '.join(['1.0'] * 64)}}}, "
_WEIGHTS = (
    f"<float[4,4,1,1] k = {_SIXTEEN}, float[4,4] m = {_SIXTEEN}, "
    """
    float half = {0.5}, int64[2] hw = {2,3}, int64[1] one = {1},
    int64[1] two = {2}, int64[1] three = {3}, int64[4] back = {1,4,1,1},
    int64[4] order = {1,0,3,2}>"""
)

_SQUEEZE = "p = GlobalAveragePool(x) c = Conv(p, k) f = Sigmoid(c)"

FORMS: dict[str, tuple[str, str]] = {
    "squeeze and excitation": (f"{_SQUEEZE} y = Mul(x, f)", COEFFICIENT),
    "the other way round": (f"{_SQUEEZE} y = Mul(f, x)", COEFFICIENT),
    "a shuffled map": (f"{_SQUEEZE} z = Gather<axis = 1>(x, order) y = Mul(f, z)", COEFFICIENT),
    "of an earlier map": (f"z = Conv(x, k) {_SQUEEZE} y = Mul(f, z)", COEFFICIENT),
    "expanded to the map first": (
        f"{_SQUEEZE} n = Shape(x) e = Expand(f, n) y = Mul(e, x)",
        COEFFICIENT,
    ),
    "by linear layers": (
        """p = ReduceMean<keepdims = 0>(x, hw) l = Gemm(p, m) a = Relu(l) n = MatMul(a, m)
           h = HardSigmoid(n) r = Reshape(h, back) y = Mul(r, x)""",
        COEFFICIENT,
    ),
    "one axis after the other": (
        """p = ReduceMean<keepdims = 1>(x, three) q = ReduceMean<keepdims = 1>(p, two)
           c = Conv(q, k) y = Mul(c, x)""",
        COEFFICIENT,
    ),
    "by the maximum": ("p = ReduceMax(x, hw) c = Conv(p, k) y = Mul(c, x)", COEFFICIENT),
    "a choice of branches": (
        f"{_SQUEEZE} z = Softmax<axis = 1>(f) y = Mul(z, x)",
        COEFFICIENT,
    ),
    "on what was pooled before": (
        """b = GlobalAveragePool(x) z = Conv(b, k) p = GlobalAveragePool(z) c = Conv(p, k)
           f = Sigmoid(c) w = Mul(f, z) y = Add(w, x)""",
        COEFFICIENT,
    ),
    "on a vector, through more layers": (
        """p = ReduceMean<keepdims = 0>(x, hw) a = Gemm(p, m) b = Gemm(a, m) f = HardSigmoid(b)
           z = Gemm(p, m) w = Mul(f, z) r = Reshape(w, back) y = Add(r, x)""",
        COEFFICIENT,
    ),
    "on a vector, of the vector itself": (
        """p = ReduceMean<keepdims = 0>(x, hw) z = Gemm(p, m) b = Gemm(z, m) f = HardSigmoid(b)
           w = Mul(f, z) r = Reshape(w, back) y = Add(r, x)""",
        PRODUCT,
    ),
    "on a vector, as deep on either side": (
        """p = ReduceMean<keepdims = 0>(x, hw) b = Gemm(p, m) f = Sigmoid(b)
           z = Gemm(p, m) w = Mul(f, z) r = Reshape(w, back) y = Add(r, x)""",
        PRODUCT,
    ),
    "h-swish": ("g = HardSigmoid(x) y = Mul(x, g)", ACTIVATION),
    "h-swish, spelt out": (
        "a = Add(x, half) b = Clip(a) g = Div(b, half) y = Mul(g, x)",
        ACTIVATION,
    ),
    "h-swish behind the pool": (
        "p = GlobalAveragePool(x) z = Conv(p, k) g = HardSigmoid(z) w = Mul(z, g) y = Add(w, x)",
        ACTIVATION,
    ),
    "swish": ("z = Conv(x, k) g = Sigmoid(z) y = Mul(z, g)", ACTIVATION),
    "a square": ("y = Mul(x, x)", PRODUCT),
    "a normalisation": (
        """p = ReduceMean<keepdims = 1>(x, hw) z = Sub(x, p) q = Mul(z, z)
           v2 = ReduceMean<keepdims = 1>(q, hw) d = Sqrt(v2) r = Reciprocal(d) y = Mul(z, r)""",
        PRODUCT,
    ),
    "attention over positions": (
        "p = ReduceMean<keepdims = 1>(x, one) f = Sigmoid(p) y = Mul(f, x)",
        PRODUCT,
    ),
    "a gate of another branch": ("a = Conv(x, k) b = Sigmoid(a) y = Mul(x, b)", PRODUCT),
    "a second input": ("l = MatMul(v, m) r = Reshape(l, back) y = Mul(x, r)", PRODUCT),
    "a constant scale": ("y = Mul(x, half)", SCALING),
    "a scaled coefficient": (
        f"{_SQUEEZE} w = Mul(f, half) y = Add(w, x)",
        SCALING,
    ),
}


def _kinds(body: str, height: int, width: int, more: str = "<") -> list[tuple[str, int]]:
    """Kind and number of every product, those of a coefficient too."""
    head = _HEAD.format(h=height, w=width)
    text = f'<ir_version: 8, opset_import: ["" : 18]> {head} {more}{_WEIGHTS[1:]} {{ {body} }}'
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    model = ir.from_proto(proto)
    counts = count_graph(model)
    return [
        (node.other_kind or COEFFICIENT, node.other_multiplies + node.elementwise_multiplies)
        for node in counts.nodes
        if node.other_kind or node.elementwise_multiplies
    ]


@pytest.mark.parametrize("size", [(5, 6), (1, 1), (7, 1)])
@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_told_by_where_it_comes_from(name: str, size: tuple[int, int]) -> None:
    body, wanted = FORMS[name]
    kind, number = _kinds(body, *size)[-1]
    assert kind == wanted
    behind_the_pool = "w = Mul" in body  # else the product is y, as large as the map
    assert number == (4 if behind_the_pool else 4 * size[0] * size[1])


def test_a_convolution_of_all_that_a_pool_leaves_is_a_coefficient() -> None:
    """DCD's coefficient branch pools to 2 x 2; where the pool leaves more, a map is left."""
    pool = "p = AveragePool<kernel_shape = [{0}, {0}], strides = [{0}, {0}]>(x)"
    rest = "c = Conv(p, grid) z = Conv(x, k) w = Mul(c, z) y = Relu(w)"
    assert _kinds(f"{pool.format(2)} {rest}", 4, 4, _GRID)[-1] == (COEFFICIENT, 4 * 4 * 4)
    rest = """c = Conv(p, grid) n = Shape(x) e = Resize<mode = "nearest">(c, , , n)
              w = Mul(e, x) y = Relu(w)"""
    assert _kinds(f"{pool.format(2)} {rest}", 6, 6, _GRID)[-1] == (PRODUCT, 4 * 6 * 6)
