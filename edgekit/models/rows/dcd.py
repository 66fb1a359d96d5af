"""DCD's rows: the networks of the authors' code, of which two have released weights."""

from __future__ import annotations

from edgekit.models.rows.released import unreleased
from edgekit.models.variant import Variant, Weights

_README = "README of github.com/liyunsheng13/dcd"
_TERMS = (
    "educational, research and non-profit use only; commercial use needs the permission of the "
    "University of California"
)
_NO_TOP1 = f"Top-1: not found. The {_README} prints none, and the paper's table could not be read."
_LICENCE = f"Licence of the authors' code and weights: {_TERMS}. The code here is not theirs."
_COST = (
    "MACs are of the form that is computed, on feature maps: more than those of the network "
    "without the dynamic part."
)
_NO_WEIGHTS = "Its authors released no weights of it; a checkpoint of their code loads."


def _dcd(
    config: str,
    title: str,
    params: int,
    macs: int,
    elementwise_multiplies: int,
    *notes: str,
    file: str = "",
) -> Variant:
    """A row; ``file`` is what the authors call the weights that they released."""
    return Variant(
        id=f"dcd-{config}",
        family="dcd",
        task="classification",
        title=f"{title} (ICLR 2021)",
        build="edgekit.models.dcd:build_dcd",
        config=config,
        num_classes=1000,
        image_size=224,
        params=params,
        macs=macs,
        elementwise_multiplies=elementwise_multiplies,
        labels="imagenet-1k",
        heads=("linear", "projection"),
        notes=(_NO_TOP1, _LICENCE, *notes, _COST, *(() if file else (_NO_WEIGHTS,))),
        **unreleased(weights=_released(file) if file else None),
    )


def _released(file: str) -> Weights:
    return Weights(
        url="",
        sha256=None,
        bytes_cap=0,
        licence=_TERMS,
        source=_README,
        where=f"{file}, linked in the {_README} to Google Drive",
    )


_SQUEEZED = "The squeeze of its coefficient branch divides by 8 (--fc-squeeze 8), not by 16."

ROWS: tuple[Variant, ...] = (
    _dcd("resnet18", "DCD-ResNet-18", 14_703_332, 1_883_045_531, 1_506_280),
    _dcd("resnet34", "DCD-ResNet-34", 27_649_068, 3_800_959_949, 2_760_680),
    _dcd(
        "resnet50", "DCD-ResNet-50", 29_835_056, 4_372_631_098, 8_806_888,
        file="resnet50_dcd.pth.tar",
    ),
    _dcd("resnet101", "DCD-ResNet-101", 53_227_056, 8_325_195_834, 13_924_840),
    _dcd("resnet152", "DCD-ResNet-152", 72_516_656, 12_298_734_074, 20_247_016),
    _dcd("mobilenetv2-x0.35", "DCD-MobileNetV2 x0.35", 2_099_323, 79_392_327, 1_544_304),
    _dcd("mobilenetv2-x0.5", "DCD-MobileNetV2 x0.5", 2_664_300, 131_834_676, 2_032_344),
    _dcd("mobilenetv2-x0.75", "DCD-MobileNetV2 x0.75", 4_081_621, 285_369_514, 3_349_072),
    _dcd(
        "mobilenetv2-x1.0", "DCD-MobileNetV2 x1.0", 5_720_028, 398_388_084, 3_712_456,
        file="mv2x1.0_dcd.pth.tar",
    ),
    _dcd(
        "mobilenetv2-x0.35-fs8", "DCD-MobileNetV2 x0.35", 2_267_932, 79_560_936, 1_544_304,
        _SQUEEZED,
    ),
    _dcd(
        "mobilenetv2-x0.5-fs8", "DCD-MobileNetV2 x0.5", 3_056_616, 132_226_992, 2_032_344,
        _SQUEEZED,
    ),
    _dcd(
        "mobilenetv2-x0.75-fs8", "DCD-MobileNetV2 x0.75", 5_122_650, 286_410_543, 3_349_072,
        _SQUEEZED,
    ),
    _dcd(
        "mobilenetv2-x1.0-fs8", "DCD-MobileNetV2 x1.0", 7_452_088, 400_120_144, 3_712_456,
        _SQUEEZED,
    ),
)  # fmt: skip
