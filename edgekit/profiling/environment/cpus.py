"""Which CPUs there are, which are fast, and which to measure on.

--cpus auto    the fastest first, one hardware thread a core, CPU 0 last of its equals
               (it takes the interrupts that no other CPU was given)
--cpus 0-3,6   these and no others
--cpus none    not pinned: the kernel moves the process as it likes
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.profiling.environment.files import (
    entries,
    fields,
    list_text,
    parse_list,
    read_list,
    read_text,
    read_whole,
)

_CPU = Path("sys/devices/system/cpu")


def online_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """CPUs that the system has switched on."""
    listed = read_list(root / _CPU / "online")
    if listed:
        return listed
    lines = read_text(root / "proc/cpuinfo").splitlines()
    count = sum(line.startswith("processor") for line in lines)
    return tuple(range(count or os.cpu_count() or 1))


def allowed_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """CPUs that this process may run on; its mask also has those that are switched off."""
    online = online_cpus(root)
    status = fields(read_text(root / "proc/self/status"))
    try:
        mask = set(parse_list(status.get("Cpus_allowed_list", "")))
    except ValueError:
        return online
    return tuple(cpu for cpu in online if cpu in mask) or tuple(sorted(mask))


def choose_cpus(text: str, threads: int, root: Path = Path("/")) -> tuple[int, ...]:
    """The CPUs to pin ``threads`` threads to; empty: not pinned.

    Args:
        text: ``auto``, ``none`` or a list such as ``0-3,6``.
        threads: as many CPUs are chosen, or all there are.
        root: of the system's files.

    Raises:
        UsageError: not a list of CPUs, or of some that this process may not use.
    """
    if text == "none":
        return ()
    allowed = allowed_cpus(root)
    if text == "auto":
        return tuple(sorted(_fastest_first(allowed, root)[: max(threads, 1)]))
    try:
        wanted = parse_list(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a list of CPUs: give auto, none or a list such as 0-3,6"
        ) from None
    refused = tuple(cpu for cpu in wanted if cpu not in allowed)
    if refused:
        raise UsageError(
            f"CPU {list_text(refused)} is not for this process: it may use "
            f"{list_text(allowed)}; choose of these, or give auto"
        )
    return wanted


def big_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """Of the allowed CPUs, one thread of each core as fast as the fastest."""
    ordered = _fastest_first(allowed_cpus(root), root)
    best = _speed(ordered[0], root)
    cores = {_core(cpu, root): cpu for cpu in reversed(ordered) if _speed(cpu, root) == best}
    return tuple(sorted(cores.values()))


def _fastest_first(cpus: tuple[int, ...], root: Path) -> list[int]:
    taken: dict[tuple[int, ...], int] = {}  # hardware threads of a core seen so far
    ranked = []
    for cpu in cpus:
        core = _core(cpu, root)
        rank = taken.setdefault(core, 0)
        taken[core] += 1
        ranked.append((rank, tuple(-figure for figure in _speed(cpu, root)), cpu == 0, cpu))
    return [row[-1] for row in sorted(ranked)]


def _core(cpu: int, root: Path) -> tuple[int, ...]:
    """The hardware threads of the core that ``cpu`` is of."""
    topology = root / _CPU / f"cpu{cpu}/topology"
    names = ("core_cpus_list", "thread_siblings_list")
    return next((found for name in names if (found := read_list(topology / name))), (cpu,))


def _speed(cpu: int, root: Path) -> tuple[int, int, int]:
    """Larger is faster: kind of core on hybrid x86, ARM's cpu_capacity, highest clock in MHz."""
    hybrid = cpu in read_list(root / "sys/devices/cpu_core/cpus")
    place = root / _CPU / f"cpu{cpu}"
    capacity = read_whole(place / "cpu_capacity") or 0
    return hybrid, capacity, (read_whole(place / "cpufreq/cpuinfo_max_freq") or 0) // 1000


def policies(root: Path) -> list[Path]:
    """Folders of cpufreq, one a clock domain, or one a CPU where that is all there is."""
    found = list(entries(root / _CPU / "cpufreq", r"policy\d+"))
    if found:
        return found
    return [cpu / "cpufreq" for cpu in entries(root / _CPU, r"cpu\d+") if _has_clock(cpu)]


def _has_clock(cpu: Path) -> bool:
    return (cpu / "cpufreq").is_dir()
