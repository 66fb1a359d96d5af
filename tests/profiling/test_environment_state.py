"""The state: read from every board, absent and broken sensors included, and never set."""

import os
import time
from pathlib import Path

import pytest

from edgekit.profiling.environment import read_state
from edgekit.profiling.environment.files import ask, entries, read_text, read_whole
from edgekit.profiling.environment.state import cgroup_quota, cpu_ticks, parse_throttled
from tests.profiling.board_trees import NAMES, put, tree


def test_a_raspberry_pi(tmp_path):
    state = read_state(tree(tmp_path, "rpi4"))
    assert state.governors == {"policy0": "ondemand"}
    assert state.mhz == {"policy0": 1500.0}
    assert state.min_mhz == {"policy0": 600.0}
    assert state.max_mhz == {"policy0": 1500.0}
    assert state.clocks_locked is False
    assert state.celsius == {"cpu-thermal": 48.212}
    assert (state.load, state.others_running) == (0.08, 0)
    assert (state.steal_ticks, state.busy_ticks) == (0, 1540)
    assert state.throttle_flags == ()
    assert state.throttle_history == ("under-voltage", "throttled")
    assert state.memory_available == 3_200_000 * 1024
    assert state.on_battery is None
    assert state.power_mode == state.turbo == ""


def test_a_jetson(tmp_path):
    state = read_state(tree(tmp_path, "orin-nano"))
    assert state.power_mode == "15W (0)"
    assert state.mhz == {"policy0": 729.6, "policy4": 1728.0}
    assert state.gpu_mhz == 306.0  # not the video engine's
    assert state.celsius == {"cpu-thermal": 53.968, "tj-thermal": 55.125}  # two are switched off
    assert state.throttle_history == ("over-current throttling (17 events)",)
    assert state.others_running == 1


def test_locked_clocks(tmp_path):
    assert read_state(tree(tmp_path, "agx-orin")).clocks_locked is True
    assert read_state(tree(tmp_path, "rpi5")).clocks_locked is True
    assert read_state(tree(tmp_path, "x86-guest")).clocks_locked is None
    root = tree(tmp_path / "moving", "agx-orin")
    put(root, "sys/class/devfreq/17000000.ga10b/min_freq", "306000000\n")  # the GPU alone
    assert read_state(root).clocks_locked is False


def test_sensors_that_say_nothing_or_always_the_same(tmp_path):
    assert read_state(tree(tmp_path, "jetson-nano")).celsius == {"AO-therm": 35.0}
    assert read_state(tree(tmp_path, "jetson-tx2")).celsius == {"BCPU-therm": -45.0}  # real


def test_thor_has_two_gpu_clocks(tmp_path):
    assert read_state(tree(tmp_path, "thor")).gpu_mhz == 1575.0


def test_a_laptop(tmp_path):
    state = read_state(tree(tmp_path, "x86-laptop"))
    assert (state.turbo, state.smt) == ("on", "on")
    assert state.on_battery is True  # and not because of the mouse
    assert state.celsius == {"x86_pkg_temp": 91.0, "acpitz": 61.0}
    assert state.throttle_history == ("CPU thermal throttling (7 events)",)
    assert (state.steal_ticks, state.busy_ticks) == (0, 200)


def test_a_laptop_that_is_plugged_in(tmp_path):
    root = tree(tmp_path, "x86-laptop")
    put(root, "sys/class/power_supply/BAT0/status", "Charging\n")
    assert read_state(root).on_battery is False


def test_turbo_of_other_drivers(tmp_path):
    root = tree(tmp_path, "x86-guest")
    assert read_state(root).turbo == "on"
    put(root, "sys/devices/system/cpu/cpufreq/boost", "0\n")
    assert read_state(root).turbo == "off"
    assert read_state(root).smt == "off"


def test_a_quota_is_the_tightest_on_the_way_up(tmp_path):
    state = read_state(tree(tmp_path, "x86-guest"))
    assert state.quota_cpus == 1.5
    assert state.quota_throttled == 7
    assert (state.steal_ticks, state.busy_ticks) == (250, 1500)


def test_a_quota_of_cgroup_v1(tmp_path):
    assert cgroup_quota(tree(tmp_path, "cgroup-v1")) == (0.5, 4)


def test_no_quota(tmp_path):
    root = tree(tmp_path, "x86-guest")
    for folder in ("pod1", "pod1/box"):
        put(root, f"sys/fs/cgroup/kubepods/{folder}/cpu.max", "max 100000\n")
    assert cgroup_quota(root) == (None, 7)


@pytest.mark.parametrize("text", ["100000 0\n", "-5 100000\n", "1 2 3\n", "nan 100000\n", "\0"])
def test_a_quota_that_cannot_be(tmp_path, text):
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", text)
    assert cgroup_quota(tmp_path) == (None, None)


def test_a_core_sensor_where_there_are_no_zones(tmp_path):
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "k10temp\n")
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", "62875\n")
    assert read_state(tmp_path).celsius == {"k10temp": 62.875}


def test_two_sensors_of_one_name(tmp_path):
    for zone, heat in ((0, 40000), (1, 50000)):
        put(tmp_path, f"sys/class/thermal/thermal_zone{zone}/type", "soc\n")
        put(tmp_path, f"sys/class/thermal/thermal_zone{zone}/temp", f"{heat}\n")
    assert read_state(tmp_path).celsius == {"soc": 40.0, "soc#thermal_zone1": 50.0}


def test_policies_of_old_kernels(tmp_path):
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    put(tmp_path, "sys/devices/system/cpu/cpu1/online", "1\n")
    assert read_state(tmp_path).governors == {"cpu0": "performance"}


@pytest.mark.parametrize(
    ("text", "now", "before"),
    [
        ("throttled=0x0", (), ()),
        ("throttled=0x50000", (), ("under-voltage", "throttled")),
        ("throttled=0x50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("throttled=0xE0008", ("soft temperature limit",), None),
        ("throttled=0x2", ("ARM frequency capped",), ()),
        ("VCHI initialization failed", (), ()),
        ("throttled=0xzz", (), ()),
        ("", (), ()),
    ],
)
def test_flags_of_the_raspberry_pi(text, now, before):
    capped = ("ARM frequency capped", "throttled", "soft temperature limit")
    assert parse_throttled(text) == (now, capped if before is None else before)


def test_vcgencmd_is_asked_on_a_raspberry_pi_only(tmp_path):
    put(tmp_path, "usr/bin/vcgencmd", "throttled=0xf", "$")
    assert read_state(tmp_path).throttle_flags == ()


def test_garbage_is_not_found(tmp_path):
    state = read_state(tree(tmp_path, "garbage"))
    assert [*state.governors, *state.mhz, *state.max_mhz, *state.celsius] == []
    assert (state.load, state.steal_ticks, state.memory_available) == (None, None, None)
    assert (state.turbo, state.power_mode, state.on_battery) == ("", "", None)


def test_nothing_at_all(tmp_path):
    state = read_state(tmp_path)
    assert state.celsius == {}
    assert state.load is None
    assert state.quota_cpus is None


@pytest.mark.parametrize("name", NAMES)
def test_reading_changes_nothing(tmp_path, name):
    root = tree(tmp_path, name)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    before = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    read_state(root)
    after = sorted(path for path in root.rglob("*") if path.is_file())
    assert [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in after] == before


def test_steal_needs_a_whole_line(tmp_path):
    put(tmp_path, "proc/stat", "cpu  1 2 3 4\n")
    assert cpu_ticks(tmp_path) == (None, None)


# ---- reading ---------------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") == ""


@pytest.mark.parametrize("text", ["12 ", "-7", "+3\n"])
def test_whole_numbers(tmp_path, text):
    put(tmp_path, "n", text)
    assert read_whole(tmp_path / "n") == int(text)


@pytest.mark.parametrize("text", ["", "1.5", "1e3", "0x10", "9" * 30, "one", "1 2", "\0"])
def test_what_is_no_whole_number(tmp_path, text):
    put(tmp_path, "n", text)
    assert read_whole(tmp_path / "n") is None


def test_entries_count_as_people_do(tmp_path):
    for number in (10, 2, 1):
        (tmp_path / f"cpu{number}").mkdir()
    (tmp_path / "cpufreq").mkdir()
    assert [path.name for path in entries(tmp_path, r"cpu\d+")] == ["cpu1", "cpu2", "cpu10"]
    assert list(entries(tmp_path / "missing", ".*")) == []


def script(root, name, text):
    put(root, f"usr/bin/{name}", "", "$")
    (root / f"usr/bin/{name}").write_text(text)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    script(tmp_path, "hangs", "#!/bin/sh\necho first\nsleep 60 &\necho $!\nwait\n")
    began = time.monotonic()
    first, child = ask(tmp_path, "hangs", seconds=0.5).split()
    assert first == "first"
    assert time.monotonic() - began < 30  # a guard against hanging, not a measurement
    deadline = time.monotonic() + 10
    while _runs(int(child)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(int(child))


def _runs(process):
    """Whether it runs; one that has ended and that nobody waited for does not."""
    status = read_text(Path(f"/proc/{process}/status"))
    return bool(status) and "State:\tZ" not in status


def test_a_program_that_never_stops_talking_is_cut_off(tmp_path):
    script(tmp_path, "talks", "#!/bin/sh\nwhile :; do echo NV Power Mode: MAXN; done\n")
    assert 60_000 < len(ask(tmp_path, "talks", seconds=20)) < 80_000


def test_a_program_that_fails_is_still_heard(tmp_path):
    script(tmp_path, "fails", "#!/bin/sh\necho said >&2\nexit 3\n")
    assert ask(tmp_path, "fails") == "said\n"


def test_a_program_that_is_none(tmp_path):
    put(tmp_path, "usr/bin/broken", "\x7fELF nonsense")
    (tmp_path / "usr/bin/broken").chmod(0o755)
    assert ask(tmp_path, "broken") == ""
    assert ask(tmp_path, "absent") == ""


def test_programs_are_not_looked_up_in_path(tmp_path, monkeypatch):
    script(tmp_path / "mine", "tool", "#!/bin/sh\necho hijacked\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/mine/usr/bin:{os.environ['PATH']}")
    assert ask(tmp_path / "board", "tool") == ""
