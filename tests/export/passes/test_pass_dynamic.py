"""Dynamic convolutions: what is left of their norms, and kernels that are synthesised."""

from __future__ import annotations

from collections import Counter
from functools import cache

import onnx_ir as ir
import pytest
import torch

from benchmarks.plain_dcd import plain
from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.passes.clean import DropZeroBias
from edgekit.export.passes.infra import GraphPass
from edgekit.export.passes.notation import parse, render
from edgekit.export.passes.padding import PadIntoConv
from edgekit.export.passes.sums import DelayOffsets, FoldIntoSum, ResidualIntoProduct
from edgekit.export.passes.synthesis import SynthesiseKernels
from edgekit.export.trace import trace
from edgekit.models.dcd import (
    IN_MOBILENET,
    IN_RESNET,
    DynamicConv,
    DynamicLinear,
    Size,
    basic_size,
    build_dcd,
    pointwise_size,
)
from edgekit.models.random_init import calibration_images, randomise
from edgekit.targets import TARGETS, GraphChoices
from tests.export.passes.graph_numerics import (
    EXACT,
    relative_difference,
    run,
    to_double,
    worst_difference,
)
from tests.models import fill_rule

GAINS = {"conv": 1.0, "dyn": 0.7, "linear": 1.0, "bias": 0.3, "dyn_bias": 0.0}
SIZE = 64
SINGLE = 5e-5  # whole networks run in float32, where onnxruntime has all kernels
NAME = "mobilenetv2-x0.35"
CHOICES = {
    choices: f"{runtime} on {name}"
    for name, target in TARGETS.items()
    for runtime, choices in target.choices.items()
}


@cache
def _module() -> torch.nn.Module:
    module = build_dcd(NAME, num_classes=10)
    randomise(module, calibration_images(16, SIZE), seed=0)
    return module


class Layers(torch.nn.Module):
    """One dynamic layer of each kind, with norms and activations as the networks have them."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        wide = torch.nn.Conv2d(6, 16, 1, bias=False)
        strided = torch.nn.Conv2d(16, 12, 3, 2, 1, bias=False)
        self.layers = torch.nn.Sequential(
            DynamicConv(wide, pointwise_size(6, 16, 8), IN_MOBILENET),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU6(),
            DynamicConv(strided, basic_size(16), IN_RESNET),
            torch.nn.BatchNorm2d(12),
            DynamicConv(torch.nn.Conv2d(12, 12, 1, bias=False), Size(4, 6, 2), IN_RESNET, blocks),
            torch.nn.BatchNorm2d(12),
        )
        self.head = DynamicLinear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


@cache
def _layers(blocks: int = 2, written_plainly: bool = False) -> ir.Model:
    module = Layers(blocks).eval()
    state = {
        key: torch.from_numpy(fill_rule.fill(key, list(value.shape), GAINS))
        for key, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    image = torch.zeros(1, 6, 9, 9)
    shown = plain(module) if written_plainly else module
    return to_double(trace(shown.eval(), (image,), ("image",), ("logits",), opset=18))


@cache
def _before() -> ir.Model:
    image = torch.zeros(1, 3, SIZE, SIZE)
    return trace(_module(), (image,), ("image",), ("logits",), opset=18)


@cache
def _canonical() -> ir.Model:
    return run_passes(_before(), CANONICAL)[0]


def _difference(before: ir.Model, after: ir.Model) -> float:
    """On images like those that the weights were calibrated on."""
    images = calibration_images(4, SIZE)[1:].split(1)
    return max(
        worst_difference(*(run(model, {"image": image.numpy()}) for model in (before, after)))
        for image in images
    )


def _types(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def test_each_canonical_pass_is_exact() -> None:
    model = _layers()
    for graph_pass in (*CANONICAL, SynthesiseKernels(1e-9)):
        after, (record,) = run_passes(model, [graph_pass])
        if record.modified:
            assert relative_difference(model, after, seeds=2) <= EXACT, graph_pass.name
        model = after
    assert "BatchNormalization" not in _types(model)


def test_dcd_written_plainly_folds_too() -> None:
    before = _layers(1, written_plainly=True)
    after, _ = run_passes(before, CANONICAL)
    assert relative_difference(before, after, seeds=2) <= EXACT
    assert relative_difference(_layers(1), before, seeds=2) <= 1e-7  # relu6 / 3 in float32
    ours, plainly = (_types(m) for m in (run_passes(_layers(1), CANONICAL)[0], after))
    assert plainly["BatchNormalization"] == 0
    assert (plainly["Mul"], plainly["MatMul"]) == (ours["Mul"], ours["MatMul"])
    assert plainly["Add"] == ours["Add"] + 1  # the classifier's residual, added behind a view


def test_the_canonical_graph_is_the_network() -> None:
    assert _difference(_before(), _canonical()) <= SINGLE


def test_the_residual_is_two_convolutions_and_a_product() -> None:
    """No norm is left, and nothing stands where it was.

    A layer on a map: pool, four convolutions of the coefficient branch with two clamps and one
    product, W0, Q and P, the product with Phi between two views, lambda's product and the sum.
    """
    modules = list(_module().modules())
    maps = sum(isinstance(module, DynamicConv) for module in modules)
    assert maps == 32
    assert sum(isinstance(module, DynamicLinear) for module in modules) == 1
    counts = _types(_canonical())
    assert not {"BatchNormalization", "Transpose", "Sub", "Div", "Pad", "Einsum"} & set(counts)
    assert counts["MatMul"] == maps + 1
    assert counts["Mul"] == 2 * (maps + 1)
    skips, static = 10, 1 + 2 + 16 + 1  # stem, first block, depthwise, last
    assert counts["Add"] == maps + 1 + skips
    assert counts["Conv"] == 7 * maps + static
    assert counts["Gemm"] == 7


def test_feature_maps_are_only_viewed() -> None:
    """Phi from its coefficients, the latent map as columns and back; the classifier's vector."""
    latent = {m.size.latent for m in _module().modules() if isinstance(m, DynamicConv)}
    views = [node for node in _canonical().graph if node.op_type == "Reshape"]
    shapes = [
        [v.shape.numpy() for v in (n.inputs[0], n.outputs[0]) if v and v.shape] for n in views
    ]
    of_maps = [pair for pair in shapes if len(pair[0]) == 4 and pair[0][2:] != (1, 1)]
    assert of_maps
    assert all(before[:2] == after[:2] and before[1] in latent for before, after in of_maps)


@pytest.mark.parametrize("choices", CHOICES, ids=CHOICES.get)
def test_every_form_of_every_target_is_exact(choices: GraphChoices) -> None:
    after, _ = run_passes(_canonical(), choice_passes(choices))
    assert _difference(_canonical(), after) <= SINGLE


@pytest.mark.parametrize(("above", "synthesised"), [(1e-9, 32), (2.0, 8), (1e9, 0)])
def test_kernels_are_synthesised_above_the_threshold(above: float, synthesised: int) -> None:
    before = _canonical()
    after, (record,) = run_passes(before, [SynthesiseKernels(above)])
    assert record.modified == synthesised
    assert len(record.notes) == 32 - synthesised
    assert _types(after)["Conv"] == _types(before)["Conv"] - 3 * synthesised
    assert _difference(before, after) <= SINGLE


def test_a_3x3_and_a_residual_in_blocks_are_never_synthesised() -> None:
    canonical, _ = run_passes(_layers(), CANONICAL)
    after, (record,) = run_passes(canonical, [SynthesiseKernels(1e-9)])
    assert record.modified == 1  # of three dynamic layers
    assert relative_difference(canonical, after, seeds=1) <= EXACT


# ---- one rule at a time ----------------------------------------------------------------------


def _run(graph_pass: GraphPass, text: str) -> tuple[str, int, tuple[str, ...]]:
    before = to_double(parse(text.replace("float", "double")))
    after, (record,) = run_passes(before, [graph_pass])
    assert relative_difference(before, after, seeds=2) <= EXACT
    return render(after).replace("double", "float"), record.modified, record.notes


SUMS = {
    "its term is read elsewhere, too": """
        x: float[1, 8, 4, 4]
        a = Conv(x, w[8, 8, 1, 1])
        b = Add(a, x)
        y = Mul(b, s[1, 8, 1, 1])
        return y, a
    """,
    "a skip has no weights": """
        x: float[1, 8, 4, 4]
        a = Conv(x, w[8, 8, 1, 1])
        b = Add(a, x)
        y = Mul(b, s[1, 8, 1, 1])
        return y
    """,
    "a term is broadcast": """
        x: float[1, 8, 4, 4]
        p = GlobalAveragePool(x)
        a = Conv(x, w[6, 8, 1, 1])
        b = Conv(p, v[6, 8, 1, 1])
        c = Add(a, b)
        y = Mul(c, s[1, 6, 1, 1])
        return y
    """,
    "a product has no offset": """
        x: float[1, 8, 4, 4]
        p = GlobalAveragePool(x)
        a = Conv(x, w[6, 8, 1, 1])
        g = Conv(p, v[6, 8, 1, 1])
        b = Mul(a, g)
        y = Add(b, t[1, 6, 1, 1])
        return y
    """,
    "a clamp lies between": """
        x: float[1, 8, 4, 4]
        a = Conv(x, w[6, 8, 1, 1])
        b = Conv(x, v[6, 8, 1, 1])
        r = Relu(b)
        c = Add(a, r)
        y = Mul(c, s[1, 6, 1, 1])
        return y
    """,
    "a view that moves channels": """
        x: float[1, 8, 4, 4]
        a = Conv(x, w[6, 8, 1, 1])
        b = Reshape(a, [1, 4, 24])
        y = Mul(b, s[1, 4, 1])
        return y
    """,
}


SUMS["a factor has another axis 1"] = """
        x: float[4, 8]
        b: float[1, 6, 4, 6]
        m = Gemm(x, w[6, 8], transB=1)
        p = Mul(m, b)
        y = Mul(p, s[1, 6, 1, 1])
        return y
    """


@pytest.mark.parametrize("reason", SUMS)
def test_a_sum_is_left_alone_where(reason: str) -> None:
    text, modified, _ = _run(FoldIntoSum(), SUMS[reason])
    assert modified == 0
    assert text == render(parse(SUMS[reason]))


def test_a_long_sum_is_walked_a_few_times_only() -> None:
    terms = "\n".join(f"r{i} = Relu(x)" for i in range(40))
    sums = "\n".join(f"s{i} = Add({f's{i - 1}' if i > 1 else 'r0'}, r{i})" for i in range(1, 40))
    text = f"x: float[1, 4, 2, 2]\n{terms}\n{sums}\ny = Mul(s39, 0.5)\nreturn y"
    assert _run(FoldIntoSum(), text)[1] == 0


UNEQUAL = {
    "a residual of one channel": ("v[1, 2, 1, 1], b[1]", "w[6, 4, 1, 1]", 6, 8, 8),
    "a static part of one channel": ("v[6, 2, 1, 1], b[6]", "w[1, 4, 1, 1]", 1, 8, 8),
    "a map that comes back turned": ("v[6, 2, 1, 1], b[6]", "w[6, 4, 1, 1]", 6, 1, 64),
}


@pytest.mark.parametrize("what", UNEQUAL)
def test_parts_that_are_broadcast_are_not_synthesised(what: str) -> None:
    p, w, scale, height, width = UNEQUAL[what]
    text = f"""
        x: float[1, 4, 64, 1]
        m: float[1, 2, 2]
        g: float[1, {scale}, 1, 1]
        q = Conv(x, u[2, 4, 1, 1], a[2])
        r = Reshape(q, [1, 2, 64])
        s = MatMul(m, r)
        t = Reshape(s, [1, 2, {64 if height == 8 else height}, {1 if height == 8 else width}])
        d = Conv(t, {p})
        c = Conv(x, {w})
        e = Mul(c, g)
        y = Add(d, e)
        return y
    """
    assert _run(SynthesiseKernels(1e-9), text)[1] == 0


def test_the_offset_of_a_sum_is_added_once() -> None:
    text, modified, _ = _run(
        FoldIntoSum(),
        """
        x: float[1, 8, 4, 4]
        a = Conv(x, w[6, 8, 1, 1], b[6])
        c = Conv(x, v[6, 8, 1, 1], d[6])
        e = Add(a, c)
        y = Add(e, t[1, 6, 1, 1])
        return y
        """,
    )
    assert modified == 1
    assert text.count("Add") == 1


RESIDUALS = {
    "another map is added": """
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        z: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4])
        m = Reshape(a, [1, 4, 4])
        b = MatMul(m, q)
        y = Add(b, z)
        return y
    """,
    "the matrix is read elsewhere": """
        x: float[1, 8, 4, 4]
        q: float[1, 4, 16]
        a = Conv(x, w[16, 8, 4, 4])
        m = Reshape(a, [1, 4, 4])
        b = MatMul(m, q)
        y = Add(b, q)
        return y, m
    """,
    "the matrix comes without weights": """
        m: float[1, 4, 4]
        q: float[1, 4, 16]
        b = MatMul(m, q)
        y = Add(b, q)
        return y
    """,
}


@pytest.mark.parametrize("reason", RESIDUALS)
def test_a_residual_is_left_alone_where(reason: str) -> None:
    _, modified, _ = _run(ResidualIntoProduct(), RESIDUALS[reason])
    assert modified == 0


def test_an_offset_before_a_view_that_moves_channels_stays() -> None:
    text = """
        x: float[1, 4, 16]
        a = Add(x, t[1, 4, 1])
        y = Reshape(a, [1, 8, 8])
        return y
    """
    assert _run(DelayOffsets(), text)[1] == 0


PADS = {
    "reflected": ('Pad(x, [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect")', "does not pad with zeros"),
    "with ones": ("Pad(x, [0, 0, 1, 1, 0, 0, 1, 1], 1.0)", "does not pad with zeros"),
    "channels": ("Pad(x, [0, 1, 0, 0, 0, 1, 0, 0], 0.0)", "batch or channels"),
    "less than nothing": ("Pad(x, [0, 0, -1, 0, 0, 0, 0, 0], 0.0)", "cuts"),
}


@pytest.mark.parametrize("pad", PADS)
def test_other_pads_stay(pad: str) -> None:
    call, reason = PADS[pad]
    channels = 8 if pad == "channels" else 6
    text = f"""
        x: float[1, 6, 6, 6]
        a = {call}
        y = Conv(a, w[4, {channels}, 3, 3])
        return y
    """
    _, (record,) = run_passes(parse(text), [PadIntoConv()])
    modified, notes = record.modified, record.notes
    assert modified == 0
    assert reason in notes[0]


def test_a_pad_adds_to_the_convolutions_own() -> None:
    text, modified, _ = _run(
        PadIntoConv(),
        """
        x: float[1, 6, 6, 6]
        a = Pad(x, [0, 0, 1, 2, 0, 0, 0, 1])
        y = Conv(a, w[4, 6, 3, 3], pads=[1, 0, 1, 0])
        return y
        """,
    )
    assert modified == 1
    assert "pads=[2, 2, 1, 1]" in text


def test_a_bias_that_is_not_zero_stays() -> None:
    text = """
        x: float[1, 8]
        y = Gemm(x, w[2, 8], [0.0, 1.0], transB=1)
        return y
    """
    assert _run(DropZeroBias(), text)[1] == 0
