"""Parameters and MACs to the digit: of both parts, and of what they are compared with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.models.minivlm.butd import POOLED, PROPOSALS, Butd, canvas
from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.specs import OSCAR_BASE, TEE0, TEE1, FusionSpec, TeeSpec
from edgekit.models.minivlm.tee import Tee

DATA = Path(__file__).parents[2] / "data"
PER_CLASS_BOXES = 6_564_100 - 8_200  # more than one box for all classes, at 1601


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def keys(name: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((DATA / name).read_text())
    return found


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def test_tee0() -> None:
    tee = Tee(TEE0)
    assert params(tee.trunk) == 3_595_388
    assert params(tee.bifpn) == 159_417
    assert params(tee.proposals) == 975
    head = tee.box_head
    assert params(head.fc6) + params(head.fc7) == 2_099_200
    assert params(head.score) + params(head.box) == 1_649_225
    assert params(tee) == 7_504_205
    assert params(Tee(replace(TEE0, classes=1592))) == 7_494_980


def test_tee1() -> None:
    tee = Tee(TEE1)
    assert (params(tee.trunk), params(tee.bifpn)) == (6_101_024, 340_284)
    assert params(tee) == 10_584_284


def test_the_attribute_head() -> None:
    spec = replace(TEE0, attributes=524, attribute_classes=326)
    assert params(Tee(spec)) - params(Tee(TEE0)) == 1_008_140


@pytest.mark.parametrize(
    ("spec", "size", "trunk", "bifpn", "proposals", "whole"),
    [
        (TEE0, (384, 512), 1_426_274_816, 335_471_616, 15_713_280, 2_900_890_112),
        (TEE0, (512, 704), 2_614_314_496, 615_031_296, 28_807_680, 4_381_583_872),
        (TEE1, (512, 704), 3_931_962_880, 1_401_880_832, 39_610_560, 6_614_849_472),
    ],
)
def test_macs(
    spec: TeeSpec, size: tuple[int, int], trunk: int, bifpn: int, proposals: int, whole: int
) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        tee = Tee(spec).eval()
        tee(torch.zeros(1, 3, *size))
        tee.box_head(torch.zeros(spec.proposals, spec.width, spec.pooled, spec.pooled))
    macs = {name: sum(each.values()) // 2 for name, each in counter.flop_counts.items()}
    assert macs["Tee.trunk"] == trunk
    cells = {f"Tee.bifpn.{number}" for number in range(spec.cells)}
    assert sum(each for name, each in macs.items() if name in cells) == bifpn
    assert macs["Tee.proposals"] == proposals
    assert counter.get_total_flops() // 2 == whole


def test_macs_of_the_extractor_that_it_is_measured_against() -> None:
    """ResNet-101 on a photo of 4 : 3, and its last stage on each of 300 regions."""
    assert canvas(480, 640) == (600, 800)
    macs = []
    with torch.device("meta"), torch.no_grad():
        butd = Butd().eval()
        with FlopCounterMode(display=False) as counter:
            butd(torch.zeros(1, 3, 600, 800))
        macs.append(counter.get_total_flops() // 2)
        with FlopCounterMode(display=False) as counter:
            butd.describe(torch.zeros(PROPOSALS, 1024, POOLED, POOLED))
        macs.append(counter.get_total_flops() // 2)
    assert macs == [76_552_294_400, 247_689_830_400]


def test_fusion_has_the_keys_of_oscar() -> None:
    minivlm, oscar = Fusion(FusionSpec()), Fusion(OSCAR_BASE)
    assert shapes(minivlm) == keys("keys_minivlm_pretrain.json")
    assert shapes(oscar) == keys("keys_oscar_base_pretrain.json")
    assert params(minivlm.bert) == 33_756_672
    assert params(minivlm) == 33_936_572  # the decoder is the word embeddings
    assert params(oscar) == 111_684_668


def test_published_reduction() -> None:
    """-73 % needs the decoder counted apart from the embeddings that it shares."""
    small = params(Tee(TEE0)), params(Fusion(FusionSpec()))
    large = params(Butd()), params(Fusion(OSCAR_BASE))
    assert large[0] == 63_658_445
    decoders = 30_522 * 384, 30_522 * 768
    tied = sum(small), sum(large)
    apart = tied[0] + decoders[0], tied[1] + decoders[1]
    assert tied == (41_440_777, 175_343_113)
    assert apart == (53_161_225, 198_784_009)
    assert round(100 * (1 - tied[0] / tied[1]), 1) == 76.4
    assert round(100 * (1 - apart[0] / apart[1]), 1) == 73.3
    per_class = tied[0] + PER_CLASS_BOXES
    assert round(100 * (1 - per_class / tied[1]), 1) == 72.6


@pytest.mark.parametrize(
    ("spec", "tokens", "macs"),
    [
        (FusionSpec(), 35, 1_891_370_496),
        (FusionSpec(), 70, 2_700_673_536),
        (FusionSpec(), 128, 4_091_515_392),
        (OSCAR_BASE, 35, 7_432_080_384),
        (OSCAR_BASE, 70, 10_537_042_944),
        (OSCAR_BASE, 128, 15_781_831_680),
    ],
)
def test_macs_of_the_transformer(spec: FusionSpec, tokens: int, macs: int) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        fusion = Fusion(spec).eval()
        hidden = fusion(
            torch.zeros(1, tokens, spec.width),
            torch.zeros(1, 50, spec.visual),
            torch.ones(1, tokens + 50),
        )
        fusion.bert.pool(hidden)
    assert counter.get_total_flops() // 2 == macs
