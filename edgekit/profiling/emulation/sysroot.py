"""The AArch64 system that an emulated runtime stands on: a folder, made once.

    python -m edgekit.profiling.emulation.sysroot [DIR] [-c CONSTRAINTS]

    DIR/usr ...                               Debian bookworm, Python 3.11: unpacked by mmdebstrap,
                                              nothing of it is run; no root needed
    DIR/usr/local/lib/python3.11/dist-packages  numpy, pillow and the runtimes: AArch64 wheels
    DIR/edgekit-sysroot.json                  what it was made of; equal: nothing is done

Any AArch64 root file system with Python 3.10 or later, numpy and a runtime serves as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import (
    DeviceError,
    EdgekitError,
    MissingDependencyError,
    OutputExistsError,
    UsageError,
)

STAMP = "edgekit-sysroot.json"
SUITE, PYTHON = "bookworm", "3.11"
# What Python and the wheels need, and a shell for whoever logs in.
PACKAGES = (
    "python3-minimal",
    "python3.11",
    "libpython3-stdlib",
    "libstdc++6",
    "libgomp1",
    "bash",
    "dash",
    "coreutils",
    "libc-bin",
    "ca-certificates",
    "procps",
    "util-linux",
    "tar",
    "gzip",
    "findutils",
    "grep",
    "sed",
)
WHEELS = ("numpy", "pillow", "onnxruntime", "ai-edge-litert")
# pip takes a platform's wheels by these names only: with a shorter list it silently falls back to
# versions that are years old.
_GLIBC = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_{number}_aarch64" for number in _GLIBC))

_AARCH64 = 183  # e_machine of an ELF file
_DOWNLOAD_S = 1200


@dataclass(frozen=True)
class Sysroot:
    """A folder with an AArch64 system.

    Attributes:
        python: its interpreter, a path of this machine.
        packages: folders of the packages that it imports.
    """

    folder: Path
    python: Path
    packages: tuple[Path, ...]

    def has(self, package: str) -> bool:
        """Whether top-level ``package`` is installed in it."""
        return any((folder / package).is_dir() for folder in self.packages)


def default_folder() -> Path:
    """``EDGEKIT_SYSROOT``, or a folder of the cache.

    Raises:
        UsageError: there is no home folder to cache in.
    """
    named = os.environ.get("EDGEKIT_SYSROOT")
    return Path(named) if named else cache_folder() / "sysroot-aarch64"


def cache_folder() -> Path:
    """``EDGEKIT_CACHE``, or ``~/.cache/edgekit``.

    Raises:
        UsageError: there is no home folder.
    """
    try:
        return Path(os.environ.get("EDGEKIT_CACHE") or "~/.cache/edgekit").expanduser()
    except RuntimeError:
        raise UsageError("there is no home folder to cache in: set EDGEKIT_CACHE") from None


def open_sysroot(folder: Path | None = None) -> Sysroot:
    """Find what is needed in ``folder``, or in the default one.

    Raises:
        MissingDependencyError: no such folder; has the command that makes it.
        UsageError: it is no AArch64 system, or its Python is too old.
    """
    given = folder or default_folder()
    root = given.absolute()
    if not root.is_dir():
        raise MissingDependencyError(
            "counting instructions", f"an AArch64 system in {str(root)!r}", how_to_make(folder)
        )
    python = _newest_python(root)
    if python is None:
        raise UsageError(
            f"{str(root)!r} is no AArch64 system with Python 3.10 or later (usr/bin/python3.N): "
            f"make one elsewhere with {how_to_make(None)}"
        )
    return Sysroot(root, python, tuple(_package_folders(root, python.name)))


def how_to_make(folder: Path | None) -> str:
    """The exact command that makes ``folder`` a sysroot, or adds to it what is missing."""
    where = f" {folder}" if folder else ""
    return f"{Path(sys.executable).name} -m edgekit.profiling.emulation.sysroot{where}"


def _newest_python(root: Path) -> Path | None:
    found = []
    for path in (root / "usr/bin").glob("python3.*"):
        minor = re.fullmatch(r"python3\.(\d+)", path.name)
        if minor and int(minor[1]) >= 10 and _is_aarch64(path):
            found.append((int(minor[1]), path))
    return max(found)[1] if found else None


def _is_aarch64(path: Path) -> bool:
    """Whether the ELF header says 64-bit, little-endian, AArch64."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head[:6] == b"\x7fELF\x02\x01" and head[18:] == struct.pack("<H", _AARCH64)


def _package_folders(root: Path, python: str) -> Iterator[Path]:
    for place in (
        f"usr/local/lib/{python}/dist-packages",
        f"usr/lib/{python}/site-packages",
        f"usr/local/lib/{python}/site-packages",
        "usr/lib/python3/dist-packages",
    ):
        if (root / place).is_dir():
            yield root / place


# ---- making one ------------------------------------------------------------------------------


def make_sysroot(folder: Path, constraints: Path | None = None) -> bool:
    """Make ``folder`` a sysroot, or add what it lacks; False when nothing was to be done.

    Raises:
        MissingDependencyError: mmdebstrap or pip is not installed.
        OutputExistsError: the folder holds something else.
        DeviceError: a download failed.
    """
    recipe = _recipe(constraints)
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == recipe:
        return False
    if _newest_python(folder) is None:
        if folder.exists() and any(folder.iterdir()):
            raise OutputExistsError(
                f"{str(folder)!r} is not empty and no AArch64 system: name another folder"
            )
        _unpack(folder)
    python = open_sysroot(folder).python.name.removeprefix("python")
    _install(folder, python, constraints)
    stamp.write_text(recipe, encoding="utf-8")
    return True


def _recipe(constraints: Path | None) -> str:
    pins = constraints.read_text(encoding="utf-8") if constraints else ""
    facts = {"suite": SUITE, "packages": PACKAGES, "wheels": WHEELS, "pins": pins}
    return json.dumps(facts) + "\n"


def _unpack(folder: Path) -> None:
    """Debian's packages, unpacked beside ``folder`` and then moved: it is whole or not there."""
    tool, tar = shutil.which("mmdebstrap"), shutil.which("tar")
    if tool is None or tar is None:
        raise MissingDependencyError(
            "making an AArch64 system",
            "mmdebstrap",
            "apt-get install mmdebstrap debian-archive-keyring (Debian, Ubuntu)",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sysroot-") as scratch:
        archive, tree = Path(scratch, "root.tar"), Path(scratch, "root")
        tree.mkdir(mode=0o755)
        _run([tool, "--quiet", "--architectures=arm64", "--variant=extract",
              f"--include={','.join(PACKAGES)}", SUITE, str(archive), *_mirrors()])  # fmt: skip
        _run([tar, "-x", "-f", str(archive), "-C", str(tree), "--no-same-owner",
              "--exclude=./dev/*", "--exclude=./var/cache/*"])  # fmt: skip
        _compile_library(tree)
        if folder.exists():
            folder.rmdir()
        tree.rename(folder)


def _mirrors() -> list[str]:
    """Where this machine's own apt gets the suite from; empty: mmdebstrap's default."""
    if shutil.which("apt-get") is None:
        return []
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)",
         "Created-By: Packages"],
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    rows = {tuple(line.split()) for line in listing.stdout.splitlines()}
    wanted = sorted(row for row in rows if row[1:] == (SUITE, "Debian", "main"))
    return [f"deb {row[0]} {SUITE} main" for row in wanted]


def _compile_library(tree: Path) -> None:
    """Byte code by this Python where it is the same version: emulated, it would take a minute."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:
        library = tree / f"usr/lib/python{PYTHON}"
        _run([sys.executable, "-m", "compileall", "-q", "-s", str(tree), str(library)])


def _install(folder: Path, python: str, constraints: Path | None) -> None:
    place = folder / f"usr/local/lib/python{python}/dist-packages"
    pins = ("-c", str(constraints)) if constraints else ()
    platforms = (f"--platform={platform}" for platform in PLATFORMS)
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
          "--upgrade", "--only-binary=:all:", f"--python-version={python}", *platforms,
          f"--target={place}", *pins, *WHEELS])  # fmt: skip


def _run(words: Sequence[str]) -> None:
    """Run a tool that downloads.

    Raises:
        DeviceError: it failed; with the last line it said.
    """
    tool = Path(words[2] if words[1:2] == ["-m"] else words[0]).name
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_S,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{tool} did not end within {_DOWNLOAD_S} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        errors = [line for line in said if line.startswith(("E:", "ERROR"))] or said
        raise DeviceError(f"{tool} failed: {errors[-1]}")


def main(words: Sequence[str] | None = None) -> int:
    """Make the sysroot that the words name."""
    parser = argparse.ArgumentParser(
        prog="python -m edgekit.profiling.emulation.sysroot",
        description="Make the AArch64 system that edgekit profile --emulate needs.",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="default: in the cache of edgekit")
    parser.add_argument("-c", "--constraints", type=Path, help="versions, as pip takes them")
    options = parser.parse_args(words)
    try:
        folder = options.folder or default_folder()
        made = make_sysroot(folder.absolute(), options.constraints)
    except EdgekitError as error:
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return error.exit_code
    sys.stderr.write(f"{folder} {'is ready' if made else 'was ready'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
