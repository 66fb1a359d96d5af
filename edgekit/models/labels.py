"""Class names of a network: a text file in ``edgekit/models/data``, one name a line."""

from __future__ import annotations

import importlib.resources

from edgekit.errors import EdgekitError
from edgekit.models.variant import Variant


def labels_of(variant: Variant, num_classes: int | None = None) -> tuple[str, ...]:
    """One name per class; ``"class 0"``, ``"class 1"`` ... for a head of another width.

    Empty where the outputs are no classes.

    Raises:
        EdgekitError: the installed package lacks the list, or the list has another length.
    """
    if not variant.labels:
        return ()
    if num_classes not in (None, variant.num_classes):
        return tuple(f"class {number}" for number in range(num_classes or 0))
    names = _read(variant.labels)
    if len(names) != variant.num_classes:
        raise EdgekitError(
            f"class names {variant.labels!r} has {len(names)} lines, {variant.id} has "
            f"{variant.num_classes} classes: the installation is damaged, reinstall edgekit."
        )
    return names


def _read(name: str) -> tuple[str, ...]:
    file = importlib.resources.files("edgekit.models") / "data" / f"{name}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EdgekitError(
            f"class names {name!r} are not in the installed package (no data/{name}.txt): "
            "reinstall edgekit."
        ) from None
    return tuple(text.splitlines())
