"""DCD, dynamic convolution by matrix decomposition, on ResNets and MobileNetV2.

Li, Chen, Dai, Liu, Chen, Yu, Yuan, Liu, Chen, Vasconcelos: "Revisiting Dynamic Convolution via
Matrix Decomposition", ICLR 2021, arXiv 2103.08756. Built from a description of the released
networks, with the state-dict keys of their checkpoints. A layer's kernel depends on its input,
W(x) = Lambda(x) W0 + P Phi(x) Q, and is never formed: static convolutions are applied, and what
depends on the input is one coefficient a channel and one small matrix.

    x (B, in, H, W)
      z = F pool(x);  y = z * Hs(F' z)                        a few numbers an image
      Phi = F_phi y  (L x L);   lambda = Hs(F_scale y)  (out)   Hs(t) = relu6(t + 3) / 3
      q = BN(Q x)                                             L channels, a 1x1 convolution
      d = BN(Phi q) + q                                       a small matrix product
      P d + lambda * (W0 conv x)                              (B, out, H / stride, W / stride)

Linear layers of the coefficient branch are 1x1 convolutions on the pooled map here (2x2 where
the pool leaves 2x2), so that the network exports without moving a feature map: the only
reshapes are the views (L, H, W) -> (L, H * W) and back around the product with Phi.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.heads import build_head
from edgekit.models.mobilenetv2 import LAST_WIDTH, ROWS, STEM_WIDTH, WIDTHS, conv_norm_relu6
from edgekit.models.resnet import SPECS, BasicBlock, Trunk, convolution
from edgekit.models.sizes import check_sizes, divisible_width

DROPOUT = 0.1  # before the classifier, in training

# ---------------------------------------------------------------------------
# Sizes of the dynamic part
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How large the dynamic part of a layer is.

    Attributes:
        latent: L, channels between Q and P.
        squeeze: hidden width of the coefficient branch.
        grid: the coefficient branch sees the input pooled to grid x grid.
    """

    latent: int
    squeeze: int
    grid: int


def pointwise_size(width_in: int, width_out: int, fc_squeeze: int) -> Size:
    """Of a 1x1 convolution of MobileNetV2; a widening one pools to 2x2.

    Args:
        width_in: channels that enter.
        width_out: channels that leave.
        fc_squeeze: divides the hidden width; the released code's option of that name.
    """
    widens = width_in < width_out
    grid, reduction = (2, 8) if widens else (1, 2)
    pooled = grid**2 * width_in
    latent = min(pooled, width_out) // reduction
    while latent**2 > 2 * pooled:
        reduction *= 2
        latent = min(pooled // reduction, width_out // reduction)
    latent = max(latent, 4)
    return Size(latent, max(4, max(pooled, latent**2) // fc_squeeze), grid)


def basic_size(width_in: int) -> Size:
    """Of the 3x3 convolutions of ResNet-18 and 34, which pool to 2x2."""
    pooled = 4 * width_in
    latent = math.isqrt(pooled)
    return Size(latent, max(4, max(pooled, latent**2) // 16), grid=2)


def bottleneck_size(width_in: int) -> Size:
    """Of the convolutions of ResNet-50, 101 and 152."""
    latent = math.isqrt(width_in)
    return Size(latent, max(width_in, latent**2) // 16, grid=1)


# Of random weights (edgekit.models.random_init). With a residual as large as the rest, rounding to
# float32 is 4 % of the logits where an image is not like those of the calibration.
_RANDOM_GAIN = 0.25

CLASSIFIER_SIZE = Size(latent=32, squeeze=32, grid=1)

# ---------------------------------------------------------------------------
# Dynamic layers
# ---------------------------------------------------------------------------


def double_hard_sigmoid(t: Tensor) -> Tensor:
    """Hs(t) = relu6(t + 3) / 3, in [0, 2]: 1 at 0, so that an idle branch changes nothing."""
    return 2 * functional.hardsigmoid(t)


class SqueezeGate(nn.Module):
    """y = z * Hs(F' z), under the official name ``fc``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, width, bias=False))


@dataclass(frozen=True)
class Names:
    """Official attribute names of W0, Q and P, which differ from layer to layer."""

    static: str
    q: str
    p: str


IN_MOBILENET = Names("conv", "conv_q", "conv_p")
IN_RESNET = Names("conv", "q", "p")
IN_CLASSIFIER = Names("cls", "cls_q", "cls_p")


class _Dynamic(nn.Module):
    """What layers on maps and on vectors share: the parameters and the coefficient branch."""

    def __init__(
        self,
        static: nn.Module,
        q: nn.Module,
        p: nn.Module,
        norm: nn.Module,
        names: Names,
        widths: tuple[int, int],
        size: Size,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.names, self.size, self.blocks = names, size, blocks
        self.add_module(names.static, static)
        self.add_module(names.q, q)
        self.add_module(names.p, p)
        width_in, width_out = widths
        self.bn1 = norm
        self.bn2 = nn.BatchNorm1d(size.latent)  # over Phi q, (B, L, H * W)
        self.bn2.random_gain = _RANDOM_GAIN  # type: ignore[assignment]  # no parameter
        self.fc = nn.Sequential(
            nn.Linear(size.grid**2 * width_in, size.squeeze, bias=False),
            SqueezeGate(size.squeeze),
        )
        self.fc_phi = nn.Linear(size.squeeze, size.latent**2 // blocks, bias=False)
        self.fc_scale = nn.Linear(size.squeeze, width_out, bias=False)

    @property
    def w0(self) -> nn.Module:
        """W0."""
        return self.get_submodule(self.names.static)

    @property
    def to_latent(self) -> nn.Module:
        """Q."""
        return self.get_submodule(self.names.q)

    @property
    def from_latent(self) -> nn.Module:
        """P."""
        return self.get_submodule(self.names.p)

    def coefficients(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Phi and lambda.

        Args:
            pooled: (B, in, grid, grid), or (B, in).

        Returns:
            (B, L, L), with blocks (B, blocks, L / blocks, L / blocks); and lambda, (B, out, 1, 1)
            or (B, out).
        """
        squeeze, gate = self.fc[0], cast(SqueezeGate, self.fc[1])
        z = _linear(pooled, squeeze)
        y = z * double_hard_sigmoid(_linear(z, gate.fc[0]))
        side = self.size.latent // self.blocks
        shape = (-1, side, side) if self.blocks == 1 else (-1, self.blocks, side, side)
        phi = _linear(y, self.fc_phi).reshape(shape)
        return phi, double_hard_sigmoid(_linear(y, self.fc_scale))

    def mix(self, phi: Tensor, q: Tensor) -> Tensor:
        """The latent map d = BN(Phi q) + q, of q (B, L, N)."""
        product = phi @ q.reshape(*phi.shape[:-1], -1)
        return cast(Tensor, self.bn2(product.reshape(q.shape))) + q


def _linear(x: Tensor, layer: nn.Module) -> Tensor:
    """A linear layer on (B, C), or on a map (B, C, k, k) as the k x k convolution that it is."""
    weight = cast(nn.Linear, layer).weight
    if x.ndim == 2:
        return functional.linear(x, weight)
    return functional.conv2d(x, weight.reshape(weight.shape[0], *x.shape[1:]))


def _pool(x: Tensor, grid: int) -> Tensor:
    """Adaptive average pool of (B, C, H, W) to grid x grid, which is 1 or 2."""
    if grid == 1:
        return x.mean((2, 3), keepdim=True)
    height, width = x.shape[2:]
    x = x.expand(-1, -1, max(height, grid), max(width, grid))  # a single row is in both halves
    height, width = x.shape[2:]
    # The two halves of an odd side share its middle.
    kernel = (math.ceil(height / grid), math.ceil(width / grid))
    return functional.avg_pool2d(x, kernel, (height // grid, width // grid))


class DynamicConv(_Dynamic):
    """A convolution without bias whose kernel depends on the image.

    Args:
        conv: W0, any square kernel and stride.
        size: of the dynamic part.
        names: official names of the parameters.
        blocks: P, Phi and Q are block-diagonal with so many blocks: the paper's sparse residual,
            which is **not in the released code**, and no released network has it.

    Raises:
        UsageError: a width that the blocks do not divide.
    """

    def __init__(self, conv: nn.Conv2d, size: Size, names: Names, blocks: int = 1) -> None:
        widths = (conv.in_channels, conv.out_channels)
        if blocks < 1 or any(width % blocks for width in (*widths, size.latent)):
            raise UsageError(
                f"blocks is {blocks}; it must divide the widths {widths[0]} and {widths[1]} and "
                f"the latent width {size.latent}."
            )
        stride = cast(tuple[int, int], conv.stride)
        q = nn.Conv2d(widths[0], size.latent, 1, stride, groups=blocks, bias=False)
        p = nn.Conv2d(size.latent, widths[1], 1, groups=blocks, bias=False)
        norm = nn.BatchNorm2d(size.latent)
        super().__init__(conv, q, p, norm, names, widths, size, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        phi, scale = self.coefficients(_pool(x, self.size.grid))
        q = self.bn1(self.to_latent(x))  # (B, L, H', W')
        d = self.mix(phi, q.flatten(2)).reshape(q.shape)
        return cast(Tensor, self.from_latent(d) + scale * self.w0(x))


class DynamicLinear(_Dynamic):
    """The classifier: the same on a vector, and W0 has a bias, which lambda scales, too."""

    def __init__(self, width_in: int, width_out: int, size: Size = CLASSIFIER_SIZE) -> None:
        super().__init__(
            nn.Linear(width_in, width_out),
            nn.Linear(width_in, size.latent, bias=False),
            nn.Linear(size.latent, width_out, bias=False),
            nn.BatchNorm1d(size.latent),
            IN_CLASSIFIER,
            (width_in, width_out),
            size,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        phi, scale = self.coefficients(x)
        q = self.bn1(self.to_latent(x)).unsqueeze(2)  # (B, L, 1)
        d = self.mix(phi, q).squeeze(2)
        return cast(Tensor, self.from_latent(d) + scale * self.w0(x))


# ---------------------------------------------------------------------------
# MobileNetV2
# ---------------------------------------------------------------------------


def dynamic_pointwise(width_in: int, width_out: int, fc_squeeze: int) -> DynamicConv:
    """A dynamic 1x1 convolution of MobileNetV2."""
    conv = nn.Conv2d(width_in, width_out, 1, bias=False)
    return DynamicConv(conv, pointwise_size(width_in, width_out, fc_squeeze), IN_MOBILENET)


class DynamicInvertedResidual(nn.Module):
    """MobileNetV2's block; both 1x1 convolutions are dynamic, in the first block none is."""

    def __init__(
        self, width_in: int, width_out: int, expansion: int, stride: int, fc_squeeze: int
    ) -> None:
        super().__init__()
        wide = width_in * expansion
        depthwise = [
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
        ]
        if expansion == 1:
            layers = [*depthwise, nn.Conv2d(wide, width_out, 1, bias=False)]
        else:
            layers = [
                dynamic_pointwise(width_in, wide, fc_squeeze),
                nn.BatchNorm2d(wide),
                nn.ReLU6(),
                *depthwise,
                dynamic_pointwise(wide, width_out, fc_squeeze),
            ]
        norm = nn.BatchNorm2d(width_out)
        self.conv = nn.Sequential(*layers, norm)
        self.skip = stride == 1 and width_in == width_out
        if self.skip:
            norm.random_gain = _RANDOM_GAIN  # type: ignore[assignment]  # no parameter

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.skip else y


class DynamicMobileNetV2(nn.Module):
    """(B, 3, H, W) -> (B, classes).

    Args:
        width: multiplies every width but the last one's, and is at most 1.
        fc_squeeze: divides the hidden width of the coefficient branches.
        num_classes: outputs.
        head: see `build_dcd`.
    """

    def __init__(
        self, width: float, fc_squeeze: int, num_classes: int, head: str = "linear"
    ) -> None:
        super().__init__()
        narrow = divisible_width(STEM_WIDTH * width)
        stages: list[nn.Module] = [conv_norm_relu6(3, narrow, 3, stride=2)]
        for row in ROWS:
            for stride in (row.stride, *(1,) * (row.repeats - 1)):
                out = divisible_width(row.width * width)
                stages.append(
                    DynamicInvertedResidual(narrow, out, row.expansion, stride, fc_squeeze)
                )
                narrow = out
        self.features = nn.Sequential(*stages)
        self.conv = conv_norm_relu6(narrow, LAST_WIDTH, 1)
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), _head(head, LAST_WIDTH, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        pooled = self.conv(self.features(x)).mean((2, 3))  # (B, last)
        return self.classifier(pooled)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------
# ResNet
# ---------------------------------------------------------------------------


class DynamicResNet(Trunk):
    """(B, 3, H, W) -> (B, classes); the blocks' convolutions are dynamic, the others are not.

    Args:
        depth: a key of ``edgekit.models.resnet.SPECS``.
        num_classes: outputs.
        head: see `build_dcd`.
    """

    def __init__(self, depth: str, num_classes: int, head: str = "linear") -> None:
        spec = SPECS[depth]
        size_of = basic_size if spec.block is BasicBlock else bottleneck_size

        def make(width_in: int, width_out: int, kernel: int, stride: int) -> DynamicConv:
            conv = convolution(width_in, width_out, kernel, stride)
            return DynamicConv(conv, size_of(width_in), IN_RESNET)

        super().__init__(spec, make)
        self.classifier = nn.Sequential(
            nn.Dropout(DROPOUT), _head(head, spec.width_out, num_classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        return self.classifier(self.pooled(x))  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------
# Table
# ---------------------------------------------------------------------------


def initialise(network: nn.Module) -> None:
    """Draw parameters so that training can start; not fit for inference without it.

    Of linear layers only the classifier's W0 has a bias.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _head(kind: str, width: int, outputs: int) -> nn.Module:
    """The classifier is dynamic, too; a projection is as in any other network."""
    return DynamicLinear(width, outputs) if kind == "linear" else build_head(kind, width, outputs)


_Build = Callable[[int, str], nn.Module]


def _resnet(depth: str) -> _Build:
    return lambda num_classes, head: DynamicResNet(depth, num_classes, head)


def _mobilenet(width: float, fc_squeeze: int) -> _Build:
    return lambda num_classes, head: DynamicMobileNetV2(width, fc_squeeze, num_classes, head)


NETWORKS: dict[str, _Build] = {
    **{f"resnet{depth}": _resnet(depth) for depth in SPECS},
    **{f"mobilenetv2-{name}": _mobilenet(width, 16) for name, width in WIDTHS.items()},
    **{f"mobilenetv2-{name}-fs8": _mobilenet(width, 8) for name, width in WIDTHS.items()},
}


def build_dcd(
    config: str, *, num_classes: int = 1000, image_size: int = 224, head: str = "linear"
) -> nn.Module:
    """Build the network of ``NETWORKS[config]``, with freshly drawn parameters.

    The released ResNet-50 to 152 end in a 7x7 pool and so take 224 pixels only; here the pool is
    global, which is the same at 224, and every size is possible. A ``linear`` head is dynamic.

    Raises:
        UnknownNameError: no such configuration, or no such head.
        UsageError: impossible sizes, see `check_sizes`.
    """
    if config not in NETWORKS:
        raise UnknownNameError("DCD configuration", config, NETWORKS)
    check_sizes("DCD", num_classes, image_size)
    return NETWORKS[config](num_classes, head)
