"""Watts, where the machine has a sensor that this user may read.

    Jetson, JetPack 5 and later   INA3221, and INA238 on Thor, in hwmon    readable without root
    Jetson, JetPack 4             INA3221 as an iio device
    x86                           RAPL's energy counters                   root, since Linux 5.10
    Raspberry Pi 5                its power chip, through vcgencmd         slow: <= 10 a second
    Jetson, the last resort       one line of tegrastats                   slow

The sum of a board's rails is what its module draws, without what hangs on it; RAPL is the
processor's package alone. A figure therefore always travels with the name of its source.
Rails on boards: not yet executed on a device.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.profiling.environment import jetson
from edgekit.profiling.environment.files import ask, entries, read_whole, read_word
from edgekit.profiling.sensors import parse_tegrastats

# The rail that feeds all the others; a board without it is the sum of its rails.
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
_UNCONNECTED = "NC"
_MAX_WATTS = 10_000.0


@dataclass(frozen=True)
class PowerReader:
    """Call it for watts: now, or with RAPL the mean since the call before.

    Attributes:
        source: the rail, or what was summed; "" when there is no sensor.
        slow: starts a program each time: never while samples are timed.
    """

    source: str
    read: Callable[[], float | None]
    slow: bool = False

    def __call__(self) -> float | None:
        """Watts, or None when the sensor does not answer."""
        watts = self.read()
        return watts if watts is not None and 0 <= watts < _MAX_WATTS else None


def power_reader(
    root: Path = Path("/"), clock: Callable[[], float] = time.monotonic
) -> PowerReader:
    """The best sensor of this machine; one without a source answers None.

    Args:
        root: of the system's files.
        clock: seconds, for sensors that count energy.
    """
    found = (reader for find in _FINDERS if (reader := find(root, clock)) is not None)
    return next(found, PowerReader("", lambda: None))


# ---- Jetson ----------------------------------------------------------------------------------

Rail = Callable[[], float | None]


def _jetson_rails(root: Path, _clock: Callable[[], float]) -> PowerReader | None:
    rails = dict(_hwmon_rails(root)) or dict(_iio_rails(root))
    return _of_rails(rails) if rails else None


def _of_rails(rails: Mapping[str, Rail]) -> PowerReader:
    total = next((name for name in _TOTAL_RAILS if name in rails), None)
    if total is not None:
        return PowerReader(f"rail {total}", rails[total])
    return PowerReader(f"sum of rails {' + '.join(rails)}", lambda: _sum(rails))


def _sum(rails: Mapping[str, Rail]) -> float | None:
    """Of all rails or of none: a part would be taken for the whole."""
    watts = [rail() for rail in rails.values()]
    known = [value for value in watts if value is not None]
    return sum(known) if len(known) == len(watts) else None


def _hwmon_rails(root: Path) -> Iterator[tuple[str, Rail]]:
    for chip in entries(root / "sys/class/hwmon", r"hwmon\d+"):
        name = read_word(chip / "name")
        if name == "ina3221":
            yield from _ina3221(chip)
        elif name == "ina238":
            yield "VIN", _scaled(chip / "power1_input", 1e-6)


def _ina3221(chip: Path) -> Iterator[tuple[str, Rail]]:
    """Channels 1 to 3; the file in7 is a sum of shunt voltages and no rail."""
    for channel in (1, 2, 3):
        label = read_word(chip / f"in{channel}_label")
        if label and label != _UNCONNECTED:
            yield label, _product(chip / f"in{channel}_input", chip / f"curr{channel}_input")


def _product(millivolts: Path, milliamperes: Path) -> Rail:
    def read() -> float | None:
        volts, amperes = read_whole(millivolts), read_whole(milliamperes)
        return None if volts is None or amperes is None else volts * amperes / 1e6

    return read


def _scaled(path: Path, unit: float) -> Rail:
    def read() -> float | None:
        value = read_whole(path)
        return None if value is None else value * unit

    return read


def _iio_rails(root: Path) -> Iterator[tuple[str, Rail]]:
    """JetPack 4: ina3221x/1-0040/iio:device0/{rail_name_0, in_power0_input}, in mW."""
    for chip in entries(root / "sys/bus/i2c/drivers/ina3221x", r"\d+-\d{4}"):
        for device in entries(chip, r"iio[:_]device\d*"):
            for path in entries(device, r"rail_name_\d"):
                label, number = read_word(path), path.name[-1]
                if label and label != _UNCONNECTED:
                    yield label, _scaled(device / f"in_power{number}_input", 1e-3)


def _tegrastats(root: Path, _clock: Callable[[], float]) -> PowerReader | None:
    """One line of it: the program never ends by itself, and is ended by ``ask``."""

    def rails() -> Mapping[str, int]:
        answer = ask(root, "tegrastats", "--interval", "100", seconds=0.5)
        return parse_tegrastats(answer.partition("\n")[0]).milliwatts

    if not jetson.is_jetson(root) or not rails():
        return None
    return PowerReader("tegrastats", lambda: _tegrastats_watts(rails()), slow=True)


def _tegrastats_watts(rails: Mapping[str, int]) -> float | None:
    if not rails:
        return None
    total = next((rails[name] for name in _TOTAL_RAILS if name in rails), sum(rails.values()))
    return total / 1000


# ---- x86 -------------------------------------------------------------------------------------


class _EnergyCounter:
    """Joules that a counter of microjoules went up, over the end where it starts again."""

    def __init__(self, zone: Path) -> None:
        self._path = zone / "energy_uj"
        self._range = read_whole(zone / "max_energy_range_uj") or 0
        self._last = read_whole(self._path)

    def joules(self) -> float | None:
        last, self._last = self._last, read_whole(self._path)
        if last is None or self._last is None:
            return None
        used = self._last - last
        if used < 0:
            used += self._range
        return used / 1e6 if used >= 0 else None


def _rapl(root: Path, clock: Callable[[], float]) -> PowerReader | None:
    zones = list(entries(root / "sys/class/powercap", r"intel-rapl:\d+"))
    packages = [zone for zone in zones if read_word(zone / "name").startswith("package")]
    counters = [_EnergyCounter(z) for z in packages if read_whole(z / "energy_uj") is not None]
    if not packages or len(counters) != len(packages):
        return None  # root only, or not there
    last = clock()

    def read() -> float | None:
        nonlocal last
        seconds, last = -last, clock()
        seconds += last
        joules = [counter.joules() for counter in counters]
        known = [value for value in joules if value is not None]
        return sum(known) / seconds if len(known) == len(joules) and seconds > 0 else None

    return PowerReader("RAPL, processor package", read)


# ---- Raspberry Pi 5 --------------------------------------------------------------------------

_PMIC = re.compile(
    r"^\s*(\w{1,40})_([AV]) (?:current|volt)\(\d{1,3}\)=(\d{1,6}(?:\.\d{1,12})?)([AV])\s*$", re.M
)


def parse_pmic(text: str) -> dict[str, float]:
    """Watts per rail in ``vcgencmd pmic_read_adc``: of those with a current and a voltage."""
    amperes: dict[str, float] = {}
    volts: dict[str, float] = {}
    for rail, kind, figure, unit in _PMIC.findall(text):
        if kind == unit:
            (amperes if kind == "A" else volts)[rail] = float(figure)
    return {rail: amperes[rail] * volts[rail] for rail in amperes if rail in volts}


def _pmic(root: Path, _clock: Callable[[], float]) -> PowerReader | None:
    if not read_word(root / "proc/device-tree/model").startswith("Raspberry Pi 5"):
        return None

    def read() -> float | None:
        rails = parse_pmic(ask(root, "vcgencmd", "pmic_read_adc"))
        return sum(rails.values()) if rails else None

    if read() is None:
        return None
    return PowerReader("sum of the power chip's rails, without USB and HATs", read, slow=True)


_FINDERS = (_jetson_rails, _rapl, _pmic, _tegrastats)
