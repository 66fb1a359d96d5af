"""The profiler collects garbage before it times; here that must not walk what other tests keep."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """Libraries and traced networks of a long run: a tenth of a second for each collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
