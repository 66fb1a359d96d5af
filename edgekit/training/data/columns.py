"""What stands in the columns of a table: images, and classes, which are numbered for both parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.errors import InputError, UsageError
from edgekit.runtimes.preprocess import load_image

if TYPE_CHECKING:
    from PIL import Image

_MOST = 100_000

Numbers = tuple[int, ...]


def decode(cell: object, name: str, column: str) -> Image.Image:
    """The image in a cell: its bytes, or Hugging Face's ``{"bytes": ..., "path": ...}``.

    Raises:
        InputError: no bytes, or not of an image; ``name`` is the row's.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise InputError(f"{name} has no bytes of an image in {column!r}")
    return load_image(data)


def name_classes(
    what: str, parts: Sequence[Sequence[object]], declared: Sequence[str]
) -> tuple[tuple[str, ...], list[Numbers]]:
    """Names of the classes, and for each part the number of each row's.

    Args:
        what: the data set, for messages.
        parts: what stands in each row: numbers from 0, or names; None or -1 for no class.
        declared: names that the data set gives its numbers, if it does.

    Returns:
        No names and -1 everywhere if no row has a class.

    Raises:
        UsageError: some rows have a class and others have none, or one that was not declared.
    """
    values = [value for part in parts for value in part]
    lacking = sum(_is_none(value) for value in values)
    if lacking == len(values):
        return (), [(-1,) * len(part) for part in parts]
    if lacking:
        raise UsageError(f"{what}: {lacking} of {len(values)} rows have no class, and others have")
    whole = [value for value in values if isinstance(value, int)]
    if len(whole) == len(values):
        room = len(declared) or _MOST
        odd = next((value for value in whole if not 0 <= value < room), None)
        if odd is not None:
            raise UsageError(f"{what}: class {odd} is none of {room}")
        names = tuple(declared) or tuple(f"class {number}" for number in range(max(whole) + 1))
        return names, [tuple(v for v in part if isinstance(v, int)) for part in parts]
    names = tuple(declared) or tuple(sorted({str(value) for value in values}))
    numbers = {name: number for number, name in enumerate(names)}
    unknown = next((str(value) for value in values if str(value) not in numbers), None)
    if unknown is not None:
        raise UsageError(f"{what}: class {unknown[:80]!r} is not among its classes")
    return names, [tuple(numbers[str(value)] for value in part) for part in parts]


def _is_none(value: object) -> bool:
    return value is None or value == -1
