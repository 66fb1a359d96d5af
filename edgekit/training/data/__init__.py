"""Where images come from: ``--data KIND`` or ``--data KIND:PLACE``.

digits              scikit-learn's scanned digits
imagefolder:ROOT    a folder a class
shards:FOLDER       tar shards
hf:FOLDER           what Hugging Face's library wrote
hf-stream:FOLDER    its parquet files, without a copy of them
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit.errors import UnknownNameError, UsageError
from edgekit.training.data.digits import open_digits
from edgekit.training.data.folder import open_folder
from edgekit.training.data.huggingface import open_huggingface
from edgekit.training.data.parquet import open_parquet
from edgekit.training.data.shards import open_shards
from edgekit.training.data.source import ImageSource, Splits

__all__ = ["KINDS", "ImageSource", "Splits", "open_data"]


def _digits(place: str) -> Splits:
    if place:
        raise UsageError(f"data 'digits:{place}': the digits have no place, write digits")
    return open_digits()


def _below(kind: str, read: Callable[[Path], Splits]) -> Callable[[str], Splits]:
    def opened(place: str) -> Splits:
        if not place:
            raise UsageError(f"data {kind!r} needs its folder: {kind}:FOLDER")
        return read(Path(place))

    return opened


KINDS: dict[str, Callable[[str], Splits]] = {
    "digits": _digits,
    "imagefolder": _below("imagefolder", open_folder),
    "shards": _below("shards", open_shards),
    "hf": _below("hf", open_huggingface),
    "hf-stream": _below("hf-stream", open_parquet),
}


def open_data(spec: str) -> Splits:
    """The data set that ``spec`` names.

    Raises:
        UnknownNameError: no such kind.
        UsageError: the place is missing or holds no data set.
    """
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        raise UnknownNameError("kind of data", kind, KINDS, "A folder is imagefolder:ROOT.")
    return KINDS[kind](place)
