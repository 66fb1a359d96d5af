"""The clock, and what the system did with the process meanwhile.

    Clock   now_ns, sleep_until_ns        a test scripts it, and time passes as the test says
    Usage   CPU time, time in the run queue, preemptions, cgroup throttling

Every reading of ``Usage`` is of counters that only grow: the difference of two is what happened
between them. What the system does not have (another kernel, a container) is None.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekit.profiling.environment.state import cgroup_quota
from edgekit.profiling.sensors import clock_reader


class Clock(Protocol):
    """Monotonic, in nanoseconds."""

    def now_ns(self) -> int:
        """The time."""

    def sleep_until_ns(self, when: int) -> None:
        """Return at ``when`` or just after; at once where it has passed."""


class SystemClock:
    """``time.perf_counter_ns``, which all processes of a Linux system share."""

    now_ns = staticmethod(time.perf_counter_ns)

    def sleep_until_ns(self, when: int) -> None:
        """Sleep, and never spin: a spinning core would not clock down as an idle one does."""
        while (left := when - time.perf_counter_ns()) > 0:
            time.sleep(left / 1e9)


@dataclass(frozen=True)
class Usage:
    """Counters of this process, all its threads together.

    Attributes:
        cpu_ns: on a CPU.
        waiting_ns: ready to run, and waiting for a CPU; None where the kernel does not count.
        preempted: involuntary context switches.
        held_back: periods in which the cgroup's quota was used up; None without a quota.
        mhz: no counter: the clock at this moment, mean of the CPUs it is pinned to.
    """

    cpu_ns: int
    waiting_ns: int | None
    preempted: int
    held_back: int | None
    mhz: float | None = None


def read_usage(root: Path = Path("/")) -> Usage:
    """The counters, now."""
    return Usage(
        cpu_ns=time.process_time_ns(),
        waiting_ns=_waiting_ns(root / "proc/self/task"),
        preempted=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        held_back=cgroup_quota(root)[1],
        mhz=_mhz(root),
    )


def cpu_share(before: Usage, after: Usage, busy_ns: int) -> float:
    """Of the time its threads could have run, the share in which they did: 1 is undisturbed.

    Args:
        before: counters at the start.
        after: at the end.
        busy_ns: time inside inferences, the yardstick where the kernel does not count waiting.
    """
    ran = max(after.cpu_ns - before.cpu_ns, 0)
    if before.waiting_ns is None or after.waiting_ns is None:
        return min(1.0, ran / busy_ns) if busy_ns > 0 else 1.0
    waited = max(after.waiting_ns - before.waiting_ns, 0)
    return ran / (ran + waited) if ran + waited else 1.0


def _waiting_ns(tasks: Path) -> int | None:
    """Sum over the threads of the second number of ``schedstat``: time in the run queue.

    A kernel that has the file and does not count (Raspberry Pi OS: CONFIG_TASK_DELAY_ACCT alone,
    off since 5.14) says ``0 0 0``; the first number, time on a CPU, tells it from a quiet one.
    """
    ran = waited = 0
    try:
        for name in os.listdir(tasks):
            numbers = (tasks / name / "schedstat").read_text().split()
            ran, waited = ran + int(numbers[0]), waited + int(numbers[1])
    except (OSError, ValueError, IndexError):
        return None
    return waited if ran else None


def _pinned() -> list[int]:
    """CPUs this process is pinned to; none when it may use all, of which some would be idle."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return []
    cpus = sorted(os.sched_getaffinity(0))
    return cpus if len(cpus) < (os.cpu_count() or 1) else []


def _mhz(root: Path) -> float | None:
    cpus = _pinned()
    return clock_reader(cpus, root)() if cpus else None
