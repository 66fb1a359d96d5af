"""Activations and coefficients in the form with the fewest operations."""

from __future__ import annotations

import pytest

from edgekit.export.passes.activations import (
    ClampsIntoWeights,
    HardSigmoids,
    HardSwishes,
    NormaliseClip,
)
from edgekit.export.passes.coefficients import HoistOverSplit, TileOffsets
from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.notation import parse, render
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double


def _run(passes: list[GraphPass], text: str) -> tuple[str, tuple[str, ...]]:
    before = to_double(parse(text.replace("float", "double")))
    after, records = run_passes(before, passes)
    assert relative_difference(before, after, seeds=2) <= EXACT
    return render(after).replace("double", "float"), records[-1].notes


def _same(text: str) -> str:
    return render(parse(text))


def _unary(nodes: str) -> str:
    return f"x: float[1, 8, 4, 4]\n{nodes}\nreturn y"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Max(x, 0.0)", "y = Relu(x)"),
        ("y = Min(6.0, x)", "y = Clip(x, None, 6.0)"),
        ("y = Clip(x, 0.0)", "y = Relu(x)"),
        ("a = Min(x, 6.0)\ny = Max(a, 0.0)", "y = Clip(x, 0.0, 6.0)"),
        ("a = Relu(x)\ny = Clip(a, -1.0, 6.0)", "y = Clip(x, 0.0, 6.0)"),
        ("a = Clip(x, -1.0, 6.0)\ny = Relu(a)", "y = Clip(x, 0.0, 6.0)"),
        ("a = Clip(x, 2.0, 3.0)\ny = Clip(a, 0.0, 1.0)", "y = Clip(x, 1.0, 1.0)"),
        ("a = Relu(x)\ny = Relu(a)", "y = Relu(x)"),
    ],
)
def test_clamps(nodes: str, expected: str) -> None:
    assert _run([NormaliseClip()], _unary(nodes))[0] == _same(_unary(expected))


@pytest.mark.parametrize(
    "nodes",
    ["y = Max(x, w[1, 8, 1, 1])", "y = Clip(x, 0.0, 6.0)", "y = Relu(x)", "y = Max(x, x)",
     "a = Relu(x)\nb = Clip(a, 0.0, 6.0)\ny = Add(a, b)"],
)  # fmt: skip
def test_other_clamps_are_left_alone(nodes: str) -> None:
    assert _run([NormaliseClip()], _unary(nodes))[0] == _same(_unary(nodes))


def test_integers_are_left_alone() -> None:
    text = "x: int64[4]\ny = Max(x, 0)\nreturn y"
    after, _ = run_passes(parse(text), [NormaliseClip()])
    assert render(after) == _same(text)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, 3.0)\nb = Clip(a, 0.0, 6.0)\ny = Div(b, 6.0)",
        "a = Add(3.0, x)\nb = Clip(a, 0.0, 6.0)\ny = Mul(b, 0.16666666666666666)",
        "a = Sub(x, -3.0)\nb = Clip(a, 0.0, 6.0)\ny = Mul(0.16666666666666666, b)",
    ],
)
def test_spelled_out_hard_sigmoids(nodes: str) -> None:
    expected = "y = HardSigmoid(x, alpha=0.166667, beta=0.5)"
    assert _run([HardSigmoids()], _unary(nodes))[0] == _same(_unary(expected))


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, 3.0)\nb = Clip(a, 0.0, 6.0)\ny = Div(b, 5.0)",
        "a = Add(x, 3.0)\nb = Clip(a, -1.0, 6.0)\ny = Div(b, 6.0)",
        "b = Clip(x, 0.0, 6.0)\ny = Div(b, 6.0)",
    ],
)
def test_almost_hard_sigmoids_are_left_alone(nodes: str) -> None:
    assert _run([HardSigmoids()], _unary(nodes))[0] == _same(_unary(nodes))


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add(x, 3.0)\nb = Clip(a, 0.0, 6.0)\nc = Div(b, 6.0)\ny = Mul(x, c)",
        "a = Add(x, 3.0)\nb = Clip(a, 0.0, 6.0)\nc = Mul(x, b)\ny = Div(c, 6.0)",
        "a = HardSigmoid(x, alpha=0.16666667, beta=0.5)\ny = Mul(a, x)",
    ],
)
def test_spelled_out_hard_swishes(nodes: str) -> None:
    result = _run([HardSigmoids(), HardSwishes()], _unary(nodes))[0]
    assert result == _same(_unary("y = HardSwish(x)"))


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Abs(x)\nb = HardSigmoid(a, alpha=0.16666667, beta=0.5)\ny = Mul(b, x)",
        "a = HardSigmoid(x, alpha=0.2, beta=0.5)\ny = Mul(a, x)",
        "a = Add(x, 2.0)\nb = Clip(a, 0.0, 6.0)\nc = Mul(x, b)\ny = Div(c, 6.0)",
    ],
)
def test_almost_hard_swishes_are_left_alone(nodes: str) -> None:
    assert _run([HardSwishes()], _unary(nodes))[0] == _same(_unary(nodes))


def _coefficients(nodes: str) -> str:
    return f"x: float[1, 4, 1, 1]\nt = Conv(x, w[8, 4, 1, 1], b[8])\n{nodes}\nreturn y"


@pytest.mark.parametrize(
    ("nodes", "clip"),
    [
        ("y = HardSigmoid(t, alpha=0.16666667, beta=0.5)", "Clip(t, 0.0, 1.0)"),
        ("h = HardSigmoid(t, alpha=0.2, beta=0.4)\nc = Sub(h, 0.5)\ny = Mul(c, 4.0)",
         "Clip(t, -2.0, 2.0)"),
        ("h = Clip(t, 0.0, 6.0)\nc = Sub(1.0, h)\ny = Mul(c, 2.0)", "Clip(t, -10.0, 2.0)"),
        ("h = Relu(t)\ny = Mul(h, 2.0)", "Relu(t)"),
        ("h = Relu(t)\ny = Mul(h, -2.0)", "Clip(t, None, 0.0)"),
    ],
)  # fmt: skip
def test_slopes_and_offsets_around_a_clamp(nodes: str, clip: str) -> None:
    result = _run([ClampsIntoWeights()], _coefficients(nodes))[0]
    assert result == _same(_coefficients(f"y = {clip}"))


def test_offsets_per_channel_stay_behind_the_clamp() -> None:
    nodes = "h = Clip(t, 0.0, 6.0)\nc = Mul(h, 2.0)\ny = Add(c, o[1, 8, 1, 1])"
    result = _run([ClampsIntoWeights()], _coefficients(nodes))[0]
    assert result == _same(_coefficients("c = Clip(t, 0.0, 12.0)\ny = Add(c, o[1, 8, 1, 1])"))


def test_a_clamp_with_nothing_around_it_is_left_alone() -> None:
    nodes = "y = Clip(t, 0.0, 6.0)"
    assert _run([ClampsIntoWeights()], _coefficients(nodes))[0] == _same(_coefficients(nodes))


def test_a_convolution_that_is_read_elsewhere_is_refused() -> None:
    nodes = "h = HardSigmoid(t, alpha=0.2, beta=0.5)\ny = Mul(h, t)"
    result, notes = _run([ClampsIntoWeights()], _coefficients(nodes))
    assert result == _same(_coefficients(nodes))
    assert notes == ("not folded at h: because t is read elsewhere, too",)


def _blocks(nodes: str, outputs: str = "c, d") -> str:
    return (
        f"x: float[1, 8, 1, 1]\na, b = Split(x, axis=1, num_outputs=2)\n{nodes}\nreturn {outputs}"
    )


def test_scales_and_offsets_of_the_parts() -> None:
    nodes = "e = Mul(a, 2.0)\nc = Add(e, 1.0)\nf = Mul(b, s[1, 4, 1, 1])\nd = Sub(f, 1.0)"
    result, _ = _run([HoistOverSplit()], _blocks(nodes))
    assert [line.split("= ")[1].split("(")[0] for line in result.splitlines()[1:-1]] == [
        "Mul", "Add", "Split",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ("c = Add(a, 1.0)\nd = Relu(b)", "c, d"),  # one for one is no gain
        ("c = Add(a, 1.0)\nd = Mul(b, 2.0)", "c, d"),  # nor two for two
        ("c = Add(a, 1.0)\ne = Add(a, 2.0)\nd = Add(b, 1.0)", "c, d, e"),
    ],
)
def test_hoisting_that_gains_nothing_is_not_done(nodes: str, outputs: str) -> None:
    text = _blocks(nodes, outputs)
    assert _run([HoistOverSplit()], text)[0] == _same(text)


def _shift(channels: int, width: int, reader: str = "Mul(x, a)") -> str:
    return f"""
        x: float[1, {channels}, 5, {width}]
        t: float[1, {2 * channels}, 1, 1]
        c = Add(t, o[1, {2 * channels}, 1, 1])
        a, b = Split(c, [{channels}, {channels}], axis=1)
        p = {reader}
        q = Mul(x, b)
        y = Add(p, q)
        return y
    """


def test_a_wide_map_is_not_tiled() -> None:
    result, notes = _run([TileOffsets(16)], _shift(16, 5))
    assert result == _same(_shift(16, 5))
    assert notes == ("not tiled at c: because the map has 16 channels and is 5 wide",)
    assert _run([TileOffsets(16)], _shift(4, 1))[0] == _same(_shift(4, 1))


def test_coefficients_that_are_read_otherwise_are_not_tiled() -> None:
    text = _shift(4, 5, "Add(x, a)")
    assert _run([TileOffsets(16)], text)[0] == _same(text)


def test_coefficients_without_a_split_are_tiled_too() -> None:
    text = "x: float[1, 4, 5, 5]\nt: float[1, 4, 1, 1]\nc = Add(t, 1.0)\ny = Mul(x, c)\nreturn y"
    assert "[1, 4, 1, 5]" in _run([TileOffsets(16)], text)[0]
