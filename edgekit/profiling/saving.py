"""Results as files: written beside and linked into place, and never over another.

A file system without links (FAT, many network shares) gets an empty file under the name first,
which nobody else can take then, and the result in its place.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import tempfile
from pathlib import Path

from edgekit.errors import InputError, UsageError
from edgekit.profiling.result import ProfileResult, result_to_json

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MOST = 1000  # results of one model, host and second


def check_folder(folder: Path) -> None:
    """Make ``folder`` and see that a file can be written there, before minutes are spent.

    Raises:
        UsageError: it is a file, or the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot save to {str(folder)!r}: {error.strerror or error}; "
            "give a folder that you may write to"
        ) from None


def save_result(result: ProfileResult, folder: Path) -> Path:
    """Write ``<model>-<target>-<host>-<UTC time>.json`` and return its path.

    Raises:
        InputError: the system refuses, e.g. no space is left; nothing half is left behind.
    """
    data = result_to_json(result).encode()
    try:
        return _link(data, folder, _stem(result))
    except OSError as error:
        raise InputError(
            f"cannot save the result in {str(folder)!r}: {error.strerror or error}"
        ) from None


def _stem(result: ProfileResult) -> str:
    host = platform.node() if result.device == "local" else result.device
    stamp = result.started.replace("-", "").replace(":", "")
    words = (result.model, result.facts.target, host, stamp)
    return "-".join(_UNSAFE.sub("_", word).strip("._-")[:60] or "unnamed" for word in words)


def _link(data: bytes, folder: Path, stem: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=".saving-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0o022)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        for number in range(1, _MOST + 1):
            path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.json"
            with contextlib.suppress(FileExistsError):
                _place(name, path)
                return path
        raise OSError(f"{_MOST} results of this second are there already")
    finally:
        Path(name).unlink(missing_ok=True)


def _place(name: str, path: Path) -> None:
    """Give the file ``name`` the name ``path``.

    Raises:
        FileExistsError: somebody has that.
    """
    try:
        os.link(name, path)  # fails where a rename would replace
    except FileExistsError:
        raise
    except OSError:
        path.open("xb").close()
        Path(name).replace(path)
