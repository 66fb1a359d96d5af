"""Constant scales and offsets in the weights next to them."""

from __future__ import annotations

import pytest

from edgekit.export.passes.affine import BatchNormToAffine, FoldIntoConsumer, FoldIntoProducer
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


LINEAR = {
    "Conv(x, w[6, 4, 3, 3])": "x: float[1, 4, 5, 5]",
    "Conv(x, w[6, 2, 3, 3], b[6], group=2, pads=[1, 1, 1, 1])": "x: float[1, 4, 5, 5]",
    "Conv(x, w[6, 1, 3], b[6], group=3)": "x: float[1, 3, 9]",
    "Gemm(x, w[4, 6])": "x: float[3, 4]",
    "Gemm(x, w[6, 4], b[6], transB=1, alpha=0.5, beta=2.0)": "x: float[3, 4]",
    "Gemm(x, w[6, 4], b[1], transB=1)": "x: float[3, 4]",
    "Gemm(x, w[4, 6], b[1, 6])": "x: float[3, 4]",
    "MatMul(x, w[4, 6])": "x: float[3, 4]",
}


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize(
    "affine",
    ["Add(a, {c})", "Add({c}, a)", "Sub(a, {c})", "Sub({c}, a)", "Mul(a, {c})", "Div(a, {c})",
     "Mul(a, 3.0)", "Sub(2.0, a)"],
)  # fmt: skip
def test_into_the_producer(linear: str, affine: str) -> None:
    rank = LINEAR[linear].count(",") + 1
    per_channel = f"c[1, 6{', 1' * (rank - 2)}]"
    text = f"{LINEAR[linear]}\na = {linear}\ny = {affine.format(c=per_channel)}\nreturn y"
    result, notes = _run(FoldIntoProducer(), text)
    assert len(result.splitlines()) == 3 and notes == ()


@pytest.mark.parametrize("kind", ["Mul", "Div"])
@pytest.mark.parametrize("pads", [0, 1])
def test_scales_into_the_consumer(kind: str, pads: int) -> None:
    text = f"""
        x: float[2, 4, 5, 5]
        a = {kind}(x, s[1, 4, 1, 1])
        y = Conv(a, w[6, 2, 3, 3], b[6], group=2, pads=[{pads}, {pads}, {pads}, {pads}])
        return y
    """
    assert len(_run(FoldIntoConsumer(), text)[0].splitlines()) == 3


def test_offsets_into_a_consumer_without_padding() -> None:
    text = (
        "x: float[2, 4, 5, 5]\na = Add(x, s[1, 4, 1, 1])\n"
        "y = Conv(a, w[6, 2, 3, 3], group=2)\nreturn y"
    )
    assert len(_run(FoldIntoConsumer(), text)[0].splitlines()) == 3


def test_into_several_consumers() -> None:
    text = """
        x: float[1, 4, 5, 5]
        a = Mul(x, s[1, 4, 1, 1])
        b = Conv(a, w[6, 4, 1, 1])
        c = Conv(a, v[6, 4, 1, 1])
        y = Add(b, c)
        return y
    """
    assert "Mul" not in _run(FoldIntoConsumer(), text)[0]


@pytest.mark.parametrize("pads", ["pads=[1, 1, 1, 1]", "auto_pad='SAME_UPPER'"])
def test_an_offset_before_padding_is_refused(pads: str) -> None:
    text = f"x: float[1, 4, 5, 5]\na = Add(x, 1.0)\ny = Conv(a, w[6, 4, 3, 3], {pads})\nreturn y"
    result, notes = _run(FoldIntoConsumer(), text)
    assert result == _same(text)
    assert notes == ("not folded at a: because the convolution after it pads with zeros",)


def test_a_result_that_is_read_elsewhere_is_refused() -> None:
    text = """
        x: float[1, 4, 5, 5]
        a = Conv(x, w[6, 4, 1, 1])
        b = Mul(a, 2.0)
        y = Add(a, b)
        return y
    """
    result, notes = _run(FoldIntoProducer(), text)
    assert result == _same(text)
    assert notes == ("not folded at b: because a is read elsewhere, too",)


@pytest.mark.parametrize(
    "text",
    [
        "x: float[1, 4, 5, 5]\na = Conv(x, w[6, 4, 1, 1])\ny = Mul(a, c[1, 6, 1, 5])\nreturn y",
        "x: float[1, 4, 5, 5]\na = Conv(x, w[6, 4, 1, 1])\ny = Div(2.0, a)\nreturn y",
        "x: float[1, 4, 5, 5]\na = Conv(x, w[1, 4, 1, 1])\ny = Add(a, c[1, 6, 1, 1])\nreturn y",
        "x: float[1, 4, 5]\na = MatMul(x, w[5, 6])\ny = Add(a, c[6])\nreturn y",
        "x: float[3, 4]\na = Gemm(x, w[4, 6], c[3, 6])\ny = Mul(a, 2.0)\nreturn y",
        "x: float[4, 3]\na = Gemm(x, w[4, 6], transA=1)\ny = Mul(a, 2.0)\nreturn y",
        "x: float[1, 4, 5, 5]\nw: float[6, 4, 1, 1]\na = Conv(x, w)\ny = Mul(a, 2.0)\nreturn y",
    ],
)
def test_what_does_not_fit_is_left_alone(text: str) -> None:
    assert _run(FoldIntoProducer(), text)[0] == _same(text)


@pytest.mark.parametrize("shape", ["1, 8, 4, 4", "3, 8", "2, 8, 5"])
def test_batch_norm_of_any_rank(shape: str) -> None:
    text = (
        f"x: float[{shape}]\n"
        f"y = BatchNormalization(x, s[8], b[8], m[8], v[8], epsilon=0.01)\n"
        f"return y"
    )
    assert "BatchNormalization" not in _run(BatchNormToAffine(), text)[0]


def test_batch_norm_folds_into_a_convolution_without_a_trace() -> None:
    text = """
        x: float[1, 4, 5, 5]
        a = Conv(x, w[6, 4, 3, 3])
        y = BatchNormalization(a, s[6], b[6], m[6], v[6])
        return y
    """
    model = to_double(parse(text))
    after, _ = run_passes(model, [BatchNormToAffine(), FoldIntoProducer()])
    assert [node.op_type for node in after.graph] == ["Conv"]
    assert relative_difference(model, after, seeds=2) <= EXACT


def test_a_training_batch_norm_is_refused() -> None:
    text = """
        x: float[2, 4, 5, 5]
        y, p, q = BatchNormalization(x, s[4], b[4], m[4], v[4], training_mode=1)
        return y
    """
    _, (record,) = run_passes(parse(text), [BatchNormToAffine()])
    assert record.notes == ("not folded at y: because it is in training mode",)


def test_a_batch_norm_with_computed_parameters_is_refused() -> None:
    text = (
        "x: float[2, 4, 5, 5]\ns: float[4]\n"
        "y = BatchNormalization(x, s, b[4], m[4], v[4])\nreturn y"
    )
    _, (record,) = run_passes(parse(text), [BatchNormToAffine()])
    assert record.notes == ("not folded at y: because its parameters are not constant",)
