"""MobileNetV2 as torchvision defines it, in any width.

Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, arXiv 1801.04381. Function and state-dict keys are torchvision's: padding on both
sides, BatchNorm's eps 1e-5. TensorFlow's own networks pad at the end and differ in that.

    image (B, 3, H, W)
      stem         3x3 convolution, ReLU6                                        H / 2
      17 blocks    1x1 expand, ReLU6 -> 3x3 depthwise, ReLU6 -> 1x1 squeeze      H / 2 .. H / 32
      last         1x1 convolution, ReLU6                                        H / 32
      head         pool, dropout, linear
    logits (B, classes)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models.heads import build_head
from edgekit.models.sizes import check_sizes, divisible_width


@dataclass(frozen=True)
class Row:
    """Blocks of one width; widths are those of the network at 1.0.

    Attributes:
        expansion: channels in the middle of a block / channels that enter it.
        width: channels that leave.
        repeats: blocks.
        stride: of the first of them; the others have 1 and add their input.
    """

    expansion: int
    width: int
    repeats: int
    stride: int


ROWS = (
    Row(1, 16, 1, 1),  #  112 at 224
    Row(6, 24, 2, 2),  #   56
    Row(6, 32, 3, 2),  #   28
    Row(6, 64, 4, 2),  #   14
    Row(6, 96, 3, 1),  #   14
    Row(6, 160, 3, 2),  #   7
    Row(6, 320, 1, 1),  #   7
)
STEM_WIDTH = 32
LAST_WIDTH = 1280  # never narrower, whatever the width of the network
DROPOUT = 0.2

WIDTHS: dict[str, float] = {"x0.35": 0.35, "x0.5": 0.5, "x0.75": 0.75, "x1.0": 1.0}


def conv_norm_relu6(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Wide in the middle, narrow and linear at the ends."""

    def __init__(self, width_in: int, width_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = width_in * expansion
        expand = [conv_norm_relu6(width_in, wide, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_norm_relu6(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.skip = stride == 1 and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.skip else y


class MobileNetV2(nn.Module):
    """(B, 3, H, W) -> (B, classes).

    Args:
        width: multiplies every width but the last one's; at 1.0 the network of the paper.
        num_classes: outputs.
        head: see `edgekit.models.heads`.
    """

    def __init__(self, width: float, num_classes: int, head: str = "linear") -> None:
        super().__init__()
        narrow = divisible_width(STEM_WIDTH * width)
        last = divisible_width(LAST_WIDTH * max(1.0, width))
        stages: list[nn.Module] = [conv_norm_relu6(3, narrow, 3, stride=2)]
        for row in ROWS:
            for stride in (row.stride, *(1,) * (row.repeats - 1)):
                out = divisible_width(row.width * width)
                stages.append(InvertedResidual(narrow, out, row.expansion, stride))
                narrow = out
        self.features = nn.Sequential(*stages, conv_norm_relu6(narrow, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), build_head(head, last, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        pooled = self.features(x).mean((2, 3))  # (B, last)
        return self.classifier(pooled)  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw parameters as the MobileNets' authors do; not fit for inference without training."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def build_mobilenetv2(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> MobileNetV2:
    """Build the network of width ``WIDTHS[config]``, with freshly drawn parameters.

    Raises:
        UnknownNameError: no such width, or no such head.
        UsageError: impossible sizes, see `check_sizes`.
    """
    if config not in WIDTHS:
        raise UnknownNameError("width of MobileNetV2", config, WIDTHS)
    check_sizes("MobileNetV2", num_classes, image_size)
    return MobileNetV2(WIDTHS[config], num_classes, head)
