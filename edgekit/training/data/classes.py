"""From what stands in a column of classes to their names and numbers, the same for both parts."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.errors import UsageError

_MOST = 100_000

Numbers = tuple[int, ...]


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
