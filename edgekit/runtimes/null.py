"""A runtime that computes nothing: it makes everything above it testable anywhere.

Outputs are zeros, or with ``options={"output": "echo"}`` each is filled with the sum of all
inputs, so that a test can see that what it put in arrived. ``options={"sleep_us": "500"}``
makes a run take that long, by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.bundle import TensorSpec
from edgekit.errors import UsageError
from edgekit.runtimes.session import Array, Session, check_options


class NullSession(Session):
    """Takes any file and never opens it."""

    runtime = "null"

    def __init__(
        self,
        files: Sequence[Path],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if not inputs or not outputs:
            raise UsageError("runtime 'null' opens no file: it needs a bundle, which has specs")
        super().__init__(inputs, outputs, threads)
        self._files, self._options = tuple(files), dict(options or {})
        check_options(self.runtime, self._options, ("output", "sleep_us"))
        self._echo = self._options.get("output") == "echo"
        self._sleep_ns = int(float(self._options.get("sleep_us", "0")) * 1000)

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        end = time.perf_counter_ns() + self._sleep_ns
        fill = sum(float(array.sum()) for array in arrays) if self._echo else 0
        results = {
            spec.name: np.full([max(size, 1) for size in spec.shape], fill, spec.dtype)
            for spec in self.outputs
        }
        while time.perf_counter_ns() < end:  # sleep() is off by more than a small net takes
            pass
        return results

    def clone(self) -> NullSession:
        """Another one."""
        return NullSession(
            self._files, self.inputs, self.outputs, threads=self.threads, options=self._options
        )

    def _facts(self) -> dict[str, str]:
        return {"version": "", "precision": "none: nothing is computed"}
