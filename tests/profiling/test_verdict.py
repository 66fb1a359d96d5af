"""The verdicts, each proved by what it is about: null sessions by a scripted clock, and states."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgekit.profiling.clock import Usage
from edgekit.profiling.environment import read_state
from edgekit.profiling.latency import Plan
from edgekit.profiling.verdict import RULES, fell_off_at, rise
from tests.profiling.scripted import (
    PLAN,
    QUIET,
    ScriptedClock,
    judged,
    null_call,
    process_of,
    takes,
    usages,
)

MS = 1_000_000


@pytest.fixture
def calm(tmp_path):
    """The state of a machine that says nothing about itself."""
    return read_state(tmp_path)


def processes(*options, plan=PLAN):
    """One measured process for each set of options of a null session."""
    made = []
    for each in options:
        clock = ScriptedClock()
        made.append(process_of(null_call(clock, **each), clock, plan=plan))
    return made


# ---- the sessions that the verdicts are about ------------------------------------------------


def test_a_session_that_is_evenly_slower_is_stable_and_slower():
    quick, first = judged(processes(*[{"sleep_us": 1000}] * 3))
    slow, second = judged(processes(*[{"sleep_us": 2000}] * 3))
    assert (first.verdict, second.verdict) == ("stable", "stable")
    assert first.reasons == second.reasons == ()
    assert slow.p50_ms == 2 * quick.p50_ms


def test_a_little_jitter_is_stable():
    rng = np.random.default_rng(0)
    made = []
    for _ in range(3):
        clock = ScriptedClock()
        durations = (MS * (1 + 0.02 * np.abs(rng.normal(size=5000)))).astype(int)
        made.append(process_of(takes(clock, durations), clock))
    _, judgement = judged(made)
    assert judgement.verdict == "stable"


def test_a_session_that_is_slow_in_one_process_is_noisy():
    _, judgement = judged(processes({"sleep_us": 1000}, {"sleep_us": 1000}, {"sleep_us": 1200}))
    assert judgement.verdict == "noisy"
    assert judgement.reasons[0] == "noisy: medians of 3 processes differ by 20.0% (limit 5%)"


def test_a_session_that_slows_down_over_time_is_throttled():
    _, judgement = judged(processes(*[{"sleep_us": 1000, "drift": 0.2}] * 3))
    assert judgement.verdict == "throttled"
    assert any("latency rose while timing and stayed up" in text for text in judgement.reasons)


def test_one_that_slows_down_in_one_process_only_is_not_throttled():
    calm, drifting = {"sleep_us": 1000}, {"sleep_us": 1000, "drift": 0.2}
    _, judgement = judged(processes(calm, drifting, calm))
    assert judgement.verdict == "noisy"


def test_a_session_whose_threads_wait_is_contended():
    made = []
    for _ in range(3):
        clock = ScriptedClock()
        after = Usage(cpu_ns=700 * MS, waiting_ns=300 * MS, preempted=5, held_back=None)
        call = null_call(clock, sleep_us=1000)
        made.append(process_of(call, clock, usage=usages(QUIET, after)))
    _, judgement = judged(made)
    assert judgement.verdict == "contended"
    assert "others had the CPU for 30.0% of the time" in judgement.reasons[0]


_SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print("spinning", flush=True)
while True: pass
"""

_MEASURE = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
from tests.profiling.scripted import judged, null_call
from edgekit.profiling.clock import SystemClock, read_usage
from edgekit.profiling.latency import Plan, measure
from edgekit.runtimes.null import _SpinningClock
call = null_call(_SpinningClock(), sleep_us=1000)
plan = Plan(seconds=0.5, samples=10, most_seconds=1, warm_seconds=0.1, most_warm_seconds=0.1)
print(judged([measure(call, SystemClock(), plan)])[1])
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pinning is Linux's")
def test_a_real_machine_whose_cpu_somebody_else_uses_too_is_contended():
    cpu = str(max(os.sched_getaffinity(0)))
    busy = [
        subprocess.Popen([sys.executable, "-c", _SPIN, cpu], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in busy:
            assert process.stdout is not None
            assert process.stdout.readline() == "spinning\n"
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, cpu],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        for process in busy:
            process.kill()
            process.communicate()
    assert "verdict='contended'" in done.stdout
    assert "others had the CPU" in done.stdout


# ---- each rule by itself ---------------------------------------------------------------------


def of_three(**changes):
    return [replace(process, **changes) for process in processes(*[{"sleep_us": 1000}] * 3)]


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"cpu_share": 0.96}, "stable", None),
        ({"cpu_share": 0.94}, "contended", "others had the CPU for 6.0% of the time"),
        ({"preempted": 100}, "stable", None),
        ({"preempted": 300}, "contended", "interrupted by other processes 300 times a second"),
        ({"held_back": 2}, "contended", "the cgroup's CPU quota was used up in 6 of its periods"),
        ({"mhz": (1500.0, 1450.0)}, "stable", None),
        ({"mhz": (1500.0, 600.0)}, "throttled", "e.g. from 1500 to 600 MHz"),
        ({"mhz": (600.0, 1500.0)}, "stable", None),
    ],
)
def test_what_the_processes_saw(changes, verdict, reason):
    _, judgement = judged(of_three(**changes))
    assert judgement.verdict == verdict
    assert (reason is None) == (judgement.reasons == ())
    assert reason is None or reason in judgement.reasons[0]


def test_a_clock_that_fell_in_one_process_only_is_no_throttling():
    made = of_three(mhz=(1500.0, 1500.0))
    made[1] = replace(made[1], mhz=(1500.0, 600.0))
    assert judged(made)[1].verdict == "stable"


def test_a_clock_that_falls_between_paced_inferences_is_no_throttling():
    made = of_three(mhz=(1500.0, 600.0))
    assert judged(made, paced=True)[1].verdict == "stable"


def test_an_unsettled_warm_up_is_noisy():
    made = of_three()
    warm = replace(made[0].warm_up, settled=False, seconds=30.0)
    made[0] = replace(made[0], warm_up=warm)
    _, judgement = judged(made)
    assert judgement.verdict == "noisy"
    assert judgement.reasons == ("noisy: 1 of 3 warm-ups had not settled after 30.0 s",)


def test_a_bimodal_run_has_a_wide_interval_and_is_noisy():
    clock = ScriptedClock()
    phases = ([MS] * 200 + [2 * MS] * 200) * 20
    plan = Plan(seconds=4, samples=300, most_seconds=5)
    _, judgement = judged([process_of(takes(clock, phases), clock, plan=plan)])
    assert judgement.verdict == "noisy"
    assert any("the 95 % interval of p50 is" in text for text in judgement.reasons)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "reason"),
    [
        (
            {"steal_ticks": 100, "busy_ticks": 1000},
            {"steal_ticks": 200, "busy_ticks": 1900},
            "contended",
            "the hypervisor gave 10% of the CPU time to others",
        ),
        (
            {"steal_ticks": 100, "busy_ticks": 1000},
            {"steal_ticks": 101, "busy_ticks": 1900},
            "stable",
            None,
        ),
        ({"others_running": 4}, {"others_running": 5}, "contended", "4 other tasks were runnable"),
        ({"others_running": 0}, {"others_running": 9}, "stable", None),
        (
            {},
            {"throttle_history": ("under-voltage",)},
            "throttled",
            "the board reports under-voltage",
        ),
        (
            {"throttle_history": ("under-voltage",)},  # long ago
            {"throttle_history": ("under-voltage",)},
            "stable",
            None,
        ),
        ({"throttle_flags": ("throttled",)}, {}, "throttled", "the board reports throttled"),
    ],
)
def test_what_the_machine_said(calm, before, after, verdict, reason):
    states = {"before": replace(calm, **before), "after": replace(calm, **after), "cpus": 4}
    _, judgement = judged(of_three(), **states)
    assert judgement.verdict == verdict
    assert reason is None or reason in judgement.reasons[0]


def test_the_worst_is_the_verdict_and_all_reasons_are_given():
    made = of_three(cpu_share=0.5, mhz=(1000.0, 500.0))
    warm = replace(made[0].warm_up, settled=False)
    made[0] = replace(made[0], warm_up=warm)
    _, judgement = judged(made, sustained_fell_s=12.0)
    assert judgement.verdict == "contended"
    assert [text.partition(":")[0] for text in judgement.reasons] == [
        "contended",
        "throttled",
        "throttled",
        "noisy",
    ]
    assert "the sustained run fell off after 12 s" in judgement.reasons[2]


def test_every_rule_of_the_table_is_there():
    assert [verdict for verdict, _ in RULES] == ["contended"] * 5 + ["throttled"] * 4 + [
        "noisy"
    ] * 3


# ---- rising, and falling off -----------------------------------------------------------------


def test_a_rise_must_stay():
    assert rise([100] * 50 + [120] * 150) == pytest.approx(0.2)
    assert rise([100] * 100 + [120] * 60 + [100] * 40) == 0  # came back
    assert rise([100] * 200) == 0
    assert rise([120] * 50 + [100] * 150) == 0  # got quicker
    assert rise([100] * 5 + [120] * 15) == 0  # too few to tell
    assert rise([0] * 200) == 0


def test_where_a_sustained_run_falls_off():
    nothing = [None] * 60
    assert fell_off_at([1.0] * 60, nothing, 1.0) is None
    assert fell_off_at([1.0] * 30 + [1.3] * 30, nothing, 1.0) == pytest.approx(30, abs=1)
    assert fell_off_at([1.0] * 30 + [1.3] * 30, nothing, 5.0) == pytest.approx(150, abs=5)
    assert fell_off_at([1.0] * 30 + [1.3] * 5 + [1.0] * 25, nothing, 1.0) is None  # recovered
    assert fell_off_at([1.0] * 59 + [9.0], nothing, 1.0) is None  # one bad second
    assert fell_off_at([1.0] * 3, [None] * 3, 1.0) is None


def test_a_clock_that_falls_is_seen_where_latency_does_not_tell():
    mhz = [1500.0] * 20 + [900.0] * 40
    assert fell_off_at([1.0] * 60, mhz, 1.0) == pytest.approx(20, abs=1)
    assert fell_off_at([1.0] * 60, [1500.0] * 59 + [None], 1.0) is None


def test_a_single_bad_second_in_a_throttled_run_does_not_hide_it():
    series = [1.0] * 30 + [1.3] * 10 + [1.0] + [1.3] * 19
    assert fell_off_at(series, [None] * 60, 1.0) == pytest.approx(30, abs=1)
