"""Randomness that is a function of where a run is, so that a resumed run needs no saved state.

Every draw of a run comes from a generator that is seeded by the recipe's seed and a place: which
epoch, which step, which image, which process. A run that is killed and resumed draws what it would
have drawn; so does one with other workers.
"""

from __future__ import annotations

import numpy as np
import torch

# What is drawn, so that no two things share a stream.
ORDER, IMAGE, STEP, QUEUE = range(4)


def place_seed(seed: int, what: int, *place: int) -> int:
    """A seed of 63 bits for ``what`` at ``place``."""
    words = np.random.SeedSequence([seed, what, *place]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def generator(seed: int, what: int, *place: int) -> np.random.Generator:
    """numpy's, for ``what`` at ``place``."""
    return np.random.default_rng([seed, what, *place])


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step: dropout, and augmentations of the batch."""
    torch.manual_seed(place_seed(seed, STEP, step, rank))
