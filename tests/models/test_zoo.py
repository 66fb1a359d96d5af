"""The rows of the zoo, against the networks they describe."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import UnknownNameError
from edgekit.models.dcd import DynamicConv, DynamicLinear
from edgekit.models.micronet import DynamicShiftMax
from edgekit.models.mobilenetv3 import SqueezeExcite
from edgekit.models.variant import IMAGENET_MEAN as MEAN
from edgekit.models.variant import IMAGENET_STD as STD
from edgekit.models.zoo import VARIANTS, Variant, get_variant, list_models
from tests.models import fill_rule

SEED_STUDENTS = ("mobilenetv3-large", "efficientnet-b0", "efficientnet-b1")
OFFICIAL = tuple(f"micronet-m{i}" for i in range(4))
EVERY_ROW = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))

DEPTHS = ("18", "34", "50", "101", "152")
WIDTHS = ("x0.35", "x0.5", "x0.75", "x1.0")
IDS = {
    "micronet": (*OFFICIAL, *(f"micronet-v1-m{i}" for i in range(4))),
    "dcd": (
        *(f"dcd-resnet{depth}" for depth in DEPTHS),
        *(f"dcd-mobilenetv2-{width}{fs}" for fs in ("", "-fs8") for width in WIDTHS),
    ),
    "mobilenetv2": tuple(f"mobilenetv2-{width}" for width in WIDTHS),
    "mobilenetv3": (
        *(f"mobilenetv3-small{flavour}" for flavour in ("", "-timm", "-tf", "-x0.35", "-x0.5")),
        *(f"mobilenetv3-large{flavour}" for flavour in ("", "-timm", "-tf", "-seed")),
    ),
    "efficientnet": tuple(
        f"efficientnet-b{number}{flavour}" for number in (0, 1) for flavour in ("", "-tf", "-seed")
    ),
    "resnet": tuple(f"resnet{depth}" for depth in DEPTHS),
}


def test_the_table_has_all_its_rows_by_family() -> None:
    assert len(VARIANTS) == 45
    assert tuple(VARIANTS) == tuple(model_id for ids in IDS.values() for model_id in ids)
    for family, ids in IDS.items():
        assert {VARIANTS[model_id].family for model_id in ids} == {family}


def multiplies_of(module: nn.Module, output: torch.Tensor) -> int:
    """Products of a coefficient and a feature map that ``module`` computed."""
    if isinstance(module, DynamicShiftMax):
        return 2 * module.branches * output.numel()
    gated = isinstance(module, (SqueezeExcite, DynamicConv, DynamicLinear))
    return output.numel() if gated else 0


@dataclass(frozen=True)
class Found:
    """What a network costs, as torch counts it."""

    params: int
    macs: int
    multiplies: int
    outputs: tuple[int, ...]


def found_in(variant: Variant, image_size: int) -> Found:
    """Of the network as the row has it, run without memory for it."""
    multiplies: list[int] = []

    def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
        multiplies.append(multiplies_of(module, output))

    with torch.device("meta"), torch.no_grad():
        network = build(variant, image_size).eval()
        for module in network.modules():
            module.register_forward_hook(hook)
        with FlopCounterMode(display=False) as counter:
            outputs = network(torch.zeros(1, 3, image_size, image_size))
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    params = sum(p.numel() for p in network.parameters())
    return Found(params, flops // 2, sum(multiplies), tuple(outputs.shape))


def build(variant: Variant, image_size: int) -> nn.Module:
    """By the builder that the row names, with the row's own head."""
    module, _, function = variant.build.partition(":")
    head = {} if len(variant.heads) == 1 else {"head": variant.head}
    network = getattr(importlib.import_module(module), function)(
        variant.config, num_classes=variant.num_classes, image_size=image_size, **head
    )
    assert isinstance(network, nn.Module)
    return network


@EVERY_ROW
def test_counts_are_those_of_the_network(variant: Variant) -> None:
    found = found_in(variant, variant.image_size)
    assert found == Found(
        variant.params,
        variant.macs,
        variant.elementwise_multiplies,
        (1, variant.num_classes),
    )


def test_counts_are_of_the_size_in_the_row() -> None:
    """The rows of one network: 224 pixels are counted where SEED trains at that, else 240."""
    b1, student = get_variant("efficientnet-b1"), get_variant("efficientnet-b1-seed")
    assert (b1.image_size, student.image_size) == (240, 224)
    assert b1.macs == 686_802_832
    assert found_in(b1, 224).macs == 569_651_680  # as timm and torchvision count, elsewhere
    projection = 1280 * 1280 + 1280 * 128
    assert student.macs == 569_651_680 - 1280 * 1000 + projection


@pytest.mark.parametrize("model_id", [*IDS["resnet"], "efficientnet-b0", "mobilenetv3-large"])
def test_flavours_and_heads_differ_by_what_they_must(model_id: str) -> None:
    plain = get_variant(model_id)
    teaches = ("projection-bn",) * (plain.family == "resnet")  # of SimCLR's and SwAV's files
    assert plain.heads == ("linear", "projection", *teaches)
    for other in VARIANTS.values():
        if other.id.startswith(f"{model_id}-") and other.head == "linear":
            assert (other.params, other.macs) == (plain.params, plain.macs)
        if other.id == f"{model_id}-seed":
            wide = 1280
            added = wide * wide + wide + 128 * (wide + 1) - 1000 * (wide + 1)
            assert other.params - plain.params == added


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


@EVERY_ROW
def test_a_row_has_weights_or_says_why_not(variant: Variant) -> None:
    assert all(row.metric and row.value and row.source for row in variant.published)
    metrics = [row.metric for row in variant.published]
    assert len(set(metrics)) == len(metrics)  # results keep one figure a metric
    if variant.weights is None:
        assert any("weights" in note for note in (*variant.notes, variant.approximate))
    else:
        assert variant.weights.licence
        assert variant.weights.source
        assert bool(variant.weights.url) != bool(variant.weights.where)


@EVERY_ROW
def test_what_can_be_fetched_has_an_address_and_a_limit(variant: Variant) -> None:
    weights = variant.weights
    if weights is None or not weights.url:
        assert weights is None or weights.bytes_cap == 0
        return
    assert 8 * variant.params < weights.bytes_cap < 64 * (1 << 20) + 11 * variant.params
    if weights.source.startswith("torchvision"):
        file = weights.url.removeprefix("https://download.pytorch.org/models/")
        assert re.fullmatch(rf"[a-z0-9_]+-{weights.sha256_prefix}\.pth", file)
        assert re.fullmatch(r"[0-9a-f]{8}", weights.sha256_prefix)
    elif weights.source.startswith("timm"):
        name = weights.source.removeprefix("timm, ")
        assert weights.url == f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
        assert name.startswith("tf_") == (variant.flavour == "tf")
        assert (weights.sha256, weights.sha256_prefix) == (None, "")
    else:
        assert weights.url.endswith(f"/micronet-{variant.config}.pth")


def test_how_many_rows_have_weights() -> None:
    rows = list(VARIANTS.values())
    fetched = [row for row in rows if row.weights and row.weights.url]
    by_hand = [row.id for row in rows if row.weights and not row.weights.url]
    assert len(fetched) == 4 + 1 + 6 + 4 + 5  # MicroNet, V2, V3, EfficientNet, ResNet
    assert by_hand == [
        "dcd-resnet50",
        "dcd-mobilenetv2-x1.0",
        "mobilenetv3-large-seed",
        "efficientnet-b0-seed",
        "efficientnet-b1-seed",
    ]


# Shorter side after the resize, and whether it is bicubic: of the weights that are in the row.
RESIZES = {
    "resnet18": (256, False),
    "resnet34": (256, False),
    "resnet50": (232, False),
    "resnet101": (232, False),
    "resnet152": (232, False),
    "mobilenetv2-x1.0": (232, False),
    "mobilenetv3-small": (256, False),
    "mobilenetv3-small-timm": (256, True),
    "mobilenetv3-small-tf": (256, False),
    "mobilenetv3-large": (232, False),
    "mobilenetv3-large-timm": (256, True),
    "mobilenetv3-large-tf": (256, False),
    "efficientnet-b0": (256, True),
    "efficientnet-b0-tf": (256, True),
    "efficientnet-b1": (255, False),
    "efficientnet-b1-tf": (272, True),
}


@pytest.mark.parametrize(("model_id", "resize"), RESIZES.items(), ids=list(RESIZES))
def test_images_enter_as_the_weights_want_them(model_id: str, resize: tuple[int, bool]) -> None:
    variant = get_variant(model_id)
    interpolation = "bicubic" if resize[1] else "bilinear"
    assert int(variant.image_size / variant.crop_fraction) == resize[0]
    assert variant.interpolation == interpolation


def test_only_the_ports_of_tensorflows_mobilenets_want_another_mean() -> None:
    others = {row.id for row in VARIANTS.values() if (row.mean, row.std) != (MEAN, STD)}
    assert others == {"mobilenetv3-small-tf", "mobilenetv3-large-tf"}
    for model_id in others:
        assert set(get_variant(model_id).mean + get_variant(model_id).std) == {0.5}


def test_only_seeds_students_are_embeddings() -> None:
    students = {row.id for row in VARIANTS.values() if row.task == "embedding"}
    assert students == {f"{name}-seed" for name in SEED_STUDENTS}
    for row in VARIANTS.values():
        embeds = row.id in students
        assert row.head == ("projection" if embeds else "linear")
        assert row.head in row.heads
        assert (row.num_classes, row.labels) == ((128, "") if embeds else (1000, "imagenet-1k"))
        assert (row.flavour == "seed") == embeds


@EVERY_ROW
def test_flavours_are_named(variant: Variant) -> None:
    if variant.family in ("micronet", "dcd"):
        assert variant.flavour == ""
    else:
        suffix = variant.id.rpartition("-")[2]
        named = suffix if suffix in ("timm", "tf", "seed") else "torchvision"
        narrow = variant.id in ("mobilenetv3-small-x0.35", "mobilenetv3-small-x0.5")
        assert variant.flavour == ("timm" if narrow else named)


@EVERY_ROW
def test_published_params_are_those_of_the_network(variant: Variant) -> None:
    """But for slim's MobileNetV2, whose own count is 1 % lower."""
    figures = {row.metric: (row.value, row.source) for row in variant.published}
    if "params" not in figures or "slim" in figures["params"][1]:
        return
    value = figures["params"][0]
    if value.endswith(" M"):
        digits = len(value.removesuffix(" M").partition(".")[2])
        assert f"{variant.params / 1e6:.{digits}f} M" == value
    else:
        assert f"{variant.params:,}" == value


@pytest.mark.parametrize("model_id", IDS["dcd"])
def test_dcd_says_its_licence_and_that_no_top1_was_found(model_id: str) -> None:
    variant = get_variant(model_id)
    assert not any("top-1" in row.metric for row in variant.published)
    assert any(note.startswith("Top-1: not found") for note in variant.notes)
    assert any("non-profit use only" in note and "California" in note for note in variant.notes)


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
    for family, ids in IDS.items():
        assert [row.id for row in list_models(family)] == list(ids)
    with pytest.raises(UnknownNameError, match="model family 'resnets'"):
        list_models("resnets")


@pytest.mark.parametrize("module", ["zoo", "variant", "rows.released", "labels", "download"])
def test_it_imports_neither_torch_nor_numpy(module: str) -> None:
    code = (
        f"import sys, edgekit.models.{module}; "
        "sys.exit(str({'torch', 'numpy', 'onnx', 'safetensors'} & set(sys.modules) or '') or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
