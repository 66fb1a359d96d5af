"""May two results be compared, and is the second one worse? Both errors must be possible."""

import dataclasses

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.profiling import compare
from edgekit.profiling.compare import changes, differences, not_compared, unlike, unmatched, worse
from edgekit.profiling.result import Process, WarmUp
from edgekit.profiling.statistics import summarise
from tests.profiling.sample_results import (
    environment,
    everything,
    instructions,
    machine,
    memory,
    model,
    result,
    run,
    state,
)


def processes(ms, seed, *, count=3, each=400, jitter=0.01, between=0.0):
    """Samples around ``ms``; ``between`` is how far the processes are apart, as a deviation."""
    rng = np.random.default_rng(seed)
    return [
        np.maximum(ms * (1 + between * rng.normal()) * (1 + jitter * rng.normal(size=each)), 1e-3)
        for _ in range(count)
    ]


def measured(blocks, **options):
    """A run as the profiler makes it of these processes' samples, in milliseconds."""
    nanoseconds = [tuple(int(1e6 * value) for value in block) for block in blocks]
    made = tuple(Process(0.0, WarmUp(10, 1.0, True), block, 1.0, 0) for block in nanoseconds)
    figures = dataclasses.asdict(summarise(nanoseconds))
    return dataclasses.replace(run(made=made, **options), **figures)


def of(*runs, **parts):
    return result(runs=tuple(runs), **parts)


def verdicts(before, after):
    return {change.figure: change.verdict for change in changes(of(before), of(after))[3:]}


# ---- worse -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_down_of_10_per_cent_is_caught(seed):
    before = measured(processes(0.50, seed))
    after = measured(processes(0.55, seed + 100))
    assert verdicts(before, after) == {"p50_ms": "worse", "p90_ms": "worse"}
    assert verdicts(after, before) == {"p50_ms": "better", "p90_ms": "better"}


@pytest.mark.parametrize("seed", range(5))
def test_the_same_samples_reshuffled_are_not(seed):
    blocks = processes(0.50, seed, between=0.01)
    pool = np.random.default_rng(seed).permutation(np.concatenate(blocks))
    before, after = measured(blocks), measured(np.array_split(pool, 3))
    assert verdicts(before, after) == {"p50_ms": "same", "p90_ms": "same"}
    assert verdicts(after, before) == {"p50_ms": "same", "p90_ms": "same"}


def test_a_figure_against_itself_is_the_same():
    one = measured(processes(0.5, 0))
    assert worse(of(one), of(one)) == ()
    assert {change.ratio for change in changes(of(one), of(one))} == {1.0}


def test_10_per_cent_hide_among_processes_that_differ_by_as_much():
    """Intervals within the processes do not overlap, and still nothing is known."""
    before, after = (
        measured([block * (1 + 0.07 * i) for i, block in enumerate(processes(ms, seed=1))])
        for ms in (0.50, 0.55)
    )
    assert before.p50_interval_ms[1] < after.p50_interval_ms[0]
    assert verdicts(before, after)["p50_ms"] == "same"


def test_a_small_change_is_noise_however_tight_the_samples():
    before = measured(processes(0.5, 1, jitter=1e-4))
    after = measured(processes(0.505, 2, jitter=1e-4))
    assert before.p50_interval_ms[1] < after.p50_interval_ms[0]
    assert verdicts(before, after)["p50_ms"] == "same"


def test_wide_intervals_that_overlap_are_noise():
    before = measured(processes(0.5, 1, each=15, jitter=0.5))
    after = measured(processes(0.55, 2, each=15, jitter=0.5))
    assert verdicts(before, after)["p50_ms"] == "same"


def test_intervals_that_touch_decide_nothing_however_equal_the_processes():
    before, after = measured(processes(0.5, 1)), measured(processes(0.55, 2))
    assert verdicts(before, after)["p50_ms"] == "worse"
    unsure = dataclasses.replace(before, p50_interval_ms=(0.44, 0.56))
    assert verdicts(unsure, after)["p50_ms"] == "same"
    unsure = dataclasses.replace(after, p50_interval_ms=(0.49, 0.61))
    assert verdicts(before, unsure)["p50_ms"] == "same"


def test_a_single_process_does_not_bound_what_others_would_say():
    before = measured(processes(0.5, 1, count=1))
    assert verdicts(before, measured(processes(0.52, 2, count=1)))["p50_ms"] == "same"
    assert verdicts(before, measured(processes(0.54, 2, count=1)))["p50_ms"] == "worse"


def test_only_the_tail_got_worse():
    blocks = processes(0.5, 1)
    tail = [np.where(np.arange(block.size) % 6 == 0, block * 1.5, block) for block in blocks]
    assert verdicts(measured(blocks), measured(tail)) == {"p50_ms": "same", "p90_ms": "worse"}


def test_false_alarms_are_rare_where_processes_differ():
    """Nothing changed; the processes' medians differ by 2 % each time (one deviation)."""
    alarms = 0
    for seed in range(200):
        before = measured(processes(0.5, 2 * seed, each=120, between=0.02))
        after = measured(processes(0.5, 2 * seed + 1, each=120, between=0.02))
        alarms += any(verdict == "worse" for verdict in verdicts(before, after).values())
    assert alarms <= 12


def test_slow_downs_are_found_where_processes_differ():
    found = 0
    for seed in range(50):
        before = measured(processes(0.5, 2 * seed, each=120, between=0.01))
        after = measured(processes(0.55, 2 * seed + 1, each=120, between=0.01))
        found += verdicts(before, after)["p50_ms"] == "worse"
    assert found >= 48


def test_runs_are_compared_with_their_like():
    before = of(
        measured(processes(0.5, 1)),
        measured(processes(0.9, 2), threads=2),
        measured(processes(3.0, 3), scope="pipeline"),
        measured(processes(0.5, 4), pace_hz=30.0),
    )
    after = of(
        measured(processes(3.0, 5), scope="pipeline"),
        measured(processes(0.6, 6), pace_hz=30.0),
        measured(processes(0.5, 7)),
        measured(processes(0.1, 8), runtime="openvino"),
    )
    assert {change.subject for change in worse(before, after)} == {"litert, 1 thread, engine, 30/s"}
    assert unmatched(before, after) == ("litert, 2 threads, engine",)


def test_memory_is_worse_beyond_5_per_cent_and_a_mebibyte():
    def peak(size):
        return result(memory=(dataclasses.replace(memory(), peak_use=size),))

    assert worse(peak(100 << 20), peak(104 << 20)) == ()
    (change,) = worse(peak(100 << 20), peak(106 << 20))
    assert (change.kind, change.figure) == ("memory", "peak_rss_bytes")
    assert worse(peak(4 << 20), peak(5 << 20)) == ()  # 25 %, and one mebibyte


def test_instructions_are_worse_beyond_a_thousandth():
    def count(figure, spread=0.0):
        row = dataclasses.replace(instructions(), per_inference=figure, spread=spread)
        return result(instructions=(row,))

    assert worse(count(1e7), count(1.0005e7)) == ()
    (change,) = worse(count(1e7), count(1.002e7))
    assert change.kind == "instructions"
    assert "cortex-a72" in change.subject
    assert worse(count(1e7), count(1.002e7, spread=0.01)) == ()


def test_counts_are_exact():
    before, after = result(), result(facts=model(macs=5_310_001))
    (change,) = worse(before, after)
    assert (change.figure, change.before, change.after) == ("macs", 5_310_000, 5_310_001)
    assert worse(after, before) == ()


def test_what_is_gone_is_named():
    assert not_compared(everything(), result()) != ()
    assert not_compared(result(), everything()) == ()
    assert "instructions of litert, 1 thread, cortex-a72" in not_compared(everything(), result())


@pytest.mark.parametrize("figure", [0.0, -1.0])
def test_a_figure_that_no_measurement_gives(figure):
    broken = of(dataclasses.replace(run(), p50_ms=figure))
    with pytest.raises(InputError, match="p50_ms of litert, 1 thread, engine is .* above 0"):
        changes(broken, result())


def test_a_count_out_of_nothing_is_worse():
    before = result(facts=model(elementwise_multiplies=0))
    assert [change.figure for change in worse(before, result())] == ["elementwise_multiplies"]


# ---- environments ----------------------------------------------------------------------------


def on(machine_changes=None, state_changes=None, **changes):
    where = environment(
        machine=machine(**(machine_changes or {})), before=state(**(state_changes or {})), **changes
    )
    return result(environment=where)


def test_the_same_environment():
    assert differences(result(), result()) == ()
    assert differences(everything(), everything()) == ()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (on({"architecture": "x86_64"}), "architecture: aarch64 / x86_64"),
        (on({"board": "Raspberry Pi 5"}), "board: Raspberry Pi 4 Model B Rev 1.1 / Raspberry Pi 5"),
        (on({"cpu": ""}), "cpu: Cortex-A72 / not known"),
        (on({"cores": 2}), "cores: 4 / 2"),
        (on({"clusters": {"0xd05": 4}}), "kinds of cores: 0xd08 4 / 0xd05 4"),
        (on({"features": ()}), "instruction sets: asimd, crc32 / not known"),
        (on({"virtual": "Xen"}), "virtual machine: none / Xen"),
        (on({"memory_bytes": 8 << 30}), "memory: 4.3 GB / 8.6 GB"),
        (on({"kernel": "5.15.1"}), "kernel: 6 / 5"),
        (on({"python": "3.13.1"}), "Python: 3.11 / 3.13"),
        (on({"l4t": "36.4.0"}), "L4T: not known / 36.4.0"),
        (on({"gpu": "NVIDIA L4"}), "gpu: not known / NVIDIA L4"),
        (
            on({"packages": {"litert": "2.2.0", "numpy": "2.1.3"}}),
            "litert: 2.1.0 / 2.2.0",
        ),
        (on({"packages": {"litert": "2.1.0", "numpy": "1.26"}}), "numpy: 2.1.3 / 1.26"),
        (on(None, {"governors": {"policy0": "powersave"}}), "governor: performance / powersave"),
        (on(None, {"max_mhz": {"policy0": 600.0}}), "highest clock: 1500 MHz / 600 MHz"),
        (on(None, {"clocks_locked": True}), "clocks locked: False / True"),
        (on(None, {"power_mode": "15W (0)"}), "power mode: not known / 15W (0)"),
        (on(None, {"turbo": "on"}), "turbo: not known / on"),
        (on(None, {"smt": "on"}), "SMT: off / on"),
        (on(None, {"quota_cpus": 0.5}), "CPU quota: not known / 0.5"),
        (on(None, {"on_battery": True}), "on battery: False / True"),
        (on(cpus=()), "pinned to CPUs: yes / no"),
    ],
)
def test_what_makes_another_environment(other, words):
    assert differences(result(), other) == (words,)


def test_every_row_of_the_table_is_tested():
    tested = {
        mark.args[1][i][1].partition(":")[0]
        for mark in test_what_makes_another_environment.pytestmark
        for i in range(len(mark.args[1]))
    }
    assert {name for name, _ in compare._ENVIRONMENT} <= tested


@pytest.mark.parametrize(
    "other",
    [
        on({"kernel": "6.12.0"}),
        on({"system": "Debian 13"}),
        on({"python": "3.11.9"}),
        on({"memory_bytes": (4 << 30) - (64 << 20)}),
        on({"packages": {"edgekit": "0.2.0", "litert": "2.1.0", "numpy": "2.1.3"}}),
        on({"packages": {"litert": "2.1.0", "numpy": "2.1.3", "openvino": "2026.4"}}),
        on(None, {"load": 3.0, "celsius": {"cpu": 80.0}, "memory_available": 5}),
        on(cpus=(2,)),  # all four are of one kind
        result(device="ssh://pi@rpi4.local"),
        result(preset="thorough"),
    ],
)
def test_what_makes_none(other):
    assert differences(result(), other) == ()


def test_the_cpus_matter_where_they_differ():
    kinds = {"clusters": {"0xd05": 2, "0xd0b": 2}}
    assert differences(on(kinds, cpus=(0,)), on(kinds, cpus=(3,))) == ("pinned to CPUs: 0 / 3",)


def test_packages_go_by_any_of_their_names():
    one = on({"packages": {"ai-edge-litert": "2.3.0"}})
    other = on({"packages": {"ai_edge_litert": "2.2.0"}})
    assert differences(one, other) == ("ai_edge_litert: 2.3.0 / 2.2.0",)


def test_another_model_is_not_a_slower_one():
    assert unlike(result(), result()) == ()
    assert unlike(result(), result(facts=model(bundle_sha256="00" * 32))) == ()  # built again
    assert unlike(result(), result(facts=model(id="micronet-m2"))) == (
        "model: micronet-m1 / micronet-m2",
    )
    assert unlike(result(), result(facts=model(inputs={"image": (1, 3, 96, 96)})))
    assert unlike(result(), result(facts=model(precision="fp16")))
