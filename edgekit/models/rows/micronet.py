"""MicroNet's rows: the official networks, and those of the first arXiv version."""

from __future__ import annotations

from edgekit.models.variant import MiB, Published, Variant, Weights

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
        heads=("linear", "projection"),
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
        bytes_cap=64 * MiB,  # the tensors are 4 to 11 MB, twice that with optimizer state
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

ROWS: tuple[Variant, ...] = (
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
