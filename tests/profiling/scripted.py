"""A clock that a test moves, and a null session that runs by it."""

from pathlib import Path

import numpy as np

from edgekit.bundle import TensorSpec
from edgekit.profiling.clock import Usage
from edgekit.profiling.latency import Plan, measure
from edgekit.profiling.statistics import summarise
from edgekit.profiling.verdict import Evidence, judge
from edgekit.runtimes.null import NullSession

INPUTS = (TensorSpec("x", "float32", (1, 4)),)
OUTPUTS = (TensorSpec("y", "float32", (1, 2)),)
X = {"x": np.zeros((1, 4), np.float32)}

QUIET = Usage(cpu_ns=0, waiting_ns=0, preempted=0, held_back=None)
PLAN = Plan(seconds=1.0, samples=300, most_seconds=2.0, most_warm_seconds=3.0)


class ScriptedClock:
    """Stands still until it is told otherwise."""

    def __init__(self, now=0):
        self.now = now
        self.slept_until = []

    def now_ns(self):
        return self.now

    def sleep_until_ns(self, when):
        self.slept_until.append(when)
        self.now = max(self.now, when)

    def advance(self, ns):
        self.now += int(ns)


def takes(clock, durations_ns):
    """A call that takes these times, one after the other, and then the last for ever."""
    left = list(durations_ns)

    def call():
        clock.advance(left.pop(0) if len(left) > 1 else left[0])

    return call


def null_call(clock, **options):
    """``Session.run`` of a null session that takes its time from ``clock``."""
    texts = {key: str(value) for key, value in options.items()}
    session = NullSession([Path("none")], INPUTS, OUTPUTS, options=texts)
    session.clock = clock
    return lambda: session.run(X)


def usages(*readings):
    """A reader of counters that answers these, one after the other."""
    left = list(readings)
    return lambda: left.pop(0)


def process_of(call, clock, *, plan=PLAN, usage=lambda: QUIET):
    return measure(call, clock, plan, usage=usage)


def judged(processes, **evidence):
    summary = summarise([process.samples_ns for process in processes])
    return summary, judge(
        Evidence(
            processes=tuple(processes),
            p50_ms=summary.p50_ms,
            p50_interval_ms=summary.p50_interval_ms,
            spread=summary.spread,
            **evidence,
        )
    )
