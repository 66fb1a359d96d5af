"""How torchvision, timm and SEED name the same tensors, and whose function their files hold.

A network's own keys are torchvision's (for MicroNet and DCD the authors'). Public checkpoints of
the same network name its tensors otherwise:

                 torchvision             timm                    SEED
    ResNet       conv1, layer1.0.conv1   the same                the same
    MobileNetV2  features.2.conv.1.0     blocks.1.0.conv_dw
    MobileNetV3  features.2.block.1.0    blocks.1.0.conv_dw      features.2.conv.3
    EfficientNet features.2.0.block.1.0  blocks.1.0.conv_dw      _blocks.1._depthwise_conv

A naming is a row of templates, one for each role of a layer. Which blocks there are, and which
of them expand or have SE, is read off the network's own keys: that makes each naming right for
every variant of the family.

Names also tell flavours apart. Networks of equal shapes compute different functions in different
sources (SE before or after the activation, BatchNorm's eps, where the padding is), so a file
whose names are of one source must not be loaded into the function of another.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgekit.models.mobilenetv2 import ROWS as MOBILENETV2_ROWS

Shapes = Mapping[str, tuple[int, ...]]
Templates = Mapping[str, str]  # role of a layer -> name of its module

COUNTER = "num_batches_tracked"  # BatchNorm's; files older than PyTorch 0.4.1 have none


@dataclass(frozen=True)
class Block:
    """Where an inverted residual stands, as far as names depend on it.

    Attributes:
        number: from 0 in the network.
        stage: from 0; a stage is a run of blocks of one row of the paper's table.
        index: from 0 in its stage.
        expanded: whether it begins with an expanding 1x1 convolution.
        gated: whether it has SE.
    """

    number: int
    stage: int
    index: int
    expanded: bool = True
    gated: bool = False

    def fill(self, template: str) -> str:
        """Numbers for ``{n}``, ``{s}``, ``{i}``, and ``{n1}``, ``{s1}`` from 1.

        ``{d}``, ``{g}``, ``{p}``, ``{q}`` are the places of the depthwise convolution, of what
        follows it, of the projection, and of what follows that.
        """
        depthwise = int(self.expanded)
        project = depthwise + 1 + self.gated
        return template.format(
            n=self.number, n1=self.number + 1, s=self.stage, s1=self.stage + 1, i=self.index,
            d=depthwise, g=depthwise + 1, p=project, q=project + 1,
        )  # fmt: skip


@dataclass(frozen=True)
class Naming:
    """One source's names for the tensors of a family.

    Attributes:
        whose: the source, in prose.
        flavours: whose functions the source's files hold.
        mark: a key that every file with these names has, and no part of another key.
        head: of the last layers, which may be of any kind: a prefix of keys.
        outside: modules that are in no block, by role; numbers are those of a block after the
            last one.
        block: prefix of a block's modules.
        expanded: modules of a block with an expanding convolution, by role.
        plain: modules of a block without one.
        flat: roles where this source has a 1x1 convolution for the network's linear layer, or
            the other way round: shapes differ by a trailing 1x1.
        other_heads: prefixes that last layers have in files of others who share the names.
        beside: prefixes of what such files train with and no network has.
    """

    whose: str
    flavours: tuple[str, ...]
    mark: str
    head: str
    outside: Templates = field(default_factory=dict)
    block: str = ""
    expanded: Templates = field(default_factory=dict)
    plain: Templates = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    other_heads: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def modules(self, blocks: tuple[Block, ...]) -> dict[tuple[int, str], str]:
        """(number of the block, role) -> name of the module."""
        end = Block(len(blocks), blocks[-1].stage + 1 if blocks else 0, 0)
        names = {(-1, role): end.fill(name) for role, name in self.outside.items()}
        for block in blocks:
            for role, name in (self.expanded if block.expanded else self.plain).items():
                if block.gated or role not in ("reduce", "widen"):
                    names[block.number, role] = block.fill(f"{self.block}.{name}")
        return names


# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------


def _layers(**pairs: tuple[str, str]) -> dict[str, str]:
    """Role -> (convolution, its BatchNorm), as two roles each."""
    return {
        name: module
        for role, (convolution, norm) in pairs.items()
        for name, module in ((role, convolution), (f"{role}_norm", norm))
    }


def _gate(reduce: str, widen: str) -> dict[str, str]:
    """The two layers of SE."""
    return {"reduce": reduce, "widen": widen}


_TORCHVISION_BLOCK = {
    **_layers(expand=("0.0", "0.1"), depthwise=("{d}.0", "{d}.1"), project=("{p}.0", "{p}.1")),
    **_gate("{g}.fc1", "{g}.fc2"),
}
_TORCHVISION_STEM = _layers(stem=("features.0.0", "features.0.1"))

_TIMM_EXPANDED = {
    **_layers(expand=("conv_pw", "bn1"), depthwise=("conv_dw", "bn2"), project=("conv_pwl", "bn3")),
    **_gate("se.conv_reduce", "se.conv_expand"),
}
_TIMM_PLAIN = {
    **_layers(depthwise=("conv_dw", "bn1"), project=("conv_pw", "bn2")),
    **_gate("se.conv_reduce", "se.conv_expand"),
}
_TIMM_STEM = _layers(stem=("conv_stem", "bn1"))


def _timm(flavours: tuple[str, ...], outside: Templates, flat: tuple[str, ...] = ()) -> Naming:
    return Naming(
        whose="timm",
        flavours=flavours,
        mark="conv_stem.weight",
        head="classifier",
        outside={**_TIMM_STEM, **outside},
        block="blocks.{s}.{i}",
        expanded=_TIMM_EXPANDED,
        plain=_TIMM_PLAIN,
        flat=flat,
    )


_RESNET = Naming(
    whose="torchvision",
    flavours=("torchvision",),
    mark="layer1.0.conv1.weight",
    head="fc",
    # SwAV's files, which pad with zeros in two steps, by 1 and by 2: the function is the same.
    other_heads=("projection_head",),
    beside=("prototypes",),
)
_MOBILENETV2 = Naming(
    whose="torchvision",
    flavours=("torchvision",),
    mark="features.1.conv.0.0.weight",
    head="classifier.1",
    outside={**_TORCHVISION_STEM, **_layers(last=("features.{n1}.0", "features.{n1}.1"))},
    block="features.{n1}.conv",
    expanded=(
        _v2 := _layers(expand=("0.0", "0.1"), depthwise=("{d}.0", "{d}.1"), project=("{p}", "{q}"))
    ),
    plain={role: name for role, name in _v2.items() if not role.startswith("expand")},
)
_MOBILENETV3 = Naming(
    whose="torchvision",
    flavours=("torchvision",),
    mark="features.1.block.0.0.weight",
    head="classifier.3",
    outside={
        **_TORCHVISION_STEM,
        **_layers(last=("features.{n1}.0", "features.{n1}.1")),
        "hidden": "classifier.0",
    },
    block="features.{n1}.block",
    expanded=_TORCHVISION_BLOCK,
    plain={r: name for r, name in _TORCHVISION_BLOCK.items() if not r.startswith("expand")},
)
_EFFICIENTNET = Naming(
    whose="torchvision",
    flavours=("torchvision",),
    mark="features.1.0.block.0.0.weight",
    head="classifier.1",
    outside={**_TORCHVISION_STEM, **_layers(last=("features.{s1}.0", "features.{s1}.1"))},
    block="features.{s1}.{i}.block",
    expanded=_TORCHVISION_BLOCK,
    plain={r: name for r, name in _TORCHVISION_BLOCK.items() if not r.startswith("expand")},
)
_SEED_MOBILENETV3 = Naming(
    whose="SEED",
    flavours=("seed",),
    mark="features.1.conv.0.weight",
    head="fc",
    outside={
        **_TORCHVISION_STEM,
        **_layers(last=("conv.0", "conv.1")),
        "hidden": "classifier.0",
    },
    block="features.{n1}.conv",
    # Activations, and SE's place where there is none, take a number each.
    expanded={
        **_layers(expand=("0", "1"), depthwise=("3", "4"), project=("7", "8")),
        **_gate("5.fc.0", "5.fc.2"),
    },
    plain={
        **_layers(depthwise=("0", "1"), project=("4", "5")),
        **_gate("3.fc.0", "3.fc.2"),
    },
    flat=("reduce", "widen"),
)
_LUKEMELAS_PLAIN = {
    **_layers(depthwise=("_depthwise_conv", "_bn1"), project=("_project_conv", "_bn2")),
    **_gate("_se_reduce", "_se_expand"),
}
_SEED_EFFICIENTNET = Naming(
    whose="SEED",
    flavours=("seed",),
    mark="_conv_stem.weight",
    head="fc",
    outside=_layers(stem=("_conv_stem", "_bn0"), last=("_conv_head", "_bn1")),
    block="_blocks.{n}",
    expanded={**_LUKEMELAS_PLAIN, **_layers(expand=("_expand_conv", "_bn0"))},
    plain=_LUKEMELAS_PLAIN,
)

# The first naming of a family is the networks' own.
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "micronet": (Naming("the authors", ("",), "features.0.stem.0.conv.0.weight", "classifier.2"),),
    "resnet": (_RESNET,),
    "mobilenetv2": (_MOBILENETV2, _timm(("torchvision",), _layers(last=("conv_head", "bn2")))),
    "mobilenetv3": (
        _MOBILENETV3,
        _timm(
            ("timm", "tf"),
            # A 1x1 convolution with a bias, after the pooling.
            {**_layers(last=("blocks.{s}.0.conv", "blocks.{s}.0.bn1")), "hidden": "conv_head"},
            flat=("hidden",),
        ),
        _SEED_MOBILENETV3,
    ),
    "efficientnet": (
        _EFFICIENTNET,
        _timm(("torchvision", "tf"), _layers(last=("conv_head", "bn2"))),
        _SEED_EFFICIENTNET,
    ),
    # Without dropout, which is nn.Sequential's first, the classifier's number is 0.
    "dcd": tuple(
        Naming("the authors", ("",), mark, head)
        for mark in ("layer1.0.conv1.conv.weight", "features.2.conv.0.conv.weight")
        for head in ("classifier.1", "classifier.0")
    ),
}

# ---------------------------------------------------------------------------
# From a network's own keys to a source's
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A naming, spelt out for one network.

    Attributes:
        naming: whose names.
        keys: the network's own key -> the source's, without those of the head.
        flat: own keys whose shape may differ by a trailing 1x1.
        own_head: prefix of the head's own keys.
    """

    naming: Naming
    keys: Mapping[str, str]
    flat: frozenset[str]
    own_head: str


def tables(family: str, own: Shapes) -> tuple[Table, ...]:
    """Every naming of ``family`` for the network with the keys ``own``.

    Raises:
        KeyError: a layer of the network has no role in the templates.
    """
    namings = NAMINGS[family]
    blocks = tuple(_blocks(family, own))
    roles = {name: role for role, name in namings[0].modules(blocks).items()}
    body = [key for key in own if not in_module(key, namings[0].head)]
    return tuple(_table(naming, namings[0].head, body, roles, blocks) for naming in namings)


def _table(
    naming: Naming,
    own_head: str,
    body: list[str],
    roles: Mapping[str, tuple[int, str]],
    blocks: tuple[Block, ...],
) -> Table:
    modules = naming.modules(blocks)
    keys, flat = {}, []
    for key in body:
        module, _, leaf = key.rpartition(".")
        # Without templates the source's names are the network's.
        keys[key] = f"{modules[roles[module]]}.{leaf}" if modules else key
        if modules and roles[module][1] in naming.flat and leaf == "weight":
            flat.append(key)
    return Table(naming, keys, frozenset(flat), own_head)


_BLOCK = re.compile(r"(features\.(\d+)(?:\.(\d+))?\.(?:block|conv))\.0\.0\.weight")


def _blocks(family: str, own: Shapes) -> Iterator[Block]:
    """The inverted residuals of a network, from its own keys and shapes; none of others."""
    if not NAMINGS[family][0].block:
        return
    found = [match for key in own if (match := _BLOCK.fullmatch(key))]
    # The first convolution of a block that does not expand is the depthwise one.
    expanded = [own[match[0]][1] != 1 for match in found]
    gated = [
        f"{match[1]}.{1 + wide}.fc1.weight" in own
        for match, wide in zip(found, expanded, strict=True)
    ]
    if family == "efficientnet":  # its own names count stages from 1
        places = [(int(match[2]) - 1, int(match[3])) for match in found]
    elif family == "mobilenetv2":  # narrow ones have neighbouring stages of one width
        places = _places([row.repeats for row in MOBILENETV2_ROWS])
    else:
        layers = [f"{m[1]}.{1 + e + g}" for m, e, g in zip(found, expanded, gated, strict=True)]
        widths = [own[f"{layer}.0.weight"][0] for layer in layers]
        places = _places([len(list(run)) for _, run in itertools.groupby(widths)])
    for number, (stage, index) in enumerate(places):
        yield Block(number, stage, index, expanded[number], gated[number])


def _places(lengths: list[int]) -> list[tuple[int, int]]:
    """(stage, index in it) of each block, from how many blocks each stage has."""
    return [(stage, index) for stage, length in enumerate(lengths) for index in range(length)]


def in_module(key: str, module: str) -> bool:
    """Whether ``key`` is of ``module`` or of a module inside it."""
    return key.startswith(f"{module}.")
