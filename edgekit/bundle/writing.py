"""Write a bundle: a temporary sibling, then one rename. There is never half a bundle.

    1  .NAME.edgekit-new-HOST-PID-XXXX   written and flushed to disk
    2  NAME -> .NAME.edgekit-old-...     only with force, only for a folder
    3  .NAME.edgekit-new-... -> NAME
    4  .NAME.edgekit-old-... removed

A run that is killed leaves siblings behind. The next write to NAME, or open of a NAME that is
gone, recognises those whose process is gone: between 2 and 3 the old bundle is put back,
otherwise they are removed. A ``.edgekit`` file needs no step 2, since a rename replaces a file
in one go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekit.bundle import schema
from edgekit.bundle.golden import zip_entry
from edgekit.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    FileFacts,
    Manifest,
    manifest_to_json,
)
from edgekit.errors import BundleError, OutputExistsError

ZIP_SUFFIX = ".edgekit"
ASSEMBLY = "assembly.json"  # of a bundle of several graphs, see assembly.py

# Left in folders by file managers; of no value to anyone.
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_LEFTOVER = re.compile(r"\.edgekit-(new|old)-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
_STALE_SECONDS = 24 * 3600
_MAX_RACES = 20


def write_bundle(
    destination: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    force: bool,
) -> Path:
    """Write ``files`` and their manifest as a folder, or as a zip when the name ends in .edgekit.

    Args:
        destination: where; missing parents are made. An empty folder counts as nothing there.
        manifest: with or without ``files``, which is filled in here.
        files: content by name.
        force: replace the bundle that is there. What is not a bundle is never replaced.

    Returns:
        ``destination``, as a Path.

    Raises:
        OutputExistsError: something is there and ``force`` is not given.
        BundleError: no space, no permission, an invalid manifest, or ``force`` on what is not
            a bundle of edgekit. Nothing is left behind.
    """
    facts = {
        name: FileFacts(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()
    }
    text = manifest_to_json(dataclasses.replace(manifest, files=facts))
    content = {MANIFEST: text.encode("utf-8"), **dict(sorted(files.items()))}
    target = Path(os.path.realpath(destination))  # through a link: what it points to is replaced
    try:
        recover(target)
        check_destination(target, force=force)
        _write(target, content, force=force)
    except OSError as error:
        raise _explain(error, Path(destination), content) from error
    return Path(destination)


@contextlib.contextmanager
def placing(destination: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """A temporary sibling that becomes ``destination`` at the end; after an error it is gone.

    Raises:
        OutputExistsError, BundleError: as `write_bundle`.
    """
    check_placing(destination)
    target = Path(os.path.realpath(destination))
    made: list[Path] = []
    new = _sibling(target, "new")
    try:
        recover(target)
        check_destination(target, force=force)
        made = _make_parents(target.parent)
        new.mkdir()
        yield new
        _place_folder(new, target, force=force)
        _sync_folder(target.parent)
    except OSError as error:
        _take_back(new, made)
        raise _explain(error, Path(destination), {}) from error
    except BaseException:
        _take_back(new, made)
        raise


def check_placing(destination: str | os.PathLike[str]) -> None:
    """Refuse early what `placing` cannot make: a bundle of several graphs in one file.

    Raises:
        BundleError: it is to be one.
    """
    if os.fspath(destination).endswith(ZIP_SUFFIX):
        raise BundleError(
            f"a bundle of several graphs is a folder: give -o a name without {ZIP_SUFFIX}"
        )


def _take_back(new: Path, made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        _remove(new)
        for folder in made:
            folder.rmdir()


def check_destination(destination: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse early what ``write_bundle`` would refuse late, after minutes of work.

    Raises:
        OutputExistsError: something is there and ``force`` is not given.
        BundleError: ``force``, and what is there is not a bundle of edgekit.
    """
    target = Path(os.path.realpath(destination))
    if not os.path.lexists(target) or _is_empty_folder(target):
        return
    if not force:
        raise OutputExistsError(
            f"{str(destination)!r} exists: give --force (force=True) to replace it, "
            "or another -o (out)"
        )
    problem = _why_not_a_bundle(target)
    if problem:
        raise BundleError(
            f"--force replaces edgekit bundles only, and {str(destination)!r} {problem}: "
            "move it away, or give another -o (out)"
        )


def recover(target: Path) -> None:
    """Clean up after killed runs that wrote ``target``; put the old bundle back if it is gone."""
    for leftover, kind in _leftovers(target):
        if kind == "old" and not os.path.lexists(target):
            leftover.rename(target)
        else:
            _remove(leftover)


# ---- the write -------------------------------------------------------------------------------


def _write(target: Path, content: Mapping[str, bytes], *, force: bool) -> None:
    made = _make_parents(target.parent)
    new = _sibling(target, "new")
    try:
        if target.name.endswith(ZIP_SUFFIX):
            _write_zip(new, content)
            _place_file(new, target, force=force)
        else:
            _write_folder(new, content)
            _place_folder(new, target, force=force)
        _sync_folder(target.parent)
    except BaseException:
        _take_back(new, made)
        raise


def _write_folder(folder: Path, content: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in content.items():
        with (folder / name).open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    _sync_folder(folder)


def _write_zip(path: Path, content: Mapping[str, bytes]) -> None:
    """Stored, not deflated: weights hardly compress, and zlib's bytes differ between builds."""
    with path.open("xb") as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, data in content.items():
                archive.writestr(zip_entry(name), data)
        stream.flush()
        os.fsync(stream.fileno())


def _place_file(new: Path, target: Path, *, force: bool) -> None:
    if force:
        new.replace(target)
        return
    try:
        os.link(new, target)  # unlike a rename, it fails when someone else was first
    except FileExistsError:
        raise _lost_race(target) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _lost_race(target) from None
        new.rename(target)
        return
    new.unlink()


def _place_folder(new: Path, target: Path, *, force: bool) -> None:
    """Rename ``new`` to ``target``; with ``force``, after moving what is there out of the way."""
    for _ in range(_MAX_RACES):
        old = _move_away(target) if force else None
        try:
            new.rename(target)
        except OSError as error:
            if old is not None and not os.path.lexists(target):
                old.rename(target)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not force:
                raise _lost_race(target) from None
            # Another writer came in between: it is complete, so replace that one too.
        else:
            if old is not None:
                _remove(old)
            return
        if old is not None:
            _remove(old)
    raise BundleError(f"{str(target)!r} is being written by other processes: try again")


def _move_away(target: Path) -> Path | None:
    """Rename ``target`` to an old sibling; None when there is nothing to keep."""
    old = _sibling(target, "old")
    try:
        os.utime(target)  # or an old bundle would look like an old leftover
        target.rename(old)
    except FileNotFoundError:
        return None
    return old


def _lost_race(target: Path) -> OutputExistsError:
    return OutputExistsError(
        f"{str(target)!r} was written by another process meanwhile: "
        "give --force (force=True) to replace it, or another -o (out)"
    )


def _make_parents(parent: Path) -> list[Path]:
    """Make the missing parents; returns them, the innermost first."""
    missing = []
    at = parent
    while not at.exists():
        missing.append(at)
        at = at.parent
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def _explain(error: OSError, destination: Path, content: Mapping[str, bytes]) -> BundleError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = sum(map(len, content.values()))
        reason = "no space left on the device"
        reason += f": the bundle needs {need:,} bytes" if need else ""
    return BundleError(f"cannot write {str(destination)!r}: {reason}; nothing was left behind")


# ---- what is there ---------------------------------------------------------------------------


def _is_empty_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not any(path.iterdir())
    except FileNotFoundError:  # another writer has just taken it away
        return True


def _why_not_a_bundle(path: Path) -> str:
    """Why ``path`` may not be replaced, or "" if it is a bundle, damaged or not."""
    if path.is_dir():
        if path.name.endswith(ZIP_SUFFIX):
            return "is a folder"
        if (path / ASSEMBLY).is_file():
            return _why_not_an_assembly(path)
        try:
            listed = _listed_files((path / MANIFEST).read_bytes())
        except OSError:
            return f"has no {MANIFEST}"
        found = {entry.name for entry in path.iterdir()}
    else:
        if not path.name.endswith(ZIP_SUFFIX):
            return "is a file"
        try:
            with zipfile.ZipFile(path) as archive:
                with archive.open(MANIFEST) as stream:
                    listed = _listed_files(stream.read(MAX_MANIFEST_BYTES))
                found = set(archive.namelist())
        except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError):
            return f"is not a zip with a {MANIFEST}"
    if listed is None:
        return f"has a {MANIFEST} that is not edgekit's"
    foreign = sorted(found - listed - _JUNK)
    return f"holds files that are not the bundle's ({', '.join(foreign[:3])})" if foreign else ""


def _why_not_an_assembly(path: Path) -> str:
    """As `_why_not_a_bundle`, of a folder with an assembly."""
    try:
        document = schema.loads((path / ASSEMBLY).read_text(encoding="utf-8"))
        files, parts = ({*document[key]} for key in ("files", "parts"))
    except (OSError, ValueError, KeyError, TypeError):
        return f"has an {ASSEMBLY} that is not edgekit's"
    found = {entry.name for entry in path.iterdir()}
    foreign = sorted(found - files - parts - {ASSEMBLY} - _JUNK)
    if foreign:
        return f"holds files that are not the bundle's ({', '.join(foreign[:3])})"
    reasons = (_why_not_a_bundle(path / part) for part in sorted(parts & found))
    return next((why for why in reasons if why), "")


def _listed_files(manifest: bytes) -> set[str] | None:
    """Names that a manifest of any schema version lists, or None if it is not one."""
    try:
        document = schema.loads(manifest.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(document, dict) or not {"schema_version", "artifacts"} <= document.keys():
        return None
    files = document.get("files")
    return {MANIFEST, *files} if isinstance(files, dict) else None


# ---- leftovers -------------------------------------------------------------------------------


def _host() -> str:
    """This machine or container in eight digits: process ids mean nothing on another."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _sibling(target: Path, kind: str) -> Path:
    name = f".{target.name}.edgekit-{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.parent / name


def _leftovers(target: Path) -> list[tuple[Path, str]]:
    """Siblings of ``target`` whose writer is gone, the newest first."""
    prefix = f".{target.name}"
    found = []
    try:
        names = [entry.name for entry in target.parent.iterdir()]
    except OSError:
        return []
    for name in names:
        match = _LEFTOVER.fullmatch(name[len(prefix) :]) if name.startswith(prefix) else None
        if match and _is_dead(target.parent / name, host=match[2], pid=int(match[3])):
            found.append((target.parent / name, match[1]))
    return sorted(found, key=lambda item: _age(item[0]))


def _is_dead(path: Path, *, host: str, pid: int) -> bool:
    if _age(path) > _STALE_SECONDS:
        return True
    if host != _host() or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)  # signal 0 only asks whether the process is there
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
