"""The cores that can be emulated, and the files by which a runtime recognises one.

A runtime chooses its kernels by what three places say. They must say the same, or it takes the
kernels of another core, or does not start at all:

    instructions  HWCAP and ID registers    the emulator's -cpu
    model         /sys/.../midr_el1         written here
    model         /proc/cpuinfo             written here

MIDR_EL1 and the features are those that QEMU 7.2 gives each core; tests/arm reads both inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import UnknownNameError, UsageError

CPUS = 4  # as the boards of these cores have; one of them computes

_V8_0 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"  # HWCAP 0x8fb
_V8_2 = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Core:
    """One row.

    Attributes:
        name: as ``qemu-aarch64 -cpu`` calls it.
        title: in words, with a board that has it.
        midr: value of MIDR_EL1.
        features: as /proc/cpuinfo spells them.
    """

    name: str
    title: str
    midr: int
    features: str


CORES: dict[str, Core] = {
    row.name: row
    for row in (
        Core("cortex-a35", "Cortex-A35", 0x411FD040, _V8_0),
        Core("cortex-a53", "Cortex-A53 (Raspberry Pi 3)", 0x410FD034, _V8_0),
        Core("cortex-a57", "Cortex-A57 (Jetson Nano)", 0x411FD070, _V8_0),
        Core("cortex-a72", "Cortex-A72 (Raspberry Pi 4)", 0x410FD083, _V8_0),
        Core("cortex-a76", "Cortex-A76 (Raspberry Pi 5)", 0x414FD0B1, _V8_2),
        Core("neoverse-n1", "Neoverse N1 (servers)", 0x414FD0C1, _V8_2),
    )
}

# Names of the emulator that are refused -> why.
REFUSED = {
    "max": "it is no core but every feature the emulator has, and LiteRT's int8 answers are wrong "
    "there",
    "a64fx": "it is a server's core with SVE, which no board here has",
}


def get_core(name: str) -> Core:
    """The row of ``name``.

    Raises:
        UnknownNameError: no such core.
        UsageError: a name of the emulator's that is no core to count on.
    """
    if name in REFUSED:
        raise UsageError(
            f"cannot count on core {name!r}: {REFUSED[name]}; known: {', '.join(CORES)}"
        )
    if name not in CORES:
        raise UnknownNameError("core", name, CORES)
    return CORES[name]


def write_machine(core: Core, root: Path) -> None:
    """Write ``root/proc/cpuinfo`` and ``root/sys``: a machine of ``CPUS`` such cores."""
    for name, text in machine_files(core):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def machine_files(core: Core) -> Iterator[tuple[str, str]]:
    """Names and texts. Less than this, and one runtime or another does not start."""
    everyone, mask = f"0-{CPUS - 1}\n", f"{(1 << CPUS) - 1:x}\n"
    yield "proc/cpuinfo", cpuinfo(core)
    cpu = "sys/devices/system/cpu"
    for name in ("present", "possible", "online"):
        yield f"{cpu}/{name}", everyone
    yield f"{cpu}/kernel_max", "255\n"
    node = "sys/devices/system/node"
    yield f"{node}/possible", "0\n"
    yield f"{node}/online", "0\n"
    yield f"{node}/node0/cpulist", everyone
    yield f"{node}/node0/cpumap", mask
    yield f"{node}/node0/distance", "10\n"
    for number in range(CPUS):
        for name, text in _cpu_files(core, number, everyone, mask):
            yield f"{cpu}/cpu{number}/{name}", text


def _cpu_files(core: Core, number: int, everyone: str, mask: str) -> Iterator[tuple[str, str]]:
    own_list, own_mask = f"{number}\n", f"{1 << number:x}\n"
    yield "online", "1\n"
    yield "regs/identification/midr_el1", f"0x{core.midr:016x}\n"
    for name, of_all in (
        ("core_cpus", False),
        ("thread_siblings", False),
        ("cluster_cpus", True),
        ("core_siblings", True),
        ("die_cpus", True),
        ("package_cpus", True),
    ):
        yield f"topology/{name}", mask if of_all else own_mask
        yield f"topology/{name}_list", everyone if of_all else own_list
    yield "topology/core_id", own_list
    for name in ("cluster_id", "die_id", "physical_package_id"):
        yield f"topology/{name}", "0\n"
    for index, cache in enumerate(_CACHES):
        for name, text in cache.items():
            yield f"cache/index{index}/{name}", text + "\n"
        shared = cache["type"] == "Unified"
        yield f"cache/index{index}/id", f"{0 if shared else number}\n"
        yield f"cache/index{index}/shared_cpu_map", mask if shared else own_mask
        yield f"cache/index{index}/shared_cpu_list", everyone if shared else own_list


def _cache(level: str, kind: str, size: str, ways: str, sets: str) -> dict[str, str]:
    return {
        "level": level,
        "type": kind,
        "size": size,
        "ways_of_associativity": ways,
        "number_of_sets": sets,
        "coherency_line_size": "64",
    }


# Of the Raspberry Pi 4, for every core: libraries ask, and a licensee chooses them anyway.
_CACHES = (
    _cache("1", "Data", "32K", "2", "256"),
    _cache("1", "Instruction", "48K", "3", "256"),
    _cache("2", "Unified", "1024K", "16", "1024"),
)


def cpuinfo(core: Core) -> str:
    """/proc/cpuinfo. It names no board: there is none."""
    rows = {
        "BogoMIPS": "108.00",
        "Features": core.features,
        "CPU implementer": f"0x{core.midr >> 24:02x}",
        "CPU architecture": "8",
        "CPU variant": f"0x{core.midr >> 20 & 0xF:x}",
        "CPU part": f"0x{core.midr >> 4 & 0xFFF:03x}",
        "CPU revision": f"{core.midr & 0xF}",
    }
    text = "".join(f"{name}\t: {value}\n" for name, value in rows.items())
    return "".join(f"processor\t: {number}\n{text}\n" for number in range(CPUS))
