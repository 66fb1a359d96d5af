"""Which images are held out where a data set does not say: a tenth, by a hash of their names.

So an image stays on its side whatever is added to the data set or taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_A_TENTH = 256 // 10

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")


def is_held_out(name: str) -> bool:
    """Of about a tenth of all names."""
    return hashlib.sha256(name.encode()).digest()[0] < _A_TENTH


def by_part(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by the part that their names begin with; ``train`` where they name none."""
    found: dict[str, list[Path]] = {}
    for file in files:
        named = (name for name in (*TRAIN, *HELD_OUT) if file.stem.startswith(name))
        found.setdefault(next(named, "train"), []).append(file)
    return found


def train_and_held_out(parts: Iterable[str]) -> tuple[str, str | None]:
    """Names of both parts; None where a tenth of the first is to be held out."""
    names = list(parts)
    train, held_out = first_of(TRAIN, names), first_of(HELD_OUT, names)
    return (train, held_out) if train and held_out else (train or names[0], None)


def first_of(names: Iterable[str], there: Iterable[str]) -> str | None:
    """The first of ``names`` that is there."""
    found = set(there)
    return next((name for name in names if name in found), None)
