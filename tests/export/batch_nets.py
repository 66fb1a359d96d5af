"""A small network in the zoo's place, with everything that a batch can go wrong in."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgekit.export import sources
from edgekit.export.trace import trace
from edgekit.models.building import CreatedModel, WeightsInfo
from edgekit.models.zoo import get_variant

MODEL = "mobilenetv2-x0.35"  # whose row, and so whose preprocessing, it borrows
SIZE, CLASSES = 16, 6
WIDTH, LATENT = 8, 4


class Gated(nn.Module):
    """A gate on the pooled map, a channel shuffle, and a matrix of the image's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.squeeze, self.excite = nn.Linear(WIDTH, 4), nn.Linear(4, WIDTH)
        self.q, self.p = nn.Conv2d(WIDTH, LATENT, 1), nn.Conv2d(LATENT, WIDTH, 1)
        self.w0 = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.phi = nn.Conv2d(WIDTH, LATENT * LATENT, 1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, SIZE, SIZE) -> (B, CLASSES)."""
        x = torch.relu(self.norm(self.stem(image)))
        pooled = x.mean((2, 3))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled)))).reshape(-1, WIDTH, 1, 1)
        shuffled = x.reshape(-1, 2, WIDTH // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        q = self.q(shuffled)
        mix = self.phi(x.mean((2, 3), keepdim=True)).reshape(-1, LATENT, LATENT)
        columns = q.flatten(2)
        latent = torch.bmm(mix, columns) + columns
        y = self.p(latent.reshape(q.shape)) + gate * self.w0(shuffled)
        return self.head(y.mean((2, 3)))


class FirstOnly(nn.Module):
    """The first image's features for all: of one image, it is a network like any other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, SIZE, SIZE) -> (B, CLASSES), wrong for every batch but 1."""
        return self.head((image - 0.5 * image[:1]).mean((2, 3)))


@cache
def traced(count: int) -> ir.Model:
    """`Gated` for so many images."""
    image = torch.zeros(count, 3, SIZE, SIZE)
    return trace(Gated().eval(), [image], ["image"], ["logits"], opset=sources.OPSET)


def install_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports of ``MODEL`` take `Gated`, traced once for each number of images."""
    install(monkeypatch, Gated())
    monkeypatch.setattr(sources, "trace", lambda _, images, *names, **__: traced(len(images[0])))


def install(monkeypatch: pytest.MonkeyPatch, module: nn.Module) -> None:
    """Let exports of ``MODEL`` take ``module`` instead."""
    info = WeightsInfo("random, seed 0", "0" * 64, random=True)
    created = CreatedModel(module.eval(), get_variant(MODEL), CLASSES, SIZE, info)
    monkeypatch.setattr(sources, "create", lambda *_, **__: created)
