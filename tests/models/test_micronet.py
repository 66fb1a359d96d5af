"""MicroNet against the official key lists, counts and outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.errors import UnknownNameError, UsageError
from edgekit.models.micronet import (
    SPECS,
    DynamicShiftMax,
    MicroNet,
    build_micronet,
    shift_index,
    shuffle_index,
    squeeze_width,
)
from tests.models import fill_rule

OFFICIAL = ("m0", "m1", "m2", "m3")
WITH_OUTPUTS = ("m0", "m2")

# One operator of each kind that would move a feature map in memory or gather by advanced index.
RESHAPING = ("view", "reshape", "permute", "transpose", "flatten", "squeeze", "index.Tensor")


def filled(config: str) -> MicroNet:
    network = build_micronet(config)
    network.load_state_dict(fill_rule.state(config), strict=True)
    return network.eval()


def oracle(config: str) -> Any:
    return np.load(fill_rule.DATA / f"micronet_{config}.npz")


def shift_maxes(network: MicroNet) -> dict[str, DynamicShiftMax]:
    modules = network.named_modules()
    return {name: child for name, child in modules if isinstance(child, DynamicShiftMax)}


def test_all_specs_are_covered() -> None:
    assert tuple(SPECS) == (*OFFICIAL, "v1-m0", "v1-m1", "v1-m2", "v1-m3")


@pytest.mark.parametrize("config", OFFICIAL)
def test_keys_and_shapes_are_the_official_ones_in_their_order(config: str) -> None:
    official = [(e["key"], e["shape"]) for e in fill_rule.facts(config)["state_dict"]]
    assert len(official) == {"m0": 218, "m1": 218, "m2": 290, "m3": 322}[config]
    own = build_micronet(config).state_dict()
    assert [(key, list(tensor.shape)) for key, tensor in own.items()] == official


@pytest.mark.parametrize("config", OFFICIAL)
def test_every_shift_max_is_the_official_one(config: str) -> None:
    network = build_micronet(config)
    official = fill_rule.facts(config)["shiftmax"]
    own = shift_maxes(network)
    assert list(own) == [entry["name"] for entry in official]
    for entry in official:
        module, branches = own[entry["name"]], entry["branches"]
        squeeze = module.fc[0].out_features
        assert (module.branches, module.groups, squeeze) == (
            branches,
            entry["groups"],
            entry["squeeze"],
        )
        assert module.shift[:8].tolist() == entry["shift_index_first8"]
        offsets = module.initial.view(branches, 2, -1)[:, :, 0]  # (K, [a, b])
        assert offsets[:, 0].tolist() == entry["init_a"][:branches]
        assert offsets[:, 1].tolist() == entry["init_b"][:branches]


@pytest.mark.parametrize("config", OFFICIAL)
def test_stages_have_the_official_shapes(config: str) -> None:
    x = fill_rule.images(1)
    shapes = []
    with torch.no_grad():
        for stage in build_micronet(config).eval().features:
            x = stage(x)
            shapes.append(list(x.shape))
    assert shapes == fill_rule.facts(config)["stage_shapes"]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", WITH_OUTPUTS)
def test_logits_equal_the_official_ones_in_double(config: str, batch: int) -> None:
    with torch.no_grad():
        logits = filled(config).double()(fill_rule.images(batch).double())
    assert np.abs(logits.numpy() - oracle(config)[f"logits_{batch}_f64"]).max() <= 1e-9


@pytest.mark.parametrize("config", WITH_OUTPUTS)
def test_logits_and_order_equal_the_official_ones_in_float(config: str) -> None:
    with torch.no_grad():
        logits = filled(config)(fill_rule.images(2))
    known = oracle(config)
    assert np.abs(logits.numpy() - known["logits_2"]).max() <= 5e-4
    assert np.array_equal(logits.topk(5).indices.numpy(), known["top5_2"])


@pytest.mark.parametrize("config", WITH_OUTPUTS)
def test_every_stage_equals_the_official_one(config: str) -> None:
    known = oracle(config)
    x = fill_rule.images(1).double()
    with torch.no_grad():
        for i, stage in enumerate(filled(config).double().features):
            x = stage(x)
            means = known[f"stage{i}_mean_per_channel"]  # computed in float32
            scale = float(x.abs().max())
            assert np.abs(x.mean((0, 2, 3)).numpy() - means).max() <= 1e-5 * scale, i
            first = known[f"stage{i}_first64"]
            assert np.abs(x.flatten()[:64].numpy() - first).max() <= 1e-5 * scale, i
    assert f"stage{i + 1}_shape" not in known


def test_the_oracle_sees_a_group_only_shift() -> None:
    network = filled("m0").double()
    for module in shift_maxes(network).values():
        grid = torch.arange(module.channels).view(module.groups, -1)
        module.shift.copy_(grid.roll(-1, 0).flatten())
    with torch.no_grad():
        logits = network(fill_rule.images(1).double())
    assert np.abs(logits.numpy() - oracle("m0")["logits_1_f64"]).max() > 1


def test_shuffle_follows_its_formula() -> None:
    channels, groups = 12, 3
    index = shuffle_index(channels, groups).tolist()
    for i in range(groups):
        for j in range(channels // groups):
            assert index[j * groups + i] == i * (channels // groups) + j


def test_shift_advances_group_and_place() -> None:
    assert shift_index(8, 2).tolist() == [5, 6, 7, 4, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("quotient", "width"), [(0, 4), (3, 4), (6, 8), (9, 12), (10, 12), (18, 20), (45, 44)]
)
def test_squeeze_width_rounds_half_up_and_never_far_down(quotient: int, width: int) -> None:
    assert squeeze_width(quotient * 8, 8) == width


@pytest.mark.parametrize("config", SPECS)
def test_rows_join_and_divide(config: str) -> None:
    spec = SPECS[config]
    assert spec.rows[0].width_in == spec.stem_width
    assert all(row.width_out == after.width_in for row, after in pairwise(spec.rows))
    assert spec.rows[-1].kind == "tail"
    assert all(row.expanded % (row.groups_in or 1) == 0 for row in spec.rows)


@pytest.mark.parametrize("config", SPECS)
def test_the_graph_has_no_reshape_of_a_feature_map(config: str) -> None:
    network = build_micronet(config).eval()
    program = torch.export.export(network, (torch.zeros(1, 3, 64, 64),))
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    reshapes = [
        node
        for node in calls
        if any(name in str(node.target) for name in RESHAPING)
        and "unsqueeze" not in str(node.target)
    ]
    assert reshapes == []
    gathers = [node for node in calls if "index_select" in str(node.target)]
    assert len(gathers) >= len(shift_maxes(network)) + 1
    assert all(node.args[1] == 1 for node in gathers)


@pytest.mark.parametrize("size", [32, 33, 97])
def test_any_image_of_at_least_32_pixels_fits(size: int) -> None:
    network = build_micronet("m0", num_classes=7, image_size=size).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_it_trains() -> None:
    network = build_micronet("m0", num_classes=3).train()
    network(fill_rule.images(2, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_unknown_configuration_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean m"):
        build_micronet("m4")


@pytest.mark.parametrize(
    ("classes", "size", "words"),
    [
        (0, 224, "num_classes is 0"),
        (10**9, 224, "num_classes is 1000000000"),
        (10, 31, "image_size is 31"),
        (10, 100_000, "image_size is 100000"),
    ],
)
def test_impossible_sizes_are_refused(classes: int, size: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_micronet("m0", num_classes=classes, image_size=size)
