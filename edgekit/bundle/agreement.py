"""How equal is equal: the one figure and the one bound of export, self-test and manifest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Largest relative error of an artifact against its source, per precision.
# fp32: sums in another order and Winograd convolutions move an output by some 1e-6, and TF32,
# which would move it by 1e-3, is off: an error of 1e-4 is a wrong artifact, not rounding.
PARITY_TOLERANCE = {"fp32": 1e-4}


def relative_error(got: NDArray[np.generic], wanted: NDArray[np.generic]) -> float:
    """``max|got - wanted| / max|wanted|`` in float64.

    Infinite for another shape, for NaN or Inf on either side, and for anything but zeros where
    zeros are wanted.
    """
    import numpy as np  # late: opening a bundle's manifest needs none

    if got.shape != wanted.shape:
        return math.inf
    if wanted.size == 0:
        return 0.0
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    difference, scale = float(np.max(np.abs(a - b))), float(np.max(np.abs(b)))
    if scale == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return difference / scale
