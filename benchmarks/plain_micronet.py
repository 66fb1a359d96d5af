"""MicroNet written the straightforward way: what edgekit's graph is compared with.

View/transpose shuffles, ``x[:, index]`` for the shift, linear layers in the gates, nothing
arranged for an exporter. Same keys in the state dict as ``edgekit.models.micronet``, so the
two load the same weights. Source: Li et al., "MicroNet: Improving Image Recognition with
Extremely Low FLOPs", ICCV 2021 (arXiv 2108.05894) and its released configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Gate = tuple[int, int, int]  # branches K, shift groups G, squeezed channels


@dataclass(frozen=True)
class Row:
    """One micro-block: ``kind`` is lite, full or expand; ``None`` gates are absent."""

    kind: str
    kernel: int
    stride: int
    channels: tuple[int, ...]  # input, (after the first depthwise), expanded, output
    groups_in: int
    groups_out: int
    gates: tuple[Gate | str | None, Gate | str | None, Gate | str | None]


@dataclass(frozen=True)
class Net:
    """One variant."""

    stem: tuple[int, int]  # stem groups
    out_channels: int
    init_a: tuple[float, float]
    init_b: tuple[float, float]
    rows: tuple[Row, ...]


def _lite(k: int, s: int, channels: tuple[int, ...], groups: int, *gates: Gate | str | None) -> Row:
    return Row("lite", k, s, channels, 0, groups, (None, gates[0], gates[1]))


def _full(
    k: int, s: int, channels: tuple[int, ...], groups: tuple[int, int], *gates: Gate | str | None
) -> Row:
    return Row("full", k, s, channels, *groups, (gates[0], gates[1], gates[2]))


def _expand(channels: tuple[int, int], groups: int, gate: Gate | None) -> Row:
    return Row("expand", 1, 1, channels, groups, 0, (gate, None, None))


_R = "relu6"
NETS: dict[str, Net] = {
    "micronet-m0": Net((2, 2), 640, (1.0, 1.0), (0.0, 0.0), (
        _lite(3, 2, (4, 8, 16, 8), 2, _R, (1, 2, 4)),
        _lite(3, 2, (8, 16, 32, 12), 4, (2, 8, 4), (1, 4, 4)),
        _lite(5, 2, (12, 24, 48, 16), 4, (2, 12, 8), (1, 4, 4)),
        _full(5, 1, (16, 64, 32), (4, 4), (2, 4, 8), (2, 16, 8), (1, 4, 8)),
        _full(5, 2, (32, 128, 64), (8, 8), (2, 8, 16), (2, 16, 16), (1, 8, 16)),
        _full(3, 1, (64, 256, 96), (8, 8), (2, 8, 16), (2, 32, 16), (1, 8, 12)),
        _expand((96, 384), 12, (1, 12, 24)),
    )),
    "micronet-m1": Net((3, 2), 960, (1.0, 1.0), (0.0, 0.0), (
        _lite(3, 2, (6, 12, 24, 8), 2, _R, (1, 2, 4)),
        _lite(3, 2, (8, 16, 32, 16), 4, (2, 8, 4), (1, 4, 4)),
        _lite(5, 2, (16, 32, 64, 16), 4, (2, 16, 8), (1, 4, 4)),
        _full(5, 1, (16, 96, 32), (4, 4), (2, 4, 12), (2, 24, 12), (1, 4, 8)),
        _full(5, 2, (32, 192, 64), (8, 8), (2, 8, 24), (2, 24, 24), (1, 8, 16)),
        _full(3, 1, (64, 384, 96), (8, 8), (2, 8, 24), (2, 48, 24), (1, 8, 12)),
        _expand((96, 576), 12, (1, 12, 36)),
    )),
    "micronet-m2": Net((4, 2), 1024, (1.0, 1.0), (0.0, 0.0), (
        _lite(3, 2, (8, 16, 32, 12), 4, _R, (1, 4, 4)),
        _lite(3, 2, (12, 24, 48, 16), 4, (2, 12, 8), (1, 4, 4)),
        _lite(3, 1, (16, 32, 64, 24), 4, (2, 16, 8), (1, 4, 8)),
        _full(5, 2, (24, 144, 32), (6, 4), (2, 6, 20), (2, 24, 20), (1, 4, 8)),
        _full(5, 1, (32, 192, 32), (8, 4), (2, 8, 12), (2, 24, 12), (1, 4, 4)),
        _full(5, 1, (32, 192, 64), (8, 8), (2, 8, 12), (2, 24, 12), (1, 8, 8)),
        _full(5, 2, (64, 384, 96), (8, 8), (2, 8, 24), (2, 48, 24), (1, 8, 12)),
        _full(3, 1, (96, 576, 128), (12, 8), (2, 12, 36), (2, 48, 36), (1, 8, 16)),
        _expand((128, 768), 16, (1, 16, 48)),
    )),
    "micronet-m3": Net((4, 3), 1024, (1.0, 0.5), (0.0, 0.5), (
        _lite(3, 2, (12, 24, 48, 16), 4, (2, 12, 8), None),
        _lite(3, 2, (16, 32, 64, 24), 4, (2, 16, 8), None),
        _lite(3, 1, (24, 48, 96, 24), 4, (2, 24, 12), None),
        _full(5, 2, (24, 144, 32), (6, 4), _R, (2, 24, 20), None),
        _full(5, 1, (32, 192, 32), (8, 4), _R, (2, 24, 12), None),
        _full(5, 1, (32, 192, 64), (8, 8), _R, (2, 24, 12), None),
        _full(5, 1, (64, 384, 80), (8, 8), _R, (2, 48, 24), None),
        _full(5, 1, (80, 480, 80), (10, 8), _R, (2, 48, 32), None),
        _full(5, 2, (80, 480, 120), (10, 10), _R, (2, 48, 32), None),
        _full(5, 1, (120, 720, 120), (12, 10), _R, (2, 60, 44), None),
        _full(3, 1, (120, 720, 144), (12, 12), _R, (2, 60, 44), None),
        _expand((144, 864), 12, None),
    )),
}  # fmt: skip


class Stem(nn.Module):
    """3x1 then 1x3 convolution, shuffle, ReLU6: 224 -> 112."""

    def __init__(self, groups: tuple[int, int]) -> None:
        super().__init__()
        first, total = groups[0], groups[0] * groups[1]
        convs = ConvNorm(
            nn.Conv2d(3, first, (3, 1), (2, 1), (1, 0), bias=False),
            nn.Conv2d(first, total, (1, 3), (1, 2), (0, 1), groups=first, bias=False),
        )
        self.stem = nn.Sequential(convs, Shuffle(first), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class Shuffle(nn.Module):
    """Channel shuffle: (groups, C/groups) -> (C/groups, groups)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w)
        return torch.transpose(x, 1, 2).contiguous().view(b, -1, h, w)


class ConvNorm(nn.Module):
    """Convolutions each followed by its BatchNorm, under the key ``conv``."""

    def __init__(self, *convs: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(m for conv in convs for m in (conv, nn.BatchNorm2d(conv.out_channels)))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _depthwise(k: int, s: int, a: int, b: int, c: int) -> ConvNorm:
    p = k // 2
    return ConvNorm(
        nn.Conv2d(a, b, (k, 1), (s, 1), (p, 0), groups=a, bias=False),
        nn.Conv2d(b, c, (1, k), (1, s), (0, p), groups=b, bias=False),
    )


def _pointwise(a: int, b: int, groups: int) -> ConvNorm:
    return ConvNorm(nn.Conv2d(a, b, 1, groups=groups, bias=False))


class HardSigmoid(nn.Module):
    """relu6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(x + 3) / 6


class HardSwish(nn.Module):
    """x * relu6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.relu6(x + 3) / 6


class ShiftMax(nn.Module):
    """Dynamic Shift-Max: y = max_k(a_k(x) * x + b_k(x) * shift(x))."""

    def __init__(self, channels: int, gate: Gate, net: Net) -> None:
        super().__init__()
        self.branches, groups, squeeze = gate
        self.channels, self.init_a, self.init_b = channels, net.init_a, net.init_b
        self.fc = nn.Sequential(
            nn.Linear(channels, squeeze),
            nn.ReLU(),
            nn.Linear(squeeze, 2 * self.branches * channels),
            HardSigmoid(),
        )
        index = torch.arange(channels).view(groups, channels // groups)
        self.index = index.roll((-1, -1), (0, 1)).flatten()

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.shape
        theta = (self.fc(x.mean((2, 3))) - 0.5) * 4.0
        shifted = x[:, self.index]
        terms = []
        for k in range(self.branches):
            a, s = theta.view(b, -1, c, 1, 1).unbind(1)[2 * k : 2 * k + 2]
            terms.append(x * (a + self.init_a[k]) + shifted * (s + self.init_b[k]))
        return terms[0] if len(terms) == 1 else torch.max(terms[0], terms[1])


def _activation(channels: int, gate: Gate | str | None, net: Net) -> nn.Module:
    if gate is None:
        return nn.Identity()
    return nn.ReLU6() if isinstance(gate, str) else ShiftMax(channels, gate, net)


class Block(nn.Module):
    """One row of the table, with its skip where stride and channels allow."""

    def __init__(self, row: Row, net: Net) -> None:
        super().__init__()
        self.skip = row.stride == 1 and row.channels[0] == row.channels[-1]
        self.layers = {"lite": _lite_layers, "full": _full_layers, "expand": _expand_layers}[
            row.kind
        ](row, net)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.skip else y


def _lite_layers(row: Row, net: Net) -> nn.Sequential:
    a, b, e, out = row.channels
    gate2, gate3 = row.gates[1], row.gates[2]
    dynamic = isinstance(gate2, tuple)
    groups2 = gate2[1] if isinstance(gate2, tuple) else {8: 4, 12: 6, 16: 8}[b]
    return nn.Sequential(
        _depthwise(row.kernel, row.stride, a, b, e),
        _activation(e, gate2, net),
        Shuffle(groups2),
        Shuffle(e // 2) if dynamic else nn.Identity(),
        _pointwise(e, out, row.groups_out),
        _activation(out, gate3, net),
        Shuffle(row.groups_out),
        Shuffle(out // 2) if gate3 is not None else nn.Identity(),
    )


def _full_layers(row: Row, net: Net) -> nn.Sequential:
    a, e, out = row.channels
    gate1, gate2, gate3 = row.gates
    return nn.Sequential(
        _pointwise(a, e, row.groups_in),
        _activation(e, gate1, net),
        Shuffle(row.groups_in),
        _depthwise(row.kernel, row.stride, e, e, e),
        nn.Identity(),
        _activation(e, gate2, net),
        Shuffle(e // 4 if isinstance(gate1, tuple) else e // 2),
        _pointwise(e, out, row.groups_out),
        _activation(out, gate3, net),
        Shuffle(row.groups_out),
        Shuffle(out // 2) if gate3 is not None else nn.Identity(),
    )


def _expand_layers(row: Row, net: Net) -> nn.Sequential:
    a, e = row.channels
    return nn.Sequential(_pointwise(a, e, row.groups_in), _activation(e, row.gates[0], net))


class LinearNorm(nn.Module):
    """Linear and BatchNorm1d, under the key ``linear``."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class PlainMicroNet(nn.Module):
    """(B, 3, 224, 224) -> (B, 1000)."""

    def __init__(self, variant: str, num_classes: int = 1000) -> None:
        super().__init__()
        net = NETS[variant]
        self.features = nn.Sequential(Stem(net.stem), *(Block(row, net) for row in net.rows))
        last = net.rows[-1].channels[-1]
        self.head = nn.Sequential(nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), HardSwish())
        self.classifier = nn.Sequential(
            LinearNorm(last, net.out_channels),
            HardSwish(),
            LinearNorm(net.out_channels, num_classes),
            HardSwish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))
