"""Graphs that once came out of the passes wrong, or made them fail: found by drawing at random."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.passes.notation import parse
from edgekit.targets import TARGETS, GraphChoices
from tests.export.passes.graph_numerics import run, sample

CHOICES = {
    f"{runtime} on {target}": TARGETS[target].choices[runtime]
    for target, runtime in (("arm", "litert"), ("x86", "openvino"), ("x86", "onnxruntime"))
}

TRAPS = {
    "a pad that shifts and keeps the shape": """
        x: float[1, 4, 5, 5]
        a = Relu(x)
        y = Pad(a, [0, 0, 0, 1, 0, 0, 0, -1])
        return y""",
    "a clip with crossed bounds": """
        x: float[1, 4, 5, 5]
        t = Conv(x, w[4, 4, 1, 1], b[4])
        h = Clip(t, 1.0, -0.5)
        y = Mul(h, 2.0)
        return y""",
    "a slice of a vector": """
        x: float[8]
        a = Slice(x, [0], [4], [0])
        y = Relu(a)
        return y""",
    "poolings with one output and with two": """
        x: float[1, 4, 6, 6]
        b, i = MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        a = MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        y = Add(a, b)
        return y, i""",
    "a coefficient that is an output, too": """
        x: float[1, 4, 5, 5]
        t: float[1, 4, 1, 1]
        c = Add(t, o[1, 4, 1, 1])
        p = Mul(x, c)
        return p, c""",
    "a part of coefficients that is an output, too": """
        x: float[1, 4, 5, 5]
        t: float[1, 8, 1, 1]
        c = Add(t, o[1, 8, 1, 1])
        a, b = Split(c, [4, 4], axis=1)
        p = Mul(x, a)
        q = Mul(x, b)
        y = Add(p, q)
        return y, b""",
    "a coefficient of maps of two sizes": """
        x: float[1, 4, 5, 5]
        z: float[1, 4, 7, 7]
        t: float[1, 4, 1, 1]
        c = Add(t, o[1, 4, 1, 1])
        p = Mul(x, c)
        q = Mul(z, c)
        return p, q""",
    "a gate that also reads a constant matrix": """
        x: float[1, 8, 5, 5]
        p = GlobalAveragePool(x)
        a = Reshape(p, [1, 8])
        b = Concat(a, c[1, 4], axis=1)
        d = Gemm(b, w[8, 12], f[8], transB=1)
        g = Sigmoid(d)
        h = Reshape(g, [1, 8, 1, 1])
        y = Mul(x, h)
        return y""",
    "a mean of whole numbers": """
        x: int64[1, 4, 3, 3]
        y = ReduceMean(x, [2, 3])
        return y""",
}


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES.keys())
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_comes_out_as_it_went_in(trap: str, choices: GraphChoices) -> None:
    model = parse(TRAPS[trap])
    after, _ = run_passes(model, (*CANONICAL, *choice_passes(choices)))
    inputs = sample(model, 0)
    for expected, found in zip(run(model, inputs), run(after, inputs), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
