"""EfficientNet-B0 and B1, as torchvision, TensorFlow and SEED define them.

Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv 1905.11946. State-dict keys are torchvision's. Networks of one name and the same shapes
compute different functions, so what they differ in is a setting, see `Flavour`:

    torchvision   BatchNorm's eps 1e-5, padding on both sides; timm's efficientnet_b0 and b1 too
    tf            timm's ports of TensorFlow's weights: eps 1e-3, padding as in TensorFlow
    seed          github.com/jacobswan1/SEED: as tf, but each layer pads as it would for an image
                  of the size the network was made for, 224 (B0) or 240 (B1), whatever arrives

    image (B, 3, H, W)
      stem         3x3 convolution, swish                                        H / 2
      16 or 23     1x1 expand, swish -> k x k depthwise, swish -> SE             H / 2 .. H / 32
       blocks        -> 1x1 squeeze
      last         1x1 convolution, swish                                        H / 32
      head         pool, dropout, linear
    logits (B, classes)

SE multiplies each channel by a sigmoid of two small layers on the pooled map, with a swish
between them. In training, a block that adds its input is sometimes left out (stochastic depth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models.heads import build_head
from edgekit.models.mobilenetv3 import SqueezeExcite
from edgekit.models.padding import SameConv2d, same_size
from edgekit.models.sizes import check_sizes

STEM_WIDTH = 32
LAST_WIDTH = 1280
SQUEEZE = 4  # SE is this much narrower than what enters the block, before it is expanded
DROPOUT = 0.2
DROPPED_BLOCKS = 0.2  # how often the last block is left out, in training; earlier ones less

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Blocks of one width.

    Attributes:
        expansion: channels in the middle of a block / channels that enter it.
        kernel: of the depthwise convolutions.
        stride: of the first of them; the others have 1 and add their input.
        width: channels that leave.
        repeats: blocks in B0; other networks have ``depth`` times as many, rounded up.
    """

    expansion: int
    kernel: int
    stride: int
    width: int
    repeats: int


ROWS = (
    Row(1, 3, 1, 16, 1),  #   112 at 224
    Row(6, 3, 2, 24, 2),  #    56
    Row(6, 5, 2, 40, 2),  #    28
    Row(6, 3, 2, 80, 3),  #    14
    Row(6, 5, 1, 112, 3),  #   14
    Row(6, 5, 2, 192, 4),  #    7
    Row(6, 3, 1, 320, 1),  #    7
)


@dataclass(frozen=True)
class Flavour:
    """In what networks of equal shapes differ.

    Attributes:
        norm_eps: added to BatchNorm's variance.
        norm_momentum: of BatchNorm's statistics, in training.
        padding: ``"both"`` sides equally; ``"same"`` as in TensorFlow, for the size that arrives;
            or ``"native"``, "same" for the size that the network was made for.
    """

    norm_eps: float
    norm_momentum: float
    padding: Literal["both", "same", "native"]


TORCHVISION = Flavour(norm_eps=1e-5, norm_momentum=0.1, padding="both")
TF = Flavour(norm_eps=1e-3, norm_momentum=0.01, padding="same")
SEED = Flavour(norm_eps=1e-3, norm_momentum=0.01, padding="native")


@dataclass(frozen=True)
class Spec:
    """One network.

    Attributes:
        depth: multiplies the repeats of ``rows``.
        native_size: height and width of the images that its authors made it for.
        flavour: whose function it is.
        stem: channels behind the first convolution.
        rows: its blocks.
    """

    depth: float
    native_size: int
    flavour: Flavour
    stem: int = STEM_WIDTH
    rows: tuple[Row, ...] = ROWS


_B0 = Spec(depth=1.0, native_size=224, flavour=TORCHVISION)
_B1 = Spec(depth=1.1, native_size=240, flavour=TORCHVISION)

SPECS: dict[str, Spec] = {
    "b0": _B0,
    "b1": _B1,
    "b0-tf": replace(_B0, flavour=TF),
    "b1-tf": replace(_B1, flavour=TF),
    "b0-seed": replace(_B0, flavour=SEED),
    "b1-seed": replace(_B1, flavour=SEED),
}

# ---------------------------------------------------------------------------
# Network
# ---------------------------------------------------------------------------


def conv_norm(
    width_in: int,
    width_out: int,
    kernel: int,
    flavour: Flavour,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    swish: bool = True,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, swish if wanted.

    Args:
        width_in: channels that enter.
        width_out: channels that leave.
        kernel: pixels a side.
        flavour: see `Flavour`.
        size: pixels a side that enter in an image of the native size.
        stride: both ways.
        groups: as in ``nn.Conv2d``.
        swish: whether the activation is there.
    """
    conv: nn.Module
    if flavour.padding == "both":
        pixels = kernel // 2
        conv = nn.Conv2d(width_in, width_out, kernel, stride, pixels, groups=groups, bias=False)
    else:
        made_for = size if flavour.padding == "native" else None
        conv = SameConv2d(width_in, width_out, kernel, stride, groups=groups, size=made_for)
    norm = nn.BatchNorm2d(width_out, flavour.norm_eps, flavour.norm_momentum)
    return nn.Sequential(conv, norm, *([nn.SiLU()] if swish else []))


class StochasticDepth(nn.Module):
    """In training, zeros for each image with a probability, and the rest scaled up for it.

    Huang, Sun, Liu, Sedra, Weinberger, ECCV 2016, arXiv 1603.09382.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        mask = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(kept)
        return x * mask / kept


class Block(nn.Module):
    """One block.

    Args:
        width_in: channels that enter.
        row: see `Row`.
        stride: of the depthwise convolution.
        flavour: see `Flavour`.
        size: pixels a side that enter in an image of the native size.
        dropped: how often it is left out, in training.
    """

    def __init__(
        self, width_in: int, row: Row, stride: int, flavour: Flavour, size: int, dropped: float
    ) -> None:
        super().__init__()
        wide, kernel = width_in * row.expansion, row.kernel
        layers: list[nn.Module] = []
        if row.expansion != 1:
            layers.append(conv_norm(width_in, wide, 1, flavour, size))
        layers += [
            conv_norm(wide, wide, kernel, flavour, size, stride=stride, groups=wide),
            SqueezeExcite(wide, width_in // SQUEEZE, activation=nn.SiLU, gate=nn.Sigmoid),
            conv_norm(wide, row.width, 1, flavour, same_size(size, stride), swish=False),
        ]
        self.block = nn.Sequential(*layers)
        self.skip = stride == 1 and width_in == row.width
        self.drop = StochasticDepth(dropped)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.block(x)
        return x + self.drop(y) if self.skip else y


def build_stages(spec: Spec) -> list[nn.Module]:
    """The stem and the blocks of each row: all that stands before the last convolution."""
    flavour, width, size = spec.flavour, spec.stem, spec.native_size
    stages: list[nn.Module] = [conv_norm(3, width, 3, flavour, size, stride=2)]
    size = same_size(size, 2)
    repeats = [math.ceil(row.repeats * spec.depth) for row in spec.rows]
    number = 0
    for row, count in zip(spec.rows, repeats, strict=True):
        blocks: list[nn.Module] = []
        for stride in (row.stride, *(1,) * (count - 1)):
            dropped = DROPPED_BLOCKS * number / sum(repeats)
            blocks.append(Block(width, row, stride, flavour, size, dropped))
            width, size, number = row.width, same_size(size, stride), number + 1
        stages.append(nn.Sequential(*blocks))
    return stages


def last_size(spec: Spec) -> int:
    """Pixels a side behind `build_stages`, of an image of the native size."""
    size = same_size(spec.native_size, 2)
    for row in spec.rows:
        size = same_size(size, row.stride)
    return size


class EfficientNet(nn.Module):
    """(B, 3, H, W) -> (B, classes).

    Args:
        spec: see `Spec`.
        num_classes: outputs.
        head: see `edgekit.models.heads`.
    """

    def __init__(self, spec: Spec, num_classes: int, head: str = "linear") -> None:
        super().__init__()
        width = spec.rows[-1].width
        last = conv_norm(width, LAST_WIDTH, 1, spec.flavour, last_size(spec))
        self.features = nn.Sequential(*build_stages(spec), last)
        self.classifier = nn.Sequential(
            nn.Dropout(DROPOUT), build_head(head, LAST_WIDTH, num_classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        pooled = self.features(x).mean((2, 3))  # (B, last)
        return self.classifier(pooled)  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw parameters as EfficientNet's authors do; not fit for inference without training."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def build_efficientnet(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> EfficientNet:
    """Build the network of ``SPECS[config]``, with freshly drawn parameters.

    Raises:
        UnknownNameError: no such configuration, or no such head.
        UsageError: impossible sizes, see `check_sizes`.
    """
    if config not in SPECS:
        raise UnknownNameError("EfficientNet configuration", config, SPECS)
    check_sizes("EfficientNet", num_classes, image_size)
    return EfficientNet(SPECS[config], num_classes, head)
