"""What only a Jetson has: its L4T release and JetPack, its power mode, its GPU's clock.

All of it is read without root. Not yet executed on a device: formats are those of NVIDIA's
documents and of the tests and dumps that other projects published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edgekit.profiling.environment.files import (
    ask,
    entries,
    read_items,
    read_text,
    read_whole,
    read_word,
    shown,
)

RELEASE = Path("etc/nv_tegra_release")

# SoC of device-tree's compatible -> compute capability of its GPU.
COMPUTE = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",  # called 10.1 before CUDA 13
}

# L4T -> JetPack; "x" is any last number. jetson_stats and NVIDIA's release notes.
JETPACKS = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.3": "5.1.5",
    "35.6.4": "5.1.6",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.x": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}

# The GPU among the devices of devfreq: by name in the device tree, since addresses differ.
_GPU_NODES = {"gv11b", "gp10b", "ga10b", "gb10b", "gpu"}
_GPU_FOLDERS = re.compile(r"\d+\.(gpu|gp10b|gv11b|ga10b|gb10b)|gpu-gpc-\d+")

_MODE = re.compile(r"NV Power Mode: *(\S+)")


def soc(root: Path) -> str:
    """The last item of device-tree's compatible without its vendor: ``tegra234``, ``bcm2711``."""
    items = read_items(root / "proc/device-tree/compatible")
    return items[-1].rpartition(",")[2] if items else ""


def is_jetson(root: Path) -> bool:
    """Whether this is NVIDIA's Linux for Tegra."""
    return (root / RELEASE).exists() or soc(root) in COMPUTE


def l4t(root: Path) -> str:
    """The release, e.g. ``36.4.0``; "" where this is no Jetson."""
    line = read_word(root / RELEASE)
    found = re.search(r"\bR(\d{1,3})\b.*?REVISION: *(\d{1,3}(?:\.\d{1,3}){0,2})", line)
    if found is None and is_jetson(root):
        query = ("--showformat=${Version}", "--show", "nvidia-l4t-core")
        found = re.match(r"(\d{1,3})\.(\d{1,3}(?:\.\d{1,3})?)-", ask(root, "dpkg-query", *query))
    if found is None:
        return ""
    numbers = [found[1], *found[2].split("."), "0", "0"]
    return ".".join(numbers[:3])


def jetpack(release: str) -> str:
    """JetPack of an L4T release, or "" for one that the table lacks."""
    return JETPACKS.get(release) or JETPACKS.get(f"{release.rpartition('.')[0]}.x", "")


def power_mode(root: Path) -> str:
    """Name and number of nvpmodel's mode, ``15W (0)``; "" where there is none."""
    if not (root / RELEASE).exists():
        return ""
    return parse_power_mode(ask(root, "nvpmodel", "-q"))


def parse_power_mode(text: str) -> str:
    """The mode in the output of ``nvpmodel -q``, whatever warnings stand around it."""
    found = _MODE.search(text)
    if found is None:
        return ""
    after = text[found.end() :].splitlines()
    number = next((line.strip() for line in after if line.strip().isdecimal()), "")
    return f"{shown(found[1])} ({shown(number)})" if number else shown(found[1])


def gpu_clocks(root: Path) -> Iterator[Path]:
    """Folders of devfreq that are a GPU's."""
    for folder in entries(root / "sys/class/devfreq", r"[\w.:-]+"):
        node = read_text(folder / "device/of_node/name", 64).strip("\0\n ")
        if node in _GPU_NODES or _GPU_FOLDERS.fullmatch(folder.name):
            yield folder


def gpu_mhz(root: Path) -> float | None:
    """Clock of the GPU now, the fastest where it has several."""
    clocks = [read_whole(folder / "cur_freq") for folder in gpu_clocks(root)]
    return max((hertz / 1e6 for hertz in clocks if hertz is not None), default=None)


def gpu_locked(root: Path) -> bool | None:
    """Whether each GPU clock has no room to move; None where there is no such clock."""
    ranges = [
        (read_whole(folder / "min_freq"), read_whole(folder / "max_freq"))
        for folder in gpu_clocks(root)
    ]
    known = [low == high for low, high in ranges if low is not None and high is not None]
    return all(known) if known else None
