"""The rows of MobileNetV2 and MobileNetV3."""

from __future__ import annotations

from edgekit.models.variant import Published, Variant

_SLIM = (
    "README of research/slim/nets/mobilenet in github.com/tensorflow/models, of TensorFlow's own"
)
_NOT_SLIM = (
    "The network is torchvision's, the published figures are of TensorFlow's own, which pads at "
    "the end{more}."
)
_OWN_FILE = "edgekit knows no address of weights; a checkpoint with torchvision's names loads."

ROWS: tuple[Variant, ...] = (
    Variant(
        id="mobilenetv2-x0.5",
        family="mobilenetv2",
        task="classification",
        title="MobileNetV2, half as wide (CVPR 2018)",
        build="edgekit.models.mobilenetv2:build_mobilenetv2",
        config="x0.5",
        num_classes=1000,
        image_size=224,
        params=1_968_680,
        macs=97_131_840,
        elementwise_multiplies=0,
        labels="imagenet-1k",
        published=(
            Published("top-1", "65.4 %", _SLIM),
            Published("MACs", "97 M", _SLIM),
            Published("params", "1.95 M", _SLIM),
            Published("top-1 at 96 pixels", "51.2 %", _SLIM),
            Published("MACs at 96 pixels", "18 M", _SLIM),
        ),
        flavour="torchvision",
        heads=("linear", "projection"),
        notes=(_NOT_SLIM.format(more=""), _OWN_FILE),
    ),
    Variant(
        id="mobilenetv3-small",
        family="mobilenetv3",
        task="classification",
        title="MobileNetV3-small (ICCV 2019)",
        build="edgekit.models.mobilenetv3:build_mobilenetv3",
        config="small",
        num_classes=1000,
        image_size=224,
        params=2_542_856,
        macs=56_510_400,
        elementwise_multiplies=285_376,
        labels="imagenet-1k",
        published=(
            Published("top-1", "67.5 %", _SLIM),
            Published("MACs", "66 M", _SLIM),
            Published("params", "2.9 M", _SLIM),
        ),
        flavour="torchvision",
        heads=("linear", "projection"),
        notes=(_NOT_SLIM.format(more=" and is larger"), _OWN_FILE),
    ),
)
