"""QEMU's user mode on this machine, and its counting plugin, compiled when it is first used.

    EDGEKIT_CACHE/emulation/count_instructions-<digest>.so   one a source, compiler call and QEMU

The dynamically linked ``qemu-aarch64`` is needed: a static build cannot load plugins.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DeviceError, MissingDependencyError, UnknownNameError

PROGRAM = "qemu-aarch64"
SOURCE = Path(__file__).with_name("count_instructions.c")
FEATURE = "counting the instructions of an emulated core"
INSTALL = "apt-get install qemu-user (Debian, Ubuntu)"
# From 9.1 on, as in Debian 13, Debian builds qemu-user statically too.
BUILD = (
    "take the qemu-user of Debian 12, or build QEMU with "
    "./configure --target-list=aarch64-linux-user --enable-plugins"
)

_ASK_S, _COMPILE_S = 20, 60


@dataclass(frozen=True)
class Emulator:
    """A ``qemu-aarch64`` that loads plugins.

    Attributes:
        program: its path.
        version: e.g. ``7.2.22``.
        cpus: names that its ``-cpu`` takes.
    """

    program: Path
    version: str
    cpus: tuple[str, ...]

    @property
    def plugin_api(self) -> int:
        """What a plugin must call itself: QEMU 9 refuses an older one than 2."""
        return 2 if int(self.version.partition(".")[0]) >= 9 else 1


def find_emulator(program: str = PROGRAM) -> Emulator:
    """The emulator on this machine.

    Raises:
        MissingDependencyError: there is none, or it cannot load plugins.
        DeviceError: it does not answer as QEMU does.
    """
    path = shutil.which(program)
    if path is None:
        raise MissingDependencyError(FEATURE, program, INSTALL)
    version = re.search(r"version (\d+\.\d+(?:\.\d+)?)", _ask(path, "--version"))
    if version is None:
        raise DeviceError(f"{path} --version names no version: this is not QEMU's user mode")
    if "-plugin" not in _ask(path, "-h"):
        raise MissingDependencyError(
            FEATURE,
            f"a {program} that loads plugins",
            BUILD,
            detail=f"{path} does not, as every static build",
        )
    cpus = re.findall(r"^\s+([\w.-]+)\s*$", _ask(path, "-cpu", "help"), re.MULTILINE)
    return Emulator(Path(path), version[1], tuple(cpus))


def check_core(emulator: Emulator, core: str) -> None:
    """Refuse a core that this emulator is too old, or too new, to have.

    Raises:
        UnknownNameError: names those it has.
    """
    if core not in emulator.cpus:
        raise UnknownNameError(
            f"core of {PROGRAM} {emulator.version}", core, emulator.cpus, "Update QEMU."
        )


def _ask(program: str, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{program} {' '.join(arguments)} does not answer: {error}") from None
    return answer.stdout + answer.stderr


def build_plugin(emulator: Emulator, cache: Path | None, scratch: Path) -> Path:
    """The plugin for ``emulator``, from ``cache`` or compiled into it.

    Args:
        emulator: what will load it.
        cache: folder to keep it in; None, or one that cannot be written: ``scratch``.
        scratch: of this run.

    Raises:
        MissingDependencyError: there is no C compiler, or it has no C library to compile with.
    """
    flags = ("-shared", "-fPIC", "-O2", "-std=c99", f"-DQEMU_PLUGIN_API={emulator.plugin_api}")
    source = SOURCE.read_bytes()
    facts = "\n".join((*flags, emulator.version)).encode() + source
    name = f"count_instructions-{hashlib.sha256(facts).hexdigest()[:16]}.so"
    if cache is not None and (cache / name).is_file():
        return cache / name
    folder = _writable(cache) or scratch
    made = _compile(flags, folder)
    made.replace(folder / name)  # whole or not at all: another process may want it too
    return folder / name


def _writable(folder: Path | None) -> Path | None:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            return folder if os.access(folder, os.W_OK) else None
    except OSError:
        return None
    return None


def _compile(flags: Sequence[str], folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    remedy = "apt-get install gcc libc6-dev (Debian, Ubuntu)"
    if compiler is None:
        raise MissingDependencyError(FEATURE, "a C compiler (cc)", remedy)
    handle, name = tempfile.mkstemp(suffix=".so", dir=folder)
    os.close(handle)
    try:
        done = subprocess.run(
            [compiler, *flags, str(SOURCE), "-o", name],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        Path(name).unlink()
        raise MissingDependencyError(FEATURE, "a C compiler", remedy, detail=str(error)) from None
    if done.returncode:
        Path(name).unlink()
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise MissingDependencyError(
            FEATURE, "a C compiler with its C library", remedy, detail=f"{compiler}: {said}"
        )
    return Path(name)


def fixed_addresses() -> tuple[str, ...]:
    """The words that start a program without random addresses, or () where that is forbidden."""
    setarch = shutil.which("setarch")
    if setarch is None:
        return ()
    try:
        probe = subprocess.run(
            [setarch, "-R", "true"], capture_output=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return (setarch, "-R") if probe.returncode == 0 else ()
