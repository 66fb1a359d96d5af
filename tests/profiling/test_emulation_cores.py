"""The cores and the files by which a runtime recognises them."""

from pathlib import Path

import pytest

from edgekit.errors import UnknownNameError, UsageError
from edgekit.profiling.emulation.cores import CORES, CPUS, cpuinfo, get_core, write_machine
from edgekit.profiling.environment import read_machine

DATA = Path(__file__).parents[1] / "data/arm"


def test_the_table_has_the_boards_cores():
    assert {"cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"} <= set(CORES)


@pytest.mark.parametrize("name", CORES)
def test_the_files_say_one_core(name, tmp_path):
    core = CORES[name]
    write_machine(core, tmp_path)
    midr = tmp_path / "sys/devices/system/cpu/cpu3/regs/identification/midr_el1"
    assert int(midr.read_text(), 16) == core.midr
    text = (tmp_path / "proc/cpuinfo").read_text()
    assert text.count("processor") == CPUS
    assert f"CPU part\t: 0x{core.midr >> 4 & 0xFFF:03x}\n" in text
    assert (tmp_path / "sys/devices/system/cpu/present").read_text() == f"0-{CPUS - 1}\n"


@pytest.mark.parametrize("name", CORES)
def test_the_profiler_recognises_the_core(name, tmp_path):
    """What writes and what reads were written apart, from the same manuals."""
    write_machine(CORES[name], tmp_path)
    machine = read_machine(tmp_path)
    assert machine.cores == CPUS and CORES[name].title.split(" (")[0] in machine.cpu.replace(
        "e-N", "e N"
    )
    assert machine.board == ""  # there is none


def test_a_cortex_a72_is_that_of_a_raspberry_pi_4():
    ours = dict(line.split("\t: ") for line in cpuinfo(CORES["cortex-a72"]).splitlines() if line)
    real = (DATA / "cpuinfo.pi4").read_text().replace("architecture:", "architecture\t:")
    board = dict(line.replace("\t\t", "\t").split("\t: ") for line in real.splitlines() if line)
    for name in ("CPU implementer", "CPU variant", "CPU part", "CPU revision", "CPU architecture"):
        assert ours[name] == board[name]
    assert "Model" not in ours and "Hardware" not in ours


@pytest.mark.parametrize("name", ["max", "a64fx"])
def test_what_is_no_board_is_refused_with_the_reason(name):
    with pytest.raises(UsageError, match="it is .* known: .*cortex-a72"):
        get_core(name)


@pytest.mark.parametrize("name", ["", "cortex-a78", "Cortex A72", "../max", "-cpu", "a\nb"])
def test_other_names_are_refused(name):
    with pytest.raises(UnknownNameError):
        get_core(name)
