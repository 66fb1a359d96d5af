"""The extractor that OSCAR's regions came from: what TEE is measured against.

Faster R-CNN on ResNet-101's first four stages, its fifth on each region. Anderson, He, Buehler,
Teney, Johnson, Gould, Zhang: "Bottom-Up and Top-Down Attention for Image Captioning and Visual
Question Answering", CVPR 2018, arXiv 1707.07998. Built for the comparison alone: parameters and
work are its own, weights are not read. Without its attribute head, as TEE is counted.

    image (B, 3, H, W) -> conv1 .. layer3 (B, 1024, H / 16, W / 16)
      3x3, ReLU -> two logits and four numbers for each of 12 anchors
    region (N, 1024, 14, 14) -> layer4 -> mean: its feature (N, 2048)
      -> 1601 classes, a box for each
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.resnet import SPECS, Trunk

STRIDE = 16
ANCHORS = 12  # 4 sizes, 3 ratios
CLASSES = 1601  # with the background
PROPOSALS = 300
POOLED = 14
SHORTER_SIDE, LONGEST_SIDE = 600, 1000  # pixels of the image that it sees
_HIDDEN = 512


class Butd(nn.Module):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(SPECS["101"])
        self.rpn = nn.Conv2d(1024, _HIDDEN, 3, padding=1)
        self.objectness = nn.Conv2d(_HIDDEN, 2 * ANCHORS, 1)
        self.deltas = nn.Conv2d(_HIDDEN, 4 * ANCHORS, 1)
        self.score = nn.Linear(2048, CLASSES)
        self.boxes = nn.Linear(2048, 4 * CLASSES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first stage: (B, 3, H, W) -> the map, and logits and deltas of the anchors."""
        trunk = self.trunk
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(image))))
        feature = trunk.layer3(trunk.layer2(trunk.layer1(x)))
        hidden = functional.relu(self.rpn(feature))
        return feature, self.objectness(hidden), self.deltas(hidden)

    def describe(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The second: (N, 1024, 14, 14) -> (N, 2048), (N, 1601), (N, 6404)."""
        feature = self.trunk.layer4(pooled).mean((2, 3))
        return feature, self.score(feature).softmax(1), self.boxes(feature)


def canvas(height: int, width: int) -> tuple[int, int]:
    """Size at which it sees an image of ``height`` x ``width`` pixels."""
    scale = min(SHORTER_SIDE / min(height, width), LONGEST_SIDE / max(height, width))
    return round(height * scale), round(width * scale)
