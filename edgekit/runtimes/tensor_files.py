"""Tensors in ``.npy`` and ``.npz`` files: fed as they are, saved whole or not at all.

.npy   the only input of a model
.npz   one member per input, of the same name
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.bundle import TensorSpec
from edgekit.errors import InputError, OutputExistsError, UsageError
from edgekit.runtimes.session import Array

SUFFIXES = (".npy", ".npz")


def read_tensors(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The arrays of a file by input name. Whether they fit is for ``Session.run`` to say.

    Raises:
        InputError: missing, damaged, pickled, or one array for several inputs.
    """
    try:
        with path.open("rb") as file:
            # mmap_mode would be refused for .npz; a lying header costs an error, not memory.
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {_only(path, inputs): content}
            with content:
                return {name: content[name] for name in content.files}
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        # numpy takes whatever is no .npy for a pickle, and tells how to load it unsafely.
        why = "" if "unsafely" in str(error) else f": {error}"
        raise InputError(f"{str(path)!r} is no .npy or .npz of plain arrays{why}") from error


def _only(path: Path, inputs: Sequence[TensorSpec]) -> str:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise InputError(f"{str(path)!r} is one array and the model takes {names}: give an .npz")
    return inputs[0].name


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a name for ``save_tensors`` before anything slow is done.

    Raises:
        UsageError: not a ``.npz``.
        OutputExistsError: it exists and ``force`` is not given.
    """
    if path.suffix != ".npz":
        raise UsageError(f"tensors are saved as .npz, got {str(path)!r}")
    if os.path.lexists(path) and (path.is_dir() or not force):
        raise OutputExistsError(f"{str(path)!r} exists: give --force (force=True) to replace it")


def _umask() -> int:
    """The umask, which can only be read by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def save_tensors(path: Path, tensors: Mapping[str, Array], *, force: bool) -> None:
    """Write ``tensors`` by name as an ``.npz``: a temporary sibling, then one rename.

    Raises:
        UsageError, OutputExistsError: as ``check_free``.
        InputError: the folder is missing, full or not writable; nothing is left behind.
    """
    check_free(path, force=force)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # a temporary file is for its owner alone
            # Not numpy.savez: an output may be called "file", which is its first parameter.
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, tensor in tensors.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, tensor, allow_pickle=False)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
