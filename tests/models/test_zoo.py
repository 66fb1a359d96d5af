"""The rows of the zoo, against the networks they describe."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import UnknownNameError
from edgekit.models.checkpoint import build_network
from edgekit.models.micronet import DynamicShiftMax
from edgekit.models.mobilenetv3 import SqueezeExcite
from edgekit.models.zoo import VARIANTS, Variant, get_variant, list_models
from tests.models import fill_rule

OFFICIAL = tuple(f"micronet-m{i}" for i in range(4))


def test_the_table_has_all_its_rows() -> None:
    assert len(VARIANTS) == 10
    micronets = (*OFFICIAL, *(f"micronet-v1-m{i}" for i in range(4)))
    assert tuple(VARIANTS) == (*micronets, "mobilenetv2-x0.5", "mobilenetv3-small")


def multiplies_of(module: nn.Module, output: torch.Tensor) -> int:
    """Products of a coefficient and a feature map that ``module`` computed."""
    if isinstance(module, DynamicShiftMax):
        return 2 * module.branches * output.numel()
    return output.numel() if isinstance(module, SqueezeExcite) else 0


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_counts_are_those_of_the_network(variant: Variant) -> None:
    network = build_network(variant).eval()
    multiplies: list[int] = []
    for module in network.modules():
        module.register_forward_hook(
            lambda module, _, output: multiplies.append(multiplies_of(module, output))
        )
    size = variant.image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    assert sum(p.numel() for p in network.parameters()) == variant.params
    assert counter.get_total_flops() == 2 * variant.macs
    assert sum(multiplies) == variant.elementwise_multiplies


@pytest.mark.parametrize("model_id", OFFICIAL)
def test_counts_are_the_official_ones(model_id: str) -> None:
    variant = get_variant(model_id)
    known = fill_rule.facts(variant.config)
    assert variant.params == known["params"]
    assert variant.macs == known["madds"]["conv_plus_linear"]
    assert variant.elementwise_multiplies == known["madds"]["shiftmax_elementwise_mul"]
    assert variant.madds == known["madds"]["conv_linear_elementwise"]
    assert variant.flops == 2 * variant.macs + variant.elementwise_multiplies


@pytest.mark.parametrize("model_id", OFFICIAL)
def test_published_madds_are_macs_and_multiplies_together(model_id: str) -> None:
    variant = get_variant(model_id)
    published = {row.metric: row.value for row in variant.published}
    millions = float(published["MAdds"].split()[0])
    assert abs(variant.madds / 1e6 - millions) < 0.8
    assert abs(variant.params / 1e6 - float(published["params"].split()[0])) < 0.05


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_a_row_is_released_or_says_what_is_guessed_or_whose_it_is(variant: Variant) -> None:
    assert (variant.weights is None) == bool(variant.approximate or variant.flavour)
    assert all(row.metric and row.value and row.source for row in variant.published)
    if variant.weights is not None:
        assert variant.weights.url.endswith(f"/micronet-{variant.config}.pth")
        assert variant.weights.bytes_cap > 8 * variant.params


def test_the_first_versions_m1_is_close_to_what_is_now_m2() -> None:
    old, new = get_variant("micronet-v1-m1"), get_variant("micronet-m2")
    assert {row.metric: row.value for row in old.published}["top-1"] == "61.1 %"
    assert "micronet-m2" in " ".join(old.notes)
    assert old.madds == new.madds


def test_a_wrong_name_gets_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*micronet-m1.*edgekit models"):
        get_variant("micronet_m1")


def test_models_are_listed_in_order_and_by_family() -> None:
    assert list_models() == list(VARIANTS.values())
    assert list_models("micronet") == [v for v in VARIANTS.values() if v.family == "micronet"]
    with pytest.raises(UnknownNameError, match="model family 'resnet'"):
        list_models("resnet")


@pytest.mark.parametrize("module", ["zoo", "labels", "download"])
def test_it_imports_neither_torch_nor_numpy(module: str) -> None:
    code = (
        f"import sys, edgekit.models.{module}; "
        "sys.exit(str({'torch', 'numpy', 'onnx', 'safetensors'} & set(sys.modules) or '') or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
