"""A result by stage as a JSON file of its own: ``<model>-stages-<time>.stages.json``."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle import schema
from edgekit.errors import BundleError

if TYPE_CHECKING:
    from edgekit.profiling.stages import StagesResult

SUFFIX = ".stages.json"


def save_stages(result: StagesResult, folder: Path) -> Path:
    """Write ``result`` into ``folder``, which is made; never over another file.

    Raises:
        BundleError: it cannot be written.
    """
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    path = folder / f"{result.model}-{stamp}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(schema.dumps(schema.encode(result)))
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror or error}") from error
    return path
