"""The rows of MobileNetV2 and MobileNetV3."""

from __future__ import annotations

from edgekit.models.rows.released import (
    INCEPTION,
    MICRONET_PEERS,
    SEED_EMBEDDING,
    SEED_README,
    SLIM,
    TIMM_RESULTS,
    Figures,
    Release,
    seed,
    timm,
    torchvision,
    unreleased,
    with_more,
)
from edgekit.models.variant import Published, Variant

_HEADS = ("linear", "projection")

# ---------------------------------------------------------------------------
# MobileNetV2, as torchvision defines it
# ---------------------------------------------------------------------------

_NOT_SLIM = "The network is torchvision's, {what} of TensorFlow's own, which pads at the end."
_OWN_FILE = (
    "edgekit knows no address of weights; a checkpoint with torchvision's or timm's names loads."
)


def _slim(top1: str, top5: str, macs: str, params: str) -> tuple[Published, ...]:
    return (
        Published("top-1", f"{top1} %", SLIM),
        Published("top-5", f"{top5} %", SLIM),
        Published("MACs", f"{macs} M", SLIM),
        Published("params", f"{params} M", SLIM),
    )


def _slim_at_96(top1: str, macs: str) -> tuple[Published, ...]:
    return (
        Published("top-1 at 96 pixels", f"{top1} %", SLIM),
        Published("MACs at 96 pixels", f"{macs} M", SLIM),
    )


def _v2(width: str, title: str, params: int, macs: int, release: Release, *notes: str) -> Variant:
    return Variant(
        id=f"mobilenetv2-{width}",
        family="mobilenetv2",
        task="classification",
        title=title,
        build="edgekit.models.mobilenetv2:build_mobilenetv2",
        config=width,
        num_classes=1000,
        image_size=224,
        params=params,
        macs=macs,
        elementwise_multiplies=0,
        labels="imagenet-1k",
        flavour="torchvision",
        notes=notes,
        heads=_HEADS,
        **release,
    )


_V2_NOTES = (_NOT_SLIM.format(what="the published figures are"), _OWN_FILE)

_V2 = (
    _v2(
        "x0.35", "MobileNetV2, 0.35 times as wide (CVPR 2018)", 1_677_128, 59_285_808,
        unreleased(*_slim("60.3", "82.9", "59", "1.66"), *_slim_at_96("45.5", "11")),
        *_V2_NOTES,
    ),
    _v2(
        "x0.5", "MobileNetV2, half as wide (CVPR 2018)", 1_968_680, 97_131_840,
        unreleased(
            *_slim("65.4", "86.4", "97", "1.95"),
            *_slim_at_96("51.2", "18"),
            Published("top-1 of timm's file", "65.950 %", TIMM_RESULTS),
        ),
        *_V2_NOTES,
        "timm publishes a file with its names, mobilenetv2_050.lamb_in1k; it wants images resized "
        "bicubically.",
    ),
    _v2(
        "x0.75", "MobileNetV2, 0.75 times as wide (CVPR 2018)", 2_636_424, 209_069_792,
        unreleased(*_slim("69.8", "89.6", "209", "2.61"), *_slim_at_96("58.8", "39")),
        *_V2_NOTES,
    ),
    _v2(
        "x1.0", "MobileNetV2 (CVPR 2018)", 3_504_872, 300_774_272,
        with_more(
            torchvision(
                "mobilenet_v2-7ebf99e0.pth", "IMAGENET1K_V2",
                Figures("72.154 %", "90.822 %", "3,504,872", ("FLOPs", "0.301 G")),
                resize=232,
            ),
            *_slim_at_96("60.3", "56"),
        ),
        _NOT_SLIM.format(what="the figures at 96 pixels are"),
    ),
)  # fmt: skip

# ---------------------------------------------------------------------------
# MobileNetV3, as torchvision, timm and SEED define it
# ---------------------------------------------------------------------------

_SMALLER = (
    "Its authors' README says 66 M MACs and 2.9 M parameters; the network that timm ported from "
    "their checkpoint has fewer of both."
)


def _v3(
    size: str, flavour: str, counts: tuple[int, int, int], release: Release, *notes: str
) -> Variant:
    """A row of ``flavour``; ``counts`` are parameters, MACs and element-wise multiplies."""
    name, _, width = size.partition("-x")
    config = size if flavour == "torchvision" or width else f"{size}-{flavour}"
    params, macs, multiplies = counts
    embeds = flavour == "seed"
    return Variant(
        id=f"mobilenetv3-{config}",
        family="mobilenetv3",
        task="embedding" if embeds else "classification",
        title=f"MobileNetV3-{name}{f', {width} times as wide' * bool(width)} (ICCV 2019)",
        build="edgekit.models.mobilenetv3:build_mobilenetv3",
        config=config,
        num_classes=128 if embeds else 1000,
        image_size=224,
        params=params,
        macs=macs,
        elementwise_multiplies=multiplies,
        labels="" if embeds else "imagenet-1k",
        flavour=flavour,
        notes=notes,
        head="projection" if embeds else "linear",
        heads=_HEADS,
        **release,
    )


_SMALL = (2_542_856, 56_510_400, 285_376)
_LARGE = (5_483_032, 216_589_760, 597_408)
_LARGE_PROJECTING = (6_005_680, 217_112_000, 597_408)


def _narrow(top1: str, macs: str, of_whom: str = "") -> Release:
    published = ((f"top-1{of_whom}", f"{top1} %"), (f"MACs{of_whom}", f"{macs} M"))
    return unreleased(*(Published(what, value, MICRONET_PEERS) for what, value in published))


_NARROW = (
    "All widths are scaled but that of the classifier's hidden layer. At 0.35 the MACs are those "
    "published; at 0.5 they are fewer, so the published network is another.",
    "edgekit knows no file of weights that fits: train it.",
)

_V3 = (
    _v3(
        "small", "torchvision", _SMALL,
        torchvision(
            "mobilenet_v3_small-047dcff4.pth", "IMAGENET1K_V1",
            Figures("67.668 %", "87.402 %", "2,542,856", ("FLOPs", "0.057 G")),
        ),
    ),
    _v3(
        "small", "timm", _SMALL,
        timm(
            "mobilenetv3_small_100.lamb_in1k",
            Figures("67.656 %", "87.636 %", "2.54 M", ("MACs", "0.06 G")),
        ),
    ),
    _v3(
        "small", "tf", _SMALL,
        with_more(
            timm(
                "tf_mobilenetv3_small_100.in1k",
                Figures("67.918 %", "87.674 %", "2.54 M", ("MACs", "66 M")),
                interpolation="bilinear", mean=INCEPTION, std=INCEPTION, of_size=SLIM,
            ),
            Published("top-1 of its authors", "67.5 %", SLIM),
        ),
        _SMALLER,
    ),
    _v3(
        "small-x0.35", "timm", (1_359_360, 12_051_160, 107_800),
        _narrow("49.8", "12"), *_NARROW,
    ),
    _v3(
        "small-x0.5", "timm", (1_577_232, 19_630_192, 143_472),
        _narrow("58.0", "21", " of its authors"), *_NARROW,
    ),
    _v3(
        "large", "torchvision", _LARGE,
        torchvision(
            "mobilenet_v3_large-5c1a4163.pth", "IMAGENET1K_V2",
            Figures("75.274 %", "92.566 %", "5,483,032", ("FLOPs", "0.217 G")),
            resize=232,
        ),
    ),
    _v3(
        "large", "timm", _LARGE,
        timm(
            "mobilenetv3_large_100.ra_in1k",
            Figures("75.766 %", "92.538 %", "5.48 M", ("MACs", "0.23 G")),
        ),
    ),
    _v3(
        "large", "tf", _LARGE,
        with_more(
            timm(
                "tf_mobilenetv3_large_100.in1k",
                Figures("75.516 %", "92.594 %", "5.48 M", ("MACs", "217 M")),
                interpolation="bilinear", mean=INCEPTION, std=INCEPTION, of_size=SLIM,
            ),
            Published("top-1 of its authors", "75.2 %", SLIM),
        ),
    ),
    _v3(
        "large", "seed", _LARGE_PROJECTING,
        seed(
            "mobilenetv3_large_distill-moco-v2-checkpoint_0199.pth.tar",
            Published("top-1, linear probe", "68.2 %", SEED_README),
        ),
        SEED_EMBEDDING,
        "The 68.2 % are of the student of SwAV's ResNet-50 x2, which was not released. The file "
        "that was is the student of MoCo-v2's ResNet-50; its accuracy was not found.",
    ),
)  # fmt: skip

ROWS: tuple[Variant, ...] = (*_V2, *_V3)
