"""The state that can change while measuring: read, and never set.

clocks     cpufreq policies, turbo, nvpmodel, the GPU's devfreq
heat       thermal zones, x86's core sensors, the Raspberry Pi's and the CPU's own flags
company    load, runnable tasks, the hypervisor's steal, the cgroup's quota
supply     battery, memory
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from edgekit.profiling.environment import jetson
from edgekit.profiling.environment.cpus import policies
from edgekit.profiling.environment.files import (
    ask,
    entries,
    fields,
    read_text,
    read_whole,
    read_word,
)
from edgekit.profiling.result import State

# vcgencmd get_throttled: bits 0-3 hold now, 16-19 have held since boot. Raspberry Pi's documents;
# some pages on the web swap 1 and 2.
THROTTLE_BITS = {
    0: "under-voltage",
    1: "ARM frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}

# A sensor of a unit that is switched off says exactly this, or 0; Nano's PMIC says 100 always.
_OFF_CELSIUS = (-256.0, 0.0)
_PMIC = re.compile(r"pmic", re.IGNORECASE)
_CORE_SENSORS = ("k10temp", "coretemp", "zenpower")  # of hwmon; AMD has no thermal zones


def read_state(root: Path = Path("/")) -> State:
    """The state as it is now. Takes milliseconds, on a Jetson or a Raspberry Pi a bit more."""
    steal, busy = cpu_ticks(root)
    quota, throttled = cgroup_quota(root)
    now, history = throttle_flags(root)
    load, running = _load(root)
    return State(
        governors={name: word for name, word in _words(root, "scaling_governor") if word},
        mhz=_megahertz(root, "scaling_cur_freq"),
        min_mhz=_megahertz(root, "scaling_min_freq"),
        max_mhz=_megahertz(root, "scaling_max_freq"),
        gpu_mhz=jetson.gpu_mhz(root),
        turbo=_turbo(root),
        smt=_switch(root / "sys/devices/system/cpu/smt/active", on=1),
        power_mode=jetson.power_mode(root),
        clocks_locked=clocks_locked(root),
        celsius=dict(temperatures(root)),
        load=load,
        others_running=running,
        quota_cpus=quota,
        quota_throttled=throttled,
        steal_ticks=steal,
        busy_ticks=busy,
        throttle_flags=now,
        throttle_history=history,
        on_battery=on_battery(root),
        memory_available=_available(root),
    )


# ---- clocks ----------------------------------------------------------------------------------


def _policy_name(folder: Path) -> str:
    return folder.name if folder.name.startswith("policy") else folder.parent.name


def _words(root: Path, name: str) -> list[tuple[str, str]]:
    return [(_policy_name(folder), read_word(folder / name)) for folder in policies(root)]


def _megahertz(root: Path, name: str) -> dict[str, float]:
    """A clock of each policy; sysfs has kilohertz."""
    return {
        _policy_name(folder): kilohertz / 1000
        for folder in policies(root)
        if (kilohertz := read_whole(folder / name)) is not None and kilohertz > 0
    }


def clocks_locked(root: Path) -> bool | None:
    """Whether no clock of CPU and GPU has room to move; None where no clock is known."""
    low, high = _megahertz(root, "scaling_min_freq"), _megahertz(root, "scaling_max_freq")
    facts = [low[name] == high[name] for name in low.keys() & high.keys()]
    gpu = jetson.gpu_locked(root)
    if gpu is not None:
        facts.append(gpu)
    return all(facts) if facts else None


def _turbo(root: Path) -> str:
    """intel_pstate has its own switch, which is turned the other way round."""
    cpu = root / "sys/devices/system/cpu"
    return _switch(cpu / "intel_pstate/no_turbo", on=0) or _switch(cpu / "cpufreq/boost", on=1)


def _switch(path: Path, *, on: int) -> str:
    value = read_whole(path)
    return "" if value is None else "on" if value == on else "off"


# ---- heat ------------------------------------------------------------------------------------


def temperatures(root: Path) -> Iterator[tuple[str, float]]:
    """Name and °C of every sensor that answers."""
    seen: set[str] = set()
    for sensor, path in heat_sensors(root):
        celsius = read_celsius(path)
        if celsius is not None:
            name = sensor if sensor not in seen else f"{sensor}#{path.parent.name}"
            seen.add(name)
            yield name, celsius


def heat_sensors(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each sensor, in thousandths of °C."""
    for zone in entries(root / "sys/class/thermal", r"thermal_zone\d+"):
        name = read_word(zone / "type") or zone.name
        if not _PMIC.search(name):
            yield name, zone / "temp"
    for chip in entries(root / "sys/class/hwmon", r"hwmon\d+"):
        name = read_word(chip / "name")
        if name in _CORE_SENSORS:
            yield name, chip / "temp1_input"


def read_celsius(path: Path) -> float | None:
    """°C, or None of a sensor that fails, is switched off or says what cannot be."""
    thousandths = read_whole(path)
    if thousandths is None:
        return None
    celsius = thousandths / 1000
    return celsius if celsius not in _OFF_CELSIUS and -100 < celsius < 200 else None


def throttle_flags(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What holds the clock back now, and what has since boot."""
    now, history = raspberry_throttle(root)
    return now, (*history, *_event_counts(root))


def raspberry_throttle(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The Raspberry Pi's flags now and since boot, as its firmware tells them."""
    if not read_word(root / "proc/device-tree/model").startswith("Raspberry Pi"):
        return (), ()
    return parse_throttled(ask(root, "vcgencmd", "get_throttled"))


def parse_throttled(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags of ``throttled=0x50000``: now, and since boot."""
    found = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", text)
    bits = int(found[1], 16) if found else 0
    now = tuple(name for bit, name in THROTTLE_BITS.items() if bits >> bit & 1)
    return now, tuple(name for bit, name in THROTTLE_BITS.items() if bits >> (bit + 16) & 1)


# What -> the counters of it: x86's own thermal throttling, a Jetson's over-current events.
_COUNTERS = (
    ("CPU thermal throttling", "sys/devices/system/cpu", r"cpu\d+", r"core_throttle_count"),
    ("over-current throttling", "sys/class/hwmon", r"hwmon\d+", r"oc\d_event_cnt"),
)


def _event_counts(root: Path) -> Iterator[str]:
    """``CPU thermal throttling (12 events)``: the number tells events of now from old ones."""
    for what, place, folders, files in _COUNTERS:
        total = 0
        for folder in entries(root / place, folders):
            inner = folder / "thermal_throttle" if place.endswith("cpu") else folder
            total += sum(read_whole(path) or 0 for path in entries(inner, files))
        if total > 0:
            yield f"{what} ({total} events)"


# ---- company ---------------------------------------------------------------------------------


def _load(root: Path) -> tuple[float | None, int | None]:
    """Load of one minute, and runnable tasks beside the one that reads."""
    found = re.match(
        r"(\d{1,6}\.\d{1,4}) \S+ \S+ (\d{1,7})/", read_text(root / "proc/loadavg", 256)
    )
    return (float(found[1]), max(int(found[2]) - 1, 0)) if found else (None, None)


def cpu_ticks(root: Path) -> tuple[int | None, int | None]:
    """Stolen and busy ticks since boot, of all CPUs together (proc_stat(5))."""
    words = read_text(root / "proc/stat", 4096).partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(map(_is_count, words[1:9])):
        return None, None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    return steal, user + nice + system + irq + softirq


def _is_count(word: str) -> bool:
    return re.fullmatch(r"\d{1,15}", word, re.ASCII) is not None


def cgroup_quota(root: Path) -> tuple[float | None, int | None]:
    """The tightest quota around this process in CPUs, and how often it has been held back."""
    quotas: list[float] = []
    held: list[int] = []
    for read, folder in _cgroups(root):
        quota, throttled = read(folder)
        quotas += [quota] if quota is not None else []
        held += [throttled] if throttled is not None else []
    return min(quotas, default=None), sum(held) if held else None


_Reader = Callable[[Path], tuple[float | None, int | None]]


def _cgroups(root: Path) -> Iterator[tuple[_Reader, Path]]:
    """The CPU controller's folders from this process's own up to the top: limits add up."""
    base = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup", 64 << 10).splitlines()[:64]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", ".", "..")][:32]
        if not controllers:
            mounts, reader = [base, base / "unified"], _read_v2
        elif "cpu" in controllers.split(","):
            mounts, reader = [base / controllers, base / "cpu"], _read_v1
        else:
            continue
        mount = next((place for place in mounts if _holds(place)), None)
        if mount is not None:
            yield from ((reader, mount.joinpath(*parts[:depth])) for depth in range(len(parts) + 1))


def _holds(mount: Path) -> bool:
    return any(entries(mount, r"cpu\.stat|cpu\.max|cgroup\.procs"))


def _read_v2(folder: Path) -> tuple[float | None, int | None]:
    words = read_text(folder / "cpu.max", 256).split()
    limited = len(words) == 2 and all(map(_is_count, words)) and int(words[1]) > 0
    return int(words[0]) / int(words[1]) if limited else None, _times_held(folder)


def _read_v1(folder: Path) -> tuple[float | None, int | None]:
    quota, period = (
        read_whole(folder / "cpu.cfs_quota_us"),
        read_whole(folder / "cpu.cfs_period_us"),
    )
    limited = quota is not None and period is not None and quota > 0 and period > 0
    return quota / period if limited and quota and period else None, _times_held(folder)


def _times_held(folder: Path) -> int | None:
    found = re.search(r"^nr_throttled (\d{1,15})$", read_text(folder / "cpu.stat", 4096), re.M)
    return int(found[1]) if found else None


# ---- supply ----------------------------------------------------------------------------------


def on_battery(root: Path) -> bool | None:
    """Whether a battery is being emptied; None where there is neither battery nor adapter."""
    facts: list[bool] = []
    for supply in entries(root / "sys/class/power_supply", r"[\w.:-]+"):
        if read_word(supply / "scope") == "Device":  # of a mouse
            continue
        kind = read_word(supply / "type")
        if kind == "Battery":
            facts.append(read_word(supply / "status") == "Discharging")
        elif kind == "Mains" and read_whole(supply / "online") is not None:
            facts.append(False)
    return any(facts) if facts else None


def _available(root: Path) -> int | None:
    word = fields(read_text(root / "proc/meminfo")).get("MemAvailable", "").split(" ")[0]
    return int(word) * 1024 if _is_count(word) and len(word) < 13 else None
