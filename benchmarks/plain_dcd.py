"""DCD computed the straightforward way: what edgekit's graph is compared with.

The same layers with the same weights, written as the formula reads: adaptive pool, flatten,
linear layers, a view to L x L and ``bmm``, nothing arranged for an exporter. Source: Li et al.,
"Revisiting Dynamic Convolution via Matrix Decomposition", ICLR 2021 (arXiv 2103.08756).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.dcd import DynamicConv, DynamicLinear, SqueezeGate


class PlainConv(nn.Module):
    """(B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, layer: DynamicConv) -> None:
        super().__init__()
        self.layer, self.pool = layer, nn.AdaptiveAvgPool2d(layer.size.grid)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        phi, scale = coefficients(layer, self.pool(x).flatten(1))
        q = layer.bn1(layer.to_latent(x))
        b, latent, height, width = q.shape
        q = q.view(b, latent, -1)
        d = layer.bn2(torch.bmm(phi, q)) + q
        d = d.view(b, latent, height, width)
        return layer.from_latent(d) + scale[:, :, None, None] * layer.w0(x)


class PlainLinear(nn.Module):
    """(B, in) -> (B, out)."""

    def __init__(self, layer: DynamicLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        phi, scale = coefficients(layer, x)
        q = layer.bn1(layer.to_latent(x))
        d = layer.bn2(torch.bmm(phi, q.unsqueeze(-1)).squeeze(-1)) + q
        return layer.from_latent(d) + scale * layer.w0(x)


def coefficients(layer: DynamicConv | DynamicLinear, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """(B, features) -> (B, L, L) and (B, out)."""
    squeeze, gate = layer.fc
    assert isinstance(gate, SqueezeGate)
    z = squeeze(pooled)
    y = z * functional.relu6(gate.fc(z) + 3) / 3
    phi = layer.fc_phi(y).view(-1, layer.size.latent, layer.size.latent)
    return phi, functional.relu6(layer.fc_scale(y) + 3) / 3


def plain(network: nn.Module) -> nn.Module:
    """A copy of a DCD network with its dynamic layers written plainly."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicConv):
                setattr(parent, name, PlainConv(child))
            elif isinstance(child, DynamicLinear):
                setattr(parent, name, PlainLinear(child))
    return network
