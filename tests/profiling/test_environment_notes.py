"""What the user is told about the machine, and what not."""

import dataclasses

import pytest

from edgekit.profiling.environment import notes, read_machine, read_state
from tests.profiling.board_trees import tree
from tests.profiling.sample_results import machine, state

CALM = state(clocks_locked=True)


def said(before=CALM, after=None, **facts):
    return notes(machine(**facts), before, after)


def changed(**changes):
    return dataclasses.replace(CALM, **changes)


def test_a_calm_machine_needs_no_words():
    assert said() == said(after=CALM) == ()


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"clocks_locked": False, "governors": {"policy0": "ondemand"}}, "governor is ondemand"),
        ({"turbo": "on", "clocks_locked": False}, "turbo is on"),
        ({"load": 2.5}, "load was 2.50 on 4 CPUs"),
        ({"quota_cpus": 1.5}, "a cgroup allows 1.5 of 4 CPUs"),
        ({"on_battery": True}, "running on battery"),
        ({"memory_available": 100 << 20}, "only 100 MiB of memory were free"),
        ({"celsius": {"cpu-thermal": 84.9, "gpu": 40.0}}, "cpu-thermal had 85 °C before"),
        ({"throttle_flags": ("under-voltage",)}, "the board reports under-voltage before"),
    ],
)
def test_what_was_wrong_before(before, words):
    (sentence,) = said(changed(**before))
    assert words in sentence


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"steal_ticks": 500, "busy_ticks": 121000}, "the hypervisor gave 33 % of the CPU time"),
        ({"quota_throttled": 3}, "quota held this process back 3 times"),
        ({"throttle_history": ("throttled",)}, "while measuring there was throttled"),
        ({"throttle_flags": ("throttled",)}, "the board reports throttled after"),
        (
            {"governors": {"policy0": "powersave"}},
            "governors changed while measuring, from policy0",
        ),
        (
            {"power_mode": "MAXN (0)"},
            "power mode changed while measuring, from nothing to MAXN (0)",
        ),
        ({"max_mhz": {"policy0": 600.0}}, "max mhz changed while measuring"),
        ({"celsius": {"tj": 95.0}}, "tj had 95 °C after"),
    ],
)
def test_what_happened_while_measuring(after, words):
    before = changed(quota_throttled=0)
    (sentence,) = said(before, dataclasses.replace(before, **after))
    assert words in sentence


def test_what_held_before_did_not_happen_now():
    old = changed(throttle_history=("under-voltage",), quota_throttled=9, steal_ticks=10**6)
    assert said(old, old) == ()


def test_a_little_steal_is_no_news():
    assert said(CALM, changed(steal_ticks=5, busy_ticks=122000)) == ()


def test_events_that_were_counted_further():
    before = changed(throttle_history=("CPU thermal throttling (3 events)",))
    after = changed(throttle_history=("CPU thermal throttling (8 events)",))
    (sentence,) = said(before, after)
    assert "CPU thermal throttling (8 events)" in sentence


def test_a_locked_clock_leaves_the_governor_no_say():
    assert said(changed(governors={"policy0": "schedutil"}, turbo="on")) == ()


def test_many_policies_are_one_sentence():
    governors = {f"policy{n}": "powersave" for n in range(64)}
    (sentence,) = said(changed(clocks_locked=False, governors=governors))
    assert "policy5 and 58 more" in sentence


def test_boards(tmp_path):
    def of(name):
        root = tree(tmp_path, name)
        return " | ".join(notes(read_machine(root), read_state(root)))

    assert "sudo jetson_clocks" in of("orin-nano")
    assert "jetson_clocks" not in of("agx-orin")
    assert "cpupower" in of("rpi4")
    assert "virtual machine (KVM or QEMU)" in of("x86-guest")
    assert "running on battery" in of("x86-laptop")
    assert "nvpmodel" in of("jetson-tx2")
    assert "virtual" not in of("x86-laptop")


def test_emulation_is_no_board():
    (sentence,) = said(virtual="user-mode emulation on x86_64")
    assert "its times say nothing about the processor" in sentence
