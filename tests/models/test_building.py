"""From a name to a network with weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.errors import CheckpointError, DownloadError, UnknownNameError, UsageError
from edgekit.models import zoo
from edgekit.models.building import RANDOM_NOTE, create, select_variant
from edgekit.models.checkpoint import build_network, save_checkpoint, variant_shapes
from edgekit.models.naming import tables
from edgekit.models.random_init import draw_parameters
from edgekit.models.zoo import VARIANTS, Variant, Weights, get_variant
from tests.models import fill_rule
from tests.models.web_server import serving


@pytest.fixture
def m0_url(
    online: None, m0_state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[str]]]:
    """The released weights of M0 are on this machine."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.{k}": v for k, v in m0_state.items()}}, buffer)
    with serving(buffer.getvalue()) as (address, requests):
        url = f"{address}/good/m0.pth"
        release("micronet-m0", url, monkeypatch)
        yield url, requests


def release(model_id: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(VARIANTS[model_id], weights=Weights(url, None, 1 << 26, "MIT", "a test"))
    monkeypatch.setitem(zoo.VARIANTS, model_id, row)


# Above, drawing the parameters takes most of a minute; tests/models/test_random_init.py has some.
CREATED = [row for row in VARIANTS.values() if row.params < 30_000_000]


def test_most_networks_are_created_here() -> None:
    assert len(CREATED) == len(VARIANTS) - 4 >= 39


@pytest.mark.parametrize("variant", CREATED, ids=[row.id for row in CREATED])
def test_every_model_is_created_with_random_weights(variant: Variant) -> None:
    created = create(variant.id, "random", num_classes=5, image_size=32)
    assert (created.variant, created.num_classes, created.image_size) == (variant, 5, 32)
    assert (created.head, created.task) == (variant.head, variant.task)
    assert not created.module.training
    assert all(p.dtype == torch.float32 for p in created.module.parameters())
    with torch.no_grad():
        assert created.module(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    info = created.weights
    assert (info.source, info.random, info.note) == ("random, seed 0", True, RANDOM_NOTE)
    assert len(info.sha256) == 64


def test_the_published_sizes_are_the_default() -> None:
    created = create("micronet-m0", "random")
    assert (created.num_classes, created.image_size) == (1000, 224)


@pytest.mark.parametrize("spec", ["auto", "official", "URL"])
def test_released_weights_give_the_official_logits(
    spec: str, m0_url: tuple[str, list[str]]
) -> None:
    created = create("micronet-m0", m0_url[0] if spec == "URL" else spec)
    assert (created.weights.source, created.weights.random) == (m0_url[0], False)
    with torch.no_grad():
        logits = created.module(fill_rule.images(1)).numpy()
    known = np.load(fill_rule.DATA / "micronet_m0.npz")["logits_1"]
    assert np.abs(logits - known).max() <= 5e-4


def test_a_file_gives_its_hash(m0_file: Path) -> None:
    info = create("micronet-m0", str(m0_file)).weights
    assert (info.source, info.random, info.note) == ("file m0.pth", False, "")


def test_a_file_of_half_precision_is_noted(
    tmp_path: Path, m0_state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "half.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in m0_state.items()}, path)
    note = create("micronet-m0", str(path)).weights.note
    assert note == "half.pth: torch.float16 converted to the network's own type"


def test_a_file_of_another_network_is_refused(m0_file: Path) -> None:
    with pytest.raises(CheckpointError, match="It fits micronet-m0"):
        create("micronet-m2", str(m0_file))


def test_a_head_of_ones_own_loads_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(
        create("micronet-m0", "random", num_classes=3, image_size=32).module.state_dict(), path
    )
    assert not create("micronet-m0", str(path), num_classes=3).weights.random
    with pytest.raises(CheckpointError, match="use --num-classes 3"):
        create("micronet-m0", str(path))


def test_auto_falls_back_and_says_why() -> None:
    info = create("micronet-m1", image_size=32).weights
    assert info.random
    assert info.note == RANDOM_NOTE
    assert "EDGEKIT_OFFLINE is set" in info.why
    with pytest.raises(DownloadError, match=r"micronet-m1\.pth is not in the cache"):
        create("micronet-m1", "official", image_size=32)


def test_released_weights_of_another_network_are_refused_or_noted(
    m0_url: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    release("micronet-m1", m0_url[0], monkeypatch)
    with pytest.raises(CheckpointError, match="It fits micronet-m0"):
        create("micronet-m1", "official", image_size=32)
    info = create("micronet-m1", "auto", image_size=32).weights
    assert info.random
    assert "m0.pth does not fit micronet-m1: " in info.why


def test_released_weights_have_no_head_of_ones_own(m0_url: tuple[str, list[str]]) -> None:
    with pytest.raises(CheckpointError, match="have 1000 classes, not 10.*or --weights random"):
        create("micronet-m0", "official", num_classes=10, image_size=32)
    info = create("micronet-m0", "auto", num_classes=10, image_size=32).weights
    assert info.random
    assert "have 1000 classes, not 10" in info.why
    assert m0_url[1] == []


def test_an_unknown_model_and_impossible_sizes() -> None:
    with pytest.raises(UnknownNameError, match="micronet-m3"):
        create("micronet-m9", "random")
    with pytest.raises(UsageError, match="num_classes is 0"):
        create("micronet-m0", "random", num_classes=0)
    with pytest.raises(UsageError, match="image_size is 16"):
        create("micronet-m0", "random", image_size=16)


# ---------------------------------------------------------------------------
# Other people's names, parts and heads
# ---------------------------------------------------------------------------


def written(path: Path, model_id: str, whose: str, **sizes: Any) -> dict[str, Tensor]:
    """Write a checkpoint in another source's names; returns the tensors by the network's own."""
    variant = get_variant(model_id)
    network = build_network(variant, **sizes)
    draw_parameters(network, seed=3)
    state = dict(network.state_dict())
    table = next(
        table
        for table in tables(variant.family, variant_shapes(variant))
        if table.naming.whose == whose
    )
    renamed = {}
    for key, tensor in state.items():
        if key not in table.keys:
            renamed[table.naming.head + key[len(table.own_head) :]] = tensor
        elif key in table.flat:
            flat = tensor.flatten(1) if tensor.ndim == 4 else tensor[:, :, None, None]
            renamed[table.keys[key]] = flat
        else:
            renamed[table.keys[key]] = tensor
    torch.save(renamed, path)
    return state


@pytest.mark.parametrize(
    ("model_id", "whose"),
    [
        ("mobilenetv3-small-timm", "timm"),
        ("mobilenetv3-small-tf", "timm"),
        ("mobilenetv3-large-seed", "SEED"),
        ("mobilenetv2-x0.35", "timm"),
        ("efficientnet-b0", "timm"),
        ("efficientnet-b0-seed", "SEED"),
        ("mobilenetv3-small", "torchvision"),
    ],
)
def test_a_file_in_its_sources_names_gives_the_same_tensors(
    model_id: str, whose: str, tmp_path: Path
) -> None:
    prefix = "tf_" if model_id.endswith("-tf") else ""
    path = tmp_path / f"{prefix}{get_variant(model_id).family}.pth"
    state = written(path, model_id, whose)
    created = create(model_id, str(path), image_size=64)
    assert (created.weights.random, created.weights.note) == (False, "")
    loaded = created.module.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_student_is_taken_out_of_its_training(tmp_path: Path) -> None:
    path = tmp_path / "seed.pth.tar"
    student = build_network(get_variant("mobilenetv2-x0.35"), 128, head="projection").state_dict()
    teacher = build_network(get_variant("mobilenetv2-x0.5"), 128, head="projection").state_dict()
    whole = {
        **{f"module.student.{k}": v for k, v in student.items()},
        **{f"module.teacher.{k}": v for k, v in teacher.items()},
        "module.queue": torch.ones(128, 16),
        "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
    }
    torch.save({"epoch": 200, "arch": "x", "state_dict": whole, "optimizer": {}}, path)
    with pytest.raises(
        CheckpointError, match=r"it holds .*Use --weights .*seed\.pth\.tar#student\.$"
    ):
        create("mobilenetv2-x0.35", str(path), image_size=32)
    created = create("mobilenetv2-x0.35", f"{path}#student", image_size=32)
    assert (created.head, created.task, created.num_classes) == ("projection", "embedding", 128)
    assert created.weights.source == "file seed.pth.tar#student"
    assert "has a projection head of 128 outputs, and the network is built with it" in (
        created.weights.note
    )
    with torch.no_grad():
        assert created.module(torch.zeros(1, 3, 32, 32)).shape == (1, 128)


def test_a_checkpoint_of_edgekits_own_keeps_its_flavour(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(
        build_network(get_variant("mobilenetv3-small-tf"), 3), "mobilenetv3-small-tf", path
    )
    created = create("mobilenetv3-small-tf", str(path), num_classes=3, image_size=32)
    assert (created.weights.random, created.weights.note) == (False, "")
    with pytest.raises(
        CheckpointError, match="was saved by edgekit as mobilenetv3-small-tf, and is"
    ):
        create("mobilenetv3-small", str(path), num_classes=3, image_size=32)


HEADS = {
    "micronet-m0": "classifier.2",
    "mobilenetv2-x0.35": "classifier.1",
    "dcd-resnet18": "classifier.1",
}


@pytest.mark.parametrize(("model_id", "head"), HEADS.items())
def test_a_dropped_head_is_drawn_and_said_so(model_id: str, head: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    network = create(model_id, "random", image_size=64).module
    torch.save(network.state_dict(), path)
    with pytest.raises(
        CheckpointError, match="is to have 7: leave out --num-classes, or --drop-he"
    ):
        create(model_id, str(path), num_classes=7, image_size=64)
    created = create(model_id, str(path), num_classes=7, image_size=64, drop_head=True, seed=5)
    info = created.weights
    assert (created.num_classes, info.random) == (7, True)
    assert info.source == "file w.pth, head random, seed 5"
    assert info.note.startswith("RANDOM head: the body is from file w.pth, ")
    before, after = network.state_dict(), created.module.state_dict()
    body = [key for key in before if not key.startswith(f"{head}.")]
    assert len(body) > 100
    assert all(torch.equal(before[key], after[key]) for key in body)
    other = create(model_id, str(path), num_classes=7, image_size=64, drop_head=True, seed=6)
    assert other.weights.sha256 != info.sha256
    with torch.no_grad():
        assert bool(created.module(torch.rand(2, 3, 64, 64)).isfinite().all())


def test_a_head_with_norms_is_dropped_from_a_file_without_their_counters(tmp_path: Path) -> None:
    state = create("dcd-mobilenetv2-x0.35", "random", image_size=32).module.state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert any(key.startswith("classifier.") and key.endswith("running_var") for key in old)
    torch.save(old, tmp_path / "w.pth")
    created = create(
        "dcd-mobilenetv2-x0.35",
        str(tmp_path / "w.pth"),
        num_classes=7,
        image_size=32,
        drop_head=True,
    )
    assert created.module.state_dict().keys() == state.keys()
    assert created.num_classes == 7


def test_a_body_without_head_needs_to_be_told(tmp_path: Path) -> None:
    path = tmp_path / "body.pth"
    state = build_network(get_variant("mobilenetv2-x0.35")).state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("classifier")}, path)
    with pytest.raises(CheckpointError, match="and no head: use --drop-head"):
        create("mobilenetv2-x0.35", str(path), image_size=32)
    created = create("mobilenetv2-x0.35", str(path), image_size=32, drop_head=True)
    assert (created.num_classes, created.weights.random) == (1000, True)


def test_a_released_body_takes_a_head_of_ones_own(m0_url: tuple[str, list[str]]) -> None:
    info = create("micronet-m0", "official", num_classes=10, image_size=32, drop_head=True).weights
    assert info.source == f"{m0_url[0]}, head random, seed 0"
    with pytest.raises(
        UsageError, match="--drop-head drops the head of a checkpoint: --weights ra"
    ):
        create("micronet-m0", "random", drop_head=True)


def test_auto_falls_back_to_random_with_drop_head_too() -> None:
    info = create("micronet-m1", image_size=32, drop_head=True).weights
    assert (info.source, info.note) == ("random, seed 0", RANDOM_NOTE)


def test_fc_squeeze_chooses_the_row() -> None:
    base = "dcd-mobilenetv2-x0.35"
    assert select_variant(base).id == base
    assert select_variant(base, 16).id == base
    assert select_variant(base, 8).id == f"{base}-fs8"
    assert select_variant(f"{base}-fs8", 8).id == f"{base}-fs8"
    assert create(base, "random", image_size=32, fc_squeeze=8).variant.id == f"{base}-fs8"


@pytest.mark.parametrize(
    ("model_id", "value", "words"),
    [
        ("dcd-mobilenetv2-x0.35", 4, "--fc-squeeze is 4; 8 and 16 are possible"),
        ("dcd-mobilenetv2-x0.35-fs8", 16, "has fc-squeeze 8, not 16: use dcd-mobilenetv2-x0.35"),
        ("dcd-resnet18", 8, "is for dcd-mobilenetv2-x0.35, .*; dcd-resnet18 has no such choice"),
        ("resnet18", 16, "resnet18 has no such choice"),
    ],
)
def test_fc_squeeze_that_is_not_possible(model_id: str, value: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        select_variant(model_id, value)
