"""EfficientNets against others' keys, layers, counts and outputs, and against plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.efficientnet import (
    SPECS,
    Block,
    EfficientNet,
    StochasticDepth,
    build_efficientnet,
)
from tests.models import backbones, fill_rule
from tests.models.backbones import State, convolve, gate_of, linear, norm, pool, tensorflow_pads

ENTRIES = {"b0": 360, "b1": 508}
# At 64 each convolution with stride 2 sees an even map, at 43 an odd, even, odd, even, odd one.
SIZES = (64, 43)

# ---------------------------------------------------------------------------
# Keys and counts
# ---------------------------------------------------------------------------


def test_all_specs_are_covered() -> None:
    assert list(SPECS) == list(FUNCTIONS)


@pytest.mark.parametrize("config", SPECS)
def test_keys_shapes_types_and_counts_are_torchvisions(config: str) -> None:
    name = f"efficientnet_{config[:2]}"
    network, known = backbones.unfilled(build_efficientnet, config), backbones.facts(name)
    official = backbones.official_entries(name)
    assert len(official) == ENTRIES[config[:2]]
    assert backbones.entries(network) == official
    assert backbones.params(network) == known["params"]
    assert backbones.macs(network, 224) == known["macs_224"]


@pytest.mark.parametrize("config", ["b1", "b1-seed"])
def test_macs_of_b1_at_its_native_size_are_the_known_ones(config: str) -> None:
    network = backbones.unfilled(build_efficientnet, config, image_size=240)
    assert backbones.macs(network, 240) == backbones.facts("efficientnet_b1")["macs_240"]


def test_layers_are_torchvisions_in_their_order() -> None:
    official = backbones.official_layers("efficientnet_b0")
    assert len(official) == 82
    assert backbones.layers(backbones.unfilled(build_efficientnet, "b0"), 224) == official


@pytest.mark.parametrize("config", ["b0-seed", "b1-seed"])
def test_heads_of_seed_have_the_known_counts(config: str) -> None:
    known = backbones.facts(f"efficientnet_{config[:2]}")["seed"]
    sizes = {"num_classes": 128, "head": "projection"}
    network = backbones.unfilled(build_efficientnet, config, **sizes)
    assert backbones.params(network) == known["params_with_seed_mlp"]
    head = network.get_submodule("classifier.1")
    assert backbones.params(network) - backbones.params(head) == known["params_without_fc"]
    plain = backbones.unfilled(build_efficientnet, config, num_classes=128)
    assert backbones.macs(plain, 224) == known["macs_224_with_linear128"]


@pytest.mark.parametrize(
    ("flavour", "eps", "momentum"), [("", 1e-5, 0.1), ("-tf", 1e-3, 0.01), ("-seed", 1e-3, 0.01)]
)
@pytest.mark.parametrize("size", ["b0", "b1"])
def test_norms_are_those_of_the_flavour(
    size: str, flavour: str, eps: float, momentum: float
) -> None:
    network = backbones.unfilled(build_efficientnet, f"{size}{flavour}")
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(eps, momentum)}


# ---------------------------------------------------------------------------
# Outputs: the same functions once more, from the state dict alone, with torch's primitives
# ---------------------------------------------------------------------------

EXPANDED = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
NOT_EXPANDED = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
OUTSIDE = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.8.0": "conv_head",
    "features.8.1": "bn2",
    "classifier.1": "classifier",
}


def timm_name(key: str) -> str:
    module, _, leaf = key.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{leaf}"
    _, stage, number, _, part = module.split(".", 4)
    parts = NOT_EXPANDED if stage == "1" else EXPANDED
    return f"blocks.{int(stage) - 1}.{number}.{parts[part]}.{leaf}"


def test_logits_of_b0_tf_equal_timms_in_double() -> None:
    gains = {**backbones.GAINS, "conv": 1.4}
    network = backbones.load(build_efficientnet("b0-tf"), timm_name, gains)
    assert backbones.error_against_official(network, "tf_efficientnet_b0") <= 1e-9


# features.1 to 7: blocks, and stride of the first one.
STAGES = {
    "b0": ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)),
    "b1": ((2, 1), (3, 2), (3, 2), (4, 2), (4, 1), (5, 2), (2, 1)),
}
# Before and after, in front of the stem and of features.2, 3, 4 and 6: every stride of 2.
NATIVE = {
    "b0": {0: (0, 1), 2: (0, 1), 3: (1, 2), 4: (0, 1), 6: (1, 2)},  # 224 112 56 28 14
    "b1": {0: (0, 1), 2: (0, 1), 3: (1, 2), 4: (0, 1), 6: (2, 2)},  # 240 120 60 30 15
}
# (eps, padding)
FUNCTIONS = {
    "b0": (1e-5, "both"),
    "b1": (1e-5, "both"),
    "b0-tf": (1e-3, "arriving"),
    "b1-tf": (1e-3, "arriving"),
    "b0-seed": (1e-3, "native"),
    "b1-seed": (1e-3, "native"),
}


def plain_efficientnet(config: str) -> Callable[[Tensor, State], Tensor]:
    name = config[:2]
    eps, padding = FUNCTIONS[config]

    def pads(x: Tensor, kernel: int, stride: int, stage: int) -> tuple[int, int] | None:
        if padding == "arriving":
            return tensorflow_pads(x, kernel, stride)
        return NATIVE[name][stage] if padding == "native" and stride == 2 else None

    def unit(x: Tensor, state: State, key: str, stage: int, stride: int = 1) -> Tensor:
        weight = state[f"{key}.0.weight"]
        y = convolve(x, weight, stride, pads(x, weight.shape[-1], stride, stage))
        return norm(y, state, f"{key}.1", eps)

    def block(x: Tensor, state: State, key: str, stage: int, stride: int) -> Tensor:
        layer, y = 0, x
        if state[f"{key}.0.0.weight"].shape[1] != 1:  # there is an expanding 1x1
            y, layer = functional.silu(unit(y, state, f"{key}.0", stage)), 1
        y = functional.silu(unit(y, state, f"{key}.{layer}", stage, stride))
        y = gate_of(y, state, f"{key}.{layer + 1}", functional.silu, torch.sigmoid)
        y = unit(y, state, f"{key}.{layer + 2}", stage)
        return x + y if y.shape == x.shape else y

    def network(x: Tensor, state: State) -> Tensor:
        x = functional.silu(unit(x, state, "features.0", 0, 2))
        for stage, (count, first) in enumerate(STAGES[name], start=1):
            for number in range(count):
                stride = first if number == 0 else 1
                x = block(x, state, f"features.{stage}.{number}.block", stage, stride)
        x = functional.silu(unit(x, state, "features.8", 8))
        return linear(pool(x), state, "classifier.1")

    return network


@pytest.fixture(scope="module", params=FUNCTIONS)
def flavour(request: Any) -> tuple[str, nn.Module]:
    return request.param, backbones.fill(build_efficientnet(request.param))


@pytest.mark.parametrize("size", SIZES)
def test_it_computes_what_plain_arithmetic_on_the_checkpoint_does(
    size: int, flavour: tuple[str, nn.Module]
) -> None:
    config, network = flavour
    assert backbones.error_against_plain(network, plain_efficientnet(config), size) <= 1e-9


def error(network: nn.Module, other: str, size: int) -> float:
    return backbones.error_against_plain(network, plain_efficientnet(other), size)


def test_that_comparison_tells_flavours_apart(flavour: tuple[str, nn.Module]) -> None:
    config, network = flavour
    others = [other for other in FUNCTIONS if other[:2] == config[:2] and other != config]
    assert len(others) == 2
    for other in others:
        assert error(network, other, 43) > 1e-4, other


def test_seeds_b0_is_tensorflows_where_all_maps_are_even_as_at_224() -> None:
    network = backbones.fill(build_efficientnet("b0-seed"))
    assert error(network, "b0-tf", 64) <= 1e-9
    assert error(network, "b0-tf", 97) > 1e-4


def test_seeds_b1_is_tensorflows_at_its_native_size_and_not_at_224() -> None:
    network = backbones.fill(build_efficientnet("b1-seed"))
    assert error(network, "b1-tf", 48) <= 1e-9  # the fifth halving sees 3 pixels, 15 at 240
    assert error(network, "b1-tf", 64) > 1e-4  # 4 pixels, 14 at 224


@pytest.mark.parametrize(
    "change", [{"norm_eps": 1e-4}, {"padding": "both"}, {"padding": "same"}], ids=str
)
def test_that_comparison_sees_each_setting(change: dict[str, Any]) -> None:
    spec = SPECS["b0-seed"]
    network = EfficientNet(replace(spec, flavour=replace(spec.flavour, **change)), 1000)
    assert error(backbones.fill(network), "b0-seed", 43) > 1e-4


def test_that_comparison_sees_another_native_size() -> None:
    network = EfficientNet(replace(SPECS["b1-seed"], native_size=224), 1000)
    assert error(backbones.fill(network), "b1-seed", 64) > 1e-4


# ---------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "blocks", "skips"), [("b0", 16, 9), ("b1", 23, 16)])
def test_later_blocks_are_dropped_more_often(config: str, blocks: int, skips: int) -> None:
    network = backbones.unfilled(build_efficientnet, config)
    own = [m for m in network.modules() if isinstance(m, Block)]
    assert len(own) == blocks
    assert [block.skip for block in own].count(True) == skips
    chances = [block.drop.probability for block in own]
    assert chances == [0.2 * i / blocks for i in range(blocks)]


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    drop, x = StochasticDepth(0.25), torch.ones(4000, 2, 3, 3)
    torch.manual_seed(0)
    y = drop.train()(x)
    assert bool((y == y[:, :1, :1, :1]).all())
    assert y.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert abs(float(y.mean()) - 1) < 0.05
    assert drop.eval()(x) is x


def test_the_graph_moves_no_feature_map() -> None:
    names = backbones.operators(build_efficientnet("b0-tf"), 64)
    assert backbones.moving(names) == []
    assert sum("pad" in name for name in names) == 5


def test_impossible_sizes_and_names_are_refused() -> None:
    with pytest.raises(UsageError, match="num_classes is 0"):
        build_efficientnet("b0", num_classes=0)
    with pytest.raises(UsageError, match="image_size is 31 pixels; EfficientNet divides"):
        build_efficientnet("b0", image_size=31)
    with pytest.raises(UnknownNameError, match="EfficientNet configuration 'b2': did you mean"):
        build_efficientnet("b2")


@pytest.mark.parametrize(("config", "head"), [("b0", "linear"), ("b0-seed", "projection")])
def test_it_trains(config: str, head: str) -> None:
    torch.manual_seed(0)  # no block with parameters of its own is left out for both images
    network = build_efficientnet(config, num_classes=3, head=head).train()
    network(fill_rule.images(2, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
