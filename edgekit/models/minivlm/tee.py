"""TEE, the two-stage efficient feature extractor of MiniVLM.

    image (B, 3, H, W)
      trunk     EfficientNet without its last convolution: maps at strides 4, 8, 16, 32
      BiFPN     the same width on P2 to P6, strides 4 to 64; cells that add maps both ways
      proposals two 1x1 convolutions over all maps: a score and four numbers an anchor
    proposals are chosen and RoIAlign reads them: not in the network, see
    edgekit/runtimes/vision_language/regions.py
      box head  (N, C, 4, 4) -> two layers: the feature of a region -> classes, box, attributes

It is EfficientDet (Tan, Pang, Le, CVPR 2020, arXiv 1911.09070) one octave down, with the second
stage of Faster R-CNN. A cell of the BiFPN:

    f(X, Y ..) = BN(PW(DW(swish((w1 X + w2 Y ..) / (w1 + w2 .. + 1e-4)))))   with w = ReLU(w)
    down   T6 = L6;  Tl = f(Ll, up(Tl+1))                                    l = 5 .. 2
    up     O2 = T2;  Ol = f(L'l, Tl, pool(Ol-1));  O6 = f(L6, pool(O5))      l = 3 .. 5

L is a 1x1 convolution and BN on each map of the trunk, L' a second one for P3 and P4, both in the
first cell only; L6 is P5 pooled. ``up`` repeats pixels, ``pool`` is the maximum of 3x3, stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.efficientnet import SPECS, Flavour, Row, Spec, build_stages, initialise
from edgekit.models.minivlm.specs import POOLED_LEVELS, RATIOS, TeeSpec

_FLAVOUR = Flavour(norm_eps=1e-3, norm_momentum=0.01, padding="both")
_FUSE_EPS = 1e-4
_EMBEDDING, _ATTRIBUTE_HIDDEN = 256, 512  # of the attribute head

_TINY_ROWS = (
    Row(1, 3, 1, 8, 1),
    Row(4, 3, 2, 16, 1),
    Row(4, 5, 2, 24, 1),
    Row(4, 3, 2, 40, 1),
    Row(4, 5, 1, 48, 1),
    Row(4, 5, 2, 64, 1),
    Row(4, 3, 1, 64, 1),
)
TRUNKS: dict[str, Spec] = {
    "b0": replace(SPECS["b0"], flavour=_FLAVOUR),
    "b1": replace(SPECS["b1"], flavour=_FLAVOUR),
    "tiny": Spec(1.0, 128, _FLAVOUR, stem=16, rows=_TINY_ROWS),
}
# What enters each row with stride 2 but the first, and what leaves the last row.
_TAPS = (2, 3, 5, 7)


class Trunk(nn.Module):
    """(B, 3, H, W) -> four maps, at strides 4, 8, 16 and 32."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.features = nn.Sequential(*build_stages(spec))
        self.widths = tuple(spec.rows[tap - 1].width for tap in _TAPS)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the class."""
        maps, x = [], image
        for number, stage in enumerate(self.features):
            x = stage(x)
            if number in _TAPS:
                maps.append(x)
        return maps


def _projection(width_in: int, width: int) -> nn.Sequential:
    norm = nn.BatchNorm2d(width, _FLAVOUR.norm_eps, _FLAVOUR.norm_momentum)
    return nn.Sequential(nn.Conv2d(width_in, width, 1), norm)


class Fuse(nn.Module):
    """``count`` maps of one size -> their weighted mean, convolved."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width, _FLAVOUR.norm_eps, _FLAVOUR.norm_momentum)

    def forward(self, *maps: Tensor) -> Tensor:
        """(B, C, H, W) each -> the same shape."""
        weights = functional.relu(self.weights)
        weights = weights / (weights.sum() + _FUSE_EPS)
        parts = torch.split(weights, 1)
        total = maps[0] * parts[0]
        for one, weight in zip(maps[1:], parts[1:], strict=True):
            total = total + one * weight
        y: Tensor = self.norm(self.pointwise(self.depthwise(functional.silu(total))))
        return y


def _up(small: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(small, size=like.shape[2:], mode="nearest")


def _pool(large: Tensor) -> Tensor:
    return functional.max_pool2d(large, 3, 2, 1)


class Cell(nn.Module):
    """One cell of the BiFPN; the first takes the trunk's maps and projects them.

    Args:
        width: of its maps.
        widths: of the trunk's maps, for the first cell.
    """

    def __init__(self, width: int, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.project = nn.ModuleList(_projection(each, width) for each in widths)
        self.project_again = nn.ModuleList(_projection(each, width) for each in widths[1:3])
        self.down = nn.ModuleList(Fuse(width, 2) for _ in range(4))  # T2 .. T5
        self.up = nn.ModuleList([*(Fuse(width, 3) for _ in range(3)), Fuse(width, 2)])  # O3 .. O6

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The trunk's four maps, or the five of a cell -> five of one width."""
        levels, again = self._enter(maps)
        tops = [levels[4]]  # T6, T5 .. T2
        for level in (3, 2, 1, 0):
            tops.append(self.down[level](levels[level], _up(tops[-1], levels[level])))
        tops.reverse()
        outs = [tops[0]]
        for level in (1, 2, 3):
            outs.append(self.up[level - 1](again[level], tops[level], _pool(outs[-1])))
        outs.append(self.up[3](levels[4], _pool(outs[-1])))
        return outs

    def _enter(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """L2 .. L6 and L'2 .. L'6."""
        if not self.project:
            return list(maps), list(maps)
        levels = [project(one) for project, one in zip(self.project, maps, strict=True)]
        levels.append(_pool(levels[-1]))
        second = [project(one) for project, one in zip(self.project_again, maps[1:3], strict=True)]
        return levels, [levels[0], *second, *levels[3:]]


class Proposals(nn.Module):
    """A score and four numbers for each anchor, by one layer over all maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.objectness = nn.Conv2d(width, len(RATIOS), 1)
        self.deltas = nn.Conv2d(width, 4 * len(RATIOS), 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps -> logits (B, A) and deltas (B, A, 4); maps, rows, columns, ratios in this order."""
        batch = maps[0].shape[0]
        scores = [self.objectness(x).permute(0, 2, 3, 1).reshape(batch, -1) for x in maps]
        deltas = [self.deltas(x).permute(0, 2, 3, 1).reshape(batch, -1, 4) for x in maps]
        return torch.cat(scores, 1), torch.cat(deltas, 1)


class Attributes(nn.Module):
    """(N, feature) and a class each -> logits of attributes (N, attributes)."""

    def __init__(self, feature: int, classes: int, attributes: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(classes, _EMBEDDING)
        self.hidden = nn.Linear(feature + _EMBEDDING, _ATTRIBUTE_HIDDEN)
        self.out = nn.Linear(_ATTRIBUTE_HIDDEN, attributes)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """See the class."""
        both = torch.cat([features, self.classes(classes)], 1)
        logits: Tensor = self.out(functional.relu(self.hidden(both)))
        return logits


class BoxHead(nn.Module):
    """(N, width, pooled, pooled) -> the feature, class logits and box of each region.

    Boxes are one for all classes, in two rows of four of which the first, of the background, is
    never read: so it is in the toolbox.
    """

    def __init__(self, spec: TeeSpec) -> None:
        super().__init__()
        self.fc6 = nn.Linear(spec.width * spec.pooled**2, spec.feature)
        self.fc7 = nn.Linear(spec.feature, spec.feature)
        self.score = nn.Linear(spec.feature, spec.classes)
        self.box = nn.Linear(spec.feature, 8)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> (N, feature), (N, classes), (N, 4)."""
        y = functional.relu(self.fc6(pooled.flatten(1)))
        y = functional.relu(self.fc7(y))
        return y, self.score(y), self.box(y)[:, 4:]


class Tee(nn.Module):
    """See the module: what of it is a network.

    Args:
        spec: a `TeeSpec`.
    """

    def __init__(self, spec: TeeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(TRUNKS[spec.trunk])
        first = Cell(spec.width, self.trunk.widths)
        self.bifpn = nn.ModuleList([first, *(Cell(spec.width) for _ in range(spec.cells - 1))])
        self.proposals = Proposals(spec.width)
        self.box_head = BoxHead(spec)
        if spec.attributes:
            rows = spec.attribute_classes or spec.classes
            self.attributes = Attributes(spec.feature, rows, spec.attributes)
        initialise(self)
        for layer, spread in (
            (self.proposals.objectness, 0.01),
            (self.proposals.deltas, 0.01),
            (self.box_head.score, 0.01),
            (self.box_head.box, 0.001),
        ):
            nn.init.normal_(layer.weight, std=spread)  # as Faster R-CNN's authors draw them

    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> P2 to P6, (B, width, H / stride, W / stride)."""
        maps: list[Tensor] = self.trunk(image)
        for cell in self.bifpn:
            maps = cell(maps)
        return maps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first stage.

        Returns:
            The cells of P2 to P5 (B, cells, width), row by row and map by map; of each anchor of P2
            to P6 the logit of being an object (B, A) and its deltas (B, A, 4).
        """
        maps = self.maps(image)
        rows = [one.permute(0, 2, 3, 1).flatten(1, 2) for one in maps[:POOLED_LEVELS]]
        return torch.cat(rows, 1), *self.proposals(maps)
