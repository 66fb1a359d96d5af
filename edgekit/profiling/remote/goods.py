"""What is pushed to a board: bundles, images and wheels, each named by its sha256.

    kind      digest of            files
    bundles   manifest.json        the manifest and what it lists
    images    the image            one
    wheels    the wheel            one; unpacked there

A board that has the digest is not sent it again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgekit.bundle import MANIFEST, Bundle, manifest_to_json
from edgekit.errors import InputError

BUNDLES, IMAGES, WHEELS = "bundles", "images", "wheels"
MAX_IMAGE_BYTES = 64 << 20
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Item:
    """One file: its name there, size, sha256, and how to read it here."""

    name: str
    size: int
    sha256: str
    open: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Goods:
    """One thing a board needs. ``needs`` is bytes of its disk."""

    kind: str
    digest: str
    items: tuple[Item, ...]
    needs: int

    @property
    def size(self) -> int:
        """To be sent."""
        return sum(item.size for item in self.items)

    def document(self) -> dict[str, Any]:
        """As the agent takes it."""
        files = [
            {"name": item.name, "bytes": item.size, "sha256": item.sha256} for item in self.items
        ]
        return {"kind": self.kind, "digest": self.digest, "files": files, "needs": self.needs}

    def chunks(self) -> Iterator[bytes]:
        """The content of all files, one after the other."""
        for item in self.items:
            yield from item.open()


def bundle_goods(bundle: Bundle) -> Goods:
    """An opened, so verified, bundle. It must stay open until it is sent."""
    first = _item_of_bytes(MANIFEST, manifest_to_json(bundle.manifest).encode())
    listed = [
        Item(name, facts.bytes, facts.sha256, _reader(bundle.file(name)))
        for name, facts in sorted(bundle.manifest.files.items())
    ]
    items = (first, *listed)
    return Goods(BUNDLES, first.sha256, items, sum(item.size for item in items))


def image_goods(path: Path) -> Goods:
    """An image of the user's. Its name there is ours.

    Raises:
        InputError: unreadable, or larger than any image.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_IMAGE_BYTES else b""
    except OSError as error:
        raise InputError(f"cannot read image {str(path)!r}: {error.strerror}") from None
    if size > MAX_IMAGE_BYTES:
        raise InputError(
            f"image {str(path)!r} has {size} bytes: at most {MAX_IMAGE_BYTES} are sent"
        )
    item = _item_of_bytes("image", data)
    return Goods(IMAGES, item.sha256, (item,), item.size)


def wheel_goods(path: Path) -> Goods:
    """A wheel on this machine."""
    with path.open("rb") as file:
        digest = _digest(file)
        unpacked = _unpacked(file)
    size = path.stat().st_size
    item = Item("wheel.whl", size, digest, _reader(path))
    return Goods(WHEELS, digest, (item,), unpacked + size)


def wheel_goods_of_bytes(data: bytes) -> Goods:
    """A wheel in memory."""
    item = _item_of_bytes("wheel.whl", data)
    return Goods(WHEELS, item.sha256, (item,), _unpacked(io.BytesIO(data)) + item.size)


def _unpacked(wheel: IO[bytes]) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(info.file_size for info in archive.infolist())


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _item_of_bytes(name: str, data: bytes) -> Item:
    return Item(name, len(data), hashlib.sha256(data).hexdigest(), lambda: iter((data,)))


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return read
