"""A long back-to-back run as a time series, one point a window: does the machine hold it?

    window   samples of about 1 s    then, outside of any sample: MHz, °C, W

The samples of a window become p50, p90 and a count. What falls off for good, the latency or the
clock, is throttling (``verdict.fell_off_at``). Energy is watts over time, of whatever the sensor
covers, the idle machine included; the result names the sensor.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.bundle import schema
from edgekit.profiling.clock import Clock
from edgekit.profiling.job import Job
from edgekit.profiling.latency import Call, collect_window, no_collection, plan_of, warm_up
from edgekit.profiling.opening import import_runtime, open_model
from edgekit.profiling.power import PowerReader, power_reader
from edgekit.profiling.result import ENGINE, Sustained
from edgekit.profiling.scopes import Scopes
from edgekit.profiling.sensors import Reader, clock_reader, heat_reader
from edgekit.profiling.verdict import fell_off_at

WINDOW_S = 1.0
MOST_WINDOWS = 3600  # a longer run has longer windows

_NO_POWER = PowerReader("", lambda: None)


@dataclass(frozen=True)
class Sensors:
    """What is read between two windows; a machine without a sensor says None."""

    mhz: Reader = lambda: None
    celsius: Reader = lambda: None
    watts: PowerReader = field(default=_NO_POWER)


def system_sensors(cpus: Sequence[int]) -> Sensors:
    """Of this machine. Sensors that start a program are left out: they would heat it."""
    power = power_reader()
    return Sensors(clock_reader(cpus), heat_reader(), _NO_POWER if power.slow else power)


def window_s(seconds: float) -> float:
    """Length of a window of a run of ``seconds``: at least eight of them, at most an hour's."""
    return max(min(WINDOW_S, seconds / 8), seconds / MOST_WINDOWS)


def run_sustained(
    call: Call, clock: Clock, job: Job, sensors: Sensors, window: float | None = None
) -> Sustained:
    """Run ``call`` back-to-back for ``job.seconds``.

    Args:
        call: one inference.
        clock: the system's, or a test's.
        job: for how long, and of whom.
        sensors: read after each window.
        window: seconds; by default ``window_s``.
    """
    window = window_s(job.seconds) if window is None else window
    points = _Points()
    begin = clock.now_ns()
    end = begin + int(job.seconds * 1e9)
    sensors.watts()  # a counter of energy answers with the mean since it was asked before
    with no_collection():
        while clock.now_ns() < end:
            started = clock.now_ns()
            samples = collect_window(call, clock, window)
            points.add(samples, (clock.now_ns() - started) / 1e9, sensors)
    return points.result(job, window, sensors.watts.source)


@dataclass
class _Points:
    """The series, growing."""

    p50_ms: list[float] = field(default_factory=list)
    p90_ms: list[float] = field(default_factory=list)
    inferences: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    mhz: list[float | None] = field(default_factory=list)
    celsius: list[float | None] = field(default_factory=list)
    watts: list[float | None] = field(default_factory=list)

    def add(self, samples: array[int], seconds: float, sensors: Sensors) -> None:
        p50, p90 = np.quantile(samples, (0.5, 0.9)) / 1e6
        self.p50_ms.append(float(p50))
        self.p90_ms.append(float(p90))
        self.inferences.append(len(samples))
        self.seconds.append(seconds)
        self.mhz.append(sensors.mhz())
        self.celsius.append(sensors.celsius())
        self.watts.append(sensors.watts())

    def result(self, job: Job, window: float, source: str) -> Sustained:
        joules = self._joules_per_inference()
        return Sustained(
            runtime=job.runtime,
            threads=job.threads,
            window_s=window,
            p50_ms=tuple(self.p50_ms),
            p90_ms=tuple(self.p90_ms),
            inferences=tuple(self.inferences),
            mhz=tuple(self.mhz),
            celsius=tuple(self.celsius),
            watts=tuple(self.watts),
            throttled_at_s=fell_off_at(self.p50_ms, self.mhz, window),
            joules_per_inference=joules,
            power_source=source if joules is not None else "",
        )

    def _joules_per_inference(self) -> float | None:
        """Energy of the windows whose watts are known, over their inferences."""
        known = [
            (watts * seconds, count)
            for watts, seconds, count in zip(self.watts, self.seconds, self.inferences, strict=True)
            if watts is not None
        ]
        inferences = sum(count for _, count in known)
        return sum(energy for energy, _ in known) / inferences if inferences else None


def work(
    job: Job, clock: Clock, sensors: Callable[[Sequence[int]], Sensors] = system_sensors
) -> dict[str, Any]:
    """The sustained run of a fresh process, in the engine scope."""
    import_runtime(job)
    with open_model(job) as model:
        scopes = Scopes(model)
        call = scopes.require(ENGINE)
        warm_up(call, clock, plan_of(job))
        encoded: dict[str, Any] = schema.encode(run_sustained(call, clock, job, sensors(job.cpus)))
        return encoded
