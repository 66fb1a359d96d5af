"""A long run as a time series, by a scripted clock and scripted sensors."""

import pytest

from edgekit.profiling.job import Job
from edgekit.profiling.power import PowerReader
from edgekit.profiling.sustained import Sensors, run_sustained, system_sensors, window_s
from tests.profiling.scripted import ScriptedClock, null_call, takes

JOB = Job("sustained", "b", "null", threads=2, seconds=30.0)
MS = 1_000_000


def sustained(call, clock, **sensors):
    return run_sustained(call, clock, JOB, Sensors(**sensors))


def test_a_steady_run_has_a_point_a_second():
    clock = ScriptedClock()
    row = sustained(null_call(clock, sleep_us=2000), clock)
    assert (row.runtime, row.threads, row.window_s) == ("null", 2, 1.0)
    assert row.p50_ms == row.p90_ms == (2.0,) * 30
    assert row.inferences == (500,) * 30
    assert row.throttled_at_s is None
    assert row.mhz == row.celsius == row.watts == (None,) * 30
    assert (row.joules_per_inference, row.power_source) == (None, "")


def test_a_run_that_slows_down_says_when():
    clock = ScriptedClock()
    durations = [2 * MS] * 6000 + [3 * MS]  # after twelve seconds
    row = sustained(takes(clock, durations), clock)
    assert row.throttled_at_s == pytest.approx(12, abs=1)


def test_a_drift_is_throttling_too():
    clock = ScriptedClock()
    row = sustained(null_call(clock, sleep_us=1000, drift=0.02), clock)
    assert row.throttled_at_s is not None
    assert row.throttled_at_s < 10


def test_a_clock_that_falls_says_when_and_is_recorded():
    clock = ScriptedClock()
    row = sustained(
        null_call(clock, sleep_us=1000),
        clock,
        mhz=lambda: 1500.0 if clock.now < 20e9 else 1000.0,
        celsius=lambda: 40 + clock.now / 1e9,
    )
    assert row.throttled_at_s == pytest.approx(20, abs=1)
    assert row.mhz[0] == 1500 and row.mhz[-1] == 1000
    assert row.celsius[-1] == pytest.approx(70)


def test_energy_is_watts_over_time_a_run_and_has_a_source():
    clock = ScriptedClock()
    row = sustained(
        null_call(clock, sleep_us=2000), clock, watts=PowerReader("rail VDD_IN", lambda: 5.0)
    )
    assert row.joules_per_inference == pytest.approx(5 * 0.002)
    assert row.power_source == "rail VDD_IN"


def test_a_sensor_that_stops_answering_does_not_spoil_the_rest():
    clock = ScriptedClock()
    row = sustained(
        null_call(clock, sleep_us=2000),
        clock,
        watts=PowerReader("rail", lambda: 5.0 if clock.now < 10e9 else None),
    )
    assert row.joules_per_inference == pytest.approx(0.01)
    assert row.watts[-1] is None


def test_a_model_slower_than_a_window_has_windows_of_one():
    clock = ScriptedClock()
    row = sustained(null_call(clock, sleep_us=2_500_000), clock)
    assert row.inferences == (1,) * 12


def test_windows():
    assert window_s(60) == 1
    assert window_s(4) == 0.5
    assert window_s(10 * 3600) == 10


def test_this_machines_sensors_answer_or_do_not():
    sensors = system_sensors([0])
    for reading in (sensors.mhz(), sensors.celsius(), sensors.watts()):
        assert reading is None or reading >= 0
    assert not sensors.watts.slow
