"""Permutations moved out of the way of fusions."""

from __future__ import annotations

import pytest

from edgekit.export.passes.infra import GraphPass, run_passes
from edgekit.export.passes.notation import parse, render
from edgekit.export.passes.permutations import ActivateFirst, ActivateParts, PermuteWeights
from tests.export.passes.graph_numerics import EXACT, relative_difference, to_double


def _run(graph_pass: GraphPass, text: str) -> tuple[str, tuple[str, ...]]:
    before = to_double(parse(text))
    after, (record,) = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT
    return render(after).replace("double", "float"), record.notes


def _same(text: str) -> str:
    return render(parse(text))


def _permuted(nodes: str, outputs: str = "y") -> str:
    return (
        "x: float[1, 4, 5, 5]\na = Conv(x, w[4, 2, 1, 1], b[4], group=2)\n"
        f"p = Gather(a, [2, 0, 3, 1], axis=1)\n{nodes}\nreturn {outputs}"
    )


@pytest.mark.parametrize(
    "node",
    ["Relu(p)", "Clip(p, -1.0, 1.0)", "LeakyRelu(p, alpha=0.1)", "Mul(p, c[1, 4, 1, 1])",
     "Sub(c[4, 1, 1], p)", "Div(p, c[1, 4, 1, 1])", "Add(p, 2.0)"],
)  # fmt: skip
def test_what_is_done_per_channel_comes_first(node: str) -> None:
    lines = _run(ActivateFirst(), _permuted(f"y = {node}"))[0].splitlines()
    assert "Gather" in lines[-2]


def test_what_mixes_channels_stays_behind() -> None:
    for node in (
        "Softmax(p, axis=1)",
        "Mul(p, c[1, 4, 1, 5])",
        "Mul(p, p)",
        "Add(p, c[1, 1, 1, 5])",
    ):
        text = _permuted(f"y = {node}")
        assert _run(ActivateFirst(), text)[0] == _same(text)


def test_a_permutation_that_is_read_elsewhere_is_refused() -> None:
    text = _permuted("r = Relu(p)\ny = Mul(r, p)")
    result, notes = _run(ActivateFirst(), text)
    assert result == _same(text)
    assert notes == ("not moved at r: because the permutation p is read elsewhere, too",)


def test_a_selection_is_no_permutation() -> None:
    text = "x: float[1, 4, 5, 5]\np = Gather(x, [0, 0, 2, 3], axis=1)\ny = Relu(p)\nreturn y"
    assert _run(ActivateFirst(), text)[0] == _same(text)


def test_a_grouped_convolution_keeps_its_permutation() -> None:
    text = _permuted("y = Conv(p, v[4, 2, 1, 1], group=2)")
    assert _run(PermuteWeights(), text)[0] == _same(text)


def test_readers_of_two_kinds_are_refused() -> None:
    text = _permuted("c = Conv(p, v[4, 4, 1, 1])\ny = Mul(c, p)")
    result, notes = _run(PermuteWeights(), text)
    assert result == _same(text)
    assert notes == ("not folded at p: because not only dense convolutions read it",)


def test_several_dense_readers() -> None:
    text = _permuted(
        "c = Conv(p, v[4, 4, 1, 1])\nd = Conv(p, u[4, 4, 3, 3], pads=[1, 1, 1, 1])\ny = Mul(c, d)"
    )
    assert "Gather" not in _run(PermuteWeights(), text)[0]


def test_matrices() -> None:
    text = """
        x: float[3, 4]
        a = Gemm(x, w[4, 6])
        p = Gather(a, [5, 3, 1, 0, 2, 4], axis=1)
        r = Relu(p)
        q = Gather(r, [1, 0, 2, 3, 4, 5], axis=1)
        y = MatMul(q, v[6, 2])
        return y
    """
    assert "Gather" not in _run(PermuteWeights(), text)[0]


def test_an_output_is_in_its_true_order() -> None:
    text = _permuted("y = Relu(a)", "p, y")
    assert _run(PermuteWeights(), text)[0] == _same(text)


def test_a_concat_of_something_else_is_refused() -> None:
    text = """
        x: float[1, 4, 5, 5]
        a = Conv(x, w[4, 4, 1, 1])
        j = Concat(a, x, axis=1)
        y = Relu(j)
        return y
    """
    result, notes = _run(ActivateParts(), text)
    assert result == _same(text)
    assert notes == (
        "not moved at y: because not only convolutions of its own are joined before it",
    )
