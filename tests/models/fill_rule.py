"""Weights and images by rule: what the oracle files in tests/data/micronet were made with.

Integer arithmetic up to one float64 division, so that the values are the same bits anywhere.
``unit(key, i)`` in [-1, 1) mixes crc32(key) and the flat index i; every value is a float64
product of it, rounded once to float32.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "micronet"

_M1, _M2, _G = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15


def facts(config: str) -> dict[str, Any]:
    """Key list, counts and shift-max facts of the official network, ``config`` m0 to m3."""
    return dict(json.loads((DATA / f"micronet_{config}_state_dict.json").read_text()))


def state(config: str) -> dict[str, torch.Tensor]:
    """A full state dict in the official format, every value by rule."""
    known = facts(config)
    return {
        entry["key"]: torch.from_numpy(fill(entry["key"], entry["shape"], known["fill_gains"]))
        for entry in known["state_dict"]
    }


def unit(key: str, n: int) -> NDArray[np.float64]:
    """n numbers in [-1, 1) that depend on key and index alone."""
    seed = zlib.crc32(key.encode())
    with np.errstate(over="ignore"):
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_G) + np.uint64(seed) * np.uint64(_M1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_M1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_M2)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0


def fill(key: str, shape: list[int], gains: Mapping[str, float]) -> NDArray[Any]:
    """One tensor; its role follows from the end of the key and from its rank."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    u = unit(key, math.prod(shape))
    if leaf == "running_mean":
        v = 0.10 * u
    elif leaf == "running_var":
        v = 1.00 + 0.50 * u
    elif leaf == "bias":
        v = gains["dyn_bias" if ".fc" in key else "bias"] * u
    elif len(shape) == 1:
        v = 1.00 + 0.25 * u
    else:
        role = "conv" if len(shape) == 4 else "dyn" if ".fc" in key else "linear"
        v = u * (math.sqrt(3.0 / math.prod(shape[1:])) * gains[role])
    return v.astype(np.float32).reshape(shape)


def images(batch: int, size: int = 224) -> torch.Tensor:
    """(batch, 3, size, size) float32; sample 0 does not depend on batch."""
    b = np.arange(batch).reshape(-1, 1, 1, 1)
    c = np.arange(3).reshape(1, -1, 1, 1)
    y = np.arange(size).reshape(1, 1, -1, 1)
    x = np.arange(size).reshape(1, 1, 1, -1)
    ramp = ((3 * x + 5 * y + 17 * c + 29 * b) % 97) / 48.0 - 1.0
    blob = (((x * y) // 64 + 11 * c + 7 * b) % 31) / 15.0 - 1.0
    tile = ((x // 28 + 2 * (y // 32) + 3 * c + 5 * b) % 7) / 3.0 - 1.0
    shift = ((2 * c + 3 * b) % 5) / 4.0 - 0.5
    v = (ramp + 0.75 * blob + 0.75 * tile + shift) * (1.0 + 0.5 * (b % 2))
    return torch.from_numpy(v.astype(np.float32))
