"""Releases that several families share: weights, what was published of them, how images enter.

The three stand together because they belong to one version of one file: another version of the
same network has another accuracy and may want another resize.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from edgekit.models.variant import IMAGENET_MEAN, IMAGENET_STD, Published, Weights

INCEPTION = (0.5, 0.5, 0.5)  # mean and std alike, of what Google trained on -1..1

SLIM = "README of research/slim/nets/mobilenet in github.com/tensorflow/models, of TensorFlow's own"
MICRONET_PEERS = "introduction of MicroNet (arXiv 2108.05894), of its authors' own"
_TIMM = "github.com/huggingface/pytorch-image-models"
TIMM_RESULTS = f"results/results-imagenet.csv of {_TIMM}"
_TIMM_COUNTS = f"results/benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv of {_TIMM}"
_TORCHVISION_LICENCE = (
    "BSD-3-Clause, the licence of torchvision, whose README says that its models may have terms "
    "of their own from the data they were trained on (ImageNet-1k)"
)


class Release(TypedDict):
    """What a released file determines of a row."""

    weights: Weights | None
    published: tuple[Published, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float
    interpolation: str


@dataclass(frozen=True)
class Figures:
    """What the releaser says of a file.

    Attributes:
        top1: accuracy on ImageNet-1k.
        top5: likewise.
        params: parameters.
        size: what it calls the network's size, as (metric, value).
    """

    top1: str
    top5: str
    params: str
    size: tuple[str, str]

    def published(self, source: str, of_size: str = "") -> tuple[Published, ...]:
        """As figures of ``source``; ``of_size`` is the source of the size, where another."""
        return (
            Published("top-1", self.top1, source),
            Published("top-5", self.top5, source),
            Published("params", self.params, source),
            Published(*self.size, of_size or source),
        )


def torchvision(
    file: str,
    version: str,
    figures: Figures,
    *,
    resize: int = 256,
    crop: int = 224,
    interpolation: str = "bilinear",
) -> Release:
    """A release of torchvision.

    Args:
        file: its name on the server, which ends in the first digits of its sha256.
        version: torchvision's name for it.
        figures: its parameters exactly, and what torchvision calls FLOPs.
        resize: shorter side of the image before the crop, in pixels.
        crop: side of the crop, in pixels.
        interpolation: of the resize.
    """
    return Release(
        weights=Weights(
            url=f"https://download.pytorch.org/models/{file}",
            sha256=None,
            bytes_cap=_cap(int(figures.params.replace(",", ""))),
            licence=_TORCHVISION_LICENCE,
            source=f"torchvision, {version}",
            sha256_prefix=file.removesuffix(".pth").rpartition("-")[2],
        ),
        published=figures.published(f"torchvision's metadata of its weights {version}"),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop_fraction=crop / resize,
        interpolation=interpolation,
    )


def timm(
    name: str,
    figures: Figures,
    *,
    crop_fraction: float = 0.875,
    interpolation: str = "bicubic",
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    of_size: str = _TIMM_COUNTS,
) -> Release:
    """A release of timm, of which no hash was published; preprocessing as in its config.

    Args:
        name: of the model, with the tag of its weights.
        figures: of timm's tables, parameters in millions.
        of_size: the source of the size in ``figures``.
        crop_fraction: see `edgekit.models.variant.Variant`, as the three others.
        interpolation: of the resize.
        mean: per channel.
        std: per channel.
    """
    return Release(
        weights=Weights(
            url=f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
            sha256=None,
            bytes_cap=_cap(int(float(figures.params.removesuffix(" M")) * 1e6)),
            licence="Apache-2.0, as the model card says; trained on ImageNet-1k",
            source=f"timm, {name}",
        ),
        published=figures.published(TIMM_RESULTS, of_size),
        mean=mean,
        std=std,
        crop_fraction=crop_fraction,
        interpolation=interpolation,
    )


def unreleased(*published: Published, weights: Weights | None = None) -> Release:
    """Nothing that edgekit can fetch, and the preprocessing that the family's papers share."""
    return Release(
        weights=weights,
        published=published,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        crop_fraction=0.875,
        interpolation="bilinear",
    )


def with_more(release: Release, *published: Published) -> Release:
    """``release`` and what else was published of its network."""
    return {**release, "published": (*release["published"], *published)}


def _cap(params: int) -> int:
    """Room for twice the float32 tensors and what is saved beside them."""
    return 10 * params


# ---------------------------------------------------------------------------
# SEED
# ---------------------------------------------------------------------------

SEED_README = "README of github.com/jacobswan1/SEED"
SEED_EMBEDDING = (
    "It gives an embedding of 128 numbers, which its training scales to length 1 and edgekit does "
    "not; classes need a head of your own."
)


def seed(file: str, *published: Published) -> Release:
    """A student of SEED, whose file has no lasting address."""
    return unreleased(
        *published,
        weights=Weights(
            url="",
            sha256=None,
            bytes_cap=0,
            licence="MIT, the licence of the repository; the files themselves state none",
            source=SEED_README,
            where=f"{file}, linked in the {SEED_README} with tokens that expire",
        ),
    )
