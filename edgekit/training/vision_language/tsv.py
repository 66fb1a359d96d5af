"""``tsv:DIR``: regions that somebody extracted, and what is said of the images.

    DIR/features.tsv    image, number of regions, base64 of float32 rows, optionally tags;
                        in columns between tabs, tags between semicolons; of 0 regions the
                        base64 is empty
    DIR/train.jsonl     an object a line, of one of three kinds:
    DIR/val.jsonl
        {"image": "7", "captions": ["a cat on a mat"]}
        {"image": "7", "question": "what is on the mat?", "answers": {"cat": 1.0, "a cat": 0.3}}
        {"images": ["7", "9"], "caption": "both images show a cat", "label": true}
                        the first two may have "tags": ["cat", "mat"] in the place of the image's;
                        captions of an image may stand in several lines

Features are as large as the images: where each line begins is remembered, and a line is read when
it is needed. All else is checked at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError, UsageError
from edgekit.models.whole_file import replacing
from edgekit.training.vision_language.source import (
    Asked,
    Captioned,
    Floats,
    Paired,
    Told,
    VlmSplits,
)

FEATURES, TRAIN, VAL = "features.tsv", "train.jsonl", "val.jsonl"
MOST_REGIONS = 1000
_MOST_CHARACTERS = 10_000  # of a text; as a runtime takes
_MOST_TEXTS = 1000  # of a line: captions, answers or tags
_LINE_BYTES = 1 << 20
_NAME_BYTES = 1 << 16  # of an image's name, and of its tags
_LOOKED_AT = 4096  # images whose regions are compared when a run goes on: seconds


def open_tsv(folder: Path, visual: int) -> VlmSplits:
    """The data of a folder.

    Args:
        folder: see the module.
        visual: numbers that describe a region.

    Raises:
        UsageError: a file is missing, or a line of one is not as it should be; names the line.
    """
    images = TsvImages(folder / FEATURES, visual)
    train, held_out = (_told(folder / name, images) for name in (TRAIN, VAL))
    return VlmSplits(train, held_out)


# ---- regions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    offset: int  # of the base64, in bytes
    size: int  # of it
    regions: int
    line: int
    tags: tuple[str, ...]


class TsvImages:
    """Regions of a ``features.tsv``: see the module and `Images`.

    Raises:
        UsageError: missing, or a line has other columns or another size than it says.
    """

    def __init__(self, path: Path, visual: int) -> None:
        self.path, self.visual = path, visual
        self.rows: list[_Row] = []
        self.number: dict[str, int] = {}
        for line, offset, text in _lines(path, _most_bytes(visual)):
            name, row = self._row(text, offset, line)
            if name in self.number:
                raise UsageError(f"{path}:{line}: image {name!r} is there twice")
            self.number[name] = len(self.rows)
            self.rows.append(row)
        self.names = tuple(self.number)

    def _row(self, text: bytes, offset: int, line: int) -> tuple[str, _Row]:
        where = f"{self.path}:{line}"
        columns = text.split(b"\t")
        if len(columns) not in (3, 4):
            raise UsageError(
                f"{where} has {len(columns)} columns: image, number of regions, base64 of float32, "
                "and optionally tags"
            )
        name, count = _printable(columns[0], where), _count(columns[1], where)
        expected = -(-count * self.visual * 4 // 3) * 4
        if len(columns[2]) != expected:
            raise UsageError(
                f"{where}: {count} regions of {self.visual} numbers are {expected} characters of "
                f"base64, not {len(columns[2])}"
            )
        tags = _printable(columns[3], where) if len(columns) == 4 else ""
        named = tuple(tag.strip() for tag in tags.split(";") if tag.strip())
        start = offset + len(columns[0]) + len(columns[1]) + 2
        return name, _Row(start, expected, count, line, named)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Its name in the file."""
        return self.names[index]

    def tags(self, index: int) -> tuple[str, ...]:
        """Of the last column."""
        return self.rows[index].tags

    def regions(self, index: int) -> Floats:
        """See `Images`."""
        row = self.rows[index]
        where = f"{self.path}:{row.line}"
        try:
            with self.path.open("rb") as file:
                file.seek(row.offset)
                data = base64.b64decode(file.read(row.size), validate=True)
        except OSError as error:
            raise InputError(f"{where}: {error.strerror or error}") from error
        except binascii.Error as error:
            raise InputError(f"{where} is no base64: {error}") from error
        if len(data) != row.regions * self.visual * 4:
            raise InputError(f"{where} has {len(data)} bytes for {row.regions} regions")
        found = np.frombuffer(data, "<f4").reshape(row.regions, self.visual)
        if not np.isfinite(found).all():
            raise InputError(f"{where} has a region with values that are no numbers")
        return found

    def fingerprint(self) -> str:
        """Of the file's size and the regions of up to `_LOOKED_AT` of its images, evenly spread.

        A file of more images may have others in it that nobody notices.
        """
        found = hashlib.sha256(f"{self.path.stat().st_size}".encode())
        with self.path.open("rb") as file:
            for row in self.rows[:: -(-len(self.rows) // _LOOKED_AT)]:
                file.seek(row.offset)
                found.update(file.read(row.size))
        return found.hexdigest()


def _most_bytes(visual: int) -> int:
    return MOST_REGIONS * visual * 6 + 2 * _NAME_BYTES


def _count(column: bytes, where: str) -> int:
    if not column.isdigit() or len(column) > 4 or int(column) > MOST_REGIONS:
        shown = column[:20].decode("utf-8", "replace")
        raise UsageError(f"{where}: {shown!r} regions; 0 to {MOST_REGIONS} are possible")
    return int(column)


def _printable(column: bytes, where: str) -> str:
    text = column.decode("utf-8", "replace")
    if not text.isprintable() or "\ufffd" in text or len(column) > _NAME_BYTES:
        raise UsageError(f"{where} has a name that is not printable, or too long")
    return text


def _lines(path: Path, most: int) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, offset and text of each line that is not empty.

    Raises:
        UsageError: it cannot be read, or a line is longer than ``most`` bytes.
    """
    offset = 0
    try:
        with path.open("rb") as file:
            for line, text in enumerate(iter(lambda: file.readline(most + 1), b""), 1):
                if len(text) > most:
                    raise UsageError(f"{path}:{line} is longer than {most:,} bytes")
                if text.strip():
                    yield line, offset, text.rstrip(b"\r\n")
                offset += len(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if not offset:
        raise UsageError(f"{path} is empty")


# ---- what is said ------------------------------------------------------------------------------


class _WrongLineError(ValueError):
    """What is wrong with a line."""


def _told(path: Path, images: TsvImages) -> Told:
    found: dict[str, list[Any]] = {key: [] for key in _READERS}
    for line, _, text in _lines(path, _LINE_BYTES):
        try:
            key, item = _item(text, images)
        except RecursionError as error:
            raise UsageError(f"{path}:{line} is too deeply nested") from error
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{path}:{line}: {error}") from error
        found[key].append(item)
    return Told(
        images,
        _joined(found["captions"]),
        tuple(found["question"]),
        tuple(found["label"]),
    )


def _joined(found: Sequence[Captioned]) -> tuple[Captioned, ...]:
    """All captions of an image together, where they stand in several lines, with equal tags."""
    joined: dict[tuple[int, tuple[str, ...] | None], dict[str, None]] = {}
    for item in found:
        joined.setdefault((item.image, item.tags), {}).update(dict.fromkeys(item.captions))
    return tuple(Captioned(image, tuple(said), tags) for (image, tags), said in joined.items())


def _item(text: bytes, images: TsvImages) -> tuple[str, Captioned | Asked | Paired]:
    row = json.loads(text.decode("utf-8"))
    if not isinstance(row, dict):
        raise _WrongLineError("no object: a line is {...}")
    keys = [key for key in _READERS if key in row]
    if len(keys) != 1:
        raise _WrongLineError(
            f"an object has one of {', '.join(_READERS)}, and this has {keys or 'none'}"
        )
    return keys[0], _READERS[keys[0]](row, images)


def _captioned(row: Mapping[str, Any], images: TsvImages) -> Captioned:
    captions = _texts(row, "captions")
    if not captions:
        raise _WrongLineError("no captions")
    return Captioned(_image(row.get("image"), images), captions, _tags(row))


def _asked(row: Mapping[str, Any], images: TsvImages) -> Asked:
    answers = row.get("answers")
    if not isinstance(answers, dict) or not 0 < len(answers) <= _MOST_TEXTS:
        raise _WrongLineError("answers are an object of one or more: {answer: score}")
    scored = {_text(key, "answer"): _score(key, value) for key, value in answers.items()}
    question = _text(row["question"], "question")
    return Asked(_image(row.get("image"), images), question, scored, _tags(row))


def _paired(row: Mapping[str, Any], images: TsvImages) -> Paired:
    both, label = row.get("images"), row["label"]
    if not isinstance(both, list) or len(both) != 2:
        raise _WrongLineError("images are two")
    if not isinstance(label, bool):
        raise _WrongLineError(f"label is {_short(label)}, not true or false")
    first, second = (_image(one, images) for one in both)
    return Paired((first, second), _text(row.get("caption"), "caption"), label)


_READERS: Mapping[str, Callable[[Mapping[str, Any], TsvImages], Captioned | Asked | Paired]] = {
    "captions": _captioned,
    "question": _asked,
    "label": _paired,
}


def _image(name: object, images: TsvImages) -> int:
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise _WrongLineError(f"image is {_short(name)}, not the name of one")
    if str(name) not in images.number:
        raise _WrongLineError(f"image {_short(name)} is not in {images.path.name}")
    return images.number[str(name)]


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = row[key]
    if not isinstance(found, list) or len(found) > _MOST_TEXTS:
        raise _WrongLineError(f"{key} are a list of at most {_MOST_TEXTS} texts")
    return tuple(_text(text, key) for text in found)


def _tags(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    return _texts(row, "tags") if "tags" in row else None


def _text(text: object, what: str) -> str:
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_CHARACTERS:
        raise _WrongLineError(
            f"{what} is {_short(text)}, not a text of 1 to {_MOST_CHARACTERS} characters"
        )
    if not text.isprintable():
        raise _WrongLineError(f"{what} is {_short(text)}, which is not printable")
    return text


def _score(answer: str, score: object) -> float:
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not number or not math.isfinite(score) or not 0 < score <= 1:  # type: ignore[arg-type, operator]
        raise _WrongLineError(
            f"the score of answer {_short(answer)} is {_short(score)}, not above 0 to 1"
        )
    return float(score)  # type: ignore[arg-type]


def _short(what: object, most: int = 40) -> str:
    text = repr(what)
    return text if len(text) <= most else f"{text[: most - 3]}..."


# ---- writing -----------------------------------------------------------------------------------


def write_tsv(folder: Path, train: Told, held_out: Told | None = None) -> None:
    """What `open_tsv` reads; images of the two splits have different names.

    One image after another is asked for its regions and tags. Of a split that has images only,
    no .jsonl is written.

    Raises:
        OSError: the system refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = (train,) if held_out is None else (train, held_out)
    with replacing(folder / FEATURES) as path, path.open("w", encoding="utf-8") as file:
        for split in told:
            file.writelines(_feature_line(split, index) for index in range(len(split.images)))
    for name, split in zip((TRAIN, VAL), told, strict=False):
        rows = [json.dumps(row) for row in _objects(split)]
        if not rows:
            continue
        with replacing(folder / name) as path:
            path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _feature_line(told: Told, index: int) -> str:
    regions = np.ascontiguousarray(told.images.regions(index), "<f4")
    encoded = base64.b64encode(regions.tobytes()).decode()
    tags = ";".join(tag.replace(";", ",") for tag in told.images.tags(index))
    columns: Sequence[str] = (told.images.name(index), str(len(regions)), encoded, tags)
    return "\t".join(columns) + "\n"


def _objects(told: Told) -> Iterator[dict[str, Any]]:
    name = told.images.name
    for captioned in told.captioned:
        yield {"image": name(captioned.image), "captions": captioned.captions, **_own(captioned)}
    for asked in told.asked:
        row = {"image": name(asked.image), "question": asked.question}
        yield {**row, "answers": dict(asked.answers), **_own(asked)}
    for paired in told.paired:
        both = [name(image) for image in paired.images]
        yield {"images": both, "caption": paired.caption, "label": paired.label}


def _own(item: Captioned | Asked) -> dict[str, Any]:
    return {} if item.tags is None else {"tags": item.tags}
