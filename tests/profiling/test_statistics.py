"""Percentiles and their intervals, against definitions and by simulation."""

import numpy as np
import pytest

from edgekit.profiling.statistics import (
    block_length,
    chunk_medians,
    quantile_intervals,
    ratio_of_turns,
    spread,
    summarise,
)


def test_figures_of_known_samples():
    summary = summarise([[1_000_000 * i for i in range(1, 102)]])  # 1 ms to 101 ms
    assert (summary.p50_ms, summary.p90_ms, summary.p95_ms) == (51, 91, 96)
    assert (summary.min_ms, summary.max_ms, summary.mean_ms) == (1, 101, 51)
    assert summary.mad_ms == 25
    assert summary.samples == 101
    assert summary.spread is None


def test_between_two_ranks_is_linear():
    assert summarise([[1_000_000, 2_000_000]]).p50_ms == 1.5


def test_p99_needs_a_thousand():
    assert summarise([[1_000_000] * 999]).p99_ms is None
    assert summarise([[1_000_000] * 500] * 2).p99_ms == 1


def test_an_outlier_stays_in_the_maximum_and_the_mean():
    summary = summarise([[1_000_000] * 99 + [100_000_000]])
    assert summary.max_ms == 100
    assert summary.mean_ms == pytest.approx(1.99)
    assert summary.p50_ms == 1


def test_equal_samples_have_an_interval_without_width():
    summary = summarise([[2_000_000] * 50] * 3)
    assert summary.p50_interval_ms == (2.0, 2.0)
    assert summary.p90_interval_ms == (2.0, 2.0)


def test_one_sample_is_enough():
    assert summarise([[7_000_000]]).p50_interval_ms == (7.0, 7.0)


def test_the_same_samples_have_the_same_interval():
    samples = np.random.default_rng(5).gamma(2, 1e6, 3000).astype(int).tolist()
    assert summarise([samples]) == summarise([samples])


def correlated(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """AR(1) with variance 1 around 10: neighbours resemble each other."""
    noise = rng.normal(size=count) * np.sqrt(1 - memory**2)
    values = np.empty(count)
    values[0] = rng.normal()
    for index in range(1, count):
        values[index] = memory * values[index - 1] + noise[index]
    return values + 10


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_interval_of_p50_covers_the_truth(memory):
    """Of 150 simulated runs about 95 % should; blocks of finite length make it a bit less."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(150):
        ((low, high),) = quantile_intervals([correlated(rng, 1200, memory)], (0.5,))
        hits += low <= 10 <= high
    assert 0.87 <= hits / 150 <= 0.99


def test_the_interval_of_p90_covers_the_truth():
    rng = np.random.default_rng(2)
    truth = 10 + 1.2815515655446004  # of a normal distribution
    hits = 0
    for _ in range(150):
        processes = [rng.normal(10, 1, 400) for _ in range(3)]
        ((low, high),) = quantile_intervals(processes, (0.9,))
        hits += low <= truth <= high
    assert 0.87 <= hits / 150 <= 0.99


def test_resemblance_widens_the_interval():
    rng = np.random.default_rng(3)
    values = correlated(rng, 4000, 0.95)
    ((low, high),) = quantile_intervals([values], (0.5,))
    ((shuffled_low, shuffled_high),) = quantile_intervals([rng.permutation(values)], (0.5,))
    assert high - low > 2 * (shuffled_high - shuffled_low)


def test_more_samples_narrow_it():
    rng = np.random.default_rng(4)
    widths = []
    for count in (100, 10_000):
        ((low, high),) = quantile_intervals([rng.normal(10, 1, count)], (0.5,))
        widths.append(high - low)
    assert widths[1] < widths[0] / 4


def test_blocks_are_square_roots_with_an_end():
    assert [block_length(n) for n in (1, 2, 100, 10_000, 10**8)] == [1, 1, 10, 100, 1000]


def test_a_hundred_thousand_samples():
    samples = np.random.default_rng(0).gamma(9, 1e5, 100_000).astype(int).tolist()
    summary = summarise([samples, samples[:50_000]])
    low, high = summary.p50_interval_ms
    assert low < summary.p50_ms < high < low * 1.02


def test_spread_of_the_processes():
    assert spread([1.0]) == 0
    assert spread([1.0, 1.05, 1.1]) == pytest.approx(0.1 / 1.05)
    assert spread([0.0, 0.0]) == 0


def test_a_ratio_of_turns_does_not_mind_a_drift_of_both():
    rng = np.random.default_rng(6)
    machine = np.linspace(1, 3, 60)  # three times slower in the end
    a = 2 * machine * rng.normal(1, 0.01, 60)
    b = machine * rng.normal(1, 0.01, 60)
    ratio, (low, high) = ratio_of_turns(a.tolist(), b.tolist())
    assert low <= ratio <= high
    assert ratio == pytest.approx(2, rel=0.01)
    assert high - low < 0.05


def test_chunks_keep_the_order():
    assert chunk_medians([1, 1, 2, 2, 3, 3], 3) == [1, 2, 3]
    assert chunk_medians([4], 8) == [4]
