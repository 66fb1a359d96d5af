"""Parquet files read where they lie: no copy of them is made, and training begins at once.

    hf-stream:FOLDER    FOLDER/*.parquet, by part as their names begin (train-*, test-* ...)

`hf:` has the library of Hugging Face convert such files into its cache first. Here the classes are
read when the data set is opened, and images by row group when their turn comes. Row groups are
shuffled, and rows within a few of them: `Plan` keeps to that, see ``ImageSource.blocks``. The order
remains a function of the seed and the step, which a stream with a buffer does not give.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, UsageError
from edgekit.optional import require
from edgekit.training.data.columns import decode, name_classes
from edgekit.training.data.source import WINDOW, Splits
from edgekit.training.data.split import by_part, is_held_out, train_and_held_out

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Row:
    """Where an image lies.

    Attributes:
        file: of the data set.
        group: row group in it.
        row: in that.
    """

    file: Path
    group: int
    row: int


@dataclass(frozen=True)
class ParquetRows:
    """Rows of parquet files, in their order."""

    rows: tuple[Row, ...]
    image: str  # the column
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    in_memory: bool = False
    augment: str = "photos"

    @property
    def blocks(self) -> tuple[int, ...]:
        """Rows of each row group."""
        return tuple(Counter((row.file, row.group) for row in self.rows).values())

    def __len__(self) -> int:
        """How many images."""
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """Decode the bytes of its row."""
        row = self.rows[index]
        cell = _group(row.file, row.group, self.image)[row.row].as_py()
        return decode(cell, self.name(index), self.image)

    def label(self, index: int) -> int:
        """Its class, -1 without classes."""
        return self.classes[index]

    def name(self, index: int) -> str:
        """File, row group and row."""
        row = self.rows[index]
        return f"{row.file.name} group {row.group} row {row.row}"


@functools.lru_cache(maxsize=WINDOW + 1)
def _group(file: Path, group: int, column: str) -> Any:
    """One column of a row group. As many are kept as an order mixes."""
    parquet = require("pyarrow.parquet", "reading parquet files")
    try:
        with parquet.ParquetFile(file) as opened:
            return opened.read_row_group(group, columns=[column])[column]
    except Exception as error:  # of pyarrow's own types among others
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"{file.name}, row group {group}: {first}") from error


def open_parquet(folder: Path) -> Splits:
    """The data set in ``folder``.

    Raises:
        UsageError: no such folder, no parquet files, damaged ones, or no column of images.
        MissingDependencyError: pyarrow is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"hf-stream:{folder}: no such folder")
    parts = by_part(sorted(folder.rglob("*.parquet")))
    if not parts:
        raise UsageError(f"hf-stream:{folder}: no *.parquet in it")
    train, held_out = train_and_held_out(parts)
    files = parts[train], parts[held_out or train]
    sides = (None, None) if held_out else (False, True)
    parquet = require("pyarrow.parquet", "reading parquet files")
    try:
        image, label, declared = _columns(parquet.read_schema(files[0][0]))
        found = [
            [each for file in of for each in _scan(parquet, file, label, side)]
            for of, side in zip(files, sides, strict=True)
        ]
    except UsageError:
        raise
    # pyarrow raises OSError, ValueError and types of its own.
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UsageError(f"hf-stream:{folder} cannot be read: {first}") from error
    if not all(found):
        raise UsageError(f"hf-stream:{folder}: too few rows to hold a tenth out")
    columns = [[value for _, value in part] for part in found]
    labels, classes = name_classes(f"hf-stream:{folder}", columns, declared)
    return Splits(
        *(
            ParquetRows(tuple(row for row, _ in part), image, numbers, labels)
            for part, numbers in zip(found, classes, strict=True)
        )
    )


def _scan(
    parquet: Any, file: Path, label: str, held_out: bool | None
) -> Iterator[tuple[Row, object]]:
    """Rows of a file with what stands in the column of classes."""
    with parquet.ParquetFile(file) as opened:
        for group in range(opened.num_row_groups):
            count = opened.metadata.row_group(group).num_rows
            values = [None] * count
            if label:
                values = opened.read_row_group(group, columns=[label])[label].to_pylist()
            for row, value in enumerate(values):
                if held_out is None or is_held_out(f"{file.name}/{group}/{row}") == held_out:
                    yield Row(file, group, row), value


def _columns(schema: Any) -> tuple[str, str, tuple[str, ...]]:
    """Of the image; of the class or ""; and the names of the classes, if the file has them."""
    features = _features(schema)
    images = [name for name, kind in features.items() if kind.get("_type") == "Image"]
    images += [field.name for field in schema if "binary" in str(field.type)]
    if not images:
        raise UsageError(f"no column of images among {', '.join(schema.names)}")
    named = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"]
    label = "label" if "label" in schema.names else (named[0] if len(named) == 1 else "")
    return images[0], label, tuple(features.get(label, {}).get("names", ()))


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's library writes beside a schema of its columns."""
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    found = json.loads(written).get("info", {}).get("features", {})
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)}
