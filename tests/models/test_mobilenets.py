"""MobileNetV2 and V3 against torchvision's keys, layers, counts, outputs, and plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError, UnknownNameError, UsageError
from edgekit.models.checkpoint import build_network, load_strict
from edgekit.models.mobilenetv2 import ROWS, WIDTHS, InvertedResidual, build_mobilenetv2
from edgekit.models.mobilenetv3 import (
    SPECS,
    Block,
    MobileNetV3,
    SqueezeExcite,
    build_mobilenetv3,
)
from edgekit.models.sizes import divisible_width
from edgekit.models.zoo import get_variant
from tests.models import backbones, fill_rule
from tests.models.backbones import State, convolve, gate_of, linear, norm, pool, tensorflow_pads

V2, V3 = build_mobilenetv2, build_mobilenetv3
NETWORKS: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "mobilenet_v2": (V2, "x1.0"),
    "mobilenet_v3_small": (V3, "small"),
    "mobilenet_v3_large": (V3, "large"),
}
NARROW = {"small-x0.35": 0.35, "small-x0.5": 0.5}
ENTRIES = {"mobilenet_v2": 314, "mobilenet_v3_small": 244, "mobilenet_v3_large": 312}
# At 64 each convolution with stride 2 sees an even map, at 43 an odd, even, odd, even, odd one.
SIZES = (64, 43)

# ---------------------------------------------------------------------------
# Keys and counts
# ---------------------------------------------------------------------------


def test_all_specs_are_covered() -> None:
    assert list(WIDTHS) == ["x0.35", "x0.5", "x0.75", "x1.0"]
    assert [config for config in SPECS if config not in NARROW] == list(FUNCTIONS)


@pytest.mark.parametrize("config", NARROW)
def test_narrow_v3_scales_every_width_but_the_hidden_one(config: str) -> None:
    narrow, whole, times = SPECS[config], SPECS["small-timm"], NARROW[config]
    assert narrow.head_width == whole.head_width == 1024
    assert narrow.flavour == whole.flavour
    for row, wide in zip(narrow.rows, whole.rows, strict=True):
        for got, of in ((row.expanded, wide.expanded), (row.width_out, wide.width_out)):
            assert got % 8 == 0
            assert 0.9 * times * of <= got <= max(8, times * of + 4)
        assert (row.kernel, row.stride, row.gated) == (wide.kernel, wide.stride, wide.gated)


def test_narrow_v3_costs_what_was_published_at_035() -> None:
    assert round(get_variant("mobilenetv3-small-x0.35").macs / 1e6) == 12


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_types_and_counts_are_torchvisions(name: str) -> None:
    build, config = NETWORKS[name]
    network, known = backbones.unfilled(build, config), backbones.facts(name)
    official = backbones.official_entries(name)
    assert len(official) == ENTRIES[name]
    assert backbones.entries(network) == official
    assert backbones.params(network) == known["params"]
    if "macs_224" in known:  # nobody counted V2's with the same counter
        assert backbones.macs(network, 224) == known["macs_224"]


@pytest.mark.parametrize("config", ["x0.35", "x0.5", "x0.75"])
def test_narrower_networks_have_the_same_keys(config: str) -> None:
    keys = list(backbones.facts("mobilenet_v2")["keys"])
    assert list(backbones.unfilled(V2, config).state_dict()) == keys


def test_flavours_differ_in_no_shape() -> None:
    for config in FUNCTIONS:
        size = config.partition("-")[0]
        network = backbones.unfilled(V3, config)
        assert backbones.entries(network) == backbones.official_entries(f"mobilenet_v3_{size}")


def test_layers_are_torchvisions_in_their_order() -> None:
    official = backbones.official_layers("mobilenet_v3_large")
    assert len(official) == 64
    assert backbones.layers(backbones.unfilled(V3, "large"), 224) == official


def test_the_head_of_seed_has_the_known_counts() -> None:
    known = backbones.facts("mobilenet_v3_large")["seed"]
    network = backbones.unfilled(V3, "large-seed", num_classes=128, head="projection")
    assert backbones.params(network) == known["params_with_seed_mlp"]
    head = network.get_submodule("classifier.3")
    assert backbones.params(network) - backbones.params(head) == known["params_without_fc"]
    plain = backbones.unfilled(V3, "large-seed", num_classes=128)
    assert backbones.macs(plain, 224) == known["macs_224_with_linear128"]


def test_the_row_of_v3_small_has_the_known_counts() -> None:
    known, row = backbones.facts("mobilenet_v3_small"), get_variant("mobilenetv3-small")
    assert (row.params, row.macs) == (known["params"], known["macs_224"])


@pytest.mark.parametrize(
    ("config", "eps", "momentum"),
    [
        ("small", 1e-3, 0.01),
        ("small-timm", 1e-5, 0.1),
        ("small-tf", 1e-3, 0.01),
        ("large", 1e-3, 0.01),
        ("large-timm", 1e-5, 0.1),
        ("large-tf", 1e-3, 0.01),
        ("large-seed", 1e-5, 0.1),
    ],
)
def test_norms_are_those_of_the_flavour(config: str, eps: float, momentum: float) -> None:
    norms = [m for m in backbones.unfilled(V3, config).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(eps, momentum)}


# ---------------------------------------------------------------------------
# Outputs: the same functions once more, from the state dict alone, with torch's primitives
# ---------------------------------------------------------------------------


def plain_v2(x: Tensor, state: State) -> Tensor:
    strides = [row.stride if i == 0 else 1 for row in ROWS for i in range(row.repeats)]

    def unit(x: Tensor, conv: str, bn: str, stride: int = 1, *, linear: bool = False) -> Tensor:
        y = norm(convolve(x, state[f"{conv}.weight"], stride), state, bn, 1e-5)
        return y if linear else y.clamp(0, 6)

    x = unit(x, "features.0.0", "features.0.1", 2)
    for number, stride in enumerate(strides, start=1):
        key, y = f"features.{number}.conv", x
        depthwise = 0 if number == 1 else 1
        if depthwise:
            y = unit(y, f"{key}.0.0", f"{key}.0.1")
        y = unit(y, f"{key}.{depthwise}.0", f"{key}.{depthwise}.1", stride)
        y = unit(y, f"{key}.{depthwise + 1}", f"{key}.{depthwise + 2}", linear=True)
        x = x + y if y.shape == x.shape else y
    return linear(pool(unit(x, "features.18.0", "features.18.1")), state, "classifier.1")


# Blocks from features.1 on, as the paper's tables have them: stride, and R for ReLU or H for
# h-swish.
PAPER = {
    "small": "2R 2R 1R 2H 1H 1H 1H 1H 2H 1H 1H",
    "large": "1R 2R 1R 2R 1R 1R 2H 1H 1H 1H 1H 1H 2H 1H 1H",
}
# (eps, padding as in TensorFlow, SE before the activation)
FUNCTIONS = {
    "small": (1e-3, False, False),
    "small-timm": (1e-5, False, False),
    "small-tf": (1e-3, True, False),
    "large": (1e-3, False, False),
    "large-timm": (1e-5, False, False),
    "large-tf": (1e-3, True, False),
    "large-seed": (1e-5, False, True),
}


def plain_v3(config: str) -> Callable[[Tensor, State], Tensor]:
    eps, tensorflow, gate_first = FUNCTIONS[config]
    paper = PAPER[config.partition("-")[0]].split()

    def hard_sigmoid(x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) / 6

    def swish(x: Tensor) -> Tensor:
        return x * hard_sigmoid(x)

    def unit(x: Tensor, state: State, key: str, stride: int = 1) -> Tensor:
        weight = state[f"{key}.0.weight"]
        pads = tensorflow_pads(x, weight.shape[-1], stride) if tensorflow else None
        return norm(convolve(x, weight, stride, pads), state, f"{key}.1", eps)

    def block(x: Tensor, state: State, key: str, stride: int, act: Any) -> Tensor:
        layer, y = 0, x
        expands = state[f"{key}.0.0.weight"].shape[1] != 1
        if expands:
            y, layer = act(unit(y, state, f"{key}.0")), 1
        y = unit(y, state, f"{key}.{layer}", stride)
        gated = f"{key}.{layer + 1}.fc1.weight" in state
        if not (gated and expands and gate_first):
            y = act(y)
        if gated:
            layer += 1
            y = gate_of(y, state, f"{key}.{layer}", torch.relu, hard_sigmoid)
            y = act(y) if expands and gate_first else y
        y = unit(y, state, f"{key}.{layer + 1}")
        return x + y if y.shape == x.shape else y

    def network(x: Tensor, state: State) -> Tensor:
        x = swish(unit(x, state, "features.0", 2))
        for number, step in enumerate(paper, start=1):
            act = {"R": torch.relu, "H": swish}[step[1]]
            x = block(x, state, f"features.{number}.block", int(step[0]), act)
        x = swish(unit(x, state, f"features.{len(paper) + 1}"))
        return linear(swish(linear(pool(x), state, "classifier.0")), state, "classifier.3")

    return network


@pytest.fixture(scope="module", params=FUNCTIONS)
def flavour(request: Any) -> tuple[str, nn.Module]:
    return request.param, backbones.fill(V3(request.param))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", WIDTHS)
def test_v2_computes_what_plain_arithmetic_on_the_checkpoint_does(config: str, size: int) -> None:
    network = backbones.fill(V2(config), {**backbones.GAINS, "conv": 1.0})
    assert backbones.error_against_plain(network, plain_v2, size) <= 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_v3_computes_what_plain_arithmetic_on_the_checkpoint_does(
    size: int, flavour: tuple[str, nn.Module]
) -> None:
    config, network = flavour
    assert backbones.error_against_plain(network, plain_v3(config), size) <= 1e-9


def test_that_comparison_tells_flavours_apart(flavour: tuple[str, nn.Module]) -> None:
    config, network = flavour
    size = config.partition("-")[0]
    others = [other for other in FUNCTIONS if other.startswith(size) and other != config]
    assert len(others) == (2 if size == "small" else 3)
    for other in others:
        assert backbones.error_against_plain(network, plain_v3(other), 43) > 1e-4, other


@pytest.mark.parametrize(
    "change", [{"norm_eps": 1e-4}, {"padding": "same"}, {"gate_first": True}], ids=str
)
@pytest.mark.parametrize("config", ["small", "large"])
def test_that_comparison_sees_each_setting(config: str, change: dict[str, Any]) -> None:
    spec = SPECS[config]
    network = MobileNetV3(replace(spec, flavour=replace(spec.flavour, **change)), 1000)
    assert backbones.error_against_plain(backbones.fill(network), plain_v3(config), 64) > 1e-4


def test_paddings_agree_where_every_map_that_is_halved_is_odd() -> None:
    network = backbones.fill(V3("small-tf"))
    assert backbones.error_against_plain(network, plain_v3("small"), 97) <= 1e-9


def test_the_first_gate_of_small_comes_last_even_if_gates_come_first() -> None:
    spec = SPECS["small"]
    seeds = MobileNetV3(replace(spec, flavour=replace(spec.flavour, gate_first=True)), 10)
    gates = [m for m in seeds.modules() if isinstance(m, SqueezeExcite)]
    assert [type(gate.after) for gate in gates] == [nn.Identity] + [nn.Hardswish] * 8


def test_logits_of_v3_large_equal_torchvisions_in_double() -> None:
    gains = backbones.facts("mobilenet_v3_large")["fill_gains"]
    network = backbones.fill(V3("large"), gains)
    assert backbones.error_against_official(network, "mobilenet_v3_large") <= 1e-9


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (nn.BatchNorm2d, lambda norm: setattr(norm, "eps", 1e-3)),
        (nn.Conv2d, lambda conv: setattr(conv, "padding", (0, 0))),
        (nn.ReLU6, lambda relu: setattr(relu, "max_val", 1e9)),
    ],
)
def test_the_comparison_of_v2_sees_another_setting(kind: Any, change: Any) -> None:
    network = backbones.fill(V2("x0.35"), {**backbones.GAINS, "conv": 1.0})
    change(next(m for m in network.modules() if isinstance(m, kind)))
    assert backbones.error_against_plain(network, plain_v2, 64) > 1e-6


# ---------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------


def test_blocks_skip_and_expand_where_they_should() -> None:
    v2 = [m for m in build_mobilenetv2("x0.5").modules() if isinstance(m, InvertedResidual)]
    assert [block.skip for block in v2].count(True) == 10
    v3 = [m for m in build_mobilenetv3("small").modules() if isinstance(m, Block)]
    assert [i for i, block in enumerate(v3, start=1) if block.skip] == [3, 5, 6, 8, 10, 11]
    gates = [m for m in build_mobilenetv3("small").modules() if isinstance(m, SqueezeExcite)]
    assert [gate.fc1.out_channels for gate in gates] == [8, 24, 64, 64, 32, 40, 72, 144, 144]
    large = [m for m in build_mobilenetv3("large").modules() if isinstance(m, Block)]
    assert [i for i, block in enumerate(large, start=1) if block.skip] == [
        1, 3, 5, 6, 8, 9, 10, 12, 14, 15,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "stem"), [("x0.35", 16), ("x0.5", 16), ("x0.75", 24), ("x1.0", 32)]
)
def test_narrower_networks_keep_the_last_width(config: str, stem: int) -> None:
    widths = [
        module.out_channels
        for module in build_mobilenetv2(config).features
        for module in list(module.modules())[-3:]
        if isinstance(module, nn.Conv2d)
    ]
    assert widths[0] == stem
    assert widths[-1] == 1280


@pytest.mark.parametrize(
    ("width", "rounded"), [(1, 8), (11.2, 16), (12, 16), (16.0, 16), (33.6, 32), (42, 40), (72, 72)]
)
def test_widths_are_multiples_of_8_and_never_far_below(width: float, rounded: int) -> None:
    assert divisible_width(width) == rounded


@pytest.mark.parametrize("model_id", ["mobilenetv2-x0.5", "mobilenetv3-small"])
def test_weights_of_the_other_are_refused_by_name(model_id: str) -> None:
    ids = ["mobilenetv2-x0.5", "mobilenetv3-small"]
    (other,) = set(ids) - {model_id}
    network, state = build_network(get_variant(model_id)), build_network(get_variant(other))
    with pytest.raises(CheckpointError, match=f"It fits {other}"):
        load_strict(network, state.state_dict(), "x.pth")


@pytest.mark.parametrize("build", [build_mobilenetv2, build_mobilenetv3])
def test_impossible_sizes_and_names_are_refused(build: Any) -> None:
    config = next(iter(WIDTHS if build is build_mobilenetv2 else SPECS))
    with pytest.raises(UsageError, match="num_classes is 0"):
        build(config, num_classes=0)
    with pytest.raises(UsageError, match="image_size is 31 pixels; MobileNetV"):
        build(config, image_size=31)
    with pytest.raises(UnknownNameError, match="MobileNetV"):
        build("tiny")


@pytest.mark.parametrize(
    ("build", "config", "head"),
    [
        (build_mobilenetv2, "x0.35", "linear"),
        (build_mobilenetv2, "x0.35", "projection"),
        (build_mobilenetv3, "small", "linear"),
        (build_mobilenetv3, "small-tf", "linear"),
        (build_mobilenetv3, "large-seed", "projection"),
    ],
)
def test_it_trains(build: Any, config: str, head: str) -> None:
    network = build(config, num_classes=3, head=head).train()
    network(fill_rule.images(2, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_graph_moves_no_feature_map() -> None:
    names = backbones.operators(build_mobilenetv3("large-seed"), 64)
    assert sum("hardsigmoid" in name for name in names) == 8
    assert backbones.moving(names) == []
