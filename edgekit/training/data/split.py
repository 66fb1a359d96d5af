"""Which images are held out where a data set does not say: a tenth, by a hash of their names.

So an image stays on its side whatever is added to the data set or taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_A_TENTH = 256 // 10

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")


def is_held_out(name: str) -> bool:
    """Of about a tenth of all names."""
    return hashlib.sha256(name.encode()).digest()[0] < _A_TENTH


def first_of(names: Iterable[str], there: Iterable[str]) -> str | None:
    """The first of ``names`` that is there."""
    found = set(there)
    return next((name for name in names if name in found), None)
