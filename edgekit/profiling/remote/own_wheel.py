"""A wheel of the edgekit that runs here, installed or a checkout: what a board gets is this one.

It is zipped, not built: no build backend, no network, and the same bytes for the same files.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import edgekit
from edgekit.bundle.golden import zip_entry

_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: {_TAG}\n"


def own_wheel() -> bytes:
    """The wheel."""
    info = f"edgekit-{edgekit.__version__}.dist-info"
    members = {
        **_package(Path(edgekit.__file__).parent),
        f"{info}/METADATA": _metadata().encode(),
        f"{info}/WHEEL": _WHEEL.encode(),
    }
    members[f"{info}/RECORD"] = _record(members, f"{info}/RECORD").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zip_entry(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _package(folder: Path) -> dict[str, bytes]:
    """Every file of the package by its name in the wheel; no caches, no hidden files, no links."""
    return {
        path.relative_to(folder.parent).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != ".pyc"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def _metadata() -> str:
    """That of the installed edgekit where it is this version; else the two lines that must be."""
    try:
        installed = importlib.metadata.distribution("edgekit")
        text = installed.read_text("METADATA") or installed.read_text("PKG-INFO")
        if text and installed.version == edgekit.__version__:
            return text
    except importlib.metadata.PackageNotFoundError:
        pass  # run from a checkout
    return f"Metadata-Version: 2.1\nName: edgekit\nVersion: {edgekit.__version__}\n"


def _record(members: Mapping[str, bytes], own_name: str) -> str:
    rows = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in members.items()]
    return "\n".join([*rows, f"{own_name},,"]) + "\n"


def _digest(data: bytes) -> str:
    """As RECORD has it: base64 of an URL, without padding (PEP 376, PEP 427)."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
