"""``golden.npz``: one input and the source network's output for it.

An ordinary ``.npz`` (``numpy.load`` opens it) with members ``inputs/<name>.npy`` and
``outputs/<name>.npy``. The writer is our own because ``numpy.savez`` stamps the time of day
into it and deflate differs between builds of zlib; this one gives the same bytes everywhere.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.bundle.manifest import TensorSpec
from edgekit.errors import BundleError

if TYPE_CHECKING:
    import numpy as np

MAX_MEMBERS = 256
MAX_BYTES = 1 << 30

# The earliest date a zip can hold, for every member: no times inside an artifact.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Golden:
    """Tensors by name, as the bundle's interface has them."""

    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: Mapping[str, np.ndarray[Any, Any]]


def golden_bytes(
    inputs: Mapping[str, np.ndarray[Any, Any]], outputs: Mapping[str, np.ndarray[Any, Any]]
) -> bytes:
    """``golden.npz`` of these tensors, byte for byte the same for the same tensors."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for folder, tensors in (("inputs", inputs), ("outputs", outputs)):
            for name, tensor in sorted(tensors.items()):
                member = io.BytesIO()
                np.lib.format.write_array(
                    member, np.asarray(tensor, order="C"), version=(1, 0), allow_pickle=False
                )
                archive.writestr(zip_entry(f"{folder}/{name}.npy"), member.getvalue())
    return buffer.getvalue()


def zip_entry(name: str) -> zipfile.ZipInfo:
    """A plain, stored, undated member: what every zip that edgekit writes is made of."""
    entry = zipfile.ZipInfo(name, ZIP_EPOCH)
    entry.create_system = 3  # unix, wherever it was written
    entry.external_attr = 0o100644 << 16
    return entry


def check_npz(data: bytes) -> None:
    """Refuse an ``.npz`` that is a bomb, before numpy reads it.

    Raises:
        BundleError: not a zip, too many members, or they unpack to too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(f"golden.npz is not an .npz file: {error}") from None
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_MEMBERS or total > MAX_BYTES:
        raise BundleError(
            f"golden.npz unpacks to {len(entries)} tensors and {total} bytes: "
            f"at most {MAX_MEMBERS} and {MAX_BYTES} are accepted"
        )


def read_golden(
    data: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Golden:
    """Parse ``golden.npz`` and check that it has exactly the manifest's tensors.

    Raises:
        BundleError: damaged, pickled, or tensors that are not the manifest's.
    """
    import numpy as np

    check_npz(data)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            tensors = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise BundleError(f"golden.npz cannot be read: {error}") from None
    golden = Golden(_take(tensors, "inputs", inputs), _take(tensors, "outputs", outputs))
    if tensors:
        raise BundleError(f"golden.npz has tensors the manifest lacks: {', '.join(tensors)}")
    return golden


def _take(
    tensors: dict[str, np.ndarray[Any, Any]], folder: str, specs: tuple[TensorSpec, ...]
) -> dict[str, np.ndarray[Any, Any]]:
    """Move the tensors of ``folder`` out of ``tensors``, each checked against its spec."""
    taken = {}
    for spec in specs:
        tensor = tensors.pop(f"{folder}/{spec.name}", None)
        if tensor is None:
            raise BundleError(f"golden.npz lacks {folder}/{spec.name}")
        fits = len(tensor.shape) == len(spec.shape) and all(
            want in (-1, got) for want, got in zip(spec.shape, tensor.shape, strict=True)
        )
        if tensor.dtype.name != spec.dtype or not fits:
            raise BundleError(
                f"golden.npz: {folder}/{spec.name} is {tensor.dtype.name} {tensor.shape}, "
                f"the manifest says {spec.dtype} {spec.shape}"
            )
        taken[spec.name] = tensor
    return taken
