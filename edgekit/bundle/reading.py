"""Open a bundle: everything is verified before anything else sees a file.

    folder   manifest -> each listed file: plain file, size, sha256, structure
    .edgekit names and sizes of the directory -> manifest -> the listed files only are
             unpacked, byte-counted, into a private folder -> the same as a folder

What is hostile is refused: links, names that leave the folder, devices, sizes and checksums
that differ, zip bombs. What is merely extra is ignored: a file that the manifest does not
list is never opened (``Bundle.extra`` names it). A hard link is a plain file here: its
content is under the manifest's sha256 like any other, so there is nothing it could show.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

from edgekit.bundle.checks import check_structure, needs_check
from edgekit.bundle.golden import Golden, read_golden
from edgekit.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    is_safe_file_name,
    manifest_from_json,
)
from edgekit.bundle.writing import ASSEMBLY, recover
from edgekit.errors import BundleError, UnknownNameError

MAX_BUNDLE_BYTES = 4 << 30
MAX_LABELS = 1 << 20
# Weights hardly compress: what unpacks to a hundred times the archive is no bundle.
MAX_ZIP_RATIO = 100
ZIP_RATIO_FLOOR = 64 << 20

_CHUNK = 1 << 20


class Bundle:
    """A bundle that has been verified. Use as a context manager, or ``close`` it.

    Attributes:
        path: what was opened, the folder or the ``.edgekit`` file.
        manifest: its ``manifest.json``.
        extra: names found beside the listed files; they are never opened.
    """

    def __init__(self, path: Path, folder: Path, manifest: Manifest, extra: tuple[str, ...]):
        self.path, self.manifest, self.extra = path, manifest, extra
        self._folder = folder
        self._remove = (
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            if folder != path
            else None
        )

    def file(self, name: str) -> Path:
        """Where the listed file ``name`` lies.

        Raises:
            UnknownNameError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise UnknownNameError("file of the bundle", name, self.manifest.files)
        return self._folder / name

    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the output's classes; empty when there are none.

        Raises:
            BundleError: not UTF-8, too many, or one has control characters.
        """
        if self.manifest.labels is None:
            return ()
        return parse_labels(self.manifest.labels, self.file(self.manifest.labels).read_bytes())

    def golden(self) -> Golden:
        """The golden input and the source network's output for it.

        Raises:
            BundleError: damaged, or not the tensors of the manifest.
        """
        data = self.file(self.manifest.golden).read_bytes()
        return read_golden(data, self.manifest.inputs, self.manifest.outputs)

    def close(self) -> None:
        """Remove the private folder of an opened ``.edgekit`` file."""
        if self._remove is not None:
            self._remove()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.model.id}, {self.manifest.target})"


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open and verify a bundle: a folder or an ``.edgekit`` file.

    Raises:
        BundleError: missing, damaged, hostile, or written by a newer edgekit.
    """
    where = Path(path)
    try:
        if not os.path.lexists(where):
            recover(where)
        if where.is_dir():
            return _open_folder(where)
        if where.is_file():
            return _open_zip(where)
    except OSError as error:
        raise BundleError(f"cannot open bundle {str(where)!r}: {error.strerror or error}") from None
    if os.path.lexists(where):
        raise BundleError(f"cannot open bundle {str(where)!r}: neither a folder nor a plain file")
    raise BundleError(
        f"no bundle at {str(where)!r}: give the folder or .edgekit file that "
        "`edgekit export MODEL --target TARGET` wrote"
    )


def parse_labels(name: str, data: bytes) -> tuple[str, ...]:
    """One label a line, UTF-8. Labels are printed to terminals: control characters are refused.

    Raises:
        BundleError: not UTF-8, too many, or one has control characters.
    """
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{name} is not UTF-8: {error}") from None
    if len(lines) > MAX_LABELS:
        raise BundleError(f"{name} has {len(lines)} lines: at most {MAX_LABELS} are accepted")
    labels = tuple(line.removesuffix("\r") for line in lines)
    for number, label in enumerate(labels, 1):
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in label):
            raise BundleError(f"{name} line {number} has a control character: {label!r}")
    return labels


# ---- folder ----------------------------------------------------------------------------------


def _open_folder(folder: Path) -> Bundle:
    if (folder / ASSEMBLY).is_file():
        raise BundleError(
            f"{str(folder)!r} is a bundle of several graphs: edgekit run, profile, evaluate take "
            "it whole, in Python edgekit.load and edgekit.profiling.stages.profile_stages; each "
            "folder in it is a bundle by itself"
        )
    if not os.path.lexists(folder / MANIFEST):
        raise BundleError(
            f"{str(folder)!r} is not an edgekit bundle: it has no {MANIFEST}, nor {ASSEMBLY}"
        )
    with open_plain(folder / MANIFEST) as stream:
        manifest = _read_manifest(stream)
    for name, facts in sorted(manifest.files.items()):
        with open_plain(folder / name) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != facts.bytes:
                raise BundleError(
                    f"{name} has {size} bytes, the manifest says {facts.bytes}: "
                    "the bundle is damaged; copy or export it again"
                )
            verify(name, stream, facts.sha256)
    listed = {MANIFEST, *manifest.files}
    extra = tuple(sorted({entry.name for entry in folder.iterdir()} - listed))
    return Bundle(folder, folder, manifest, extra)


def open_plain(path: Path) -> IO[bytes]:
    """Open a regular file that is not a link, and never block on a pipe or device.

    Raises:
        BundleError: something else, or it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise BundleError(f"{path.name} is a link: a bundle holds its own files")
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise BundleError(f"{path.name} is listed in {MANIFEST} but is not there") from None
    except OSError as error:
        raise BundleError(f"{path.name} cannot be opened: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"{path.name} is not a plain file")
    return os.fdopen(handle, "rb")


def _read_manifest(stream: IO[bytes]) -> Manifest:
    data = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = manifest_from_json(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST} is not UTF-8: {error}") from None
    total = sum(facts.bytes for facts in manifest.files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{MANIFEST} lists {total} bytes of files: at most {MAX_BUNDLE_BYTES} are accepted"
        )
    return manifest


def verify(name: str, stream: IO[bytes], sha256: str) -> None:
    """Check sha256, then structure, of one file of the right size.

    Raises:
        BundleError: one of them is wrong.
    """
    if needs_check(name):
        data = stream.read()
        _compare(name, hashlib.sha256(data).hexdigest(), sha256)
        check_structure(name, data)
        return
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    _compare(name, digest.hexdigest(), sha256)


def _compare(name: str, got: str, want: str) -> None:
    if got != want:
        raise BundleError(
            f"{name} has sha256 {got[:12]}..., the manifest says {want[:12]}...: "
            "the bundle is damaged or was changed; copy or export it again"
        )


# ---- zip -------------------------------------------------------------------------------------


def _open_zip(path: Path) -> Bundle:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _safe_entries(path.name, archive.infolist())
            with archive.open(_manifest_entry(path.name, entries)) as stream:
                manifest = _read_manifest(stream)
            _check_sizes(path, manifest, entries)
            return _unpack(path, archive, manifest, entries)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise BundleError(f"{path.name} is not a readable .edgekit zip: {error}") from None
    except OSError as error:
        raise BundleError(f"cannot unpack {path.name}: {error.strerror or error}") from None


def _safe_entries(where: str, infos: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Entries by name; refuses what only an attack or an accident puts into a zip."""
    entries: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        problem = next((why for why, is_so in _ENTRY_RULES if is_so(info)), "")
        if not problem and info.filename.lower() in seen:
            problem = "is there twice"
        if problem:
            raise BundleError(f"{where}: member {info.orig_filename!r} {problem}")
        seen.add(info.filename.lower())
        entries[info.filename] = info
    return entries


def _leaves_the_folder(info: zipfile.ZipInfo) -> bool:
    # orig_filename: zipfile itself cuts at a NUL and turns backslashes on Windows.
    name = info.orig_filename
    parts = name.split("/")
    return (
        name.startswith("/")
        or ".." in parts
        or any(c in name for c in "\\:\0")
        or not name.isprintable()
    )


def _is_special(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 when written on a system without modes
    return kind not in (0, stat.S_IFREG, stat.S_IFDIR)


_ENTRY_RULES = (
    ("has a name that leaves the folder", _leaves_the_folder),
    ("is a link or a device", _is_special),
    ("is encrypted", lambda info: bool(info.flag_bits & 0x1)),
    (
        "is neither stored nor deflated",
        lambda info: info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    ),
)


def _manifest_entry(where: str, entries: dict[str, zipfile.ZipInfo]) -> zipfile.ZipInfo:
    if MANIFEST in entries:
        return entries[MANIFEST]
    inside = [name for name in entries if name.endswith("/" + MANIFEST)]
    hint = f" (found {inside[0]!r}: zip what is in the folder, not the folder)" if inside else ""
    raise BundleError(f"{where} is not an edgekit bundle: it has no {MANIFEST}{hint}")


def _check_sizes(path: Path, manifest: Manifest, entries: dict[str, zipfile.ZipInfo]) -> None:
    """Compare declared sizes with the manifest, and their sum with the archive and the disk."""
    for name, facts in manifest.files.items():
        if name not in entries:
            raise BundleError(f"{name} is listed in {MANIFEST} but is not in {path.name}")
        if entries[name].file_size != facts.bytes:
            raise BundleError(
                f"{path.name}: {name} has {entries[name].file_size} bytes, "
                f"the manifest says {facts.bytes}"
            )
    total = sum(facts.bytes for facts in manifest.files.values())
    if total > max(ZIP_RATIO_FLOOR, MAX_ZIP_RATIO * path.stat().st_size):
        raise BundleError(
            f"{path.name} unpacks to {total} bytes from {path.stat().st_size}: "
            "it looks like a zip bomb and is not opened"
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if total > free:
        raise BundleError(
            f"no space to unpack {path.name}: needs {total} bytes in {tempfile.gettempdir()!r}, "
            f"{free} are free; set TMPDIR to another disk, or unzip the bundle and open the folder"
        )


def _unpack(
    path: Path,
    archive: zipfile.ZipFile,
    manifest: Manifest,
    entries: dict[str, zipfile.ZipInfo],
) -> Bundle:
    folder = Path(tempfile.mkdtemp(prefix="edgekit-"))  # readable by this user only
    try:
        for name, facts in sorted(manifest.files.items()):
            _unpack_one(archive, entries[name], folder / name, facts.bytes)
            with open_plain(folder / name) as stream:
                verify(name, stream, facts.sha256)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    extra = tuple(sorted(entries.keys() - manifest.files.keys() - {MANIFEST}))
    return Bundle(path, folder, manifest, extra)


def _unpack_one(archive: zipfile.ZipFile, info: zipfile.ZipInfo, to: Path, size: int) -> None:
    """Unpack one member, never a byte more than the manifest says."""
    assert is_safe_file_name(info.filename)  # the manifest's schema saw to it
    left = size
    with archive.open(info) as source, to.open("xb") as target:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BundleError(f"{info.filename} unpacks to more than its {size} bytes")
            target.write(chunk)
    if left:
        raise BundleError(f"{info.filename} unpacks to {size - left} bytes instead of {size}")
