"""VARIANTS: one row per network edgekit can build. Facts only, so that a board can list them.

Counts are of the model as defined, for one 224 x 224 image, and are proven by the tests
against the built network:

    macs                    convolution, linear and matmul, as ``torch.utils.flop_counter`` / 2
    elementwise_multiplies  products of shift-max coefficients and feature maps
    madds                   their sum: what MicroNet's authors publish as MAdds
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UnknownNameError

_MiB = 1 << 20

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """A figure that somebody published, e.g. ("top-1", "51.4 %", "README of ...")."""

    metric: str
    value: str
    source: str


@dataclass(frozen=True)
class Weights:
    """A released checkpoint.

    Attributes:
        url: where the authors put it.
        sha256: what it must hash to, or None where nobody published that.
        bytes_cap: a download is given up beyond this many bytes.
        licence: of the weights, as far as the authors say.
        source: who released it.
    """

    url: str
    sha256: str | None
    bytes_cap: int
    licence: str
    source: str


@dataclass(frozen=True)
class Variant:
    """One network of the zoo.

    Attributes:
        id: what the user types.
        family: key that groups rows.
        task: ``"classification"``.
        title: one line for a table.
        build: ``"module:function"`` of the builder.
        config: the builder's name for this row.
        num_classes: outputs as published.
        image_size: height and width of the input as published, in pixels.
        params: parameters, buffers not counted.
        macs: see the module.
        elementwise_multiplies: see the module.
        labels: name of the list of class names in ``edgekit/models/data``.
        published: figures of others, each with its source.
        weights: the released checkpoint, or None where there is none.
        approximate: what about the network is guessed, or "".
        flavour: whose definition it is where networks of one name differ, or "".
        notes: what a user should know.
        mean: per RGB channel on 0..1, subtracted from the image.
        std: per RGB channel on 0..1, divides it.
        crop_fraction: centre crop / shorter side after resizing.
        interpolation: of the resize, as Pillow names it.
    """

    id: str
    family: str
    task: str
    title: str
    build: str
    config: str
    num_classes: int
    image_size: int
    params: int
    macs: int
    elementwise_multiplies: int
    labels: str
    published: tuple[Published, ...] = ()
    weights: Weights | None = None
    approximate: str = ""
    flavour: str = ""
    notes: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"

    @property
    def madds(self) -> int:
        """MACs and element-wise multiplies, as MicroNet's authors count."""
        return self.macs + self.elementwise_multiplies

    @property
    def flops(self) -> int:
        """Two per MAC, one per element-wise multiply."""
        return 2 * self.macs + self.elementwise_multiplies


# ---------------------------------------------------------------------------
# MicroNet
# ---------------------------------------------------------------------------

_README = "README of github.com/liyunsheng13/micronet"
_ABSTRACT_V1 = "abstract of arXiv 2011.12289, first version"


def _micronet(
    config: str,
    title: str,
    params: int,
    macs: int,
    elementwise_multiplies: int,
    *,
    published: tuple[Published, ...] = (),
    weights: Weights | None = None,
    approximate: str = "",
    notes: tuple[str, ...] = (),
) -> Variant:
    return Variant(
        id=f"micronet-{config}",
        family="micronet",
        task="classification",
        title=title,
        build="edgekit.models.micronet:build_micronet",
        config=config,
        num_classes=1000,
        image_size=224,
        params=params,
        macs=macs,
        elementwise_multiplies=elementwise_multiplies,
        labels="imagenet-1k",
        published=published,
        weights=weights,
        approximate=approximate,
        notes=notes,
    )


def _readme(top1: str, madds: str, params: str) -> tuple[Published, ...]:
    return (
        Published("top-1", top1, _README),
        Published("MAdds", madds, _README),
        Published("params", params, _README),
    )


def _released(config: str) -> Weights:
    return Weights(
        url=f"http://www.svcl.ucsd.edu/projects/micronet/assets/micronet-{config}.pth",
        sha256=None,
        bytes_cap=64 * _MiB,  # the tensors are 4 to 11 MB, twice that with optimizer state
        licence="MIT, the licence of the repository; the files themselves state none",
        source=_README,
    )


_GUESSED = (
    "the code of the first arXiv version was never published: widths, kernels, strides and "
    "groups are from a public re-implementation of its table, {block_b}, and everything else "
    "(shift-max positions, coefficient branches, head width, skips) is as in the later version"
)
_BLOCK_B = "the depthwise width of its Block B, which is unsettled, is 4 x in as in the later code"
_BLOCK_B_M3 = "the depthwise width of its Block B, which is unsettled, is 6 x in as there"
_NO_PARITY = "No weights were released for it and no parity with the authors' network is promised."

_MICRONETS = (
    _micronet(
        "m0", "MicroNet-M0 (ICCV 2021)", 1_019_590, 3_448_880, 605_248,
        published=(
            *_readme("46.6 %", "4 M", "1.0 M"),
            Published("top-1, released file", "46.69 %", "a user, issue 28 of the repository"),
        ),
        weights=_released("m0"),
    ),
    _micronet(
        "m1", "MicroNet-M1 (ICCV 2021)", 1_777_587, 5_314_080, 805_952,
        published=_readme("51.4 %", "6 M", "1.8 M"),
        weights=_released("m1"),
        notes=("What the first arXiv version calls M1 (12 M) is micronet-v1-m1.",),
    ),
    _micronet(
        "m2", "MicroNet-M2 (ICCV 2021)", 2_393_876, 10_338_128, 2_405_312,
        published=_readme("59.4 %", "12 M", "2.4 M"),
        weights=_released("m2"),
        notes=("The first arXiv version calls a network close to this one M1.",),
    ),
    _micronet(
        "m3", "MicroNet-M3 (ICCV 2021)", 2_622_960, 18_236_000, 2_571_520,
        published=_readme("62.5 %", "21 M", "2.6 M"),
        weights=_released("m3"),
    ),
    _micronet(
        "v1-m0", "MicroNet-M0 of the first arXiv version", 1_777_587, 5_314_080, 805_952,
        approximate=_GUESSED.format(block_b=_BLOCK_B),
        notes=(
            "The paper's size is about 6 M; as guessed it is the network of micronet-m1.",
            _NO_PARITY,
        ),
    ),
    _micronet(
        "v1-m1", "MicroNet-M1 of the first arXiv version", 2_393_876, 10_338_128, 2_405_312,
        published=(
            Published("top-1", "61.1 %", _ABSTRACT_V1),
            Published("FLOPs (multiply-adds)", "12 M", _ABSTRACT_V1),
        ),
        approximate=_GUESSED.format(block_b=_BLOCK_B),
        notes=(
            "12 M and 61.1 % in the paper; as guessed it is the network of micronet-m2 (59.4 %).",
            "The names moved: the M1 of the first version is close to what is now M2. The model "
            "and the training behind 61.1 % were never published.",
            _NO_PARITY,
        ),
    ),
    _micronet(
        "v1-m2", "MicroNet-M2 of the first arXiv version", 2_601_420, 17_578_976, 2_496_256,
        approximate=_GUESSED.format(block_b=_BLOCK_B),
        notes=(
            "The paper's size is about 21 M; as guessed it is micronet-m3 with one narrower block.",
            "That block has 48 channels, expanded to 288, in the place of 64 and 384.",
            _NO_PARITY,
        ),
    ),
    _micronet(
        "v1-m3", "MicroNet-M3 of the first arXiv version", 3_322_564, 35_458_752, 4_779_264,
        approximate=_GUESSED.format(block_b=_BLOCK_B_M3),
        notes=(
            "The paper's size is about 44 M, this network's is 40.2 M; nothing later is like it.",
            _NO_PARITY,
        ),
    ),
)  # fmt: skip

# ---------------------------------------------------------------------------
# MobileNets, as torchvision defines them
# ---------------------------------------------------------------------------

_SLIM = (
    "README of research/slim/nets/mobilenet in github.com/tensorflow/models, of TensorFlow's own"
)
_NOT_SLIM = (
    "The network is torchvision's, the published figures are of TensorFlow's own, which pads at "
    "the end{more}."
)
_OWN_FILE = "edgekit knows no address of weights; a checkpoint with torchvision's names loads."

_MOBILENETS = (
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
        notes=(_NOT_SLIM.format(more=" and is larger"), _OWN_FILE),
    ),
)

VARIANTS: dict[str, Variant] = {row.id: row for row in (*_MICRONETS, *_MOBILENETS)}


def get_variant(model_id: str) -> Variant:
    """The row of ``model_id``.

    Raises:
        UnknownNameError: no such row; names the close ones.
    """
    try:
        return VARIANTS[model_id]
    except KeyError:
        hint = "`edgekit models` lists all."
        raise UnknownNameError("model", model_id, VARIANTS, hint) from None


def list_models(family: str | None = None) -> list[Variant]:
    """All rows in the order of the table, or those of one family.

    Raises:
        UnknownNameError: no such family.
    """
    families = dict.fromkeys(row.family for row in VARIANTS.values())
    if family is not None and family not in families:
        raise UnknownNameError("model family", family, families)
    return [row for row in VARIANTS.values() if family in (None, row.family)]
