"""Names of torchvision, timm and SEED against their own lists of keys.

``tests/data/naming/keys.json`` has keys and shapes by list, as read from torchvision 0.29.2, timm
1.0.31 and SEED's repository (commit f236cac); ``NAME.*`` is the five tensors of a BatchNorm.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgekit.models.fitting import Match, match, variant_shapes
from edgekit.models.naming import COUNTER, NAMINGS, Shapes, Table, in_module, tables
from edgekit.models.zoo import VARIANTS, Variant, get_teacher, get_variant

DATA = Path(__file__).parents[1] / "data" / "naming" / "keys.json"
_NORM = ("weight", "bias", "running_mean", "running_var", COUNTER)

# List -> ids whose body it is, where each has one flavour of the function that the names allow.
LISTS = {
    "torchvision_mobilenet_v2": ("mobilenetv2-x1.0",),
    "torchvision_mobilenet_v3_small": ("mobilenetv3-small",),
    "torchvision_mobilenet_v3_large": ("mobilenetv3-large",),
    "torchvision_efficientnet_b0": ("efficientnet-b0",),
    "torchvision_efficientnet_b1": ("efficientnet-b1",),
    "torchvision_resnet18": ("resnet18",),
    "torchvision_resnet34": ("resnet34",),
    "torchvision_resnet50": ("resnet50",),
    "torchvision_resnet101": ("resnet101",),
    "torchvision_resnet152": ("resnet152",),
    "timm_mobilenetv3_large_100": ("mobilenetv3-large-timm", "mobilenetv3-large-tf"),
    "timm_tf_mobilenetv3_large_100": ("mobilenetv3-large-timm", "mobilenetv3-large-tf"),
    "timm_efficientnet_b0": ("efficientnet-b0", "efficientnet-b0-tf"),
    "timm_tf_efficientnet_b0": ("efficientnet-b0", "efficientnet-b0-tf"),
    "timm_efficientnet_b1": ("efficientnet-b1", "efficientnet-b1-tf"),
    "timm_resnet18": ("resnet18",),
    "timm_resnet34": ("resnet34",),
    "timm_resnet50": ("resnet50",),
    "timm_resnet101": ("resnet101",),
    "timm_resnet152": ("resnet152",),
    "seed_student_mobilenetv3_large": ("mobilenetv3-large-seed",),
    "seed_student_efficientnet_b0": ("efficientnet-b0-seed",),
    "seed_student_efficientnet_b1": ("efficientnet-b1-seed",),
    "seed_student_resnet18": ("resnet18",),
    "seed_student_resnet34": ("resnet34",),
    "seed_student_resnet50": ("resnet50",),
}
TEACHERS = {
    "seed_teacher_simclr_resnet50": "resnet50",
    "seed_teacher_swav_resnet50": "resnet50",
    "seed_teacher_swav_resnet50w2": "resnet50-x2",
    "seed_teacher_swav_resnet50w4": "resnet50-x4",
}
PAIRS = [(name, model_id) for name, ids in LISTS.items() for model_id in ids]


def keys_of(name: str) -> dict[str, tuple[int, ...]]:
    """The list ``name``, spelt out, in its own order."""
    known = json.loads(DATA.read_text())
    shapes: dict[str, tuple[int, ...]] = {}
    for key, shape in known[known["same"].get(name, name)].items():
        if not key.endswith(".*"):
            shapes[key] = tuple(shape)
            continue
        for leaf in _NORM:
            shapes[key[:-1] + leaf] = () if leaf == COUNTER else tuple(shape)
    return shapes


def table_of(variant: Variant, whose: str) -> Table:
    found = [t for t in tables(variant.family, variant_shapes(variant)) if t.naming.whose == whose]
    return found[0]


def fitting(model_id: str, got: Shapes) -> Match:
    return match(get_variant(model_id), got)


@pytest.mark.parametrize(("name", "model_id"), PAIRS)
def test_every_list_is_the_networks_tensor_by_tensor_and_in_order(name: str, model_id: str) -> None:
    got = keys_of(name)
    found = fitting(model_id, got)
    assert (found.missing, found.left_over, found.differ) == ((), (), {})
    assert found.same_function
    body = [key for key in got if not in_module(key, found.table.naming.head)]
    # Where shapes repeat, only the order tells that each tensor is taken for the right one.
    assert list(found.table.keys.values()) == body
    assert len(body) > 100


def test_no_list_is_left_out() -> None:
    assert (len(LISTS), len(PAIRS)) == (26, 31)
    known = json.loads(DATA.read_text())
    names = {*known, *known["same"]} - {"same"}
    assert names - LISTS.keys() == {*TEACHERS, "seed_full_resnet18_from_moco_resnet50"}


@pytest.mark.parametrize(("name", "model_id"), TEACHERS.items())
def test_teachers_are_known_tensor_by_tensor(name: str, model_id: str) -> None:
    """SimCLR's files say ``module.`` once more than others, which reading takes off."""
    got = {key.removeprefix("module."): shape for key, shape in keys_of(name).items()}
    row = get_teacher(model_id)
    found = match(row, {**got, "prototypes.weight": (3000, 128)})
    assert (found.missing, found.left_over, found.differ) == ((), (), {})
    assert (found.head, found.outputs) == ("projection-bn", 128)
    shapes = variant_shapes(row, 128, head="projection-bn")
    assert list(shapes.values()) == list(got.values())
    weights = [s for key, s in shapes.items() if not key.endswith((COUNTER, "_mean", "_var"))]
    known = 27_970_752 if row.id == "resnet50" else row.params
    assert sum(math.prod(shape) for shape in weights) == known


@pytest.mark.parametrize(("name", "model_id"), PAIRS)
def test_heads_are_recognised(name: str, model_id: str) -> None:
    found = fitting(model_id, keys_of(name))
    seed = name.startswith("seed")
    assert (found.head, found.outputs) == (("projection", 128) if seed else ("linear", 1000))


@pytest.mark.parametrize("name", ["timm_mobilenetv3_large_100", "seed_student_mobilenetv3_large"])
def test_only_the_layers_that_are_known_for_it_may_differ_by_1x1(name: str) -> None:
    got = keys_of(name)
    (model_id, *_) = LISTS[name]
    table = fitting(model_id, got).table
    flat = sorted(table.keys[key] for key in table.flat)
    if name.startswith("timm"):
        assert flat == ["conv_head.weight"]
    else:
        assert len(flat) == 16
        assert flat[0] == "features.11.conv.5.fc.0.weight"
    other = next(key for key in got if len(got[key]) == 4 and got[key][2:] == (1, 1))
    squeezed = {**got, other: got[other][:2]} if other not in flat else {}
    assert list(fitting(model_id, squeezed).differ) == [other]
    wider = {**got, flat[0]: (*got[flat[0]][:2], 3, 3)}
    assert list(fitting(model_id, wider).differ) == [flat[0]]


@pytest.mark.parametrize("name", ["timm_efficientnet_b0", "seed_student_resnet18"])
def test_one_key_more_or_less_is_another_network(name: str) -> None:
    got = keys_of(name)
    model_id = LISTS[name][0]
    first = next(iter(got))
    assert fitting(model_id, {k: v for k, v in got.items() if k != first}).missing == (first,)
    assert fitting(model_id, {**got, "extra.weight": (1,)}).left_over == ("extra.weight",)


def test_blocks_are_numbered_by_the_stages_of_the_papers_table() -> None:
    """Where no list is at hand: MobileNetV2 and V3-small by timm's architecture strings."""
    v2 = [f"blocks.{s}.{i}" for s, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for i in range(n)]
    small = [f"blocks.{s}.{i}" for s, n in enumerate((1, 2, 3, 2, 3)) for i in range(n)]
    wanted = {
        "mobilenetv2-x0.35": v2,
        "mobilenetv2-x0.5": v2,  # whose stages 1 and 2 are equally wide
        "mobilenetv2-x1.0": v2,
        "mobilenetv3-small-timm": [*small, "blocks.5.0"],
    }
    for model_id, blocks in wanted.items():
        keys = table_of(get_variant(model_id), "timm").keys.values()
        found = dict.fromkeys(k.rsplit(".", 2)[0] for k in keys if k.startswith("blocks"))
        names = dict.fromkeys(".".join(name.split(".")[:3]) for name in found)
        assert list(names) == blocks, model_id


def test_a_block_that_does_not_expand_has_other_names_at_timm() -> None:
    keys = list(table_of(get_variant("mobilenetv3-small-timm"), "timm").keys.values())
    first = [k for k in keys if k.startswith("blocks.0.0") and k.endswith("weight")]
    assert first == [
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.bn1.weight",
        "blocks.0.0.se.conv_reduce.weight",
        "blocks.0.0.se.conv_expand.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.0.0.bn2.weight",
    ]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_naming_covers_every_variant_once(variant: Variant) -> None:
    own = variant_shapes(variant)
    found = tables(variant.family, own)
    assert len(found) == len(NAMINGS[variant.family])
    for table in found:
        assert len(set(table.keys.values())) == len(table.keys)
        body = [key for key in own if not in_module(key, table.own_head)]
        assert list(table.keys) == body
        assert len(own) - len(body) in range(2, 30)
    assert list(found[0].keys.values()) == list(found[0].keys)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_variant_has_the_mark_of_its_own_names(variant: Variant) -> None:
    own = variant_shapes(variant)
    marks = [table.naming.mark for table in tables(variant.family, own)]
    assert any(mark in own for mark in marks)


def test_the_zoo_that_the_last_two_ran_over_is_whole() -> None:
    assert len(VARIANTS) >= 43


def test_each_flavour_is_allowed_by_some_names() -> None:
    for variant in VARIANTS.values():
        allowed = [f for naming in NAMINGS[variant.family] for f in naming.flavours]
        assert variant.flavour in allowed, variant.id
