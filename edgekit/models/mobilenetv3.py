"""MobileNetV3, small and large, as torchvision, timm and SEED define it.

Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam: "Searching for
MobileNetV3", ICCV 2019, arXiv 1905.02244. State-dict keys are torchvision's. Networks of one
name and the same shapes compute different functions elsewhere, so what they differ in is a
setting, see `Flavour`:

    torchvision   BatchNorm's eps 1e-3
    timm          eps 1e-5; the hidden layer of its classifier is a 1x1 convolution on the pooled
                  map, which computes the same as a linear layer
    tf            timm's ports of TensorFlow's weights: eps 1e-3, padding as in TensorFlow
    seed          github.com/jacobswan1/SEED: eps 1e-5, SE before the activation

    image (B, 3, H, W)
      stem         3x3 convolution, h-swish                                      H / 2
      rows         1x1 expand, act -> k x k depthwise, act -> SE -> 1x1 squeeze  H / 4 .. H / 32
      last         1x1 convolution, h-swish                                      H / 32
      head         pool, linear, h-swish, dropout, linear
    logits (B, classes)

SE multiplies each channel by a hard sigmoid of two small layers on the pooled map. With SEED's
weights a gated block is: expand, act -> depthwise -> SE -> act -> squeeze.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models.heads import build_head
from edgekit.models.mobilenetv2 import initialise
from edgekit.models.padding import SameConv2d
from edgekit.models.sizes import check_sizes, divisible_width

SQUEEZE = 4  # a block's SE is this much narrower than the block's middle
DROPOUT = 0.2

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One block.

    Attributes:
        kernel: of the depthwise convolution.
        expanded: channels in the middle; where that is what enters there is no expanding 1x1.
        width_out: channels that leave.
        gated: whether it has SE.
        activation: ``"RE"`` is ReLU, ``"HS"`` is h-swish.
        stride: of the depthwise convolution.
    """

    kernel: int
    expanded: int
    width_out: int
    gated: bool
    activation: Literal["RE", "HS"]
    stride: int


@dataclass(frozen=True)
class Flavour:
    """In what networks of equal shapes differ.

    Attributes:
        norm_eps: added to BatchNorm's variance.
        norm_momentum: of BatchNorm's statistics, in training.
        padding: ``"both"`` sides equally, or ``"same"`` as in TensorFlow, see `SameConv2d`.
        gate_first: whether in a block with an expanding 1x1 the second activation comes after
            SE. In a block without one SE comes last in any case.
    """

    norm_eps: float
    norm_momentum: float
    padding: Literal["both", "same"] = "both"
    gate_first: bool = False


@dataclass(frozen=True)
class Spec:
    """One network.

    Attributes:
        rows: the blocks; the first takes ``stem_width`` channels.
        last_width: of the convolution before pooling.
        head_width: of the hidden layer of the classifier.
        flavour: whose function it is.
        stem_width: channels that leave the stem.
    """

    rows: tuple[Row, ...]
    last_width: int
    head_width: int
    flavour: Flavour
    stem_width: int = 16


TORCHVISION = Flavour(norm_eps=1e-3, norm_momentum=0.01)
TIMM = Flavour(norm_eps=1e-5, norm_momentum=0.1)
TF = Flavour(norm_eps=1e-3, norm_momentum=0.01, padding="same")
SEED = Flavour(norm_eps=1e-5, norm_momentum=0.1, gate_first=True)

# fmt: off
_SMALL_ROWS = (
    #   k   E   out   SE    act  s     map at 224
    Row(3,  16, 16, True,  "RE", 2),  #  56
    Row(3,  72, 24, False, "RE", 2),  #  28
    Row(3,  88, 24, False, "RE", 1),  #  28, skip
    Row(5,  96, 40, True,  "HS", 2),  #  14
    Row(5, 240, 40, True,  "HS", 1),  #  14, skip
    Row(5, 240, 40, True,  "HS", 1),  #  14, skip
    Row(5, 120, 48, True,  "HS", 1),  #  14
    Row(5, 144, 48, True,  "HS", 1),  #  14, skip
    Row(5, 288, 96, True,  "HS", 2),  #   7
    Row(5, 576, 96, True,  "HS", 1),  #   7, skip
    Row(5, 576, 96, True,  "HS", 1),  #   7, skip
)
_LARGE_ROWS = (
    Row(3,  16,  16, False, "RE", 1),  # 112, skip
    Row(3,  64,  24, False, "RE", 2),  #  56
    Row(3,  72,  24, False, "RE", 1),  #  56, skip
    Row(5,  72,  40, True,  "RE", 2),  #  28
    Row(5, 120,  40, True,  "RE", 1),  #  28, skip
    Row(5, 120,  40, True,  "RE", 1),  #  28, skip
    Row(3, 240,  80, False, "HS", 2),  #  14
    Row(3, 200,  80, False, "HS", 1),  #  14, skip
    Row(3, 184,  80, False, "HS", 1),  #  14, skip
    Row(3, 184,  80, False, "HS", 1),  #  14, skip
    Row(3, 480, 112, True,  "HS", 1),  #  14
    Row(3, 672, 112, True,  "HS", 1),  #  14, skip
    Row(5, 672, 160, True,  "HS", 2),  #   7
    Row(5, 960, 160, True,  "HS", 1),  #   7, skip
    Row(5, 960, 160, True,  "HS", 1),  #   7, skip
)
# fmt: on


def scaled(spec: Spec, width: float) -> Spec:
    """``spec`` with every width times ``width`` but the classifier's hidden one.

    So the network of 0.35 has the 12 M MACs that were published; with the hidden layer scaled too,
    as by torchvision, it has 11.3 M.
    """
    rows = tuple(
        replace(
            row,
            expanded=divisible_width(row.expanded * width),
            width_out=divisible_width(row.width_out * width),
        )
        for row in spec.rows
    )
    return replace(
        spec,
        rows=rows,
        last_width=divisible_width(spec.last_width * width),
        stem_width=divisible_width(spec.stem_width * width),
    )


_SMALL = Spec(_SMALL_ROWS, last_width=576, head_width=1024, flavour=TORCHVISION)
_LARGE = Spec(_LARGE_ROWS, last_width=960, head_width=1280, flavour=TORCHVISION)

SPECS: dict[str, Spec] = {
    "small": _SMALL,
    "small-x0.35": scaled(replace(_SMALL, flavour=TIMM), 0.35),
    "small-x0.5": scaled(replace(_SMALL, flavour=TIMM), 0.5),
    "small-timm": replace(_SMALL, flavour=TIMM),
    "small-tf": replace(_SMALL, flavour=TF),
    "large": _LARGE,
    "large-timm": replace(_LARGE, flavour=TIMM),
    "large-tf": replace(_LARGE, flavour=TF),
    "large-seed": replace(_LARGE, flavour=SEED),
}

# ---------------------------------------------------------------------------
# Network
# ---------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "RE": nn.ReLU,
    "HS": nn.Hardswish,
    "": nn.Identity,
}


def conv_norm_act(
    width_in: int,
    width_out: int,
    kernel: int,
    activation: str,
    flavour: Flavour,
    *,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation (``""`` is none)."""
    conv: nn.Module
    if flavour.padding == "same":
        conv = SameConv2d(width_in, width_out, kernel, stride, groups=groups)
    else:
        pixels = kernel // 2
        conv = nn.Conv2d(width_in, width_out, kernel, stride, pixels, groups=groups, bias=False)
    return nn.Sequential(
        conv,
        nn.BatchNorm2d(width_out, flavour.norm_eps, flavour.norm_momentum),
        _ACTIVATIONS[activation](),
    )


class SqueezeExcite(nn.Module):
    """Each channel times a coefficient in [0, 1] that depends on all of them, pooled.

    Args:
        channels: C of the map.
        squeeze: hidden width of the two layers that give the coefficients.
        activation: between them.
        gate: behind them.
        after: behind the product.
    """

    def __init__(
        self,
        channels: int,
        squeeze: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Hardsigmoid,
        after: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.activation = activation()
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.gate = gate()
        self.after = after()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        coefficients = self.gate(self.fc2(self.activation(self.fc1(pooled))))
        return self.after(coefficients * x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One `Row`."""

    def __init__(self, width_in: int, row: Row, flavour: Flavour) -> None:
        super().__init__()
        wide, act = row.expanded, row.activation
        expands = wide != width_in
        gate_first = row.gated and expands and flavour.gate_first
        layers: list[nn.Module] = []
        if expands:
            layers.append(conv_norm_act(width_in, wide, 1, act, flavour))
        before, after = ("", act) if gate_first else (act, "")
        layers.append(
            conv_norm_act(wide, wide, row.kernel, before, flavour, stride=row.stride, groups=wide)
        )
        if row.gated:
            squeeze = divisible_width(wide // SQUEEZE)
            layers.append(SqueezeExcite(wide, squeeze, after=_ACTIVATIONS[after]))
        layers.append(conv_norm_act(wide, row.width_out, 1, "", flavour))
        self.block = nn.Sequential(*layers)
        self.skip = row.stride == 1 and width_in == row.width_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.block(x)
        return x + y if self.skip else y


class MobileNetV3(nn.Module):
    """(B, 3, H, W) -> (B, classes).

    Args:
        spec: see `Spec`.
        num_classes: outputs.
        head: see `edgekit.models.heads`.
    """

    def __init__(self, spec: Spec, num_classes: int, head: str = "linear") -> None:
        super().__init__()
        width = spec.stem_width
        stages: list[nn.Module] = [conv_norm_act(3, width, 3, "HS", spec.flavour, stride=2)]
        for row in spec.rows:
            stages.append(Block(width, row, spec.flavour))
            width = row.width_out
        stages.append(conv_norm_act(width, spec.last_width, 1, "HS", spec.flavour))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(
            nn.Linear(spec.last_width, spec.head_width),
            nn.Hardswish(),
            nn.Dropout(DROPOUT),
            build_head(head, spec.head_width, num_classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        pooled = self.features(x).mean((2, 3))  # (B, last)
        return self.classifier(pooled)  # type: ignore[no-any-return]


def build_mobilenetv3(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> MobileNetV3:
    """Build the network of ``SPECS[config]``, with freshly drawn parameters.

    Raises:
        UnknownNameError: no such configuration, or no such head.
        UsageError: impossible sizes, see `check_sizes`.
    """
    if config not in SPECS:
        raise UnknownNameError("MobileNetV3 configuration", config, SPECS)
    check_sizes("MobileNetV3", num_classes, image_size)
    return MobileNetV3(SPECS[config], num_classes, head)
