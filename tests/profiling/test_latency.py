"""One process: warm-up, the timed loops, and that no sample is lost. All by a scripted clock."""

import gc
from dataclasses import replace

import pytest

from edgekit.profiling import latency
from edgekit.profiling.clock import SystemClock, Usage, cpu_share, read_usage
from edgekit.profiling.latency import Plan, is_settled, measure, measure_cost, plan_of, warm_up
from tests.profiling.scripted import (
    PLAN,
    QUIET,
    ScriptedClock,
    null_call,
    process_of,
    takes,
    usages,
)

MS = 1_000_000


def test_samples_are_what_the_call_took():
    clock = ScriptedClock()
    process = process_of(null_call(clock, sleep_us=2000), clock)
    assert set(process.samples_ns) == {2 * MS}
    assert len(process.samples_ns) == 500  # one second of them
    assert process.warm_up.settled
    assert process.warm_up.seconds >= 1
    assert process.warm_up.runs >= 500


def test_no_sample_is_ever_left_out():
    clock = ScriptedClock()
    spikes = [MS] * 1600 + [500 * MS, 1, 70 * MS] + [MS]  # after a warm-up of a second
    plan = Plan(seconds=2, samples=300, most_seconds=3)
    process = process_of(takes(clock, spikes), clock, plan=plan)
    assert max(process.samples_ns) == 500 * MS
    assert min(process.samples_ns) == 1
    assert process.samples_ns.count(70 * MS) == 1


def test_it_goes_on_until_there_are_seconds_and_samples():
    clock = ScriptedClock()
    plan = Plan(seconds=1, samples=300, most_seconds=60)
    process = process_of(null_call(clock, sleep_us=10_000), clock, plan=plan)
    assert len(process.samples_ns) == 300  # three seconds


def test_a_slow_model_ends_at_the_cap():
    clock = ScriptedClock()
    process = process_of(null_call(clock, sleep_us=100_000), clock)
    assert len(process.samples_ns) == 20  # two seconds, where 300 samples were wanted


def test_a_model_slower_than_the_cap_is_measured_once():
    clock = ScriptedClock()
    process = process_of(null_call(clock, sleep_us=9_000_000), clock)
    assert process.samples_ns == (9000 * MS,)
    assert (process.warm_up.runs, process.warm_up.settled) == (4, True)


def test_a_very_fast_model_ends_when_the_memory_for_samples_is_full(monkeypatch):
    monkeypatch.setattr(latency, "MOST_SAMPLES", 1000)
    clock = ScriptedClock()
    process = process_of(null_call(clock, sleep_us=100), clock)
    assert len(process.samples_ns) == 1000


def test_the_first_sample_has_a_place_in_the_profile():
    clock = ScriptedClock(now=5_000 * MS)
    process = measure(null_call(clock, sleep_us=1000), clock, PLAN, epoch_ns=2_000 * MS)
    assert process.start_ms == pytest.approx(3000 + 1000, abs=10)


# ---- warm-up ---------------------------------------------------------------------------------


def test_a_start_that_gets_quicker_is_warmed_up_until_it_is_not():
    clock = ScriptedClock()
    durations = [int(MS * (1 + 3 * 0.998**i)) for i in range(4000)]
    warm = warm_up(takes(clock, durations), clock, replace(PLAN, most_warm_seconds=30))
    assert warm.settled
    assert warm.seconds > PLAN.warm_seconds  # the least was not enough
    assert warm.runs > 1000


def test_what_never_settles_is_given_up_and_said():
    clock = ScriptedClock()
    warm = warm_up(null_call(clock, sleep_us=1000, drift=0.5), clock, PLAN)
    assert not warm.settled
    assert PLAN.most_warm_seconds <= warm.seconds < PLAN.most_warm_seconds + 1


def test_at_least_ten_runs_of_a_slow_model():
    clock = ScriptedClock()
    warm = warm_up(null_call(clock, sleep_us=200_000), clock, PLAN)
    assert warm.runs >= 10
    assert warm.settled


@pytest.mark.parametrize("sleep_us", [1000, 90_000, 250_000, 400_000, 2_000_000])
@pytest.mark.parametrize("first", [True, False])
def test_a_model_is_not_unsettled_for_being_slow(sleep_us, first):
    """With the times of the default preset, in the first scope and in later ones."""
    part = 1 if first else 1 / 3
    plan = replace(PLAN, warm_seconds=part, most_warm_seconds=3.0 * part)
    clock = ScriptedClock()
    assert warm_up(null_call(clock, sleep_us=sleep_us), clock, plan).settled
    clock = ScriptedClock()
    assert not warm_up(null_call(clock, sleep_us=sleep_us, drift=0.9), clock, plan).settled


@pytest.mark.parametrize(
    ("medians", "settled"),
    [
        ([1, 1, 1], False),  # too few to tell
        ([1, 1, 1, 1], True),
        ([9, 8, 1, 1, 1, 1], True),  # only the last four count
        ([1.00, 1.01, 1.00, 1.01], True),  # noise is no slope
        ([1.0, 1.02, 1.04, 1.06], False),
        ([1.06, 1.04, 1.02, 1.0], False),
        ([0, 0, 0, 0], True),
    ],
)
def test_settled_is_a_slope_below_one_percent(medians, settled):
    assert is_settled(medians) is settled


def test_later_scopes_warm_up_for_a_third():
    from edgekit.profiling.job import Job

    job = Job("latency", "b", "null", warm_seconds=3, most_warm_seconds=30)
    assert plan_of(job).warm_seconds == 3
    assert plan_of(job, first=False).warm_seconds == pytest.approx(1)
    assert plan_of(job, first=False).most_warm_seconds == pytest.approx(10)


# ---- at a fixed rate -------------------------------------------------------------------------


def test_paced_starts_keep_to_the_rate():
    clock = ScriptedClock()
    plan = Plan(seconds=1, samples=300, most_seconds=5, pace_hz=50)
    process = process_of(null_call(clock, sleep_us=2000), clock, plan=plan)
    assert len(process.samples_ns) in (50, 51)
    assert set(process.samples_ns) == {2 * MS}  # sleeping is not in a sample
    assert process.missed == 0
    timed = [when for when in clock.slept_until if when % (20 * MS) == timed_phase(clock)]
    assert len(timed) >= 50


def timed_phase(clock):
    return clock.slept_until[-1] % (20 * MS)


def test_starts_that_pass_during_an_inference_are_missed():
    clock = ScriptedClock()
    plan = Plan(seconds=1, samples=1, most_seconds=5, pace_hz=100)
    process = process_of(null_call(clock, sleep_us=25_000), clock, plan=plan)
    # Each takes 25 ms of a 10 ms rate: two starts pass, the third is kept.
    assert len(process.samples_ns) in (33, 34)
    assert process.missed in (64, 66, 68)


def test_an_inference_of_exactly_the_period_misses_nothing():
    clock = ScriptedClock()
    plan = Plan(seconds=1, samples=1, most_seconds=5, pace_hz=100)
    process = process_of(null_call(clock, sleep_us=10_000), clock, plan=plan)
    assert process.missed == 0


# ---- what the system does meanwhile ----------------------------------------------------------


def test_the_garbage_collector_rests_while_timing():
    clock, states = ScriptedClock(), set()

    def call():
        states.add(gc.isenabled())
        clock.advance(MS)

    assert gc.isenabled()
    process_of(call, clock)
    assert states == {False}
    assert gc.isenabled()


def test_the_garbage_collector_comes_back_after_an_error():
    def call():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        process_of(call, ScriptedClock())
    assert gc.isenabled()


def test_counters_are_of_the_timed_part():
    clock = ScriptedClock()
    before = Usage(cpu_ns=5 * MS, waiting_ns=100, preempted=7, held_back=3, mhz=1500)
    after = Usage(cpu_ns=905 * MS, waiting_ns=100 + 300 * MS, preempted=9, held_back=4, mhz=1200)
    process = process_of(null_call(clock, sleep_us=1000), clock, usage=usages(before, after))
    assert process.cpu_share == pytest.approx(0.75)
    assert (process.preempted, process.held_back, process.mhz) == (2, 1, (1500, 1200))


def test_the_wait_of_waking_up_for_a_paced_start_is_in_no_share():
    clock = ScriptedClock()
    before = Usage(cpu_ns=0, waiting_ns=0, preempted=0, held_back=None)
    after = Usage(cpu_ns=1000 * MS, waiting_ns=900 * MS, preempted=0, held_back=None)
    plan = Plan(seconds=1, samples=1, most_seconds=5, pace_hz=50)
    call = null_call(clock, sleep_us=2000)
    process = process_of(call, clock, plan=plan, usage=usages(before, after))
    assert process.cpu_share == 1


def test_a_counter_that_was_read_once_says_nothing():
    once = Usage(cpu_ns=0, waiting_ns=0, preempted=0, held_back=1234)
    for readings in ((QUIET, once), (once, QUIET)):
        clock = ScriptedClock()
        process = process_of(null_call(clock, sleep_us=1000), clock, usage=usages(*readings))
        assert process.held_back == 0


def test_without_the_kernels_count_the_cpu_time_is_compared_with_the_inferences():
    before = Usage(cpu_ns=0, waiting_ns=None, preempted=0, held_back=None)
    after = Usage(cpu_ns=600, waiting_ns=None, preempted=0, held_back=None)
    assert cpu_share(before, after, 1000) == pytest.approx(0.6)
    assert cpu_share(before, after, 300) == 1  # several threads
    assert cpu_share(QUIET, QUIET, 0) == 1


def test_this_systems_counters_grow(tmp_path):
    before = read_usage()
    sum(range(10**6))
    after = read_usage()
    assert after.cpu_ns > before.cpu_ns
    assert after.preempted >= before.preempted
    elsewhere = read_usage(tmp_path)  # no /proc at all
    assert (elsewhere.waiting_ns, elsewhere.held_back, elsewhere.mhz) == (None, None, None)


@pytest.mark.parametrize(
    ("lines", "waiting"),
    [
        (("900 30 5", "100 12 1"), 42),
        (("900 0 5",), 0),
        (("0 0 0", "0 0 0"), None),  # a kernel that does not count
        (("garbage",), None),
        (("900",), None),
    ],
)
def test_waiting_is_summed_over_threads_where_the_kernel_counts_it(tmp_path, lines, waiting):
    for number, line in enumerate(lines):
        folder = tmp_path / "proc/self/task" / str(number)
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(line + "\n")
    assert read_usage(tmp_path).waiting_ns == waiting


def test_the_cost_of_measuring_is_measured():
    cost = measure_cost(SystemClock())
    assert 0 < cost.clock_ns < 1e6
    assert 0 <= cost.call_ns < 1e6


def test_the_systems_clock_sleeps_until_a_time():
    clock = SystemClock()
    when = clock.now_ns() + 2 * MS
    clock.sleep_until_ns(when)
    assert clock.now_ns() >= when
    clock.sleep_until_ns(when)  # passed: returns at once
