"""ResNet as torchvision defines it, which is version 1.5.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
Function and state-dict keys are torchvision's, timm's and SEED's alike: a bottleneck that halves
has its stride on the 3x3, where the paper has it on the 1x1 before.

    image (B, 3, H, W)
      stem         7x7 convolution, ReLU, 3x3 max-pool                           H / 4
      layer1       blocks                                                        H / 4
      layer2..4    blocks; the first halves the map and doubles the width        H / 8 .. H / 32
      head         pool, linear
    logits (B, classes)

A block adds its input to two 3x3 convolutions, or to 1x1 -> 3x3 -> 1x1 with a fourth of the
width in the middle; where shapes change the input passes a 1x1 convolution. Every convolution is
followed by BatchNorm, and by ReLU, which at the end of a block comes after the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models.heads import build_head
from edgekit.models.sizes import check_sizes

STEM_WIDTH = 64

# Of random weights (edgekit.models.random_init): with branches as large as the way around them, the
# rounding errors of 50 blocks are 1e-4 of the logits; training starts such branches small, too.
_RANDOM_GAIN = 0.25

# (width in, width out, kernel, stride) -> a convolution without bias that halves with stride 2.
MakeConvolution = Callable[[int, int, int, int], nn.Module]


def convolution(width_in: int, width_out: int, kernel: int, stride: int) -> nn.Conv2d:
    """Without bias, with padding on both sides."""
    return nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, bias=False)


# ---------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------


def shortcut(width_in: int, width_out: int, stride: int) -> nn.Sequential | None:
    """The way around a block, or None where its input can be added as it is."""
    if stride == 1 and width_in == width_out:
        return None
    return nn.Sequential(convolution(width_in, width_out, 1, stride), nn.BatchNorm2d(width_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them.

    Args:
        width_in: channels that enter.
        width: channels in the middle; ``expansion`` times that leave.
        stride: of the first convolution.
        make: makes the convolutions, but not that of the shortcut.
    """

    expansion = 1

    def __init__(
        self, width_in: int, width: int, stride: int, make: MakeConvolution = convolution
    ) -> None:
        super().__init__()
        self.conv1 = make(width_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = make(width, width, 3, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.bn2.random_gain = _RANDOM_GAIN  # type: ignore[assignment]  # no parameter
        self.downsample = shortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        around = x if self.downsample is None else self.downsample(x)
        return self.relu(y + around)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 and the way around them; arguments as of `BasicBlock`."""

    expansion = 4

    def __init__(
        self, width_in: int, width: int, stride: int, make: MakeConvolution = convolution
    ) -> None:
        super().__init__()
        width_out = width * self.expansion
        self.conv1 = make(width_in, width, 1, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = make(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = make(width, width_out, 1, 1)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.bn3.random_gain = _RANDOM_GAIN  # type: ignore[assignment]  # no parameter
        self.relu = nn.ReLU()
        self.downsample = shortcut(width_in, width_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 4 * width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        around = x if self.downsample is None else self.downsample(x)
        return self.relu(y + around)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------
# Network
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """One network.

    Attributes:
        block: of which all stages are made.
        repeats: blocks of layer1 to layer4.
        stem_width: channels that leave the stem, to which all other widths are in proportion.
        hidden: width inside a projection head, if it is not that of the features.
    """

    block: type[BasicBlock] | type[Bottleneck]
    repeats: tuple[int, int, int, int]
    stem_width: int = STEM_WIDTH
    hidden: int | None = None

    @property
    def width_out(self) -> int:
        """Features that leave the pool."""
        return 8 * self.stem_width * self.block.expansion


SPECS: dict[str, Spec] = {
    "18": Spec(BasicBlock, (2, 2, 2, 2)),
    "34": Spec(BasicBlock, (3, 4, 6, 3)),
    "50": Spec(Bottleneck, (3, 4, 6, 3)),
    "101": Spec(Bottleneck, (3, 4, 23, 3)),
    "152": Spec(Bottleneck, (3, 8, 36, 3)),
}
# SwAV's, two and four times as wide.
WIDE_SPECS: dict[str, Spec] = {
    "50-x2": Spec(Bottleneck, (3, 4, 6, 3), 2 * STEM_WIDTH, 8192),
    "50-x4": Spec(Bottleneck, (3, 4, 6, 3), 4 * STEM_WIDTH, 8192),
}


def stage(spec: Spec, number: int, make: MakeConvolution) -> nn.Sequential:
    """Blocks of layer ``number``, 1 to 4."""
    width = spec.stem_width << (number - 1)
    width_out = width * spec.block.expansion
    if number == 1:
        first = spec.block(spec.stem_width, width, 1, make)
    else:
        first = spec.block(width_out // 2, width, 2, make)
    rest = (spec.block(width_out, width, 1, make) for _ in range(spec.repeats[number - 1] - 1))
    return nn.Sequential(first, *rest)


class Trunk(nn.Module):
    """All of a ResNet but its head.

    Args:
        spec: see `Spec`.
        make: makes the convolutions of the blocks, see `BasicBlock`.
    """

    def __init__(self, spec: Spec, make: MakeConvolution = convolution) -> None:
        super().__init__()
        self.conv1 = convolution(3, spec.stem_width, 7, 2)
        self.bn1 = nn.BatchNorm2d(spec.stem_width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(spec, 1, make)
        self.layer2 = stage(spec, 2, make)
        self.layer3 = stage(spec, 3, make)
        self.layer4 = stage(spec, 4, make)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, spec.width_out)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


class ResNet(Trunk):
    """(B, 3, H, W) -> (B, classes).

    Args:
        spec: see `Spec`.
        num_classes: outputs.
        head: see `edgekit.models.heads`; keeps PyTorch's own initial values.
    """

    def __init__(self, spec: Spec, num_classes: int, head: str = "linear") -> None:
        super().__init__(spec)
        self.fc = build_head(head, spec.width_out, num_classes, spec.hidden)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        return self.fc(self.pooled(x))  # type: ignore[no-any-return]


def build_resnet(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> ResNet:
    """Build ``SPECS[config]`` or ``WIDE_SPECS[config]``, with freshly drawn parameters.

    Raises:
        UnknownNameError: no such depth, or no such head.
        UsageError: impossible sizes, see `check_sizes`.
    """
    specs = SPECS | WIDE_SPECS
    if config not in specs:
        raise UnknownNameError("depth of ResNet", config, specs)
    check_sizes("ResNet", num_classes, image_size)
    return ResNet(specs[config], num_classes, head)
