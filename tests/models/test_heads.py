"""Heads: shapes, keys, and what a projection computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.errors import UnknownNameError
from edgekit.models.efficientnet import build_efficientnet
from edgekit.models.heads import HEADS, build_head
from edgekit.models.mobilenetv2 import build_mobilenetv2
from edgekit.models.mobilenetv3 import build_mobilenetv3
from edgekit.models.resnet import build_resnet
from tests.models import backbones

# builder, configuration, where the head is, features that enter it
PLACES: tuple[tuple[Callable[..., nn.Module], str, str, int], ...] = (
    (build_resnet, "18", "fc", 512),
    (build_resnet, "50", "fc", 2048),
    (build_mobilenetv2, "x0.35", "classifier.1", 1280),
    (build_mobilenetv3, "small", "classifier.3", 1024),
    (build_mobilenetv3, "large-seed", "classifier.3", 1280),
    (build_efficientnet, "b0-seed", "classifier.1", 1280),
)


def test_there_are_three_kinds() -> None:
    assert HEADS == ("linear", "projection", "projection-bn")


def test_a_linear_head_is_one_layer() -> None:
    head = build_head("linear", 6, 4)
    assert {key: tuple(t.shape) for key, t in head.state_dict().items()} == {
        "weight": (4, 6),
        "bias": (4,),
    }


def test_a_projection_is_two_layers_with_a_relu_between_and_no_norm() -> None:
    head, x = build_head("projection", 6, 4), torch.randn(5, 6)
    state = head.state_dict()
    assert {key: tuple(t.shape) for key, t in state.items()} == {
        "0.weight": (6, 6),
        "0.bias": (6,),
        "2.weight": (4, 6),
        "2.bias": (4,),
    }
    hidden = functional.linear(x, state["0.weight"], state["0.bias"]).clamp(min=0)
    wanted = functional.linear(hidden, state["2.weight"], state["2.bias"])
    assert torch.equal(head(x), wanted)


def test_a_projection_with_a_norm_has_a_width_of_its_own_inside() -> None:
    head, x = build_head("projection-bn", 6, 4, 10).eval(), torch.randn(5, 6)
    state = head.state_dict()
    for key, shape in (("0.weight", (10, 6)), ("1.running_var", (10,)), ("3.weight", (4, 10))):
        assert tuple(state[key].shape) == shape
    state["1.running_mean"].copy_(torch.randn(10))
    hidden = functional.linear(x, state["0.weight"], state["0.bias"]) - state["1.running_mean"]
    hidden = (hidden / (1 + 1e-5) ** 0.5).clamp(min=0)
    wanted = functional.linear(hidden, state["3.weight"], state["3.bias"])
    assert torch.allclose(head(x), wanted, atol=1e-6)
    assert build_head("projection-bn", 6, 4).get_submodule("0").weight.shape == (6, 6)


@pytest.mark.parametrize(("build", "config", "place", "width"), PLACES)
def test_a_head_stands_where_the_last_layer_stands(
    build: Callable[..., nn.Module], config: str, place: str, width: int
) -> None:
    linear = backbones.unfilled(build, config, num_classes=7)
    projection = backbones.unfilled(build, config, num_classes=7, head="projection")
    assert linear.get_submodule(place).weight.shape == (7, width)
    keys = [key for key in projection.state_dict() if key.startswith(f"{place}.")]
    assert keys == [f"{place}.{leaf}" for leaf in ("0.weight", "0.bias", "2.weight", "2.bias")]
    rest = [key for key in linear.state_dict() if not key.startswith(f"{place}.")]
    assert [key for key in projection.state_dict() if key not in keys] == rest
    assert projection(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 7)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown head 'mlp': known: linear, projection"):
        build_head("mlp", 6, 4)
