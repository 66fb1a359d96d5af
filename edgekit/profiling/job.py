"""One piece of work for one fresh process: what the profiler sends and what comes back.

    parent   run_job(job)  ->  python -m edgekit.profiling.worker  (job as JSON on stdin)
    child    pins itself, imports the runtime, works, prints one JSON document

A fresh process each time, because a cold start, a memory peak and the luck of one process's
memory layout can be seen in no other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """What a worker does. ``kind`` is a key of ``edgekit.profiling.worker.KINDS``.

    Attributes:
        bundle: path of the bundle.
        runtime: key of ``edgekit.runtimes.RUNTIMES``.
        threads: the engine computes with.
        cpus: to pin the process to before anything is imported; empty: not pinned.
        scopes: measured one after the other, see ``result.Run``.
        seconds: timed, per scope, at least.
        samples: timed, per scope, at least.
        most_seconds: timed, per scope, at most: ``samples`` is given up for it.
        pace_hz: inferences started per second; 0 is back-to-back.
        warm_runs: before the timed ones, at least; ``warm_seconds`` likewise.
        most_warm_seconds: after which an unsettled warm-up is given up and reported.
        others: bundles of reference networks, for kind ``turns``.
        options: of the runtime, see its module.
        image: file that the pipeline scope is fed; "" for a drawn one.
        epoch_ns: ``perf_counter_ns`` at the start of the profile.
        spawned_ns: likewise just before this process was started.
    """

    kind: str
    bundle: str
    runtime: str
    threads: int = 1
    cpus: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ("engine",)
    seconds: float = 3.4
    samples: int = 340
    most_seconds: float = 20.0
    pace_hz: float = 0.0
    warm_runs: int = 10
    warm_seconds: float = 1.0
    most_warm_seconds: float = 30.0
    others: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    epoch_ns: int = 0
    spawned_ns: int = 0
