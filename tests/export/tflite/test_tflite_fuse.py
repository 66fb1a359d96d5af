"""Several ONNX operators as one of TFLite's, and where that must not happen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgekit.export.tflite import lower_tflite
from tests.export.tflite.comparing import check, codes, graph, noise

TOLERANCE = 1e-5
X = noise(1, 4, 6, 6) * 3
CONSTANTS = {
    "w": noise(5, 4, 1, 1, seed=1),
    "zero": np.float32(0),
    "six": np.float32(6),
    "minus": np.float32(-1),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "root": np.float32(np.sqrt(2)),
    "unroot": np.float32(np.sqrt(0.5)),
    "third": np.float32(0.3),
    "m": noise(6, 3, seed=2),
    "b": noise(3, seed=3),
    "addend": noise(4, 1, 1, seed=4),
}


def build(lines: list[str], outputs: str = "y", x=X):
    """Nodes written as ``"y = Op a b"``, with an attribute as ``key:value``."""
    nodes = []
    for line in lines:
        result, op, *operands = line.replace("=", " ").split()
        attributes: dict[str, Any] = {}
        for operand in [o for o in operands if ":" in o]:
            key, value = operand.split(":")
            attributes[key] = float(value)
        inputs = ["" if o == "_" else o for o in operands if ":" not in o]
        nodes.append(helper.make_node(op, inputs, [result], **attributes))
    used = {name for node in nodes for name in node.input}
    constants = {name: np.asarray(value) for name, value in CONSTANTS.items() if name in used}
    feeds = {"x": x}
    return graph(nodes, feeds, constants, outputs.split()), feeds


def lowered(*lines: str, outputs: str = "y", x=X) -> list[str]:
    return check(*build(list(lines), outputs, x), tolerance=TOLERANCE)


@pytest.mark.parametrize(
    "clamp",
    ["y = Relu a", "y = Clip a zero six", "y = Clip a minus one", "y = Clip a zero"],
)
@pytest.mark.parametrize(
    ("producer", "code"),
    [
        ("a = Conv x w", "CONV_2D"),
        ("a = Add x addend", "ADD"),
        ("a = Sub x addend", "SUB"),
        ("a = Mul x addend", "MUL"),
        ("a = Div x six", "DIV"),
        ("a = MatMul x m", "FULLY_CONNECTED"),
    ],
)
def test_a_clamp_is_done_by_what_it_clamps(producer, code, clamp):
    assert lowered(producer, clamp).count(code) == 1
    assert not {"RELU", "RELU6", "RELU_N1_TO_1"} & set(lowered(producer, clamp))


def test_other_bounds_are_operators_of_their_own():
    assert lowered("a = Add x addend", "y = Clip a zero one") == ["ADD", "RELU", "MINIMUM"]
    assert lowered("a = Add x addend", "y = Clip a minus third") == ["ADD", "MAXIMUM", "MINIMUM"]


def test_what_others_read_is_not_clamped():
    both = lowered("a = Add x addend", "b1 = Relu a", "y = Mul a b1")
    assert both == ["ADD", "RELU", "MUL"]
    assert lowered("a = Add x addend", "y = Relu a", outputs="a y") == ["ADD", "RELU"]


def test_a_clamp_is_fused_once():
    assert lowered("a = Add x addend", "b1 = Relu a", "y = Clip b1 zero six") == ["ADD", "RELU6"]


def test_hard_swish():
    slope = f"alpha:{1 / 6}"
    assert lowered(f"a = HardSigmoid x {slope} beta:0.5", "y = Mul x a") == ["HARD_SWISH"]
    assert lowered(f"a = HardSigmoid x {slope} beta:0.5", "y = Mul a x") == ["HARD_SWISH"]
    assert "HARD_SWISH" not in lowered("a = HardSigmoid x alpha:0.2 beta:0.5", "y = Mul x a")
    other = lowered("z = Neg x", f"a = HardSigmoid z {slope} beta:0.5", "y = Mul x a")
    assert "HARD_SWISH" not in other


GELUS = {
    "(x * (1 + erf)) / 2": [
        "a = Div x root",
        "e = Erf a",
        "s = Add e one",
        "p = Mul x s",
        "y = Mul p half",
    ],
    "x/2 * (1 + erf)": [
        "a = Div x root",
        "e = Erf a",
        "s = Add one e",
        "h = Mul half x",
        "y = Mul h s",
    ],
    "x * ((1 + erf) / 2)": [
        "a = Mul x unroot",
        "e = Erf a",
        "s = Add e one",
        "h = Mul s half",
        "y = Mul x h",
    ],
}


@pytest.mark.parametrize("lines", GELUS.values(), ids=GELUS)
def test_gelu(lines):
    assert lowered(*lines) == ["GELU"]


@pytest.mark.parametrize("lines", GELUS.values(), ids=GELUS)
def test_what_only_looks_like_gelu(lines):
    wrong_number = [line.replace("half", "third") for line in lines]
    assert "GELU" not in lowered(*wrong_number)
    other_input = [
        "z = Neg x",
        *(line.replace("Div x", "Div z").replace("Mul x unroot", "Mul z unroot") for line in lines),
    ]
    assert "GELU" not in lowered(*other_input)
    assert "GELU" not in lowered(*lines, outputs="e y")


def test_a_bias_joins_its_matrix_product():
    assert lowered("a = MatMul x m", "y = Add a b") == ["TRANSPOSE", "FULLY_CONNECTED", "TRANSPOSE"]
    assert lowered("a = MatMul x m", "s = Add b a", "y = Relu s") == lowered(
        "a = MatMul x m", "y = Add a b"
    )
    assert "ADD" in lowered("a = MatMul x m", "y = Add a b", outputs="a y")


def test_lowering_twice_gives_the_same_bytes():
    model, _ = build(["a = Conv x w", "b1 = Relu a", "y = Mul b1 half"])
    assert lower_tflite(model) == lower_tflite(model)
    assert codes(lower_tflite(model)) == ["CONV_2D", "MUL"]
