"""The rows of the ResNets, which torchvision, timm and SEED define alike."""

from __future__ import annotations

from edgekit.models.rows.released import SEED_README, Figures, torchvision, unreleased, with_more
from edgekit.models.variant import Published, Variant

_HEADS = ("linear", "projection", "projection-bn")
_SEED = (
    "SEED's students of this network compute its function, with a projection as their head; the "
    "linear probe that was published of one is of a classifier that was not released."
)
_BINGO = "figures in the repository of BINGO, a later method; SEED's teacher is SwAV's ResNet-50 x2"


def _probe(value: str, source: str) -> Published:
    return Published("top-1, linear probe of SEED's student", value, source)


def _resnet(
    depth: str,
    file: str,
    version: str,
    macs: int,
    figures: Figures,
    *more: Published,
    resize: int = 232,
) -> Variant:
    """A row with torchvision's weights; ``more`` was published of others."""
    release = with_more(torchvision(file, version, figures, resize=resize), *more)
    return Variant(
        id=f"resnet{depth}",
        family="resnet",
        task="classification",
        title=f"ResNet-{depth}, version 1.5 (CVPR 2016)",
        build="edgekit.models.resnet:build_resnet",
        config=depth,
        num_classes=1000,
        image_size=224,
        params=int(figures.params.replace(",", "")),
        macs=macs,
        elementwise_multiplies=0,
        labels="imagenet-1k",
        flavour="torchvision",
        notes=(_SEED,) if more else (),
        heads=_HEADS,
        **release,
    )


ROWS: tuple[Variant, ...] = (
    _resnet(
        "18", "resnet18-f37072fd.pth", "IMAGENET1K_V1", 1_814_073_344,
        Figures("69.758 %", "89.078 %", "11,689,512", ("FLOPs", "1.814 G")),
        _probe("63.0 %", _BINGO),
        resize=256,
    ),
    _resnet(
        "34", "resnet34-b627a593.pth", "IMAGENET1K_V1", 3_663_761_408,
        Figures("73.314 %", "91.420 %", "21,797,672", ("FLOPs", "3.664 G")),
        _probe("65.7 %", _BINGO),
        resize=256,
    ),
    _resnet(
        "50", "resnet50-11ad3fa6.pth", "IMAGENET1K_V2", 4_089_184_256,
        Figures("80.858 %", "95.434 %", "25,557,032", ("FLOPs", "4.089 G")),
        _probe("74.3 %", SEED_README),
    ),
    _resnet(
        "101", "resnet101-cd907fc2.pth", "IMAGENET1K_V2", 7_801_405_440,
        Figures("81.886 %", "95.780 %", "44,549,160", ("FLOPs", "7.801 G")),
    ),
    _resnet(
        "152", "resnet152-f82ba261.pth", "IMAGENET1K_V2", 11_513_626_624,
        Figures("82.284 %", "96.002 %", "60,192,808", ("FLOPs", "11.514 G")),
    ),
)  # fmt: skip


_SWAV = "README of github.com/facebookresearch/swav"


def _teacher(width: str, params: int, macs: int, top1: str) -> Variant:
    """SwAV's, with its projection."""
    return Variant(
        id=f"resnet50-{width}",
        family="resnet",
        task="embedding",
        title=f"ResNet-50, {width[1:]} times as wide, of SwAV (NeurIPS 2020)",
        build="edgekit.models.resnet:build_resnet",
        config=f"50-{width}",
        num_classes=128,
        image_size=224,
        params=params,
        macs=macs,
        elementwise_multiplies=0,
        labels="",
        flavour="torchvision",
        head="projection-bn",
        heads=_HEADS,
        **unreleased(Published("top-1, linear probe", f"{top1} %", _SWAV)),
    )


TEACHER_ROWS: tuple[Variant, ...] = (
    _teacher("x2", 128_534_784, 16_147_120_128, "77.3"),
    _teacher("x4", 443_560_320, 64_046_170_112, "77.9"),
)
