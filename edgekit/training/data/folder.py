"""A folder of images: one folder a class, or just images where classes are not needed.

    ROOT/train/CLASS/*.jpg  ROOT/val/CLASS/*.jpg     as they are split (``valid``, ``test`` too)
    ROOT/CLASS/*.jpg                                 a tenth is held out, by a hash of the path
    ROOT/*.jpg                                       no classes: for training without labels

Hidden files are not seen, and classes are in the order of their names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.runtimes.preprocess import load_image
from edgekit.training.data.source import Splits
from edgekit.training.data.split import HELD_OUT, TRAIN, is_held_out

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class Folder:
    """Image files with their classes."""

    root: Path
    files: tuple[str, ...]  # below root
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    in_memory: bool = False
    augment: str = "photos"
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many images."""
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        """Decode a file."""
        return load_image(self.root / self.files[index])

    def label(self, index: int) -> int:
        """Number of its folder, -1 without classes."""
        return self.classes[index]

    def name(self, index: int) -> str:
        """Its path below the root."""
        return self.files[index]


def open_folder(root: Path) -> Splits:
    """The images below ``root``.

    Raises:
        UsageError: no such folder, no image, a class without images, classes that differ between
            the splits, or one file under two classes.
    """
    if not root.is_dir():
        raise UsageError(f"imagefolder:{root}: no such folder")
    train, held_out = _named(root, TRAIN), _named(root, HELD_OUT)
    if train is not None and held_out is not None:
        return _as_split(root, train, held_out)
    if held_out is not None and len([e for e in os.scandir(root) if _is_class(e)]) == 1:
        raise UsageError(f"imagefolder:{root}: {held_out} is there, and no train beside it")
    return _split_here(_scan(root, root if train is None else root / train))


def _named(root: Path, names: Sequence[str]) -> str | None:
    return next((name for name in names if (root / name).is_dir()), None)


def _as_split(root: Path, train: str, held_out: str) -> Splits:
    first, second = _scan(root, root / train), _scan(root, root / held_out)
    if first.labels != second.labels:
        only = sorted(set(first.labels) ^ set(second.labels))
        raise UsageError(
            f"imagefolder:{root}: {train} and {held_out} have different classes: "
            f"{', '.join(only[:4])}{' ...' if len(only) > 4 else ''} only in one of them"
        )
    both = [
        *zip(first.files, first.classes, strict=True),
        *zip(second.files, second.classes, strict=True),
    ]
    _refuse_two_labels(root, both, first.labels)
    return Splits(first, second)


def _split_here(whole: Folder) -> Splits:
    held = [is_held_out(name) for name in whole.files]
    train, held_out = (
        Folder(
            whole.root,
            tuple(name for name, out in zip(whole.files, held, strict=True) if out == wanted),
            tuple(kind for kind, out in zip(whole.classes, held, strict=True) if out == wanted),
            whole.labels,
        )
        for wanted in (False, True)
    )
    if not (train.files and held_out.files):
        raise UsageError(
            f"imagefolder:{whole.root}: {len(whole)} images are too few to hold a tenth out: give "
            "train and val folders"
        )
    return Splits(train, held_out)


def _scan(root: Path, folder: Path) -> Folder:
    """Every class below ``folder``, or its own images where there are no folders in it."""
    names = sorted(entry.name for entry in os.scandir(folder) if _is_class(entry))
    if not names:
        files = tuple(_images(root, folder))
        if not files:
            raise UsageError(f"imagefolder:{folder}: no folders with images, and no images")
        return Folder(root, files, (-1,) * len(files), ())
    found: list[tuple[str, int]] = []
    for number, name in enumerate(names):
        images = list(_images(root, folder / name))
        if not images:
            raise UsageError(
                f"imagefolder:{folder}: class {name!r} has no images "
                f"({', '.join(sorted(SUFFIXES))})"
            )
        found += [(image, number) for image in images]
    _refuse_two_labels(root, found, names)
    files, classes = zip(*found, strict=True)
    return Folder(root, files, classes, tuple(names))


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _images(root: Path, folder: Path) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield (Path(path) / name).relative_to(root).as_posix()


def _refuse_two_labels(root: Path, found: Sequence[tuple[str, int]], names: Sequence[str]) -> None:
    """The same bytes under two classes; only files of equal size are read."""
    by_size: dict[int, list[tuple[str, int]]] = {}
    for name, number in found:
        by_size.setdefault((root / name).stat().st_size, []).append((name, number))
    for group in by_size.values():
        if len({number for _, number in group}) < 2:
            continue
        seen: dict[bytes, tuple[str, int]] = {}
        for name, number in group:
            digest = hashlib.sha256((root / name).read_bytes()).digest()
            first, other = seen.setdefault(digest, (name, number))
            if other != number:
                raise UsageError(
                    f"imagefolder:{root}: {first} and {name} are the same file under two classes, "
                    f"{names[other]!r} and {names[number]!r}: keep one of them"
                )
