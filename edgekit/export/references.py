"""Bundles of the reference networks, built once on this machine and kept.

    EDGEKIT_CACHE (default ~/.cache/edgekit)
      references/<model>-<size>-<target>-<digest>    a bundle
      references/<same>.lock                         two processes build it once

Weights are random and seeded: they bear on no time. The digest is of everything that decides
the bytes: the network, its size, target and runtimes, the versions of the tools and edgekit's own
source. A bundle is verified, file by file, before it is used again; one that is damaged is built
again. A board needs no torch for any of this: it is sent the bundles.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import edgekit
from edgekit import optional
from edgekit.bundle import open_bundle
from edgekit.errors import BundleError, EdgekitError
from edgekit.export.tools import tool_versions
from edgekit.profiling.references import REFERENCES, ReferenceNet
from edgekit.targets import get_target

SEED = 0
_DIGITS = 16  # of the sha256
_MAKES_BUNDLES = (
    "bundle/**/*.py",
    "export/**/*.py",
    "models/**/*.py",
    "profiling/count*.py",
    "targets.py",
)


def build_references(
    target: str, runtimes: Collection[str], *, progress: Callable[[str], None] = lambda _: None
) -> tuple[Path, ...]:
    """Bundles of `REFERENCES` for ``target``, from the cache or built now, in their order.

    Args:
        target: a row of ``edgekit targets``.
        runtimes: that will be timed; of them the target's get an artifact, the first of the
            target where none is its own.
        progress: called with one line per stage.

    Raises:
        MissingDependencyError: torch or another tool of the export is not installed.
        UnknownNameError: no such target.
        BundleError: the cache cannot be written.
    """
    served = get_target(target).runtimes
    wanted = tuple(name for name in served if name in runtimes) or served[:1]
    return tuple(_cached(row, target, wanted, progress) for row in REFERENCES)


def _cached(
    row: ReferenceNet, target: str, runtimes: tuple[str, ...], progress: Callable[[str], None]
) -> Path:
    name = f"{row.model_id}-{row.image_size}-{target}-{_digest(row, target, runtimes)}"
    path = _folder() / name
    waiting = f"wait for another process that builds {row.name}"
    with _locked(path.with_name(f"{name}.lock"), lambda: progress(waiting)):
        if not _is_whole(path, progress):
            _build(row, target, runtimes, path, progress)
    return path


def _is_whole(path: Path, progress: Callable[[str], None]) -> bool:
    """Whether a bundle is there and every file of it has its sha256; what is not is removed."""
    if not os.path.lexists(path):
        return False
    try:
        open_bundle(path).close()
    except BundleError as error:
        progress(f"the cached {path.name} is built again: {error}")
        _remove(path)
        return False
    return True


def _build(
    row: ReferenceNet,
    target: str,
    runtimes: tuple[str, ...],
    path: Path,
    progress: Callable[[str], None],
) -> None:
    for package in ("torch", "onnx", "onnxscript", "onnx_ir"):
        optional.require(package, f"building the reference network {row.name}")
    # Late: it imports torch, which a board does not have and which takes seconds.
    from edgekit.export.pipeline import export_zoo

    progress(f"build {row.name} for {target}, once")
    export_zoo(
        row.model_id,
        target,
        weights="random",
        out=path,
        image_size=row.image_size,
        skip=[name for name in get_target(target).runtimes if name not in runtimes],
        seed=SEED,
        progress=progress,
    )


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise _unusable(path, error) from error


# ---- the cache -------------------------------------------------------------------------------


def _folder() -> Path:
    named = os.environ.get("EDGEKIT_CACHE") or "~/.cache/edgekit"
    try:
        return Path(named).expanduser() / "references"
    except RuntimeError:
        raise EdgekitError(
            "there is no home folder to keep reference networks in: set EDGEKIT_CACHE to a folder"
        ) from None


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """This process alone, until it leaves or dies."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _unusable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"reference networks cannot be kept in {str(path.parent)!r}: {error.strerror or error}: "
        "set EDGEKIT_CACHE to a folder that can be written"
    )


def _digest(row: ReferenceNet, target: str, runtimes: tuple[str, ...]) -> str:
    """Of all that decides the bytes of the bundle."""
    decides = {
        "model": row.model_id,
        "image_size": row.image_size,
        "target": target,
        "runtimes": runtimes,
        "seed": SEED,
        "tools": tool_versions(runtimes),
        "source": _source_digest(),
    }
    text = json.dumps(decides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _source_digest() -> str:
    """Of edgekit's own files: between two releases the version alone says nothing."""
    digest = hashlib.sha256()
    root = Path(edgekit.__file__).parent
    for path in sorted(path for pattern in _MAKES_BUNDLES for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
