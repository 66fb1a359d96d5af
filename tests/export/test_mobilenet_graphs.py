"""The MobileNets become graphs of few, fused operators, exactly, in each form."""

from __future__ import annotations

from collections import Counter
from functools import cache

import onnx_ir as ir
import pytest
import torch

from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.trace import trace
from edgekit.models.building import create
from edgekit.targets import TARGETS
from tests.export.passes.graph_numerics import relative_difference, to_double
from tests.export.tflite.comparing import check, noise

SIZE = 64
EXACT = 1e-12  # in double

# What is left of each network. A gate is a pool, two convolutions, ReLU, clip and product.
CANONICAL_OPERATORS = {
    "mobilenetv2-x0.5": {
        "Conv": 52, "Clip": 35, "Add": 10, "GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1,
    },
    "mobilenetv3-small": {
        "Conv": 52, "HardSwish": 19, "Relu": 5 + 9, "Clip": 9, "Mul": 9, "Add": 6,
        "GlobalAveragePool": 10, "Reshape": 1, "Gemm": 2,
    },
}  # fmt: skip
# ReLU6 is part of its convolution. PAD: the four strides of 2 and the stem, padded on both sides.
TFLITE_OPERATORS = {
    "mobilenetv2-x0.5": {
        "CONV_2D": 35, "DEPTHWISE_CONV_2D": 17, "PAD": 5, "ADD": 10, "MEAN": 1, "RESHAPE": 1,
        "FULLY_CONNECTED": 1,
    },
    "mobilenetv3-small": {
        "CONV_2D": 41, "DEPTHWISE_CONV_2D": 11, "PAD": 5, "HARD_SWISH": 19, "ADD": 6, "MUL": 9,
        "MEAN": 10, "RELU": 9, "MINIMUM": 9, "RESHAPE": 1, "FULLY_CONNECTED": 2,
    },
}  # fmt: skip
NAMES = tuple(CANONICAL_OPERATORS)


@cache
def traced(name: str) -> ir.Model:
    module = create(name, "random", image_size=SIZE).module
    example = torch.zeros(1, 3, SIZE, SIZE)
    return trace(module, (example,), ("image",), ("logits",), opset=18)


@pytest.mark.parametrize("name", NAMES)
def test_the_canonical_graph_has_the_fewest_operators(name: str) -> None:
    canonical, _ = run_passes(traced(name), CANONICAL)
    assert Counter(node.op_type for node in canonical.graph) == CANONICAL_OPERATORS[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_the_graph_is_exact(name: str) -> None:
    before = to_double(traced(name))
    canonical, _ = run_passes(before, CANONICAL)
    assert relative_difference(before, canonical, seeds=1) <= EXACT
    for choices in dict.fromkeys(c for row in TARGETS.values() for c in row.choices.values()):
        after, _ = run_passes(canonical, choice_passes(choices))
        assert relative_difference(before, after, seeds=1) <= EXACT


@pytest.mark.parametrize("name", NAMES)
def test_the_tflite_file_has_fused_activations_and_no_transposition(name: str) -> None:
    canonical, _ = run_passes(traced(name), CANONICAL)
    shaped, _ = run_passes(canonical, choice_passes(TARGETS["arm"].choices["litert"]))
    operators = check(shaped, {"image": noise(1, 3, SIZE, SIZE)}, tolerance=1e-4)
    assert Counter(operators) == TFLITE_OPERATORS[name]
