"""What the charts are made of: no spike is lost, axes hold their values, figures read well."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.profiling.report import charts, layer_charts, words
from edgekit.profiling.report.sampling import columns, histogram, milliseconds
from edgekit.profiling.report.scale import Scale, spanning, tick_text
from edgekit.profiling.result import VERDICTS, ColdStart
from tests.profiling import sample_results as samples

FINITE = st.floats(-1e15, 1e15, allow_nan=False)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5000), st.integers(1, 400))
@settings(deadline=None)
def test_columns_keep_the_lowest_and_the_highest(values, most):
    drawn = columns(np.array(values, dtype=float), most)
    assert len(drawn) == min(most, len(values))
    assert min(c.low for c in drawn) == min(values)
    assert max(c.high for c in drawn) == max(values)
    assert all(c.low <= c.middle <= c.high for c in drawn)


def test_one_spike_of_a_hundred_thousand_is_drawn_at_the_top():
    (run,) = samples.huge().runs
    (column,) = [c for c in columns(milliseconds([run.processes[0].samples_ns]), 320) if c.high > 2]
    assert column.high == 50.0
    chart = str(charts.series(run, 320))
    assert "to 50.0 ms" in chart
    highest = min(float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", chart))
    assert highest < 40  # of 132 pixels, from the top


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=3000))
@settings(deadline=None)
def test_a_histogram_counts_every_sample_once(values):
    bars = histogram(np.array(values, dtype=float))
    assert math.isclose(sum(bars.shares) + bars.beyond / len(values), 1.0, abs_tol=1e-9)
    assert bars.largest == max(values)
    assert bars.low < bars.high


@given(st.lists(FINITE, min_size=1, max_size=50), st.booleans(), st.sampled_from([None, True]))
def test_a_scale_holds_its_values_and_its_ticks(values, zero, log):
    if log:
        values = [abs(value) + 1e-6 for value in values]
    scale = spanning(values, zero=zero and not log, log=log)
    assert all(0 <= scale.at(value) <= 1 for value in values)
    ticks = scale.ticks(4)
    assert 1 <= len(ticks) <= 9
    slack = 1e-6 * max(abs(scale.low), abs(scale.high))
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)


def test_a_scale_turns_logarithmic_for_a_spike():
    assert not spanning([1.0, 5.0]).log
    assert spanning([1.0, 50.0]).log
    assert Scale(1, 100, log=True).at(10) == pytest.approx(0.5)
    assert Scale(1, 100, log=True).ticks(4) == (1, 10, 100)
    assert tick_text(15_000) == "15k"
    assert tick_text(0.25) == "0.25"


def test_marks_stand_where_their_values_are():
    run = samples.run()
    chart = str(charts.distribution(run))
    for mark, value in (("p50", run.p50_ms), ("p90", run.p90_ms), ("p99", run.p99_ms)):
        assert f"{mark} {words.ms(value)}" in chart
    assert "beyond the right edge" in chart
    assert f"{words.ms(run.p99_ms)} →" in chart  # a far tail does not squeeze the body


def test_a_curve_has_a_gap_where_a_sensor_said_nothing():
    long_run = samples.sustained()
    *_, power = charts.sustained(long_run)
    assert str(power).count('class="line3"') == 2
    blind = dataclasses.replace(long_run, watts=(None,) * 60, mhz=(None,) * 60)
    assert len(charts.sustained(blind)) == 2


def test_a_cold_start_is_as_long_as_its_parts():
    chart = str(charts.starts([ColdStart("litert", 1, 60.0, 30.0, 10.0)]))
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%"', chart)]
    assert widths == pytest.approx([60 / 1.02, 30 / 1.02, 10 / 1.02], abs=0.01)


def test_rates_are_macs_per_second():
    layer = samples.layer_run().layers[0]
    (rate,) = layer_charts.rates([dataclasses.replace(layer, ms=2.0, macs=4_000_000)])
    assert rate.gmacs == 2.0  # 4e6 MACs in 2e-3 s
    assert rate.intensity == pytest.approx(4_000_000 / layer.bytes_moved)
    assert layer_charts.rates([dataclasses.replace(layer, macs=None)]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.48213, "0.482"), (12.345, "12.3"), (1204.3, "1,204"), (0, "0"), (0.00042, "0.0004")],
)
def test_milliseconds_have_three_digits(value, text):
    assert words.ms(value) == text


def test_counts_sizes_and_shares():
    assert words.count(5_310_000) == "5.31 M"
    assert words.count(840) == "840"
    assert words.size(7_100_000) == "7.1 MB"
    assert words.percent(0.042) == "4.2 %"
    assert words.percent(0.37) == "37 %"
    assert words.plural(2, "process") == "2 processes"
    assert words.plural(1, "thread") == "1 thread"


def test_the_headline_is_the_engine_alone_and_trustworthy():
    quick_but_noisy = samples.run(ms=0.2, verdict="noisy")
    calm = samples.run(runtime="onnxruntime", ms=0.7)
    others = (
        samples.run(scope="pipeline", ms=0.1),
        samples.run(threads=4, ms=0.1),
        samples.run(pace_hz=30, ms=0.1),
    )
    result = samples.result(runs=(*others, quick_but_noisy, calm))
    assert words.headline(result) is calm
    assert words.headline(samples.result(runs=())) is None
    assert "no latency was measured" in words.sentence(samples.result(runs=()))


def test_results_are_told_apart_by_as_little_as_does():
    first, second = samples.result(), samples.result(model="other")
    assert words.names([first, second]) == ["micronet-m1", "other"]
    pi5 = samples.environment(machine=samples.machine(board="Raspberry Pi 5"))
    there = samples.result(environment=pi5)
    assert words.names([first, there])[1] == "micronet-m1 on Raspberry Pi 5"
    later = samples.result(started="2026-11-24T08:00:00Z")
    assert words.names([first, later])[1] == "micronet-m1, 2026-11-24 08:00"


def test_a_count_of_instructions_is_never_called_a_time():
    emulated = samples.result(runs=(), instructions=(samples.instructions(),))
    assert words.sentence(emulated) == (
        "micronet-m1 executes 11.5 M instructions an inference on an emulated cortex-a72 with "
        "litert, 1 thread: a count, not a time."
    )


def test_every_verdict_and_scope_has_words():
    assert set(words.VERDICT_WORDS) == set(VERDICTS)
    assert set(words.SCOPE_WORDS) == {"engine", "copies", "pipeline"}
