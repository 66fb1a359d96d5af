"""Readers that are cheap enough to be asked once a second beside a measurement.

    clock_reader(cpus)   -> MHz, mean of those CPUs      one small file a CPU
    heat_reader()        -> °C, hottest sensor           one small file a sensor
    parse_tegrastats()   a line of NVIDIA's tegrastats, of every generation

Each reader looks for its files once; asked, it reads them and says None when none answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.profiling.environment.cpus import online_cpus
from edgekit.profiling.environment.files import read_whole
from edgekit.profiling.environment.state import heat_sensors, read_celsius

Reader = Callable[[], float | None]


def clock_reader(cpus: Iterable[int] = (), root: Path = Path("/")) -> Reader:
    """Mean MHz of ``cpus``, or of all that are online when none are given."""
    chosen = tuple(cpus) or online_cpus(root)
    base = root / "sys/devices/system/cpu"
    paths = [base / f"cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in chosen]
    paths = [path for path in paths if path.exists()]

    def read() -> float | None:
        clocks = [value / 1000 for path in paths if (value := read_whole(path))]
        return sum(clocks) / len(clocks) if clocks else None

    return read


def heat_reader(root: Path = Path("/")) -> Reader:
    """The hottest sensor, in °C."""
    paths = [path for _, path in heat_sensors(root)]

    def read() -> float | None:
        return max((c for path in paths if (c := read_celsius(path)) is not None), default=None)

    return read


# ---- tegrastats ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tegrastats:
    """One line. None and empty: the line does not have it.

    Attributes:
        ram_mb: (used, total).
        cpu_loads: per CPU in percent, None of one that is off; ``cpu_mhz`` likewise.
        gpu_load: in percent.
        gpu_mhz: of the fastest part of the GPU.
        memory_mhz: clock of the external memory; root only.
        celsius: per sensor, without those of units that are off.
        milliwatts: per rail now, without unconnected ones.
    """

    ram_mb: tuple[int, int] | None
    cpu_loads: tuple[int | None, ...]
    cpu_mhz: tuple[int | None, ...]
    gpu_load: int | None
    gpu_mhz: int | None
    memory_mhz: int | None
    celsius: Mapping[str, float]
    milliwatts: Mapping[str, int]


_N = r"(\d{1,9})"
_RAM = re.compile(rf"\bRAM {_N}/{_N}MB")
_CPU = re.compile(r"\bCPU \[([^\]]{1,2000})\]")
_CORE = re.compile(rf"{_N}%(?:@{_N})?")
# The load may be missing on Thor, and the clock where one is not root. "@N" or "@[N,N]".
_GPU = re.compile(rf"\bGR3D_FREQ (?:{_N}%)?(?:@(\[[\d,]{{1,60}}\]|\d{{1,9}}))?")
_MEMORY = re.compile(rf"\bEMC_FREQ {_N}%@{_N}")
# Newer releases add the highest: "cpu@45.375C/45.812C". The first is now.
_CELSIUS = re.compile(r"\b([A-Za-z][\w-]{0,40})@(-?\d{1,4}(?:\.\d{1,3})?)C\b")
# NAME now/average or now/average/highest, in mW whether it says so or not. RAM ends in MB.
_RAIL = re.compile(rf"\b([A-Za-z][\w]{{0,40}}) {_N}(?:mW)?/{_N}(?:mW)?(?:/{_N}(?:mW)?)?(?=\s|$)")

_OFF_CELSIUS = -256.0
_CONSTANT = ("PMIC",)  # a sensor that says 100 °C always
_UNCONNECTED = "NC"
_MAX_LINE = 8192


def parse_tegrastats(line: str) -> Tegrastats:
    """Read one line of tegrastats; what the line does not have stays empty."""
    line = line[:_MAX_LINE]
    ram, gpu, memory = _RAM.search(line), _GPU.search(line), _MEMORY.search(line)
    cores = _cores(line)
    return Tegrastats(
        ram_mb=(int(ram[1]), int(ram[2])) if ram else None,
        cpu_loads=tuple(load for load, _ in cores),
        cpu_mhz=tuple(clock for _, clock in cores),
        gpu_load=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=_fastest(gpu[2]) if gpu and gpu[2] else None,
        memory_mhz=int(memory[2]) if memory else None,
        celsius={
            name: float(text)
            for name, text in _CELSIUS.findall(line)
            if float(text) != _OFF_CELSIUS and name not in _CONSTANT
        },
        milliwatts={
            found[1]: int(found[2]) for found in _RAIL.finditer(line) if found[1] != _UNCONNECTED
        },
    )


def _cores(line: str) -> list[tuple[int | None, int | None]]:
    """(load, MHz) of each CPU; both None of one that is off."""
    found = _CPU.search(line)
    matches = [_CORE.fullmatch(word.strip()) for word in found[1].split(",")] if found else []
    return [
        (int(core[1]), int(core[2]) if core[2] else None) if core else (None, None)
        for core in matches
    ]


def _fastest(text: str) -> int | None:
    return max((int(number) for number in re.findall(r"\d{1,9}", text)), default=None)
