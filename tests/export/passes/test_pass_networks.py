"""Every pass on whole networks: MicroNet, MicroNet written plainly, and strangers.

Each pass is compared with the graph before it, in float64, with weights that drive every clamp
of the gates to both of its ends. Two ways of writing MicroNet must
come to the same graph. And wrong rewrites, made on purpose, must be noticed.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.plain_micronet import NETS, PlainMicroNet
from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.passes.infra import GraphPass
from edgekit.export.passes.movement import is_contiguous
from edgekit.export.trace import trace
from edgekit.models.micronet import build_micronet
from edgekit.targets import TARGETS, GraphChoices
from tests.export.foreign_graphs import MODULES
from tests.export.passes.graph_numerics import (
    EXACT,
    relative_difference,
    run,
    sample,
    to_double,
    worst_difference,
)
from tests.models import fill_rule
from tests.variants import marked

SINGLE = 5e-6  # strangers run in float32: some of their operators have no other kernel
SIZE = 64  # small maps, whole networks
MICRONETS = tuple(NETS)
SHORT = ("micronet-m0", "micronet-m3")  # with skips and without; the others in the zoo run
CHOICES = {
    choices: f"{runtime} on {name}"
    for name, target in TARGETS.items()
    for runtime, choices in target.choices.items()
}  # each distinct row once


@cache
def _micronet(name: str) -> ir.Model:
    config = name.removeprefix("micronet-")
    module = build_micronet(config, image_size=SIZE)
    module.load_state_dict(fill_rule.state(config))
    return _traced(module)


@cache
def _plain(name: str) -> ir.Model:
    module = PlainMicroNet(name)
    module.load_state_dict(fill_rule.state(name.removeprefix("micronet-")))
    return _traced(module)


def _traced(module: torch.nn.Module) -> ir.Model:
    image = torch.zeros(1, 3, SIZE, SIZE)
    return to_double(trace(module.eval(), (image,), ("image",), ("logits",), opset=18))


@cache
def _foreign(name: str) -> ir.Model:
    build, shapes = MODULES[name]
    torch.manual_seed(3)
    module = build()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            torch.nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
    inputs = [torch.randn(shape) for shape in shapes]
    names = [f"x{position}" for position in range(len(inputs))]
    with torch.no_grad():
        result = module.eval()(*inputs)
    outputs = len(result) if isinstance(result, tuple) else 1
    return trace(module, inputs, names, [f"y{i}" for i in range(outputs)], opset=18)


@cache
def _canonical(name: str) -> ir.Model:
    return run_passes(_micronet(name), CANONICAL)[0]


def _each_exact(
    model: ir.Model, passes: tuple[GraphPass, ...], tolerance: float = EXACT
) -> ir.Model:
    inputs = sample(model, 0)
    expected = run(model, inputs)
    for graph_pass in passes:
        model, (record,) = run_passes(model, [graph_pass])
        if record.modified:
            found = run(model, inputs)
            difference = worst_difference(expected, found)
            assert difference <= tolerance, f"{graph_pass.name}: {difference:.1e}"
            expected = found
    return model


@pytest.mark.parametrize("name", MICRONETS)
def test_each_canonical_pass_is_exact_on_micronet(name: str) -> None:
    before = _micronet(name)
    after = _each_exact(before, CANONICAL)
    assert relative_difference(before, after, seeds=2) <= EXACT


@pytest.mark.parametrize("name", marked(MICRONETS, SHORT))
def test_each_canonical_pass_is_exact_on_plain_micronet(name: str) -> None:
    before = _plain(name)
    assert relative_difference(_micronet(name), before, seeds=1) <= 1e-7  # HardSigmoid's 1/6
    _each_exact(before, CANONICAL)


@pytest.mark.parametrize("name", marked(MICRONETS, SHORT))
def test_however_micronet_is_written_the_graph_is_the_same(name: str) -> None:
    ours, plain = (
        Counter(node.op_type for node in model.graph)
        for model in (_canonical(name), run_passes(_plain(name), CANONICAL)[0])
    )
    assert ours == plain
    assert set(ours) == {
        "Conv", "Clip", "Relu", "HardSwish", "Gather", "Split", "Mul", "Add", "Max",
        "GlobalAveragePool", "Reshape", "Gemm",
    }  # fmt: skip
    assert ours["Reshape"] == 1  # before the classifier


@pytest.mark.parametrize("name", ["micronet-m0", "micronet-m1", "micronet-m2"])
def test_a_shift_max_costs_few_operations(name: str) -> None:
    """Per dynamic shift-max: pool, two convolutions, ReLU, clip, split, at most one addition of
    offsets, and the 4 K - 1 operations of the formula."""
    counts = Counter(node.op_type for node in _canonical(name).graph)
    shift_maxes = counts["Split"]
    two_branches = counts["Max"]
    assert counts["GlobalAveragePool"] == shift_maxes + 1 == counts["Relu"] + 1
    assert counts["Mul"] == 2 * shift_maxes + 2 * two_branches
    skips = {"micronet-m2": 1}.get(name, 0)
    assert counts["Add"] == 2 * shift_maxes + two_branches + skips


@pytest.mark.parametrize("choices", CHOICES, ids=CHOICES.get)
@pytest.mark.parametrize("name", MICRONETS)
def test_each_choice_pass_is_exact_on_micronet(name: str, choices: GraphChoices) -> None:
    _each_exact(_canonical(name), choice_passes(choices))


@pytest.mark.parametrize("name", MODULES)
def test_every_pass_is_exact_on_strangers(name: str) -> None:
    canonical = _each_exact(_foreign(name), CANONICAL, SINGLE)
    for choices in CHOICES:
        _each_exact(canonical, choice_passes(choices), SINGLE)


def test_the_order_pass_leaves_few_permutations() -> None:
    """M1 at its full size: 30 permutations, of which half are the shifts of its 15 shift-maxes."""
    image = torch.zeros(1, 3, 224, 224)
    model = trace(build_micronet("m1").eval(), (image,), ("image",), ("logits",), opset=18)
    canonical, _ = run_passes(model, CANONICAL)
    assert sum(node.op_type == "Gather" for node in canonical.graph) == 30
    for runtime, target in (("litert", "arm"), ("openvino", "x86"), ("onnxruntime", "x86")):
        after, records = run_passes(canonical, choice_passes(TARGETS[target].choices[runtime]))
        counts = Counter(node.op_type for node in after.graph)
        left = next(r.notes[0] for r in records if r.name == "channel-order")
        assert int(left.split()[-1]) <= 18, left
        assert counts["Gather"] <= {"litert": 10, "openvino": 6, "onnxruntime": 18}[runtime]


def test_metadata_of_this_machine_does_not_leave_it() -> None:
    root = str(Path(__file__).parents[3])
    text = ir.to_proto(_canonical("micronet-m0")).SerializeToString()
    assert root.encode() not in text and b"name_scopes" in text


# ---------------------------------------------------------------------------
# Wrong on purpose
# ---------------------------------------------------------------------------


def _larger(contents: NDArray[Any]) -> NDArray[Any]:
    return 1.01 * contents if contents.dtype.kind == "f" else contents


WRONG = {
    "a permutation the wrong way round": (
        "order.rewrite.Rewriter._permute",
        lambda right: (
            lambda self, builder, stored, index: right(self, builder, stored, np.argsort(index))
        ),
    ),
    "a shuffle transposed": (
        "movement.select_channels",
        lambda right: (
            lambda builder, x, index: right(
                builder, x, index if is_contiguous(index) else np.argsort(index).tolist()
            )
        ),
    ),
    "a clamp that is one per cent off": (
        "activations.emit_clip",
        lambda right: lambda builder, x, low, high: right(builder, x, low, 1.01 * high),
    ),
    "constants that are one per cent off": (
        "graph.Builder.constant",
        lambda right: (
            lambda self, contents, hint, dtype=None: right(
                self,
                _larger(np.asarray(contents)),
                hint,
                dtype,
            )
        ),
    ),
    "weights one channel off": (
        "order.rewrite.reorder_linear",
        lambda right: (
            lambda builder, linear, source, fed, stored: right(
                builder, linear, source, fed, np.roll(stored, 1)
            )
        ),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rewrite_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _plain("micronet-m0")
    passes = (*CANONICAL, *choice_passes(TARGETS["arm"].choices["litert"]))
    right, _ = run_passes(before, passes)
    assert relative_difference(before, right, seeds=1) <= EXACT
    name, make_wrong = WRONG[wrong]
    path = f"edgekit.export.passes.{name}"
    monkeypatch.setattr(path, make_wrong(resolve_name(path)))
    after, _ = run_passes(before, passes)
    monkeypatch.undo()
    assert relative_difference(before, after, seeds=1) > 1e-4
