"""ResNets against torchvision's keys, layers, counts and outputs, and SEED's counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.resnet import (
    SPECS,
    BasicBlock,
    Bottleneck,
    ResNet,
    Trunk,
    build_resnet,
    convolution,
)
from tests.models import backbones, fill_rule
from tests.models.backbones import State, convolve, linear, norm, pool

ENTRIES = {"18": 122, "34": 218, "50": 320, "101": 626, "152": 932}
LAYERS = {"18": 21, "34": 37, "50": 54}


def test_all_specs_are_covered() -> None:
    assert list(SPECS) == list(ENTRIES)


@pytest.mark.parametrize("config", ENTRIES)
def test_keys_shapes_types_and_counts_are_torchvisions(config: str) -> None:
    network, known = backbones.unfilled(build_resnet, config), backbones.facts(f"resnet{config}")
    official = backbones.official_entries(f"resnet{config}")
    assert len(official) == ENTRIES[config]
    assert backbones.entries(network) == official
    assert backbones.params(network) == known["params"]
    assert backbones.macs(network, 224) == known["macs_224"]


@pytest.mark.parametrize("config", LAYERS)
def test_layers_are_torchvisions_in_their_order(config: str) -> None:
    official = backbones.official_layers(f"resnet{config}")
    assert len(official) == LAYERS[config]
    assert backbones.layers(backbones.unfilled(build_resnet, config), 224) == official


@pytest.mark.parametrize("config", LAYERS)
def test_heads_of_seed_have_the_known_counts(config: str) -> None:
    known = backbones.facts(f"resnet{config}")["seed"]
    network = backbones.unfilled(build_resnet, config, num_classes=128, head="projection")
    assert backbones.params(network) == known["params_with_seed_mlp"]
    head = network.get_submodule("fc")
    assert backbones.params(network) - backbones.params(head) == known["params_without_fc"]
    assert list(head.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    plain = backbones.unfilled(build_resnet, config, num_classes=128)
    assert backbones.macs(plain, 224) == known["macs_224_with_linear128"]
    assert SPECS[config].width_out == known["feature_dim"]


def test_logits_equal_torchvisions_in_double() -> None:
    network = backbones.fill(build_resnet("18"), backbones.facts("resnet18")["fill_gains"])
    assert backbones.error_against_official(network, "resnet18") <= 1e-9


def plain_resnet(x: Tensor, state: State) -> Tensor:
    """The function once more, from the state dict alone, with torch's primitives."""

    def unit(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        return norm(convolve(x, state[f"{conv}.weight"], stride), state, bn, 1e-5)

    x = functional.max_pool2d(unit(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    blocks = dict.fromkeys(key.rsplit(".", 2)[0] for key in state if key.endswith("conv1.weight"))
    for key in (key for key in blocks if key.startswith("layer")):
        stride = 2 if key in ("layer2.0", "layer3.0", "layer4.0") else 1
        deep = f"{key}.conv3.weight" in state
        y = unit(x, f"{key}.conv1", f"{key}.bn1", 1 if deep else stride).relu()
        y = unit(y, f"{key}.conv2", f"{key}.bn2", stride if deep else 1)
        if deep:
            y = unit(y.relu(), f"{key}.conv3", f"{key}.bn3")
        if f"{key}.downsample.0.weight" in state:
            x = unit(x, f"{key}.downsample.0", f"{key}.downsample.1", stride)
        x = (x + y).relu()
    return linear(pool(x), state, "fc")


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return backbones.fill(build_resnet("50"), backbones.facts("resnet50")["fill_gains"])


@pytest.mark.parametrize("size", [64, 97])
def test_it_computes_what_plain_arithmetic_on_the_checkpoint_does(
    size: int, resnet50: nn.Module
) -> None:
    assert backbones.error_against_plain(resnet50, plain_resnet, size) <= 1e-9


def test_that_comparison_sees_the_stride_of_version_1(resnet50: nn.Module) -> None:
    blocks = [m for m in resnet50.modules() if isinstance(m, Bottleneck) and m.downsample]
    assert len(blocks) == 4
    first, second = blocks[3].conv1, blocks[3].conv2
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    assert (first.stride, second.stride) == ((1, 1), (2, 2))
    try:
        first.stride, second.stride = (2, 2), (1, 1)
        assert backbones.error_against_plain(resnet50, plain_resnet, 64) > 1e-3
    finally:
        first.stride, second.stride = (1, 1), (2, 2)


def test_that_comparison_sees_another_eps(resnet50: nn.Module) -> None:
    (stem,) = (m for name, m in resnet50.named_modules() if name == "bn1")
    assert isinstance(stem, nn.BatchNorm2d)
    try:
        stem.eps = 1e-3
        assert backbones.error_against_plain(resnet50, plain_resnet, 64) > 1e-6
    finally:
        stem.eps = 1e-5


def test_blocks_take_a_function_that_makes_their_convolutions() -> None:
    made: list[tuple[int, int, int, int]] = []

    def make(*sizes: int) -> nn.Module:
        made.append(sizes)  # type: ignore[arg-type]
        return convolution(*sizes)

    trunk = Trunk(SPECS["50"], make)
    assert len(made) == 3 * 16  # neither the stem nor the shortcuts
    assert made[:4] == [(64, 64, 1, 1), (64, 64, 3, 1), (64, 256, 1, 1), (256, 64, 1, 1)]
    with torch.no_grad():
        assert trunk.eval().pooled(torch.zeros(1, 3, 32, 32)).shape == (1, 2048)
    assert BasicBlock(64, 64, 1).downsample is None


def test_the_graph_moves_no_feature_map() -> None:
    names = backbones.operators(build_resnet("18"), 64)
    assert sum("conv2d" in name for name in names) == 20
    assert backbones.moving(names) == []


def test_impossible_sizes_and_names_are_refused() -> None:
    with pytest.raises(UsageError, match="num_classes is 0"):
        build_resnet("18", num_classes=0)
    with pytest.raises(UsageError, match="image_size is 31 pixels; ResNet divides"):
        build_resnet("18", image_size=31)
    with pytest.raises(UnknownNameError, match="unknown depth of ResNet '20': did you mean"):
        build_resnet("20")
    with pytest.raises(UnknownNameError, match="unknown head 'mlp': known: linear, projection"):
        build_resnet("18", head="mlp")


@pytest.mark.parametrize("head", ["linear", "projection"])
def test_it_trains(head: str) -> None:
    network = build_resnet("18", num_classes=3, head=head).train()
    assert isinstance(network, ResNet)
    network(fill_rule.images(2, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
