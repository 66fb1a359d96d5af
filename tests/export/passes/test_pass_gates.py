"""Pooling and gates in one form."""

from __future__ import annotations

import pytest

from edgekit.export.passes.gates import GlobalPool, LiftGates
from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.notation import parse, render
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double


def _run(graph_pass: GraphPass, text: str) -> tuple[str, tuple[str, ...]]:
    before = to_double(parse(text.replace("float", "double")))
    after, (record,) = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT
    return render(after).replace("double", "float"), record.notes


def _same(text: str) -> str:
    return render(parse(text))


@pytest.mark.parametrize(
    "pool",
    ["ReduceMean(x, [2, 3])", "ReduceMean(x, [-1, -2])", "ReduceMean(x, [3, 2], keepdims=0)",
     "AveragePool(x, kernel_shape=[3, 5])"],
)  # fmt: skip
def test_means_over_the_whole_map(pool: str) -> None:
    assert (
        "GlobalAveragePool" in _run(GlobalPool(), f"x: float[2, 4, 3, 5]\ny = {pool}\nreturn y")[0]
    )


@pytest.mark.parametrize(
    "pool",
    ["ReduceMean(x, [2])", "ReduceMean(x, [1, 2])", "ReduceMean(x)",
     "AveragePool(x, kernel_shape=[3, 3])",
     "AveragePool(x, kernel_shape=[3, 5], pads=[1, 0, 0, 0], strides=[2, 1])"],
)  # fmt: skip
def test_other_means_are_left_alone(pool: str) -> None:
    text = f"x: float[2, 4, 3, 5]\ny = {pool}\nreturn y"
    assert _run(GlobalPool(), text)[0] == _same(text)


def test_means_of_other_ranks_are_left_alone() -> None:
    text = "x: float[2, 4, 3]\ny = ReduceMean(x, [1, 2])\nreturn y"
    assert _run(GlobalPool(), text)[0] == _same(text)


def _gate(middle: str, end: str = "y = Mul(x, h)\nreturn y", batch: int = 1) -> str:
    return (
        f"x: float[{batch}, 8, 4, 4]\np = GlobalAveragePool(x)\na = Reshape(p, [{batch}, 8])\n"
        f"{middle}\nh = Reshape(g, [{batch}, 8, 1, 1])\n{end}"
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "middle",
    [
        "g = Gemm(a, w[8, 8], b[8])",
        "c = MatMul(a, w[8, 4])\nd = Add(c, b[4])\ne = Relu(d)\ng = Gemm(e, v[4, 8], transA=0)",
        "c = Mul(a, 0.5)\nd = Sub(1.0, c)\ng = Clip(d, 0.0, 6.0)",
        "c, d = Split(a, [4, 4], axis=-1)\ne = Tanh(c)\ng = Concat(d, e, axis=1)",
        "c = Gemm(a, w[8, 8])\nd = Sigmoid(c)\ng = Mul(a, d)",
        "c = Mul(a, s[1, 8])\ng = Max(c, l[8])",
    ],
)
def test_gates_of_many_kinds(middle: str, batch: int) -> None:
    result, notes = _run(LiftGates(), _gate(middle, batch=batch))
    assert "Reshape" not in result and "Gemm" not in result and notes == ()


def test_a_classifier_stays_a_classifier() -> None:
    text = """
        x: float[1, 8, 4, 4]
        p = GlobalAveragePool(x)
        a = Reshape(p, [1, 8])
        y = Gemm(a, w[8, 5])
        return y
    """
    assert _run(LiftGates(), text) == (_same(text), ())


@pytest.mark.parametrize(
    ("middle", "end", "reason"),
    [
        ("g = Gemm(a, w[8, 8])", "y = Mul(x, h)\nreturn y, g", "g is an output of the graph"),
        ("g = Gemm(a, w[8, 8])\ns = Softmax(g)", "y = Mul(x, h)\nreturn y, s",
         "its result is read as a matrix by s"),
        ("s = Softmax(a)\ng = Gemm(a, w[8, 8])\nt = Mul(g, s)", "y = Mul(x, h)\nreturn y, t",
         "its result is read as a matrix by s"),
        ("k = ReduceMean(x, [2, 3], keepdims=0)\ng = Mul(a, k)", "y = Mul(x, h)\nreturn y",
         "g also reads the matrix k"),
    ],
)  # fmt: skip
def test_what_is_also_a_matrix_is_refused(middle: str, end: str, reason: str) -> None:
    text = _gate(middle, end)
    result, notes = _run(LiftGates(), text)
    assert result == _same(text)
    assert notes == (f"not lifted at a: because {reason}",)
