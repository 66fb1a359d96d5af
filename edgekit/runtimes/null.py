"""A runtime that computes nothing: it makes everything above it testable anywhere.

Outputs are zeros, or with ``options={"output": "echo"}`` each is filled with the sum of all
inputs, so that a test can see that what it put in arrived. ``options={"sleep_us": "500"}``
makes a run take that long, by the clock, and ``options={"drift": "0.5"}`` half as long again for
every second that it has run: a machine that throttles.

What it waits by is ``session.clock``, which a test replaces by a scripted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from edgekit.bundle import TensorSpec
from edgekit.errors import UsageError
from edgekit.runtimes.session import Array, Session, check_options


class Clock(Protocol):
    """Monotonic, in nanoseconds."""

    def now_ns(self) -> int:
        """The time."""

    def sleep_until_ns(self, when: int) -> None:
        """Return at ``when`` or just after."""


class _SpinningClock:
    """The system's; it waits by looking, since sleep() is off by more than a small net takes."""

    now_ns = staticmethod(time.perf_counter_ns)

    def sleep_until_ns(self, when: int) -> None:
        while time.perf_counter_ns() < when:
            pass


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
        check_options(self.runtime, self._options, ("output", "sleep_us", "drift"))
        self._echo = self._options.get("output") == "echo"
        self._sleep_ns = _number(self._options, "sleep_us") * 1000
        self._drift = _number(self._options, "drift")
        self._ran_ns = 0.0
        self.clock: Clock = _SpinningClock()

    def _run(self, arrays: list[Array]) -> dict[str, Array]:
        begin = self.clock.now_ns()
        takes = self._sleep_ns * (1 + self._drift * self._ran_ns / 1e9)
        fill = sum(float(array.sum()) for array in arrays) if self._echo else 0
        free = self._free_size(arrays)
        results = {
            spec.name: np.full([free if n < 0 else n for n in spec.shape], fill, spec.dtype)
            for spec in self.outputs
        }
        self.clock.sleep_until_ns(begin + int(takes))
        self._ran_ns += takes
        return results

    def _free_size(self, arrays: list[Array]) -> int:
        """What an input has where its spec has a free axis: the outputs follow it."""
        for spec, array in zip(self.inputs, arrays, strict=True):
            if -1 in spec.shape:
                return int(array.shape[spec.shape.index(-1)])
        return 1

    def clone(self) -> NullSession:
        """Another one."""
        return NullSession(
            self._files, self.inputs, self.outputs, threads=self.threads, options=self._options
        )

    def _facts(self) -> dict[str, str]:
        return {"version": "", "precision": "none: nothing is computed"}


def _number(options: Mapping[str, str], name: str) -> float:
    """An option as a number; 0 when it is absent.

    Raises:
        UsageError: not a finite number of 0 or more.
    """
    text = options.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"null: option {name} is a number of 0 or more, got {text!r}")
    return value
