"""The rows of EfficientNet-B0 and B1, of torchvision, SEED and timm's ports of TensorFlow."""

from __future__ import annotations

from edgekit.models.rows.released import (
    SEED_EMBEDDING,
    SEED_README,
    Figures,
    Release,
    seed,
    timm,
    torchvision,
)
from edgekit.models.variant import Published, Variant

_TIMM_TOO = (
    "timm's efficientnet_b{} computes this function too, so its weights load; those that edgekit "
    "fetches are torchvision's."
)


def _b(
    number: int,
    flavour: str,
    image_size: int,
    counts: tuple[int, int, int],
    release: Release,
    *notes: str,
) -> Variant:
    """A row of ``flavour``; ``counts`` are parameters, MACs and element-wise multiplies."""
    config = f"b{number}" if flavour == "torchvision" else f"b{number}-{flavour}"
    params, macs, multiplies = counts
    embeds = flavour == "seed"
    return Variant(
        id=f"efficientnet-{config}",
        family="efficientnet",
        task="embedding" if embeds else "classification",
        title=f"EfficientNet-B{number} (ICML 2019)",
        build="edgekit.models.efficientnet:build_efficientnet",
        config=config,
        num_classes=128 if embeds else 1000,
        image_size=image_size,
        params=params,
        macs=macs,
        elementwise_multiplies=multiplies,
        labels="" if embeds else "imagenet-1k",
        flavour=flavour,
        notes=notes,
        head="projection" if embeds else "linear",
        heads=("linear", "projection"),
        **release,
    )


_PADDING = (
    "The padding is unsettled: it follows a description of SEED's code, TensorFlow's baked for the "
    "native size. The file with SEED's padding routine could not be read; its copy of the package "
    "calls itself 0.7.0, and 0.7.0 as published pads both sides alike. Compare outputs before you "
    "rely on a student."
)

_B0 = (5_288_548, 385_814_752, 2_306_528)
_B0_PROJECTING = (5_811_196, 386_336_992, 2_306_528)
_B1 = (7_794_184, 686_802_832, 4_109_328)
_B1_PROJECTING = (8_316_832, 570_173_920, 3_523_296)

ROWS: tuple[Variant, ...] = (
    _b(
        0, "torchvision", 224, _B0,
        torchvision(
            "efficientnet_b0_rwightman-7f5810bc.pth", "IMAGENET1K_V1",
            Figures("77.692 %", "93.532 %", "5,288,548", ("FLOPs", "0.386 G")),
            interpolation="bicubic",
        ),
        _TIMM_TOO.format(0),
    ),
    _b(
        0, "tf", 224, _B0,
        timm(
            "tf_efficientnet_b0.aa_in1k",
            Figures("76.834 %", "93.220 %", "5.29 M", ("MACs", "0.4 G")),
        ),
    ),
    _b(
        0, "seed", 224, _B0_PROJECTING,
        seed(
            "AMP_SMALL_PATCH_800_efficientnet_b0_distill_resnet50w2-swav-checkpoint_0799.pth.tar",
            Published("top-1, linear probe", "67.6 %", SEED_README),
        ),
        SEED_EMBEDDING,
        _PADDING,
        "The 67.6 % are of the student of SwAV's ResNet-50 x2, distilled for 800 epochs with small "
        "patches. Another file holds the student of its ResNet-50 x4 after 400 epochs.",
    ),
    _b(
        1, "torchvision", 240, _B1,
        torchvision(
            "efficientnet_b1-c27df63c.pth", "IMAGENET1K_V2",
            Figures("79.838 %", "94.934 %", "7,794,184", ("FLOPs", "0.687 G")),
            resize=255, crop=240,
        ),
        _TIMM_TOO.format(1),
    ),
    _b(
        1, "tf", 240, _B1,
        timm(
            "tf_efficientnet_b1.aa_in1k",
            Figures("78.830 %", "94.198 %", "7.79 M", ("MACs", "0.71 G")),
            crop_fraction=0.882,
        ),
    ),
    _b(
        1, "seed", 224, _B1_PROJECTING,
        seed("AMP_200_efficientnet_b1_distill_resnet152-swav-checkpoint_0199.pth.tar"),
        SEED_EMBEDDING,
        _PADDING,
        "SEED trains it at 224 pixels, with the padding of 240. Its accuracy was not found. The "
        "README calls the teacher a ResNet-152 of SwAV, and lists no such teacher; its other link "
        "for EfficientNet-B1 leads to a ResNet-18.",
    ),
)  # fmt: skip
