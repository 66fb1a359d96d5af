"""A result by stage as a JSON file of its own."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle import schema
from edgekit.errors import BundleError, OutputExistsError
from edgekit.profiling.stages import StagesResult

NAME = "stages.json"


def check_free(folder: Path) -> None:
    """Refuse early what `save_stages` would refuse after the measurement.

    Raises:
        OutputExistsError: a result is there.
    """
    if (folder / NAME).exists():
        raise OutputExistsError(f"{folder / NAME} exists: give another --save folder")


def save_stages(result: StagesResult, folder: Path) -> Path:
    """Write ``stages.json`` into ``folder``, which is made; never over another.

    Raises:
        OutputExistsError, BundleError: something is there, or it cannot be written.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(schema.dumps(schema.encode(result)))
    except FileExistsError:
        raise OutputExistsError(f"{path} exists: give another --save folder") from None
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror or error}") from error
    return path
