"""Tar shards as WebDataset writes them: ``KEY.jpg`` and ``KEY.cls`` one after the other.

    shards:FOLDER      FOLDER/*.tar; train*.tar and val*.tar are the two parts if both are there,
                       else a tenth of the keys is held out by their hash
    FOLDER/classes.txt names of the classes, one a line; without it ``.cls`` is a name or a number

Shards are read once to find where each image lies, and never unpacked: an image is read from its
place in the file, in any order, by any worker.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle.reading import parse_labels
from edgekit.errors import BundleError, InputError, UsageError
from edgekit.runtimes.preprocess import load_image
from edgekit.training.data.folder import SUFFIXES
from edgekit.training.data.source import Splits
from edgekit.training.data.split import HELD_OUT, TRAIN, is_held_out

if TYPE_CHECKING:
    from PIL import Image

_MOST_CLASS_BYTES = 256
_MOST_IMAGE_BYTES = 256 << 20


@dataclass(frozen=True)
class Sample:
    """Where an image lies.

    Attributes:
        shard: which file.
        offset: of its bytes in the file.
        size: of them.
        text: what its ``.cls`` says, "" without one.
        key: its name in the shard.
    """

    shard: Path
    offset: int
    size: int
    text: str
    key: str


@dataclass(frozen=True)
class Shards:
    """Images in tar files."""

    samples: tuple[Sample, ...]
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    in_memory: bool = False
    augment: str = "photos"
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many images."""
        return len(self.samples)

    def read(self, index: int) -> Image.Image:
        """Decode what lies in its place."""
        sample = self.samples[index]
        try:
            with sample.shard.open("rb") as file:
                file.seek(sample.offset)
                return load_image(file.read(sample.size))
        except OSError as error:
            raise InputError(f"{self.name(index)}: {error.strerror or error}") from error

    def label(self, index: int) -> int:
        """Number of its class, -1 where no image has one."""
        return self.classes[index]

    def name(self, index: int) -> str:
        """Shard and key."""
        sample = self.samples[index]
        return f"{sample.shard.name}/{sample.key}"


def open_shards(folder: Path) -> Splits:
    """The images of the shards in ``folder``.

    Raises:
        UsageError: no such folder, no shards, a damaged one, or classes that do not fit.
    """
    if not folder.is_dir():
        raise UsageError(f"shards:{folder}: no such folder")
    paths = sorted(folder.glob("*.tar"))
    samples = [sample for path in paths for sample in _scan(path)]
    if not samples:
        raise UsageError(f"shards:{folder}: no .tar files with images")
    labels, numbers = _classes(folder, samples)
    rows = list(zip(samples, numbers, strict=True))
    train, held_out = (
        Shards(tuple(s for s, _ in part), tuple(n for _, n in part), labels)
        for part in _split(rows, paths)
    )
    if not (len(train) and len(held_out)):
        raise UsageError(
            f"shards:{folder}: {len(samples)} images are too few to hold a tenth out: name shards "
            "train*.tar and val*.tar"
        )
    return Splits(train, held_out)


_Row = tuple[Sample, int]


def _split(rows: Sequence[_Row], paths: Sequence[Path]) -> tuple[list[_Row], list[_Row]]:
    """By the names of the shards, or by the hashes of the keys."""
    train, held_out = _of(paths, TRAIN), _of(paths, HELD_OUT)
    if train and held_out:
        return (
            [row for row in rows if row[0].shard in train],
            [row for row in rows if row[0].shard in held_out],
        )
    return (
        [row for row in rows if not is_held_out(row[0].key)],
        [row for row in rows if is_held_out(row[0].key)],
    )


def _of(paths: Sequence[Path], names: Sequence[str]) -> list[Path]:
    return [path for path in paths if path.name.startswith(tuple(names))]


def _scan(path: Path) -> Iterator[Sample]:
    """Images in the order of the file, each with the class that stands beside it."""
    images: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, _, suffix = member.name.rpartition(".")
                if not member.isreg():
                    continue
                if f".{suffix.lower()}" in SUFFIXES and member.size <= _MOST_IMAGE_BYTES:
                    images[stem] = member
                elif suffix == "cls" and member.size <= _MOST_CLASS_BYTES:
                    file = archive.extractfile(member)
                    assert file is not None  # a regular member has its bytes
                    texts[stem] = file.read().decode("utf-8").strip()
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a tar shard: {error}") from error
    for stem, member in images.items():
        yield Sample(path, member.offset_data, member.size, texts.get(stem, ""), member.name)


def _classes(folder: Path, samples: Sequence[Sample]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes, and the number of each sample's."""
    texts = [sample.text for sample in samples]
    if not any(texts):
        return (), [-1] * len(texts)
    if not all(texts):
        lacks = next(sample for sample in samples if not sample.text)
        raise UsageError(f"{lacks.shard}: {lacks.key} has no .cls beside it, and others have")
    labels = _labels(folder, texts)
    numbers = {name: number for number, name in enumerate(labels)}
    numbers |= {str(number): number for number in range(len(labels)) if str(number) not in numbers}
    unknown = next((text for text in texts if text not in numbers), None)
    if unknown is not None:
        raise UsageError(f"shards:{folder}: class {unknown[:80]!r} is not in classes.txt")
    return labels, [numbers[text] for text in texts]


def _labels(folder: Path, texts: Sequence[str]) -> tuple[str, ...]:
    file = folder / "classes.txt"
    try:
        if file.is_file():
            return parse_labels(file.name, file.read_bytes())
        if all(text.isdecimal() and text.isascii() and int(text) < 100_000 for text in texts):
            return tuple(f"class {n}" for n in range(max(map(int, texts)) + 1))
        return parse_labels("the classes", "\n".join(sorted(set(texts))).encode())
    except BundleError as error:
        raise UsageError(f"shards:{folder}: {error}") from error
