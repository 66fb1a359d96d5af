"""The wheelhouse: what a board without a network needs beside edgekit, fetched on this machine.

    numpy, pillow, and the packages of the wanted runtimes
      `pip download` for the board's Python, architecture and C library
      EDGEKIT_CACHE/wheelhouses/<key>/   kept: the second time nothing is fetched

TensorRT is never in it: on a Jetson it is JetPack's, and what the package index has for aarch64
is for servers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DownloadError, EdgekitError, MissingDependencyError, UsageError
from edgekit.profiling.remote.device import BoardFacts
from edgekit.profiling.remote.frames import printable

# As in pyproject.toml, which a test compares.
BASE = ("numpy>=1.24", "pillow>=9.1", "tomli>=2.0; python_version < '3.11'")
RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime>=1.20",),
    "openvino": ("openvino>=2025.2",),
    "litert": ("ai-edge-litert>=2.1",),
}

_PIP_LIMIT_S = 3600.0
# glibc x.y runs what was built for any lower one; nothing for aarch64 is older than 2.17.
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
_ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}  # PEP 600
_NARROW = {"aarch64": "armv7l", "arm64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}

# pip evaluates "; python_version < '3.11'" for the Python it runs in, whatever --python-version
# says: it is told the board's answers. A pip that looks different inside does without.
_PIP = """
import json, runpy, sys
answers = json.loads(sys.argv.pop(1))
try:
    from pip._vendor.packaging import markers
    markers.default_environment = lambda: dict(answers)
except ImportError:
    pass
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Platform:
    """What wheels a board can use. ``tags`` are pip's names of it, the newest first."""

    python: tuple[int, int]
    tags: tuple[str, ...]
    markers: Mapping[str, str]

    @property
    def text(self) -> str:
        """For people: ``Python 3.11, manylinux_2_36_aarch64``."""
        return f"Python {self.python[0]}.{self.python[1]}, {self.tags[0]}"


@dataclass(frozen=True)
class Wheelhouse:
    """The wheels, and which runtimes have none for this board."""

    wheels: tuple[Path, ...]
    warnings: tuple[str, ...]


class _NoWheelError(EdgekitError):
    """pip finds no set of wheels."""


Pip = Callable[[Sequence[str], Mapping[str, str], Path], None]


def platform_of(facts: BoardFacts) -> Platform:
    """The platform of a board's chosen Python.

    Raises:
        UsageError: no CPython, or a C library of which nothing is known.
    """
    if facts.implementation != "cpython":
        raise UsageError(f"--install needs CPython on the board, it has {facts.implementation}")
    architecture = _NARROW.get(facts.machine, facts.machine) if facts.bits == 32 else facts.machine
    glibc = re.fullmatch(r"glibc ([0-9]{1,2})\.([0-9]{1,2})(\..*)?", facts.libc)
    if glibc:
        tags = _glibc_tags(int(glibc[1]), int(glibc[2]), architecture)
    elif facts.libc == "musl":
        tags = [f"musllinux_1_{minor}_{architecture}" for minor in (2, 1)]
    else:
        raise UsageError(
            f"--install knows glibc and musl, the board has {facts.libc or 'neither'!r}"
        )
    return Platform(
        (facts.python[0], facts.python[1]), (*tags, f"linux_{architecture}"), facts.markers
    )


def _glibc_tags(major: int, minor: int, architecture: str) -> list[str]:
    """Every glibc down to the oldest: with a short list pip falls back to years-old wheels."""
    tags = []
    for each in range(minor, _OLDEST_GLIBC.get(architecture, 17) - 1, -1):
        tags.append(f"manylinux_{major}_{each}_{architecture}")
        if each in _ALIASES:
            tags.append(f"{_ALIASES[each]}_{architecture}")
    if not tags:
        raise UsageError(f"--install: glibc {major}.{minor} of the board is older than any wheel")
    return tags


def fetch(
    platform: Platform,
    runtimes: Sequence[str],
    *,
    must: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
    cache: Path | None = None,
    pip: Pip | None = None,
) -> Wheelhouse:
    """Wheels for the board: from the cache, or from the package index.

    Args:
        platform: of the board.
        runtimes: wanted; one that has no wheel there is left out with a warning.
        must: those of them that may not be left out.
        progress: told what is fetched.
        cache: folder of wheelhouses; by default below ``EDGEKIT_CACHE``.
        pip: downloads requirements into a folder.

    Raises:
        DownloadError: the package index cannot be reached, or ``EDGEKIT_OFFLINE`` is set.
        MissingDependencyError: this Python has no pip.
        EdgekitError: no wheel for something that must be there.
    """
    store = _Store(platform, cache or _cache(), pip or run_pip, progress)
    named = [name for name in runtimes if name in RUNTIMES]
    try:
        return Wheelhouse(store.get(named), ())
    except _NoWheelError as error:
        store.get(())  # or nothing can be done
        refused = {name: why for name in named if (why := store.why_not(name))}
        if not refused or any(name in must for name in refused):
            raise error
    warnings = tuple(
        f"{name} is not measured: it has no wheel for {platform.text}" for name in refused
    )
    return Wheelhouse(store.get([name for name in named if name not in refused]), warnings)


@dataclass(frozen=True)
class _Store:
    platform: Platform
    cache: Path
    pip: Pip
    progress: Callable[[str], None]

    def get(self, runtimes: Sequence[str]) -> tuple[Path, ...]:
        """The wheels of these runtimes and of the base."""
        wanted = [*BASE, *(line for name in runtimes for line in RUNTIMES[name])]
        words = (*_platform_words(self.platform), *wanted)
        folder = self.cache / _key(words, self.platform.markers)
        if not folder.is_dir():
            self.progress(f"fetching wheels for {self.platform.text}: {', '.join(wanted)}")
            self._fill(folder, words)
        return tuple(sorted(folder.glob("*.whl")))

    def _fill(self, folder: Path, words: Sequence[str]) -> None:
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.cache))
        try:
            self.pip(words, self.platform.markers, incoming)
            _settle(incoming, folder)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def why_not(self, runtime: str) -> str:
        """Why one runtime has no wheels, or ""."""
        try:
            self.get([runtime])
        except _NoWheelError as error:
            return str(error)
        return ""


def _settle(incoming: Path, folder: Path) -> None:
    """Rename, unless another process was quicker."""
    try:
        incoming.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _platform_words(platform: Platform) -> list[str]:
    version = "{}.{}".format(*platform.python)
    words = ["--python-version", version, "--implementation", "cp"]
    words += ["--abi", f"cp{version.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    return words + [word for tag in platform.tags for word in ("--platform", tag)]


def _key(words: Sequence[str], markers: Mapping[str, str]) -> str:
    # Not the kernel's version, which changes with every update and bears on no wheel.
    stable = {name: text for name, text in markers.items() if not name.startswith("platform_")}
    document = json.dumps([list(words), stable], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:32]


def _cache() -> Path:
    named = os.environ.get("EDGEKIT_CACHE") or "~/.cache/edgekit"
    try:
        return Path(named).expanduser() / "wheelhouses"
    except RuntimeError:
        raise UsageError("there is no home folder to cache in: set EDGEKIT_CACHE") from None


def run_pip(words: Sequence[str], markers: Mapping[str, str], to: Path) -> None:
    """``pip download`` of what ``words`` say into ``to``, for another machine."""
    if os.environ.get("EDGEKIT_OFFLINE") not in (None, "", "0"):
        raise DownloadError(
            "EDGEKIT_OFFLINE is set and the wheels for this board are not in the cache: run the "
            "command once with a network, or copy EDGEKIT_CACHE/wheelhouses from where it ran"
        )
    if importlib.util.find_spec("pip") is None:
        remedy = "python -m ensurepip (uv: uv pip install pip)"
        raise MissingDependencyError("device --install", "pip", remedy)
    fixed = ["download", "--disable-pip-version-check", "--no-input", "-q"]
    command = [sys.executable, "-c", _PIP, json.dumps(dict(markers)), *fixed]
    command += ["--only-binary=:all:", "--dest", str(to), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PIP_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(f"pip is not done after {_PIP_LIMIT_S:.0f} s") from None
    if done.returncode:
        raise _pip_error(done.stderr.decode("utf-8", "replace"), words)


_NETWORK = (
    "NewConnectionError",
    "Temporary failure",
    "Connection refused",
    "timed out",
    "ProxyError",
)
_NONE = ("No matching distribution", "ResolutionImpossible", "conflicting dependencies")


def _pip_error(text: str, words: Sequence[str] = ()) -> EdgekitError:
    """What pip's stderr says, as an error: its ``ERROR:`` lines."""
    lines = [line[7:] for line in text.splitlines() if line.startswith("ERROR: ")]
    reason = printable(" ".join(lines) or text[-400:], 400)
    if any(word in text for word in _NETWORK):
        return DownloadError(
            f"the package index cannot be reached: {reason}; --install needs a network on this "
            "machine, not on the board"
        )
    if any(word in text for word in _NONE):
        narrow = any("armv" in word for word in words)
        hint = "; numpy has none for 32-bit ARM: install a 64-bit system there" if narrow else ""
        return _NoWheelError(f"no wheels for the board: {reason}{hint}")
    return EdgekitError(f"pip fails: {reason}")
