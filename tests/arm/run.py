"""``make test-arm``: set up what the ARM tests need, then run them.

    EDGEKIT_ARM_ROOT/sysroot   the AArch64 system, made once (~/.cache/edgekit-arm)
    EDGEKIT_ARM_ROOT/board     keys and files of the emulated board

Packages of the system are installed where this runs as root with apt. Where the tests cannot run,
the reason is printed and the status is 0; what should work and does not is a failure.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from edgekit.errors import DeviceError, EdgekitError, MissingDependencyError
from edgekit.profiling.emulation.emulator import find_emulator
from edgekit.profiling.emulation.sysroot import make_sysroot

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# Program -> the Debian package that has it. All of them, or the tests cannot run.
TOOLS = {
    "qemu-aarch64": "qemu-user",
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "cc": "gcc",
    "setpriv": "util-linux",
}
# Without Recommends these are not brought by the packages above.
_COMPANIONS = {"cc": ("libc6-dev",), "mmdebstrap": ("debian-archive-keyring",)}

# What apt, mmdebstrap and pip say when it is the network that is missing.
_NO_NETWORK = re.compile(
    r"resolve|unreachable|timed out|Connection|connect to|Failed to fetch|Network|"
    r"Unable to locate package|No matching distribution|does not have a Release file",
    re.IGNORECASE,
)


class CannotRunHereError(Exception):
    """The machine lacks something that is nobody's mistake."""


def say(line: str) -> None:
    """At once, among the lines of the processes that are started here."""
    sys.stderr.write(line + "\n")


def main() -> int:
    """Prepare, run; 0 when the tests passed or cannot run here."""
    base = Path(os.environ.get("EDGEKIT_ARM_ROOT") or "~/.cache/edgekit-arm").expanduser()
    try:
        base.mkdir(parents=True, exist_ok=True)
        with (base / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of when this ends
            _install_tools()
            _prepare(base)
            return _test(base)
    except BlockingIOError:
        say(f"another make test-arm has {base}: wait, or name another folder in EDGEKIT_ARM_ROOT")
        return 1
    except (CannotRunHereError, PermissionError) as reason:
        say(f"SKIPPED: the ARM tests cannot run here: {reason}")
        return 0


def _test(base: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "arm", str(HERE), *sys.argv[1:]]
    environment = {**os.environ, "EDGEKIT_ARM_ROOT": str(base)}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def _prepare(base: Path) -> None:
    """The sysroot; at once when it is there."""
    try:
        find_emulator()
        if make_sysroot(base / "sysroot", ROOT / "constraints.txt"):
            say(f"made the AArch64 system {base / 'sysroot'}")
    except (MissingDependencyError, OSError) as error:
        raise CannotRunHereError(str(error)) from None
    except DeviceError as error:
        if _NO_NETWORK.search(str(error)):
            raise CannotRunHereError(f"no network: {error}") from None
        raise


def _missing() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # sshd's place
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


def _install_tools() -> None:
    missing = _missing()
    if not missing:
        return
    names = [name for tool in missing for name in (TOOLS[tool], *_COMPANIONS.get(tool, ()))]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRunHereError(
            f"{', '.join(missing)} not installed, and only root with apt can: "
            f"apt-get install {' '.join(names)}"
        )
    say(f"installing {' '.join(names)}")
    policy = Path("/usr/sbin/policy-rc.d")
    quiet = not policy.exists()  # a package must not start a server of its own here
    if quiet:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        if not _apt("install", names):
            _apt("update", [])
            _apt("install", names)
    finally:
        if quiet:
            policy.unlink()
    if _missing():
        raise CannotRunHereError(f"apt-get could not install {' '.join(names)}")


def _apt(verb: str, names: list[str]) -> bool:
    words = ["apt-get", verb, "-q", "-y", *(["--no-install-recommends"] if names else []), *names]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        say(done.stderr.strip()[-1000:])
    return done.returncode == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        say(f"make test-arm: {error}")
        sys.exit(1)
