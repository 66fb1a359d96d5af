from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import FileFacts, manifest_to_json, open_bundle, reading
from edgekit.errors import BundleError, UnknownNameError
from tests.bundle import sample_bundle
from tests.bundle.sample_bundle import FILES, MANIFEST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sample_bundle.write(tmp_path / "b")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return sample_bundle.write(tmp_path / "b.edgekit")


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR of its own, in which nothing may be left."""
    where = tmp_path / "tmp"
    where.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(where))
    yield where
    gc.collect()
    assert list(where.iterdir()) == []


def test_a_folder_opens(folder: Path):
    with open_bundle(folder) as bundle:
        assert bundle.manifest.model.id == "tiny-net"
        assert bundle.path == folder
        assert bundle.file("model.dat").read_bytes() == FILES["model.dat"]
        assert bundle.labels() == ("cat", "dog", "bird")
        assert bundle.golden().inputs["image"].shape == (1, 3, 4, 4)
        assert bundle.extra == ()
        assert "tiny-net" in repr(bundle)
    assert folder.exists()


def test_a_zip_opens_and_leaves_nothing(archive: Path, temp: Path):
    with open_bundle(archive) as bundle:
        assert bundle.file("model.dat").read_bytes() == FILES["model.dat"]
        (private,) = temp.iterdir()
        if os.name == "posix":
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert bundle.labels() == ("cat", "dog", "bird")
    assert list(temp.iterdir()) == []


def test_a_forgotten_zip_cleans_up_after_itself(archive: Path, temp: Path):
    open_bundle(archive)
    gc.collect()
    assert list(temp.iterdir()) == []


def test_a_path_through_a_link_opens(folder: Path, tmp_path: Path):
    (tmp_path / "latest").symlink_to(folder)
    with open_bundle(str(tmp_path / "latest")) as bundle:
        assert bundle.manifest.model.id == "tiny-net"


def test_what_is_not_listed_is_ignored_and_named(folder: Path):
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "notes").mkdir()
    (folder / "model.onnx").symlink_to("/etc/passwd")
    with open_bundle(folder) as bundle:
        assert bundle.extra == (".DS_Store", "model.onnx", "notes")
        with pytest.raises(UnknownNameError, match=r"file of the bundle 'model\.onnx'"):
            bundle.file("model.onnx")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "no bundle at .*gone': give the folder or .edgekit file"),
        ("empty", "is not an edgekit bundle: it has no manifest.json"),
        ("text.edgekit", "text.edgekit is not a readable .edgekit zip: File is not a zip file"),
        ("dangling", "neither a folder nor a plain file"),
        ("pipe", "neither a folder nor a plain file"),
        ("b/labels.txt/x", "no bundle at"),
    ],
)
def test_what_is_no_bundle(folder: Path, path: str, message: str):
    root = folder.parent
    (root / "empty").mkdir()
    (root / "text.edgekit").write_text("hello")
    (root / "dangling").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe")
    with pytest.raises(BundleError, match=message):
        open_bundle(root / path)


# ---- a folder that was tampered with ---------------------------------------------------------


def _truncate(folder: Path) -> None:
    (folder / "model.dat").write_bytes(FILES["model.dat"][:-1])


def _flip(folder: Path) -> None:
    data = bytearray(FILES["model.dat"])
    data[7] ^= 1
    (folder / "model.dat").write_bytes(data)


def _link(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(FILES["model.dat"])  # even with the right content
    (folder / "model.dat").unlink()
    (folder / "model.dat").symlink_to(outside)


def _pipe(folder: Path) -> None:
    (folder / "model.dat").unlink()
    os.mkfifo(folder / "model.dat")


def _subfolder(folder: Path) -> None:
    (folder / "model.dat").unlink()
    (folder / "model.dat").mkdir()


def _manifest_is_a_link(folder: Path) -> None:
    (folder / "manifest.json").rename(folder / "real.json")
    (folder / "manifest.json").symlink_to("real.json")


def _manifest_is_a_pipe(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


TAMPERED: list[tuple[Callable[[Path], object], str]] = [
    (_truncate, "model.dat has 699 bytes, the manifest says 700: the bundle is damaged"),
    (_flip, r"model.dat has sha256 \w{12}..., the manifest says \w{12}...: the bundle is damaged"),
    (_link, "model.dat is a link: a bundle holds its own files"),
    (_pipe, "model.dat is not a plain file"),
    (_subfolder, "model.dat is not a plain file"),
    (_manifest_is_a_link, "manifest.json is a link"),
    (_manifest_is_a_pipe, "manifest.json is not a plain file"),
    (lambda f: (f / "model.dat").unlink(), "model.dat is listed in manifest.json but is not the"),
    (lambda f: (f / "manifest.json").write_bytes(b"\xff{}"), "manifest.json is not UTF-8"),
    (lambda f: (f / "manifest.json").write_bytes(b""), "manifest.json: the document: not JSON"),
    (
        lambda f: _edit(f, lambda d: d["files"].update({"../evil": d["files"]["labels.txt"]})),
        r"files\[\"../evil\"\]: not a plain file name",
    ),
    (
        lambda f: _edit(f, lambda d: d["files"]["model.dat"].update(bytes=1 << 60)),
        "manifest.json lists 1152921504606847702 bytes of files: at most",
    ),
    (
        lambda f: _edit(f, lambda d: d.update(schema_version=9)),
        r"9 is newer than this edgekit reads \(1\): upgrade",
    ),
]


@pytest.mark.parametrize(("tamper", "message"), TAMPERED, ids=[m for _, m in TAMPERED])
def test_a_folder_that_was_tampered_with(folder: Path, tamper, message: str):
    tamper(folder)
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(folder)
    assert "\n" not in str(caught.value)


def test_a_huge_manifest_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(BundleError, match=r"manifest.json is larger than 100 bytes"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\x1b[31mb\n", "labels.txt line 1 has a control character: "),
        (b"ok\n\xff\n", "labels.txt is not UTF-8"),
    ],
)
def test_labels_fit_for_a_terminal(tmp_path: Path, data: bytes, message: str):
    sample_bundle.write(tmp_path / "b", files={"labels.txt": data})
    with open_bundle(tmp_path / "b") as bundle, pytest.raises(BundleError, match=message):
        bundle.labels()


def test_labels_with_windows_line_ends_and_no_last_newline(tmp_path: Path):
    sample_bundle.write(tmp_path / "b", files={"labels.txt": "chat\r\nœuf".encode()})
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.labels() == ("chat", "œuf")


def test_a_bundle_without_labels(tmp_path: Path):
    sample_bundle.write(tmp_path / "b", labels=None)
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.labels() == ()


# ---- zips ------------------------------------------------------------------------------------


def manifest_text(files: dict[str, bytes], **changes: object) -> str:
    facts = {n: FileFacts(hashlib.sha256(d).hexdigest(), len(d)) for n, d in files.items()}
    return manifest_to_json(dataclasses.replace(MANIFEST, files=facts, **changes))  # type: ignore[arg-type]


def make_zip(path: Path, add: Callable[[zipfile.ZipFile], object] = lambda _: None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest_text(FILES))
        for name, data in FILES.items():
            archive.writestr(name, data)
        add(archive)
    return path


def _member(name: str, data: bytes = b"", mode: int = 0o100644) -> Callable[..., object]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # past ZipInfo's own cleaning
        info.external_attr = mode << 16
        archive.writestr(info, data)

    return add


def test_a_zip_made_by_hand_opens(tmp_path: Path, temp: Path):
    def add(archive: zipfile.ZipFile) -> None:
        _member("__MACOSX/._manifest.json")(archive)
        _member("notes/", mode=0o040755)(archive)

    with open_bundle(make_zip(tmp_path / "x.edgekit", add)) as bundle:
        assert bundle.extra == ("__MACOSX/._manifest.json", "notes/")
        (private,) = temp.iterdir()
        assert sorted(p.name for p in private.iterdir()) == sorted(FILES)


HOSTILE_MEMBERS = [
    (_member("../evil"), "member '../evil' has a name that leaves the folder"),
    (_member("/etc/cron.d/evil"), "has a name that leaves the folder"),
    (_member("a\\..\\evil"), "has a name that leaves the folder"),
    (_member("C:evil"), "has a name that leaves the folder"),
    (_member("a/../../evil"), "has a name that leaves the folder"),
    (_member("a\x1b[2Jb"), "has a name that leaves the folder"),
    (_member("model.onnx", b"/etc/passwd", 0o120777), "is a link or a device"),
    (_member("dev", mode=0o020666), "is a link or a device"),
    (_member("MODEL.dat"), "member 'MODEL.dat' is there twice"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("add", "message"), HOSTILE_MEMBERS, ids=[m for _, m in HOSTILE_MEMBERS])
def test_hostile_members(tmp_path: Path, temp: Path, add, message: str):
    path = make_zip(tmp_path / "x.edgekit", add)
    with pytest.raises(BundleError, match=message):
        open_bundle(path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, temp: Path):
    path = make_zip(tmp_path / "x.edgekit", _member("model.dat", FILES["model.dat"]))
    with pytest.raises(BundleError, match=r"member 'model\.dat' is there twice"):
        open_bundle(path)


def test_a_listed_member_that_is_a_link(tmp_path: Path, temp: Path):
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest_text(FILES))
        for name, data in FILES.items():
            _member(name, data, 0o120777 if name == "model.dat" else 0o100644)(archive)
    with pytest.raises(BundleError, match=r"member 'model\.dat' is a link or a device"):
        open_bundle(path)


def _patch_flags(path: Path, offset: int, value: int) -> None:
    """Set a 16-bit field of the first entry of the central directory."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + offset
    data[at : at + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(8, 1, "is encrypted"), (10, 14, "is neither stored nor deflated")],
)
def test_members_that_are_encrypted_or_packed_otherwise(
    tmp_path: Path, temp: Path, offset: int, value: int, message: str
):
    path = make_zip(tmp_path / "x.edgekit")
    _patch_flags(path, offset, value)
    with pytest.raises(BundleError, match=f"member 'manifest.json' {message}"):
        open_bundle(path)


def test_a_zip_of_the_folder_itself(tmp_path: Path):
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b/manifest.json", "{}")
    with pytest.raises(BundleError, match=r"found 'b/manifest.json': zip what is in the folder"):
        open_bundle(path)


def test_a_listed_file_that_is_missing(tmp_path: Path, temp: Path):
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest_text(FILES))
    with pytest.raises(BundleError, match=r"is listed in manifest\.json but is not in x\.edgekit"):
        open_bundle(path)


def test_a_bomb_by_its_declared_size(tmp_path: Path, temp: Path):
    zeros = bytes(reading.ZIP_RATIO_FLOOR + 1)
    files = {**FILES, "zeros.bin": zeros}
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest_text(files))
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(BundleError, match="looks like a zip bomb and is not opened"):
        open_bundle(path)


def test_a_bomb_that_lies_about_its_size(tmp_path: Path, temp: Path):
    """The directory says 700 bytes and the deflate stream goes on: reading stops at 700."""
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.dat", bytes(1 << 20))
        archive.writestr("manifest.json", manifest_text(FILES))
        for name, data in FILES.items():
            if name != "model.dat":
                archive.writestr(name, data)
    lie = bytearray(path.read_bytes())
    at = lie.index(b"PK\x01\x02") + 24
    lie[at : at + 4] = len(FILES["model.dat"]).to_bytes(4, "little")
    path.write_bytes(lie)
    with pytest.raises(BundleError, match=r"Bad CRC|model.dat (unpacks to|has sha256)"):
        open_bundle(path)


def test_a_size_other_than_the_manifests(tmp_path: Path, temp: Path):
    path = tmp_path / "x.edgekit"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest_text(FILES))
        for name, data in FILES.items():
            archive.writestr(name, data + b"!")
    with pytest.raises(BundleError, match=r"x.edgekit: \S+ has \d+ bytes, the manifest says \d+"):
        open_bundle(path)


def test_no_space_to_unpack(archive: Path, temp: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        free = 10

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full)
    with pytest.raises(BundleError, match=r"no space to unpack b.edgekit: needs \d+ bytes in"):
        open_bundle(archive)


def test_zips_cut_or_changed_anywhere_are_refused(archive: Path, temp: Path, tmp_path: Path):
    data = archive.read_bytes()
    broken = tmp_path / "broken.edgekit"
    for cut in range(0, len(data), 97):
        broken.write_bytes(data[:cut])
        with pytest.raises(BundleError):
            open_bundle(broken)
    body = data.index(FILES["model.dat"])
    for at in range(0, len(data), 31):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        broken.write_bytes(changed)
        try:
            bundle = open_bundle(broken)
        except BundleError:
            continue
        # Dates and the like may change; content may not.
        assert not body <= at < body + len(FILES["model.dat"])
        bundle.close()
