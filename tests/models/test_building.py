"""From a name to a network with weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import CheckpointError, DownloadError, UnknownNameError, UsageError
from edgekit.models import zoo
from edgekit.models.building import RANDOM_NOTE, create
from edgekit.models.zoo import VARIANTS, Variant, Weights
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


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_model_is_created_with_random_weights(variant: Variant) -> None:
    created = create(variant.id, "random", num_classes=5, image_size=64)
    assert (created.variant, created.num_classes, created.image_size) == (variant, 5, 64)
    assert not created.module.training
    assert all(p.dtype == torch.float32 for p in created.module.parameters())
    with torch.no_grad():
        assert created.module(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
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
    assert "does not fit this network" in info.why


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
