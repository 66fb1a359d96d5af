"""Your own ``torch.nn.Module`` takes the path of the zoo: same passes, same proof, same bundle.

python examples/own_model.py [out/own-arm]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgekit


class TinyNet(nn.Module):
    """A convolution, a depthwise one with a gate, a classifier for three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.head = nn.Linear(16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) -> (1, 3)."""
        features = self.depthwise(self.stem(image))
        features = features * self.gate(features)
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


def main(out: Path) -> None:
    """Export for ARM, load the bundle again, run it."""
    torch.manual_seed(0)
    result = edgekit.export_model(
        TinyNet(),
        torch.zeros(1, 3, 64, 64),
        target="arm",
        out=out,
        name="tinynet",
        input_names=["image"],
        output_names=["logits"],
        image=edgekit.ImageFacts(mean=(0.5,) * 3, std=(0.5,) * 3, labels=("cat", "dog", "neither")),
    )
    for artifact in result.manifest.artifacts:
        print(artifact.runtime, artifact.parity.max_relative_error if artifact.parity else "-")
    with edgekit.load(result.path) as model:
        print(model.run({"image": np.zeros((1, 3, 64, 64), np.float32)}))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/own-arm"))
