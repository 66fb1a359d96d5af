"""The machine: what must be equal before two results may be compared.

    x86      model name of /proc/cpuinfo, DMI's vendor and product, the hypervisor flag
    ARM      part numbers of /proc/cpuinfo, device-tree's model and compatible
    Jetson   /etc/nv_tegra_release, /proc/device-tree

A result file is made to be published: no host name, user name, serial number, MAC or UUID is
read into it, and ``/proc/version``, which names who built the kernel, is not read at all.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from edgekit.profiling.environment import jetson
from edgekit.profiling.environment.cpus import online_cpus
from edgekit.profiling.environment.files import (
    entries,
    fields,
    read_items,
    read_list,
    read_text,
    read_word,
    shown,
)
from edgekit.profiling.result import Machine

# (implementer, part) of /proc/cpuinfo -> name. Arm's, NVIDIA's and others' reference manuals.
CORES = {
    ("0x41", "0xb76"): "ARM1176",
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xd01"): "Cortex-A32",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x46", "0x001"): "A64FX",
    ("0x4e", "0x000"): "Denver",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
    ("0x51", "0x800"): "Kryo 2xx Gold",
    ("0x51", "0x801"): "Kryo 2xx Silver",
    ("0x51", "0x802"): "Kryo 3xx Gold",
    ("0x51", "0x803"): "Kryo 3xx Silver",
    ("0x51", "0x804"): "Kryo 4xx Gold",
    ("0x51", "0x805"): "Kryo 4xx Silver",
}

# Instruction sets that a kernel library chooses by; the order is the order they are shown in.
_FEATURES = """
    avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16
    amx_tile amx_int8 amx_bf16
    neon vfpv4 asimd fphp asimdhp asimddp asimdfhm bf16 i8mm sve sve2 sme
    """
FEATURES = tuple(_FEATURES.split())

# What DMI, /sys/hypervisor or a device tree call a virtual machine -> its name.
_HYPERVISORS = (
    (r"amazon ec2(?!.*\.metal)", "Amazon EC2"),
    (r"google compute engine", "Google Compute Engine"),
    (r"microsoft corporation virtual machine", "Hyper-V"),
    (r"vmware", "VMware"),
    (r"virtualbox|innotek", "VirtualBox"),
    (r"parallels", "Parallels"),
    (r"xen", "Xen"),
    (r"qemu|kvm|bochs|linux,dummy-virt", "KVM or QEMU"),
)
UNNAMED_HYPERVISOR = "an unnamed hypervisor"

# Makers' texts that say nothing.
_FILLER = re.compile(r"to be filled.*|default string|system (product|manufacturer).*|o\.e\.m\.?|-*")

_FAMILIES = (("x86_64", "amd64", "i386", "i586", "i686"), ("aarch64", "arm"), ("riscv",))


def read_machine(root: Path = Path("/"), packages: Mapping[str, str] | None = None) -> Machine:
    """What identifies this machine, and nothing that identifies its owner.

    Args:
        root: of the system's files. Architecture and Python are those of this process.
        packages: versions of what computes, to be kept with it.
    """
    text = read_text(root / "proc/cpuinfo")
    blocks = [fields(block) for block in re.split(r"\n\s*\n", text)]
    cpus = [block for block in blocks if "processor" in block]
    release = jetson.l4t(root)
    return Machine(
        architecture=platform.machine(),
        board=_board(root),
        cpu=_cpu(cpus, root),
        cores=len(online_cpus(root)),
        clusters=_clusters(cpus, root),
        features=_features(cpus),
        memory_bytes=_memory(root),
        virtual=_virtual(cpus, root),
        system=_system(root),
        kernel=read_word(root / "proc/sys/kernel/osrelease"),
        python=platform.python_version(),
        l4t=release,
        jetpack=jetson.jetpack(release),
        gpu=_gpu(root),
        packages=dict(packages or {}),
    )


def _board(root: Path) -> str:
    """Device-tree's model, or DMI's vendor and product."""
    model = read_word(root / "proc/device-tree/model")
    return model or read_word(root / "sys/firmware/devicetree/base/model") or _dmi(root)


def _dmi(root: Path) -> str:
    words = [read_word(root / "sys/class/dmi/id" / n) for n in ("sys_vendor", "product_name")]
    return " ".join(word for word in words if not _FILLER.fullmatch(word.lower()))


def _cpu(cpus: list[dict[str, str]], root: Path) -> str:
    """x86 gives a name; ARM gives part numbers, and the device tree the chip."""
    if cpus and "CPU part" in cpus[0]:
        names = " + ".join(dict.fromkeys(core_name(cpu) for cpu in cpus))
        chip = jetson.soc(root)
        return shown(f"{names} ({chip})" if chip else names)
    return shown(next((cpu["model name"] for cpu in cpus if "model name" in cpu), ""))


def core_name(cpu: Mapping[str, str]) -> str:
    """Name of the core of one block of /proc/cpuinfo, or its numbers where it is unknown."""
    implementer = cpu.get("CPU implementer", "").lower()
    part = cpu.get("CPU part", "").lower()
    return CORES.get((implementer, part)) or shown(f"{implementer}/{part}")


def _clusters(cpus: list[dict[str, str]], root: Path) -> dict[str, int]:
    hybrid = {
        kind: len(read_list(root / f"sys/devices/{kind}/cpus")) for kind in ("cpu_core", "cpu_atom")
    }
    if all(hybrid.values()):
        return hybrid
    kinds = Counter(kind for cpu in cpus if (kind := _kind(cpu)))
    return dict(sorted(kinds.items()))


def _kind(cpu: Mapping[str, str]) -> str:
    """ARM's part number, or x86's family and model: a hypervisor may hide the name."""
    if "CPU part" in cpu:
        return shown(cpu["CPU part"].lower())
    if "cpu family" in cpu and "model" in cpu:
        return shown(f"family {cpu['cpu family']} model {cpu['model']}")
    return ""


def _features(cpus: list[dict[str, str]]) -> tuple[str, ...]:
    """Those that every CPU has: a thread may run on any."""
    sets = [set(cpu.get("flags", cpu.get("Features", "")).split()) for cpu in cpus]
    common = set.intersection(*sets) if sets else set()
    return tuple(name for name in FEATURES if name in common)


def _memory(root: Path) -> int:
    kilobytes = fields(read_text(root / "proc/meminfo")).get("MemTotal", "").split(" ")[0]
    return int(kilobytes) * 1024 if re.fullmatch(r"\d{1,12}", kilobytes, re.ASCII) else 0


def _virtual(cpus: list[dict[str, str]], root: Path) -> str:
    """The hypervisor's name; user-mode emulation is one too, and makes every time meaningless."""
    host = read_word(root / "proc/sys/kernel/arch")
    if host and _family(host) != _family(platform.machine()):
        return f"user-mode emulation on {host}"
    flags = cpus[0].get("flags", "").split() if cpus else []
    if flags and "hypervisor" not in flags:
        return ""  # a cloud's DMI has the same words on its bare machines
    clues = " ".join(
        (
            _dmi(root),
            read_word(root / "sys/hypervisor/type"),
            *read_items(root / "proc/device-tree/compatible"),
            *read_items(root / "proc/device-tree/hypervisor/compatible"),
        )
    ).lower()
    for pattern, name in _HYPERVISORS:
        if re.search(pattern, clues):
            return name
    if "microsoft" in read_word(root / "proc/sys/kernel/osrelease").lower():
        return "WSL"
    return UNNAMED_HYPERVISOR if flags else ""


def _family(machine: str) -> str:
    names = (family[0] for family in _FAMILIES if machine.startswith(family))
    return next(names, machine)


def _system(root: Path) -> str:
    """The distribution, as it calls itself."""
    for line in read_text(root / "etc/os-release", 16 << 10).splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return shown(value.strip().strip("\"'"))
    return ""


def _gpu(root: Path) -> str:
    """NVIDIA's driver names its GPUs in /proc; a Jetson's is part of the chip."""
    chip = jetson.soc(root)
    if chip in jetson.COMPUTE:
        return f"{chip}, compute capability {jetson.COMPUTE[chip]}"
    cards = entries(root / "proc/driver/nvidia/gpus", r"[\w.:]+")
    models = [fields(read_text(card / "information", 4096)).get("Model", "") for card in cards]
    return shown("; ".join(model for model in models if model))
