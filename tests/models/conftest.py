"""Every test of this room gets an empty cache of its own, and the network is off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models import fill_rule

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that weights are cached in; it does not exist yet."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network may be used: for servers on this machine."""
    monkeypatch.delenv("EDGEKIT_OFFLINE")


@pytest.fixture(scope="session")
def m0_state() -> dict[str, torch.Tensor]:
    return fill_rule.state("m0")


@pytest.fixture
def m0_file(tmp_path: Path, m0_state: dict[str, torch.Tensor]) -> Path:
    """A bare checkpoint of M0."""
    path = tmp_path / "m0.pth"
    torch.save(m0_state, path)
    return path
