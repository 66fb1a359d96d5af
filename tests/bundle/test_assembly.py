"""Bundles of several graphs: whole or not at all, and verified from the top."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.bundle.assembly import is_assembly, open_assembly
from edgekit.errors import BundleError, OutputExistsError, UnknownNameError
from tests.bundle.sample_assembly import FILES, PARTS, SETTINGS, write


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    where = write(tmp_path / "vlm")
    assert is_assembly(where) and not is_assembly(where / PARTS[0])
    with open_assembly(where) as bundle:
        assert set(bundle.parts) == set(PARTS)
        assert bundle.assembly.settings == SETTINGS
        assert bundle.names("answers.txt") == ("yes", "no") and bundle.names("none.txt") == ()
        assert bundle.file("vocab.txt").read_bytes() == FILES["vocab.txt"]
        with pytest.raises(UnknownNameError):
            bundle.file("golden.npz")
    with open_bundle(where / PARTS[0]) as part:  # each part is a bundle by itself
        assert part.manifest.model.id == "tiny-net"
    assert sorted(os.listdir(tmp_path)) == ["vlm"]


def test_the_same_parts_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert (first / "assembly.json").read_bytes() == (second / "assembly.json").read_bytes()


def test_open_bundle_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="several graphs"):
        open_bundle(write(tmp_path / "vlm"))
    with pytest.raises(BundleError, match="has no assembly.json"):
        open_assembly(tmp_path / "none")


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    where = write(tmp_path / "vlm")
    with pytest.raises(OutputExistsError, match="--force"):
        write(where)
    (where / "mine.txt").write_text("kept")
    with pytest.raises(BundleError, match=r"not the bundle's \(mine.txt\)"):
        write(where, force=True)
    (where / "mine.txt").unlink()
    (where / PARTS[0] / "mine.txt").write_text("kept")
    with pytest.raises(BundleError, match="mine.txt"):
        write(where, force=True)
    (where / PARTS[0] / "mine.txt").unlink()
    other = replace(SETTINGS, regions=7)
    write(where, force=True, settings=other)
    with open_assembly(where) as bundle:
        assert bundle.assembly.settings.regions == 7
    with pytest.raises(BundleError, match="is a folder: give -o"):
        write(tmp_path / "vlm.edgekit")


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="settings.regions"):
        write(tmp_path / "deep" / "vlm", settings=replace(SETTINGS, regions=0))
    assert os.listdir(tmp_path) == []
    old = write(tmp_path / "vlm")
    with pytest.raises(BundleError):
        write(old, force=True, settings=replace(SETTINGS, regions=0))
    open_assembly(old).close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"height": 0}, "settings.height: expected 1 to"),
        ({"height": 8192, "width": 8192}, "no canvas for the edge"),
        ({"region_iou": 1.5}, "settings.region_iou: expected 0 to 1"),
        ({"min_score": -0.5}, "settings.min_score: expected 0 to 1"),
        ({"anchors": (8, 16)}, "settings.anchors: expected five"),
        ({"lengths": (16, 8)}, "settings.lengths: expected rising"),
        ({"lengths": ()}, "settings.lengths: expected rising"),
        ({"std": (0.1, 0.0, 0.1)}, "settings.std: expected numbers above 0"),
        ({"heads": 1 << 20}, "settings.heads: expected 1 to"),
        ({"tags": -7}, "settings.tags: expected 2 to"),
        ({"caption": 1}, "settings.caption: expected 2 to"),
        ({"proposals": 1 << 16, "pooled": 1 << 16}, "settings.proposals: .* no model for the edge"),
        ({"layers": 1 << 16, "heads": 1 << 16}, "settings.layers: .* no model for the edge"),
        ({"tasks": ("sing",)}, "settings.tasks: 'sing' is none of vqa, caption, match"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=says):
        write(tmp_path / "vlm", settings=replace(SETTINGS, **change))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link_part(where: Path) -> None:
    shutil.move(where / PARTS[0], where.parent / "elsewhere")
    (where / PARTS[0]).symlink_to(where.parent / "elsewhere")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shared file": (lambda where: _flip(where / "answers.txt"), "sha256"),
    "a shorter file": (lambda where: (where / "answers.txt").write_bytes(b"y"), "has 1 bytes"),
    "no shared file": (lambda where: (where / "vocab.txt").unlink(), "not there"),
    "a weight of a part": (lambda where: _flip(where / PARTS[0] / "model.dat"), "sha256"),
    "the manifest of a part": (lambda where: _flip(where / PARTS[0] / "manifest.json"), "sha256"),
    "no part": (lambda where: shutil.rmtree(where / PARTS[1]), "not there"),
    "a part of another": (_link_part, "is a link"),
    "no JSON": (lambda where: (where / "assembly.json").write_bytes(b"{"), "not JSON"),
    "no text": (lambda where: (where / "assembly.json").write_bytes(b"\xff"), "not UTF-8"),
    "a newer one": (
        lambda where: _edit(where / "assembly.json", lambda d: d.update(assembly_version=2)),
        "pip install -U edgekit",
    ),
    "another kind": (
        lambda where: _edit(where / "assembly.json", lambda d: d.update(kind="sound")),
        "'sound' is none that this edgekit knows",
    ),
    "a part outside": (
        lambda where: _edit(
            where / "assembly.json", lambda d: d["parts"].update({"../x": d["parts"][PARTS[0]]})
        ),
        "not a plain name",
    ),
    "an unknown key": (
        lambda where: _edit(where / "assembly.json", lambda d: d.update(run="rm")),
        "unknown key",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(damage: str, tmp_path: Path) -> None:
    change, says = DAMAGES[damage]
    where = write(tmp_path / "vlm")
    change(where)
    with pytest.raises(BundleError, match=says):
        open_assembly(where)
