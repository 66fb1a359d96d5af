"""MobileNetV2 and V3 against torchvision's key lists and counts, and against plain arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import CheckpointError, UnknownNameError, UsageError
from edgekit.models.checkpoint import build_network, load_strict
from edgekit.models.mobilenetv2 import ROWS, WIDTHS, InvertedResidual, build_mobilenetv2
from edgekit.models.mobilenetv3 import SPECS, Block, SqueezeExcite, build_mobilenetv3
from edgekit.models.sizes import divisible_width
from edgekit.models.zoo import get_variant
from tests.models import fill_rule

DATA = Path(__file__).parents[1] / "data" / "mobilenet"
BUILDERS = {
    "torchvision_mobilenet_v2": lambda **sizes: build_mobilenetv2("x1.0", **sizes),
    "torchvision_mobilenet_v3_small": lambda **sizes: build_mobilenetv3("small", **sizes),
}
SIZE = 97  # odd, so that where the padding is makes a difference
LENGTHS = {"torchvision_mobilenet_v2": 314, "torchvision_mobilenet_v3_small": 244}


def facts(name: str) -> dict[str, Any]:
    return dict(json.loads((DATA / f"{name}.json").read_text()))


def filled(name: str) -> nn.Module:
    """The network with a checkpoint in torchvision's format, every value by rule."""
    known = facts(name)
    state = {
        entry["key"]: torch.from_numpy(
            fill_rule.fill(entry["key"], entry["shape"], known["fill_gains"])
        )
        for entry in known["state_dict"]
    }
    network = BUILDERS[name]()
    assert load_strict(network, state, "checkpoint.pth") == ()
    return network.double().eval()


@pytest.mark.parametrize("name", BUILDERS)
def test_keys_shapes_and_types_are_torchvisions_in_their_order(name: str) -> None:
    known = facts(name)
    official = [(e["key"], e["shape"], f"torch.{e['dtype']}") for e in known["state_dict"]]
    assert len(official) == LENGTHS[name]
    network = BUILDERS[name]()
    own = [(key, list(t.shape), str(t.dtype)) for key, t in network.state_dict().items()]
    assert own == official
    assert sum(p.numel() for p in network.parameters()) == known["params"]


def test_the_row_of_v3_small_has_the_known_counts() -> None:
    known, row = facts("torchvision_mobilenet_v3_small"), get_variant("mobilenetv3-small")
    assert (row.params, row.macs) == (known["params"], known["macs_224"])


# The same functions once more, from the state dict alone, with torch's primitives.


def norm(x: Tensor, state: dict[str, Tensor], key: str, eps: float) -> Tensor:
    mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
    return functional.batch_norm(x, mean, variance, weight, bias, eps=eps)


def convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise where the weight has one input channel; padding on both sides."""
    groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
    return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)


def plain_v2(x: Tensor, state: dict[str, Tensor]) -> Tensor:
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
    x = unit(x, "features.18.0", "features.18.1")
    pooled = functional.adaptive_avg_pool2d(x, 1).flatten(1)
    return functional.linear(pooled, state["classifier.1.weight"], state["classifier.1.bias"])


# (stride, h-swish) of features.1 to 11, as torchvision's configuration has them.
V3_BLOCKS = ((2, 0), (2, 0), (1, 0), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (1, 1), (1, 1))


def plain_v3(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    def unit(x: Tensor, key: str, act: Any, stride: int = 1) -> Tensor:
        y = convolve(x, state[f"{key}.0.weight"], stride)
        return act(norm(y, state, f"{key}.1", 1e-3))

    def gate(x: Tensor, key: str) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1)
        hidden = functional.conv2d(pooled, state[f"{key}.fc1.weight"], state[f"{key}.fc1.bias"])
        y = functional.conv2d(hidden.relu(), state[f"{key}.fc2.weight"], state[f"{key}.fc2.bias"])
        return x * ((y + 3).clamp(0, 6) / 6)

    x = unit(x, "features.0", functional.hardswish, 2)
    for number, (stride, swish) in enumerate(V3_BLOCKS, start=1):
        act = functional.hardswish if swish else torch.relu
        key, layer, y = f"features.{number}.block", 0, x
        if state[f"{key}.0.0.weight"].shape[1] != 1:  # there is an expanding 1x1
            y, layer = unit(y, f"{key}.0", act), 1
        y = unit(y, f"{key}.{layer}", act, stride)
        if f"{key}.{layer + 1}.fc1.weight" in state:  # SE comes after the activation
            y, layer = gate(y, f"{key}.{layer + 1}"), layer + 1
        y = unit(y, f"{key}.{layer + 1}", lambda t: t)
        x = x + y if y.shape == x.shape else y
    x = unit(x, "features.12", functional.hardswish)
    y = functional.adaptive_avg_pool2d(x, 1).flatten(1)
    y = functional.linear(y, state["classifier.0.weight"], state["classifier.0.bias"])
    y = functional.hardswish(y)
    return functional.linear(y, state["classifier.3.weight"], state["classifier.3.bias"])


PLAIN = {"torchvision_mobilenet_v2": plain_v2, "torchvision_mobilenet_v3_small": plain_v3}


@pytest.mark.parametrize("name", BUILDERS)
def test_it_computes_what_plain_arithmetic_on_the_checkpoint_does(name: str) -> None:
    network, x = filled(name), fill_rule.images(2, SIZE).double()
    with torch.no_grad():
        logits, wanted = network(x), PLAIN[name](x, dict(network.state_dict()))
    assert float(wanted.std()) > 0.1
    assert float((logits - wanted).abs().max()) <= 1e-9


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (nn.BatchNorm2d, lambda norm: setattr(norm, "eps", 1e-5 if norm.eps == 1e-3 else 1e-3)),
        (nn.Conv2d, lambda conv: setattr(conv, "padding", (0, 0))),
    ],
)
@pytest.mark.parametrize("name", BUILDERS)
def test_that_comparison_sees_another_flavour(name: str, kind: Any, change: Any) -> None:
    network, x = filled(name), fill_rule.images(1, SIZE).double()
    wanted = PLAIN[name](x, dict(network.state_dict()))
    last = [m for m in network.modules() if isinstance(m, kind)]
    change(next(m for m in last if getattr(m, "kernel_size", (3, 3)) != (1, 1)))
    with torch.no_grad():
        assert float((network(x) - wanted).abs().max()) > 1e-6


def test_blocks_skip_and_expand_where_they_should() -> None:
    v2 = [m for m in build_mobilenetv2("x0.5").modules() if isinstance(m, InvertedResidual)]
    assert [block.skip for block in v2].count(True) == 10
    v3 = [m for m in build_mobilenetv3("small").modules() if isinstance(m, Block)]
    assert [i for i, block in enumerate(v3, start=1) if block.skip] == [3, 5, 6, 8, 10, 11]
    gates = [m for m in build_mobilenetv3("small").modules() if isinstance(m, SqueezeExcite)]
    assert [gate.fc1.out_channels for gate in gates] == [8, 24, 64, 64, 32, 40, 72, 144, 144]


def test_half_as_wide_keeps_the_last_width() -> None:
    widths = [
        module.out_channels
        for module in build_mobilenetv2("x0.5").features
        for module in list(module.modules())[-3:]
        if isinstance(module, nn.Conv2d)
    ]
    assert widths[0] == 16
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


@pytest.mark.parametrize("build", [build_mobilenetv2, build_mobilenetv3])
def test_it_trains(build: Any) -> None:
    config = next(iter(WIDTHS if build is build_mobilenetv2 else SPECS))
    network = build(config, num_classes=3).train()
    network(fill_rule.images(2, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
