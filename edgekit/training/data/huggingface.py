"""Data sets of Hugging Face's library that are on this machine: nothing is downloaded.

    hf:FOLDER    FOLDER/*.parquet or *.arrow, by part as their names begin (train-*, test-* ...), or
                 what ``save_to_disk`` wrote

The image is the first column of images or of bytes, the class the column ``label`` or the only one
of class labels. Images are decoded here, as everywhere in edgekit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.optional import require
from edgekit.training.data.columns import decode, name_classes
from edgekit.training.data.source import Splits
from edgekit.training.data.split import by_part, is_held_out, train_and_held_out

if TYPE_CHECKING:
    from PIL import Image

_KINDS = ("parquet", "arrow")


@dataclass(frozen=True)
class Rows:
    """Rows of one part of a data set."""

    table: Any
    indices: tuple[int, ...]
    image: str  # the column
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    part: str
    in_memory: bool = False
    augment: str = "photos"
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many images."""
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        """Decode the bytes of its row."""
        cell = self.table[self.indices[index]][self.image]
        return decode(cell, self.name(index), self.image)

    def label(self, index: int) -> int:
        """Its class, -1 without classes."""
        return self.classes[index]

    def name(self, index: int) -> str:
        """Part and row."""
        return f"{self.part} row {self.indices[index]}"


def open_huggingface(folder: Path) -> Splits:
    """The data set in ``folder``.

    Raises:
        UsageError: no such folder, no data set, or no column of images.
        MissingDependencyError: the library is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"hf:{folder}: no such folder (data sets are not downloaded)")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    datasets = require("datasets", "reading a data set of Hugging Face")
    datasets.disable_progress_bars()
    parts = _parts(datasets, folder)
    train, other = train_and_held_out(parts)
    held_out = other or train
    sides = (None, None) if other else (False, True)
    chosen = [
        (name, _chosen(parts[name], name, side))
        for name, side in zip((train, held_out), sides, strict=True)
    ]
    image, label = _columns(datasets, parts[train])
    columns = [_values(parts[name], label, rows) for name, rows in chosen]
    kind = parts[train].features.get(label)
    declared = kind.names if isinstance(kind, datasets.ClassLabel) else ()
    labels, classes = name_classes(f"hf:{folder}", columns, declared)
    return Splits(
        *(
            Rows(_undecoded(datasets, parts[name], image), rows, image, numbers, labels, name)
            for (name, rows), numbers in zip(chosen, classes, strict=True)
        )
    )


def _parts(datasets: Any, folder: Path) -> dict[str, Any]:
    """Tables by the name of their part."""
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = datasets.load_from_disk(str(folder))
            return dict(found) if isinstance(found, dict) else {"train": found}
        for kind in _KINDS:
            files = by_part(sorted(folder.rglob(f"*.{kind}")))
            if files:
                named = {part: [str(file) for file in of] for part, of in files.items()}
                return dict(datasets.load_dataset(kind, data_files=named))
    # The library raises dozens of types of its own and of pyarrow's.
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UsageError(f"hf:{folder} cannot be read: {first}") from error
    raise UsageError(f"hf:{folder}: no {' or '.join(f'*.{kind}' for kind in _KINDS)} in it")


def _chosen(table: Any, part: str, held_out: bool | None) -> tuple[int, ...]:
    """Rows of a side; all of them with None."""
    rows = tuple(
        row
        for row in range(len(table))
        if held_out is None or is_held_out(f"{part}/{row}") == held_out
    )
    if not rows:
        raise UsageError(f"{part} has {len(table)} rows: too few to hold a tenth out")
    return rows


def _undecoded(datasets: Any, table: Any, image: str) -> Any:
    if isinstance(table.features[image], datasets.Image):
        return table.cast_column(image, datasets.Image(decode=False))
    return table


def _columns(datasets: Any, table: Any) -> tuple[str, str]:
    """Of the image, and of the class or ""."""
    features = table.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    images += [name for name, kind in features.items() if getattr(kind, "dtype", "") == "binary"]
    if not images:
        raise UsageError(f"no column of images among {', '.join(features)}")
    named = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    label = "label" if "label" in features else (named[0] if len(named) == 1 else "")
    return images[0], label


def _values(table: Any, label: str, rows: tuple[int, ...]) -> list[object]:
    """What stands in the column of classes; None everywhere where there is no such column."""
    if not label:
        return [None] * len(rows)
    values = table[label][:]
    return [values[row] for row in rows]
