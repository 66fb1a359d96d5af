"""Watts from every kind of sensor, and none where there is none."""

import pytest

from edgekit.profiling.power import parse_pmic, power_reader
from tests.profiling.board_trees import put, tree
from tests.profiling.test_sensors import AGX_ORIN, THOR


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("board", "source", "watts"),
    [
        ("orin-nano", "rail VDD_IN", 5.056),  # the others are parts of it; in7 is no rail
        (
            "agx-orin",
            "sum of rails VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO",
            2.4 + 1.0 + 3.0 + 0.5,
        ),
        ("thor", "rail VIN", 43.713),
        ("jetson-nano", "rail POM_5V_IN", 2.164),
        (
            "rpi5",
            "sum of the power chip's rails, without USB and HATs",
            0.00390372 * 3.645044 + 0.05367615 * 3.310669 + 0.5903 * 0.7201257,
        ),
    ],
)
def test_boards(tmp_path, board, source, watts):
    reader = power_reader(tree(tmp_path, board))
    assert reader.source == source
    assert reader() == pytest.approx(watts)


@pytest.mark.parametrize("board", ["rpi4", "x86-guest", "jetson-tx2", "garbage"])
def test_no_sensor(tmp_path, board):
    reader = power_reader(tree(tmp_path, board))
    assert reader() is None


def test_a_part_is_not_taken_for_the_sum(tmp_path):
    root = tree(tmp_path, "agx-orin")
    reader = power_reader(root)
    put(root, "sys/class/hwmon/hwmon3/curr2_input", "gone\n")
    assert reader() is None


def test_slow_ones_say_so(tmp_path):
    assert power_reader(tree(tmp_path, "rpi5")).slow
    assert not power_reader(tree(tmp_path, "orin-nano")).slow


def test_tegrastats_is_the_last_resort(tmp_path):
    for line, watts in ((AGX_ORIN, 2.390 + 0.398 + 2.520 + 0.404), (THOR, 87.426)):
        root = tmp_path / str(watts)
        put(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\n")
        put(root, "usr/bin/tegrastats", line, "$")
        reader = power_reader(root)
        assert (reader.source, reader.slow) == ("tegrastats", True)
        assert reader() == pytest.approx(watts)


# ---- RAPL ------------------------------------------------------------------------------------

ENERGY = "sys/class/powercap/intel-rapl:0/energy_uj"


def test_energy_over_time_is_power(tmp_path):
    root, clock = tree(tmp_path, "x86-laptop"), Clock()
    put(root, ENERGY, "1000000\n")
    reader = power_reader(root, clock)
    assert reader.source == "RAPL, processor package"
    put(root, ENERGY, "31000000\n")
    clock.now += 2
    assert reader() == 15.0
    put(root, ENERGY, "32000000\n")
    clock.now += 1
    assert reader() == 1.0


def test_the_counter_starts_again(tmp_path):
    root, clock = tree(tmp_path, "x86-laptop"), Clock()  # 328850 uJ before its end
    reader = power_reader(root, clock)
    put(root, ENERGY, "9671150\n")
    clock.now += 1
    assert reader() == pytest.approx(10.0)


def test_no_time_and_no_answer_are_no_power(tmp_path):
    root, clock = tree(tmp_path, "x86-laptop"), Clock()
    reader = power_reader(root, clock)
    assert reader() is None  # no time has passed
    (root / ENERGY).unlink()
    clock.now += 1
    assert reader() is None
    put(root, ENERGY, "5\n")
    clock.now += 1
    assert reader() is None  # nothing to compare with
    put(root, ENERGY, "1000005\n")
    clock.now += 1
    assert reader() == 1.0


def test_a_counter_that_jumps_is_not_believed(tmp_path):
    root, clock = tree(tmp_path, "x86-laptop"), Clock()
    put(root, ENERGY, "0\n")
    reader = power_reader(root, clock)
    put(root, ENERGY, "250000000000\n")  # 250 kW
    clock.now += 1
    assert reader() is None


def test_two_packages_are_one_machine(tmp_path):
    root, clock = tree(tmp_path, "x86-laptop"), Clock()
    put(root, ENERGY, "0\n")
    put(root, "sys/class/powercap/intel-rapl:1/name", "package-1\n")
    put(root, "sys/class/powercap/intel-rapl:1/energy_uj", "0\n")
    put(root, "sys/class/powercap/intel-rapl:2/name", "psys\n")
    put(root, "sys/class/powercap/intel-rapl:2/energy_uj", "0\n")
    reader = power_reader(root, clock)
    for zone in range(3):
        put(root, f"sys/class/powercap/intel-rapl:{zone}/energy_uj", "4000000\n")
    clock.now += 1
    assert reader() == 8.0


def test_without_root_there_is_no_rapl(tmp_path):
    root = tree(tmp_path, "x86-laptop")
    (root / ENERGY).unlink()
    assert power_reader(root).source == ""


# ---- Raspberry Pi 5 --------------------------------------------------------------------------


def test_a_rail_needs_both_of_its_figures():
    text = (
        "  A_A current(0)=2.0A\n  A_V volt(1)=3.0V\n  B_A current(2)=1.0A\n EXT5V_V volt(24)=5.1V\n"
    )
    assert parse_pmic(text) == {"A": 6.0}


@pytest.mark.parametrize(
    "text", ["", "Command not registered", "A_A current(0)=nanA", "A_A volt(0)=1V"]
)
def test_what_is_no_answer_of_the_power_chip(text):
    assert parse_pmic(text) == {}
