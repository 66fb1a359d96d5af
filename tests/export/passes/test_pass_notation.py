"""Graphs as text."""

from __future__ import annotations

import pytest

from edgekit.errors import GraphError
from edgekit.export.passes.notation import parse, render

TEXT = """\
x: float[1, 8, 4, 4]
k: int64[2]
v1 = Conv(x, c1[8, 4, 1, 1], c2[8], group=2)
v2, v3 = Split(v1, [4, 4], axis=1)
v4 = Clip(v3, None, 6.0)
v5 = HardSigmoid(v4, alpha=0.166667, beta=0.5)
return v5, v2"""


def test_round_trip() -> None:
    assert render(parse(TEXT)) == TEXT


def test_indentation_and_comments_do_not_count() -> None:
    assert render(parse("   x: float[2]\n      y = Relu(x)  # so\n   return y")) == render(
        parse("x: float[2]\ny = Relu(x)\nreturn y")
    )


def test_defaults_are_not_shown() -> None:
    text = (
        "x: float[1, 2, 4, 4]\n"
        "y = Conv(x, w[2, 2, 1, 1], group=1, strides=[1, 1], pads=[0, 0, 0, 0])\n"
        "return y"
    )
    assert "Conv(x, c1[2, 2, 1, 1])\n" in render(parse(text))


def test_constants_of_one_name_are_shared_and_numbers_are_not() -> None:
    graph = parse(
        "x: float[2]\na = Mul(x, w[2])\nb = Mul(a, w[2])\nc = Mul(b, 2.0)\n"
        "d = Mul(c, 2.0)\nreturn d"
    ).graph
    assert len(graph.initializers) == 3


def test_contents_depend_on_the_name() -> None:
    first, second = (
        parse(f"x: float[2]\ny = Mul(x, {name}[2])\nreturn y").graph for name in ("w", "v")
    )
    a, b = (next(iter(graph.initializers.values())).const_value for graph in (first, second))
    assert a is not None and b is not None
    assert (a.numpy() != b.numpy()).all()


def test_double_graphs_have_double_constants() -> None:
    graph = parse("x: double[2]\na = Mul(x, w[2])\ny = Mul(a, 2.0)\nreturn y").graph
    assert {str(value.dtype) for value in graph.initializers.values()} == {"DOUBLE"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 3", "not in the graph notation: 'x = 3'"),
        ("x: float", "not in the graph notation: 'float'"),
        ("x: float[2]\ny = Reluu(x)\nreturn y", "cannot infer the shape of 'y'"),
    ],
)
def test_what_it_refuses(text: str, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        parse(text)
