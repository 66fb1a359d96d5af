"""Boxes from files in COCO's format, with attributes where a data set has them.

    FOLDER/train.json  FOLDER/val.json   the annotations
    FOLDER/images/                       below which every file_name is

    {"images":      [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "categories":  [{"id": 18, "name": "dog"}],
     "attributes":  [{"id": 3, "name": "brown"}],
     "annotations": [{"image_id": 1, "category_id": 18, "bbox": [x, y, width, height],
                      "iscrowd": 0, "attributes": [3]}]}

``attributes`` are no part of COCO: an annotation has a list of ids of the table, or of names. The
table may be missing where names are used. Ids are those of the file's own table, and the two files
may number the same names differently; one without a table has that of train.json. ``width`` and
``height`` of an image may be missing. Crowds are left out, and so are boxes without an area, of
which COCO itself has a few; a box that reaches over the edge of its image is cut there, and one
that is wholly outside is refused.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError, UsageError
from edgekit.runtimes.preprocess import load_image
from edgekit.training.detection.source import DetectionSplits, Objects, packed

if TYPE_CHECKING:
    from PIL import Image

TRAIN, HELD_OUT, IMAGES = "train.json", "val.json", "images"
_MAX_BYTES = 4 << 30  # COCO's own are half a gigabyte, Visual Genome's two
_MAX_SIDE = 65_535  # of an image, and a JPEG can have no more
_MAX_NAMES = 1 << 16
_LONGEST_NAME = 200

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Coco:
    """One split, read; images are opened when they are wanted.

    Attributes:
        folder: of the images.
        files: paths below it.
        sizes: width and height as the annotations have them, or (0, 0).
        found: what is in each image.
    """

    folder: Path
    files: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    found: tuple[Objects, ...]
    objects: tuple[str, ...]
    attributes: tuple[str, ...]
    in_memory: bool = False

    def __len__(self) -> int:
        """How many images."""
        return len(self.files)

    def read(self, index: int) -> tuple[Image.Image, Objects]:
        """Decode a file; its boxes end where it does."""
        image, said = load_image(self.folder / self.files[index]), self.sizes[index]
        if said != (0, 0) and said != image.size:
            raise InputError(
                f"it has {image.size[0]} x {image.size[1]} pixels, its annotation says "
                f"{said[0]} x {said[1]}"
            )
        return image, _within(self.found[index], image.size)

    def name(self, index: int) -> str:
        """Its path below the folder of the images."""
        return self.files[index]

    def annotated(self, index: int) -> str:
        """Its path, and all that is said of it."""
        found = self.found[index]
        parts = (found.boxes, found.classes, found.attributes)
        return f"{self.files[index]} {[part.tolist() for part in parts]}"


def open_coco(place: str) -> DetectionSplits:
    """The data set in a folder.

    Raises:
        UsageError: something is missing, broken, or says what cannot be: names the file, the
            annotation and what is wrong with it.
    """
    if not place:
        raise UsageError("data 'coco' needs its folder: coco:FOLDER")
    root = Path(place)
    for name in (TRAIN, HELD_OUT, IMAGES):
        if not (root / name).exists():
            raise UsageError(
                f"coco:{root}: no {name} there; a data set has {TRAIN}, {HELD_OUT} and {IMAGES}/"
            )
    train = _Reader(root, TRAIN)
    held_out = _Reader(root, HELD_OUT, like=train)
    splits = train.split(), held_out.split()
    return DetectionSplits(*splits, notes=(*train.notes(), *held_out.notes()))


def _within(found: Objects, size: tuple[int, int]) -> Objects:
    """Cut at the edges, without what is then nothing."""
    if not len(found):
        return found
    boxes = np.clip(found.boxes, 0, np.array([*size, *size], np.float32))
    area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Objects(boxes, found.classes, found.attributes).some(area)


@dataclass
class _Found:
    """Of one image, while annotations are read."""

    file: str
    size: tuple[int, int]
    boxes: list[_Box] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    attributes: list[tuple[int, ...]] = field(default_factory=list)


class _Reader:
    """One file of annotations; names are numbered as those of ``like``, if it is given."""

    def __init__(self, root: Path, name: str, like: _Reader | None = None) -> None:
        self.path, self.images_folder = root / name, root / IMAGES
        self.flat = 0
        content = _content(self.path)
        self.annotations = self._rows(content, "annotations")
        self.images = self._read_images(content)
        self.categories = self._read_names(content, "categories")
        if not self.categories:
            raise self._wrong("no categories")
        self.class_of = {key: number for number, key in enumerate(sorted(self.categories), 1)}
        self.table = self._read_table(content)
        self.names = self._read_used() if self.table is None else _in_order(self.table)
        if like is not None:
            self._must_be_like(like)
            self.names = like.names
            self.table = like.table if self.table is None else self.table
        self.by_name = {name: number for number, name in enumerate(self.names)}
        known = (self.table or {}).items()
        self.attribute_of = {key: self.by_name[n] for key, n in known if n in self.by_name}
        for place, row in enumerate(self.annotations):
            self._take(place, row)

    def split(self) -> Coco:
        """All that was read, images in the order of their ids."""
        found = [self.images[key] for key in sorted(self.images)]
        return Coco(
            self.images_folder,
            tuple(each.file for each in found),
            tuple(each.size for each in found),
            tuple(packed(each.boxes, each.classes, each.attributes) for each in found),
            _in_order(self.categories),
            self.names,
        )

    def notes(self) -> tuple[str, ...]:
        """What was left out that somebody may miss."""
        what = f"{self.path.name}: {self.flat} of {len(self.annotations):,} boxes have no area"
        return (f"{what} and are left out",) if self.flat else ()

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"coco:{self.path}: {what}")

    # -- tables --------------------------------------------------------------

    def _rows(self, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        rows = content.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._wrong(f"{key!r} must be a list of objects")
        return rows

    def _read_images(self, content: Mapping[str, Any]) -> dict[int, _Found]:
        images: dict[int, _Found] = {}
        for place, row in enumerate(self._rows(content, "images")):
            what = f"image {place + 1} of the list"
            key = self._id(row, what)
            if key in images:
                raise self._wrong(f"{what} has the id {key}, and so has another one")
            images[key] = _Found(self._file(row, what), self._size(row, what))
        if not images:
            raise self._wrong("no images")
        return images

    def _id(self, row: Mapping[str, Any], what: str) -> int:
        key: Any = row.get("id")
        if not _is_integer(key):
            raise self._wrong(f"{what} has the id {_shown(key)}, which is no integer")
        return int(key)

    def _file(self, row: Mapping[str, Any], what: str) -> str:
        name = row.get("file_name")
        if not isinstance(name, str) or not name or not name.isprintable():
            raise self._wrong(f"{what} has the file_name {_shown(name)}, which is none")
        path = PurePosixPath(name.replace("\\", "/"))
        if not path.parts or name.endswith(("/", "\\")):
            raise self._wrong(f"{what} has the file_name {_shown(name)}, which is a folder")
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise self._wrong(f"{what} is {_shown(name)}, which leaves the folder {IMAGES}")
        return name

    def _size(self, row: Mapping[str, Any], what: str) -> tuple[int, int]:
        size: tuple[Any, Any] = row.get("width"), row.get("height")
        if size == (None, None):
            return 0, 0
        width, height = size
        if not all(_is_integer(side) and 1 <= side <= _MAX_SIDE for side in size):
            raise self._wrong(
                f"{what} has {_shown(width)} x {_shown(height)} pixels; 1 to {_MAX_SIDE:,} a side "
                "are possible"
            )
        return int(width), int(height)

    def _read_names(self, content: Mapping[str, Any], key: str) -> dict[int, str]:
        rows = self._rows(content, key)
        if len(rows) > _MAX_NAMES:
            raise self._wrong(f"{len(rows):,} {key}; {_MAX_NAMES:,} are possible")
        names: dict[int, str] = {}
        for place, row in enumerate(rows):
            what = f"number {place + 1} of {key}"
            number = self._id(row, what)
            if number in names:
                raise self._wrong(f"{what} has the id {number}, and so has another one")
            names[number] = self._name(row.get("name"), what)
        if len(set(names.values())) != len(names):
            raise self._wrong(f"two of {key} have the same name")
        return names

    def _name(self, name: object, what: str) -> str:
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise self._wrong(f"{what} has the name {_shown(name)}, which is none")
        if len(name) > _LONGEST_NAME:
            raise self._wrong(f"{what} has a name of {len(name):,} characters")
        return name

    def _read_table(self, content: Mapping[str, Any]) -> dict[int, str] | None:
        return self._read_names(content, "attributes") if "attributes" in content else None

    def _read_used(self) -> tuple[str, ...]:
        """The names that are used, in the order of the alphabet."""
        used = (row.get("attributes") for row in self.annotations)
        lists = (given for given in used if isinstance(given, list))
        names = {self._name(one, "an attribute") for given in lists for one in given
                 if isinstance(one, str)}  # fmt: skip
        if len(names) > _MAX_NAMES:
            raise self._wrong(f"{len(names):,} attributes; {_MAX_NAMES:,} are possible")
        return tuple(sorted(names))

    def _must_be_like(self, like: _Reader) -> None:
        odd = sorted({*self.names} - {*like.names})
        if odd and like.names:  # data without attributes have none to evaluate
            raise self._wrong(f"the attribute {_shown(odd[0])} is not in {like.path.name}")
        if self.categories != like.categories:
            raise self._wrong(f"its categories are not those of {like.path.name}")

    # -- annotations ---------------------------------------------------------

    def _take(self, place: int, row: Mapping[str, Any]) -> None:
        """Add one annotation to its image."""
        what = f"annotation {_shown(row.get('id', f'number {place + 1}'))}"
        if row.get("iscrowd"):
            return
        image = self._image_of(row, what)
        category = row.get("category_id")
        if not _is_integer(category) or category not in self.class_of:
            raise self._wrong(f"{what} is of category {_shown(category)}, which is not in the file")
        box = self._box(row.get("bbox"), image.size, what)
        attributes = self._attributes(row.get("attributes") or (), what)
        if box is None:
            self.flat += 1
            return
        image.boxes.append(box)
        image.classes.append(self.class_of[category])
        image.attributes.append(attributes)

    def _image_of(self, row: Mapping[str, Any], what: str) -> _Found:
        key = row.get("image_id")
        if not _is_integer(key) or key not in self.images:
            raise self._wrong(f"{what} is of image {_shown(key)}, which is not in the file")
        return self.images[key]

    def _box(self, given: object, size: tuple[int, int], what: str) -> _Box | None:
        """Corners, cut at the edges of the image where its size is said; None without area."""
        if not isinstance(given, list) or len(given) != 4 or not all(map(_is_number, given)):
            raise self._wrong(f"{what} has the bbox {_shown(given)}, which is not four numbers")
        x, y, width, height = map(float, given)
        if width < 0 or height < 0:
            raise self._wrong(f"{what} has the bbox {_shown(given)}, with a side below zero")
        right, bottom = size if size != (0, 0) else (_MAX_SIDE, _MAX_SIDE)
        if x >= right or y >= bottom or x + width < 0 or y + height < 0:
            where = f"outside its image of {right} x {bottom} pixels"
            raise self._wrong(f"{what} has the bbox {_shown(given)}, which is {where}")
        box = max(x, 0.0), max(y, 0.0), min(x + width, right), min(y + height, bottom)
        # As they are kept: a side may be too small for float32.
        sides = np.float32(box[2]) - np.float32(box[0]), np.float32(box[3]) - np.float32(box[1])
        return box if min(sides) > 0 else None

    def _attributes(self, given: Iterable[Any], what: str) -> tuple[int, ...]:
        if not isinstance(given, (list, tuple)):
            raise self._wrong(f"{what} has attributes that are no list")
        return tuple(sorted({self._attribute(one, what) for one in given}))

    def _attribute(self, one: object, what: str) -> int:
        table: Mapping[Any, int] = self.by_name if isinstance(one, str) else self.attribute_of
        if not isinstance(one, str) and not _is_integer(one):
            raise self._wrong(f"{what} has the attribute {_shown(one)}, neither id nor name")
        if one not in table:
            raise self._wrong(f"{what} has the attribute {_shown(one)}, which is not in the file")
        return table[one]


def _in_order(table: Mapping[int, str]) -> tuple[str, ...]:
    """Names by their ids."""
    return tuple(table[key] for key in sorted(table))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e9 and math.isfinite(value)


def _shown(value: object) -> str:
    """Of somebody else's file, short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _content(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"coco:{path}: {path.stat().st_size:,} bytes are too many")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"coco:{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and bad UTF-8 among them
        raise UsageError(f"coco:{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"coco:{path}: an object is needed, not a {type(content).__name__}")
    return content
