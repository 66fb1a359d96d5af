"""MicroNet, the networks of the authors' released code, and sketches of the first arXiv version.

Li, Chen, Dai, Chen, Liu, Yuan, Liu, Zhang, Vasconcelos: "MicroNet: Improving Image
Recognition with Extremely Low FLOPs", ICCV 2021, arXiv 2108.05894 (first version, with other
names for the sizes: arXiv 2011.12289). Built from a description of the network, with the
state-dict keys of the released checkpoints.

    image (B, 3, 224, 224)
      stem         3x1 and 1x3 convolution, shuffle, ReLU6                    112 x 112
      lite rows    depthwise expand -> act -> shuffle -> group 1x1 squeeze     56 .. 14
      full rows    group 1x1 expand -> act -> shuffle -> depthwise -> act      28 ..  7
                   -> shuffle -> group 1x1 squeeze -> act -> shuffle
      tail row     group 1x1 expand -> act                                           7
      head         ReLU6, pool, h-swish, linear+BN+h-swish, linear+BN+h-swish
    logits (B, classes), each >= -0.375: the last layer is BatchNorm and h-swish, too

Every convolution is a small group, k x 1 or 1 x k convolution, so channels meet only through
fixed shuffles and through dynamic shift-max, the activation:

    y = max_k ( a_k(x) * x + b_k(x) * x~ ),   x~ = x with its channels cyclically shifted

where the coefficients a_k, b_k come from a squeeze-and-excitation branch. All permutations are
``index_select`` with a constant index, so the network exports as Gather nodes and without a
reshape of a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnknownNameError
from edgekit.models.heads import build_head
from edgekit.models.sizes import check_sizes

COEFFICIENT_RANGE = 2.0  # coefficients move by at most this much from their initial value

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of a network, in the cut of the released code (at the squeezed tensor).

    Attributes:
        kind: ``"lite"``: depthwise expand and squeeze; ``"full"``: pointwise expand, depthwise,
            squeeze; ``"tail"``: pointwise expand only (the rest of the paper's last block).
        kernel: k of the k x 1 and 1 x k depthwise pair.
        stride: of the depthwise pair.
        width_in: channels that enter.
        expanded: channels in the middle (of a tail row: channels that leave).
        width_out: channels that leave.
        groups_in: groups of the expanding 1x1 (0 in a lite row, which has none).
        groups_out: groups of the squeezing 1x1 (0 in a tail row, which has none).
        shift_max: branches K (0, 1 or 2) of the shift-max after the expanding 1x1, after the
            depthwise pair, and after the squeezing 1x1. At 0 the first two are a ReLU6 where
            the layer exists, and the third is nothing; a tail row uses only the first, and
            has nothing at 0.
        reduction: r, divides the hidden width of the coefficient branches.
    """

    kind: Literal["lite", "full", "tail"]
    kernel: int
    stride: int
    width_in: int
    expanded: int
    width_out: int
    groups_in: int
    groups_out: int
    shift_max: tuple[int, int, int]
    reduction: int

    @property
    def skip(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.width_in == self.width_out


@dataclass(frozen=True)
class Spec:
    """One network.

    Attributes:
        stem_groups: (g1, g2): the stem convolves 3 -> g1 -> g1*g2 channels.
        rows: see `Row`; the ``width_in`` of each is the ``width_out`` of the one before.
        head_width: outputs of the first of the two linear layers of the classifier.
        dropout: between those two, in training.
        initial_a: offsets of a1, a2 in shift-max with two branches.
        initial_b: offsets of b1, b2 in shift-max with two branches.
    """

    stem_groups: tuple[int, int]
    rows: tuple[Row, ...]
    head_width: int
    dropout: float
    initial_a: tuple[float, float] = (1.0, 1.0)
    initial_b: tuple[float, float] = (0.0, 0.0)

    @property
    def stem_width(self) -> int:
        """Channels that leave the stem."""
        return self.stem_groups[0] * self.stem_groups[1]


# fmt: off
_M0_ROWS = (
    #   kind    k  s   in    E  out  g_in g_out  shift_max  r     map at 224
    Row("lite", 3, 2,   4,  16,   8,    0,  2, (0, 0, 1), 1),  #  56
    Row("lite", 3, 2,   8,  32,  12,    0,  4, (0, 2, 1), 1),  #  28
    Row("lite", 5, 2,  12,  48,  16,    0,  4, (0, 2, 1), 1),  #  14
    Row("full", 5, 1,  16,  64,  32,    4,  4, (2, 2, 1), 1),  #  14
    Row("full", 5, 2,  32, 128,  64,    8,  8, (2, 2, 1), 1),  #   7
    Row("full", 3, 1,  64, 256,  96,    8,  8, (2, 2, 1), 2),  #   7
    Row("tail", 1, 1,  96, 384, 384,   12,  0, (1, 0, 0), 2),  #   7
)
_M1_ROWS = (
    Row("lite", 3, 2,   6,  24,   8,    0,  2, (0, 0, 1), 1),  #  56
    Row("lite", 3, 2,   8,  32,  16,    0,  4, (0, 2, 1), 1),  #  28
    Row("lite", 5, 2,  16,  64,  16,    0,  4, (0, 2, 1), 1),  #  14
    Row("full", 5, 1,  16,  96,  32,    4,  4, (2, 2, 1), 1),  #  14
    Row("full", 5, 2,  32, 192,  64,    8,  8, (2, 2, 1), 1),  #   7
    Row("full", 3, 1,  64, 384,  96,    8,  8, (2, 2, 1), 2),  #   7
    Row("tail", 1, 1,  96, 576, 576,   12,  0, (1, 0, 0), 2),  #   7
)
_M2_ROWS = (
    Row("lite", 3, 2,   8,  32,  12,    0,  4, (0, 0, 1), 1),  #  56
    Row("lite", 3, 2,  12,  48,  16,    0,  4, (0, 2, 1), 1),  #  28
    Row("lite", 3, 1,  16,  64,  24,    0,  4, (0, 2, 1), 1),  #  28
    Row("full", 5, 2,  24, 144,  32,    6,  4, (2, 2, 1), 1),  #  14
    Row("full", 5, 1,  32, 192,  32,    8,  4, (2, 2, 1), 2),  #  14, skip
    Row("full", 5, 1,  32, 192,  64,    8,  8, (2, 2, 1), 2),  #  14
    Row("full", 5, 2,  64, 384,  96,    8,  8, (2, 2, 1), 2),  #   7
    Row("full", 3, 1,  96, 576, 128,   12,  8, (2, 2, 1), 2),  #   7
    Row("tail", 1, 1, 128, 768, 768,   16,  0, (1, 0, 0), 2),  #   7
)
_M3_ROWS = (
    Row("lite", 3, 2,  12,  48,  16,    0,  4, (0, 2, 0), 1),  #  56
    Row("lite", 3, 2,  16,  64,  24,    0,  4, (0, 2, 0), 1),  #  28
    Row("lite", 3, 1,  24,  96,  24,    0,  4, (0, 2, 0), 1),  #  28, skip
    Row("full", 5, 2,  24, 144,  32,    6,  4, (0, 2, 0), 1),  #  14
    Row("full", 5, 1,  32, 192,  32,    8,  4, (0, 2, 0), 2),  #  14, skip
    Row("full", 5, 1,  32, 192,  64,    8,  8, (0, 2, 0), 2),  #  14
    Row("full", 5, 1,  64, 384,  80,    8,  8, (0, 2, 0), 2),  #  14
    Row("full", 5, 1,  80, 480,  80,   10,  8, (0, 2, 0), 2),  #  14, skip
    Row("full", 5, 2,  80, 480, 120,   10, 10, (0, 2, 0), 2),  #   7
    Row("full", 5, 1, 120, 720, 120,   12, 10, (0, 2, 0), 2),  #   7, skip
    Row("full", 3, 1, 120, 720, 144,   12, 12, (0, 2, 0), 2),  #   7
    Row("tail", 1, 1, 144, 864, 864,   12,  0, (0, 0, 0), 2),  #   7
)
# First arXiv version. Its own code was never published: widths, kernels, strides and groups
# are from a public re-implementation of its table, and what that table does not say
# (shift-max positions, r, head width, skips) is as in the later version, for M3 as in the
# later M3. Unsettled is the depthwise width of the paper's Block B, the last lite row: here it
# is 4 * in, as in the released code, which puts M0 to M2 at 6.1, 12.7 and 20.1 MMAdds for the
# 6, 12 and 21 of the paper; in v1-m3 it is the 6 * in = 192 of the re-implementation, because
# 4 * 32 = 128 channels cannot be squeezed in the 6 groups that the table asks for.
_V1_M2_ROWS = (
    *_M3_ROWS[:5],
    Row("full", 5, 1,  32, 192,  48,    8,  6, (0, 2, 0), 2),  #  14: 64 wide, 8 groups in M3
    Row("full", 5, 1,  48, 288,  80,    8,  8, (0, 2, 0), 2),  #  14: 64 -> 384 in M3
    *_M3_ROWS[7:],
)
_V1_M3_ROWS = (
    Row("lite", 3, 2,  16,   64,  32,    0,  4, (0, 2, 0), 1),  #  56
    Row("lite", 3, 2,  32,  192,  48,    0,  6, (0, 2, 0), 1),  #  28: 6 * in
    Row("full", 3, 1,  48,  192,  48,    8,  6, (0, 2, 0), 1),  #  28, skip
    Row("full", 3, 1,  48,  192,  48,    8,  6, (0, 2, 0), 1),  #  28, skip
    Row("full", 5, 2,  48,  192,  64,    8,  8, (0, 2, 0), 1),  #  14
    Row("full", 5, 1,  64,  256,  64,    8,  8, (0, 2, 0), 2),  #  14, skip
    Row("full", 5, 1,  64,  256,  96,    8,  8, (0, 2, 0), 2),  #  14
    Row("full", 5, 1,  96,  384,  96,   12,  8, (0, 2, 0), 2),  #  14, skip
    Row("full", 5, 1,  96,  384, 144,   12, 12, (0, 2, 0), 2),  #  14
    Row("full", 5, 1, 144,  576, 144,   12, 12, (0, 2, 0), 2),  #  14, skip
    Row("full", 5, 2, 144,  576, 192,   12, 12, (0, 2, 0), 2),  #   7
    Row("full", 5, 1, 192,  768, 192,   16, 12, (0, 2, 0), 2),  #   7, skip
    Row("full", 5, 1, 192,  768, 192,   16, 12, (0, 2, 0), 2),  #   7, skip
    Row("full", 3, 1, 192,  768, 256,   16, 16, (0, 2, 0), 2),  #   7
    Row("tail", 1, 1, 256, 1024, 1024,  16,  0, (0, 0, 0), 2),  #   7
)

SPECS: dict[str, Spec] = {
    "m0": Spec((2, 2), _M0_ROWS, head_width=640, dropout=0.05),
    "m1": Spec((3, 2), _M1_ROWS, head_width=960, dropout=0.05),
    "m2": Spec((4, 2), _M2_ROWS, head_width=1024, dropout=0.1),
    "m3": Spec((4, 3), _M3_ROWS, 1024, 0.1, initial_a=(1.0, 0.5), initial_b=(0.0, 0.5)),
    "v1-m0": Spec((3, 2), _M1_ROWS, head_width=960, dropout=0.05),
    "v1-m1": Spec((4, 2), _M2_ROWS, head_width=1024, dropout=0.1),
    "v1-m2": Spec((4, 3), _V1_M2_ROWS, 1024, 0.1, initial_a=(1.0, 0.5), initial_b=(0.0, 0.5)),
    "v1-m3": Spec((4, 4), _V1_M3_ROWS, 1024, 0.1, initial_a=(1.0, 0.5), initial_b=(0.0, 0.5)),
}
# fmt: on

# ---------------------------------------------------------------------------
# Channel permutations
# ---------------------------------------------------------------------------


def shuffle_index(channels: int, groups: int) -> Tensor:
    """Channel shuffle: ``out[j * groups + i] = in[i * (channels / groups) + j]``."""
    return torch.arange(channels).view(groups, -1).t().flatten()


def shift_index(channels: int, groups: int) -> Tensor:
    """The channel that x~ takes: one group further *and* one place further within the group.

    The paper's formula advances the group only; the released networks advance both.
    """
    grid = torch.arange(channels).view(groups, -1)
    return grid.roll((-1, -1), (0, 1)).flatten()


class ChannelShuffle(nn.Module):
    """(B, C, H, W) -> (B, C, H, W) with its channels in another, fixed order."""

    index: Tensor

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        # Not persistent: the released checkpoints do not hold it.
        self.register_buffer("index", shuffle_index(channels, groups), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return torch.index_select(x, 1, self.index)


# ---------------------------------------------------------------------------
# Dynamic shift-max
# ---------------------------------------------------------------------------


def squeeze_width(channels: int, reduction: int) -> int:
    """Hidden width of a coefficient branch: channels / reduction to the nearest multiple of 4.

    At least 4, and never more than 10 % below the quotient.
    """
    quotient = channels // reduction
    rounded = max(4, (quotient + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * quotient else rounded


class DynamicShiftMax(nn.Module):
    """y = max_k(a_k * x + b_k * x~) over K branches; with K = 1 there is no max.

    Args:
        channels: C of the map (B, C, H, W).
        groups: G of the cyclic shift that makes x~.
        squeeze: hidden width of the coefficient branch.
        initial_a: offset of each a_k; K values.
        initial_b: offset of each b_k; K values.
    """

    shift: Tensor
    initial: Tensor

    def __init__(
        self,
        channels: int,
        groups: int,
        squeeze: int,
        initial_a: Sequence[float],
        initial_b: Sequence[float],
    ) -> None:
        super().__init__()
        self.channels, self.groups, self.branches = channels, groups, len(initial_a)
        self.fc = nn.Sequential(
            nn.Linear(channels, squeeze),
            nn.ReLU(),
            nn.Linear(squeeze, 2 * self.branches * channels),
            nn.Hardsigmoid(),
        )
        offsets = [offset for pair in zip(initial_a, initial_b, strict=True) for offset in pair]
        initial = torch.tensor(offsets).repeat_interleave(channels)  # a1 | b1 | a2 | b2
        self.register_buffer("initial", initial, persistent=False)
        self.register_buffer("shift", shift_index(channels, groups), persistent=False)

    def coefficients(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2K * C, 1, 1): blocks of C channels, a1 | b1 | a2 | b2."""
        theta: Tensor = self.fc(x.mean((2, 3)))  # (B, 2K * C), each in [0, 1]
        centred = (theta - 0.5) * (2 * COEFFICIENT_RANGE) + self.initial
        return centred[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        shifted = torch.index_select(x, 1, self.shift)
        blocks = torch.split(self.coefficients(x), self.channels, 1)
        y = blocks[0] * x + blocks[1] * shifted
        if self.branches == 2:
            y = torch.maximum(y, blocks[2] * x + blocks[3] * shifted)
        return y


# ---------------------------------------------------------------------------
# Convolutions (each bare of activation, each followed by BatchNorm)
# ---------------------------------------------------------------------------


class ConvNorm(nn.Module):
    """Convolutions without bias, each followed by BatchNorm, under the official name ``conv``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.conv(x)  # type: ignore[no-any-return]


def stem_convolution(groups: tuple[int, int]) -> ConvNorm:
    """3x1 dense to g1 channels, 1x3 in g1 groups to g1 * g2 channels, shuffle. Stride 2."""
    middle, width = groups[0], groups[0] * groups[1]
    return ConvNorm(
        nn.Conv2d(3, middle, (3, 1), (2, 1), (1, 0), bias=False),
        nn.BatchNorm2d(middle),
        nn.Conv2d(middle, width, (1, 3), (1, 2), (0, 1), groups=middle, bias=False),
        nn.BatchNorm2d(width),
        ChannelShuffle(width, groups[0]),
    )


def depthwise_pair(width_in: int, width_out: int, kernel: int, stride: int) -> ConvNorm:
    """Depthwise k x 1 and 1 x k; the width grows by 2 in each, or in neither.

    Only v1-m3 has a factor of 6, split into 2 and 3.
    """
    middle = width_in * math.isqrt(width_out // width_in)
    pad = kernel // 2
    return ConvNorm(
        nn.Conv2d(
            width_in, middle, (kernel, 1), (stride, 1), (pad, 0), groups=width_in, bias=False
        ),
        nn.BatchNorm2d(middle),
        nn.Conv2d(middle, width_out, (1, kernel), (1, stride), (0, pad), groups=middle, bias=False),
        nn.BatchNorm2d(width_out),
    )


def group_pointwise(width_in: int, width_out: int, groups: int) -> ConvNorm:
    """1x1 in groups: one of the two sparse factors of the paper's pointwise convolution."""
    return ConvNorm(
        nn.Conv2d(width_in, width_out, 1, groups=groups, bias=False), nn.BatchNorm2d(width_out)
    )


# ---------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------


class MicroBlock(nn.Module):
    """One `Row` of a network."""

    def __init__(self, row: Row, spec: Spec) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_BUILDERS[row.kind](row, spec))
        self.skip = row.skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


def lite_layers(row: Row, spec: Spec) -> list[nn.Module]:
    """Depthwise expand, activation, shuffle, squeeze."""
    _, second, third = row.shift_max
    groups = row.expanded // 4  # equal to the input width where the depthwise pair grows 2 * 2
    return [
        depthwise_pair(row.width_in, row.expanded, row.kernel, row.stride),
        _shift_max(spec, row.expanded, groups, second, 8 * row.reduction) or nn.ReLU6(),
        ChannelShuffle(row.expanded, groups),
        _shuffle_if(bool(second), row.expanded, row.expanded // 2),
        group_pointwise(row.expanded, row.width_out, row.groups_out),
        *_output_layers(row, spec, third),
    ]


def full_layers(row: Row, spec: Spec) -> list[nn.Module]:
    """Pointwise expand, activation, shuffle, depthwise, activation, shuffle, squeeze."""
    first, second, third = row.shift_max
    wide = row.expanded
    # Position 1 shifts by the groups of the expanding 1x1; position 2 by their complement.
    shift_groups = (row.groups_in, wide // row.groups_in)
    return [
        group_pointwise(row.width_in, wide, row.groups_in),
        _shift_max(spec, wide, shift_groups[0], first, 8 * row.reduction) or nn.ReLU6(),
        ChannelShuffle(wide, row.groups_in),
        depthwise_pair(wide, wide, row.kernel, row.stride),
        nn.Identity(),  # keeps the official numbering
        _shift_max(spec, wide, shift_groups[1], second, 8 * row.reduction) or nn.ReLU6(),
        _shuffle_if(bool(second), wide, wide // (4 if first else 2)),
        group_pointwise(wide, row.width_out, row.groups_out),
        *_output_layers(row, spec, third),
    ]


def tail_layers(row: Row, spec: Spec) -> list[nn.Module]:
    """Pointwise expand, activation."""
    activation = _shift_max(spec, row.expanded, row.groups_in, row.shift_max[0], 8 * row.reduction)
    return [
        group_pointwise(row.width_in, row.expanded, row.groups_in),
        activation or nn.Identity(),
    ]


_BUILDERS = {"lite": lite_layers, "full": full_layers, "tail": tail_layers}


def _output_layers(row: Row, spec: Spec, branches: int) -> list[nn.Module]:
    """What follows the squeezing 1x1 of a lite or full row."""
    width = row.width_out
    # The released code squeezes 4 * r where the row narrows to its output, 8 * r elsewhere;
    # in lite rows always 4 * r.
    narrows = row.kind == "lite" or width < row.expanded
    reduction = (4 if narrows else 8) * row.reduction
    again = bool(branches) and (row.kind == "full" or width % 2 == 0)
    return [
        _shift_max(spec, width, row.groups_out, branches, reduction) or nn.Identity(),
        ChannelShuffle(width, row.groups_out),
        _shuffle_if(again, width, width // 2),
    ]


def _shift_max(
    spec: Spec, channels: int, groups: int, branches: int, reduction: int
) -> DynamicShiftMax | None:
    """Shift-max with ``branches`` branches, or None at 0."""
    if not branches:
        return None
    initial_a, initial_b = (spec.initial_a, spec.initial_b) if branches == 2 else ((1.0,), (0.0,))
    squeeze = squeeze_width(channels, reduction)
    return DynamicShiftMax(channels, groups, squeeze, initial_a, initial_b)


def _shuffle_if(wanted: bool, channels: int, groups: int) -> nn.Module:
    return ChannelShuffle(channels, groups) if wanted else nn.Identity()


# ---------------------------------------------------------------------------
# Network
# ---------------------------------------------------------------------------


class Stem(nn.Module):
    """What comes before the rows."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.stem = nn.Sequential(stem_convolution(spec.stem_groups), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, g1 * g2, H / 2, W / 2)."""
        return self.stem(x)  # type: ignore[no-any-return]


class LinearNorm(nn.Module):
    """Linear, BatchNorm, h-swish under the official name ``linear``."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(
            nn.Linear(width_in, width_out), nn.BatchNorm1d(width_out), nn.Hardswish()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return self.linear(x)  # type: ignore[no-any-return]


class MicroNet(nn.Module):
    """A `Spec` as a network: (B, 3, H, W) -> (B, num_classes).

    ``features[0]`` is the stem and ``features[i]`` row i; all are fully convolutional, so that
    every image of at least 32 x 32 fits. The parameters are drawn as the authors' training
    starts (`initialise`).
    """

    def __init__(self, spec: Spec, num_classes: int = 1000, head: str = "linear") -> None:
        super().__init__()
        self.spec, self.num_classes = spec, num_classes
        linear = head == "linear"  # MicroNet's own has a BatchNorm and h-swish behind it
        self.features = nn.Sequential(Stem(spec), *(MicroBlock(row, spec) for row in spec.rows))
        self.classifier = nn.Sequential(
            LinearNorm(spec.rows[-1].width_out, spec.head_width),
            nn.Dropout(spec.dropout),
            LinearNorm(spec.head_width, num_classes)
            if linear
            else build_head(head, spec.head_width, num_classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, num_classes)."""
        features: Tensor = self.features(x)  # (B, C, H / 32, W / 32)
        pooled = functional.relu6(features).mean((2, 3))  # (B, C)
        return self.classifier(functional.hardswish(pooled))  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw parameters as the authors do; not fit for inference without training."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def build_micronet(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> MicroNet:
    """Build the network of ``SPECS[config]``, with freshly drawn parameters.

    Raises:
        UnknownNameError: no such configuration.
        UsageError: impossible sizes, see `check_sizes`.
    """
    if config not in SPECS:
        raise UnknownNameError("MicroNet configuration", config, SPECS)
    check_sizes("MicroNet", num_classes, image_size)
    return MicroNet(SPECS[config], num_classes, head)
