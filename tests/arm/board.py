"""An emulated Raspberry Pi 4 that answers on ``ssh://pi@127.0.0.1:PORT``.

    board.sh     its file system, users and sshd, in namespaces that end with it
    binfmt_misc  the kernel starts AArch64 programs by QEMU: board.sh registers it

Two boards are two users: ``pi`` has runtimes, ``bare`` has Python alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.profiling.emulation.cores import CORES, write_machine

CPUINFO = Path(__file__).parents[1] / "data/arm/cpuinfo.pi4"
MODEL = "Raspberry Pi 4 Model B Rev 1.1"
QEMU = "qemu-aarch64-static"
START_S = 20

# Beside what every emulated core has: what a Raspberry Pi 4 shows of clock and heat.
_PI4 = {
    "sys/firmware/devicetree/base/model": f"{MODEL}\0",
    "sys/firmware/devicetree/base/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48199\n",
    "sys/devices/system/cpu/cpufreq/policy0/affected_cpus": "0 1 2 3\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "600000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1500000\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1500000\n",
}

_USERS = (("root", 0, "/root"), ("sshd", 65533, "/run/sshd"), ("pi", 1000, "/home/pi"),
          ("bare", 1001, "/home/bare"))  # fmt: skip

_SSHD = """
HostKey {work}/host_key
PidFile none
AuthorizedKeysFile /run/sshd/authorized_keys
ListenAddress 127.0.0.1
AllowUsers pi bare
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
ChrootDirectory /run/sshd/%u
Subsystem sftp internal-sftp
SetEnv QEMU_CPU=cortex-a72
AcceptEnv EDGEKIT_*
MaxStartups 50
MaxSessions 50
"""

_SSH = """
Host 127.0.0.1
    IdentityFile {work}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {work}/known_hosts
    GlobalKnownHostsFile /dev/null
"""


class CannotRunHereError(Exception):
    """This machine does not allow what a board needs; the text says what."""


@dataclass(frozen=True)
class Board:
    """A running board.

    Attributes:
        port: of 127.0.0.1.
        ssh_config: for ``ssh -F``: its key and its host key.
        work: folder of its files.
    """

    port: int
    ssh_config: Path
    work: Path

    def url(self, user: str) -> str:
        """Address of ``pi`` or ``bare``."""
        return f"ssh://{user}@127.0.0.1:{self.port}"

    def put(self, user: str, *paths: Path) -> None:
        """Copy files and folders into the user's home by scp."""
        words = ("scp", "-q", "-r", "-F", str(self.ssh_config), "-P", str(self.port))
        target = f"{user}@127.0.0.1:"
        subprocess.run((*words, *map(str, paths), target), check=True, timeout=120)

    def fetch(self, user: str, name: str, folder: Path) -> Path:
        """Copy a file of the user's home into ``folder`` by scp."""
        words = ("scp", "-q", "-F", str(self.ssh_config), "-P", str(self.port))
        source = f"{user}@127.0.0.1:{name}"
        subprocess.run((*words, source, str(folder)), check=True, timeout=120)
        return folder / name

    @property
    def ssh(self) -> str:
        """The ssh command that reaches it, as EDGEKIT_SSH takes it."""
        return f"ssh -F {self.ssh_config}"

    def run(self, user: str, command: str) -> str:
        """What ``command`` prints there."""
        words = (*self.ssh.split(), "-p", str(self.port), f"{user}@127.0.0.1", command)
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def running_board(base: Path) -> Iterator[Board]:
    """Start the board on ``base/sysroot``; nothing of it is left afterwards.

    Raises:
        CannotRunHereError: no root, or namespaces, binfmt_misc or sshd are missing.
    """
    _check_possible()
    work = base / "board"
    work.mkdir(exist_ok=True)
    with _alone(work / "lock"):
        port = _free_port()
        _write_files(base / "sysroot", work, port)
        words = ("setpriv", "--pdeathsig", "KILL", *_NAMESPACES, "sh",
                 str(Path(__file__).with_name("board.sh")), str(base / "sysroot"), str(work),
                 str(port))  # fmt: skip
        with (work / "sshd.log").open("wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_for(port, process, work / "sshd.log")
            yield Board(port, work / "ssh_config", work)
        finally:
            _end(process)
            _unregister()


_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


def _check_possible() -> None:
    if os.geteuid() != 0:
        raise CannotRunHereError("a chroot and its mounts need root")
    for program in ("unshare", "setpriv", "sshd", "ssh-keygen", QEMU):
        if shutil.which(program) is None:
            raise CannotRunHereError(f"{program} is not installed")
    probe = subprocess.run((*_NAMESPACES, "mount", "--make-rprivate", "/"), capture_output=True)
    if probe.returncode:
        raise CannotRunHereError(f"no mount namespaces: {probe.stderr.decode().strip()}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One board a folder: a second run is refused, and a dead one holds no lock."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another run has the board of {lock.parent}: wait for it, or give this one its "
                "own folder in EDGEKIT_ARM_ROOT"
            ) from None
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    """End sshd, the first process of its namespace, and with it all that runs and is mounted."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for child in children.read_text().split() if process.poll() is None else ():
        os.kill(int(child), signal.SIGKILL)
    try:
        process.wait(timeout=START_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ---- binfmt_misc -----------------------------------------------------------------------------

_FORMATS = "/proc/sys/fs/binfmt_misc"
_ENTRY = "edgekit-aarch64"
_MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"


def binfmt_row() -> str:
    """What board.sh registers. F: the kernel holds QEMU's file open, so it works in a chroot."""
    return f":{_ENTRY}:M::{_MAGIC}:{_MASK}:{shutil.which(QEMU)}:F"


def _unregister() -> None:
    """Linux 6.7 forgets the entry with the last mount; an older one keeps it."""
    script = (
        f"mount -t binfmt_misc binfmt_misc {_FORMATS} && "
        f"if test -e {_FORMATS}/{_ENTRY}; then echo -1 >{_FORMATS}/{_ENTRY}; fi"
    )
    subprocess.run(("unshare", "--mount", "sh", "-c", script), timeout=START_S, check=True)


# ---- files -----------------------------------------------------------------------------------


def _write_files(sysroot: Path, work: Path, port: int) -> None:
    machine = work / "machine"
    shutil.rmtree(machine, ignore_errors=True)
    write_machine(CORES["cortex-a72"], machine)
    for name, text in _PI4.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)
    shutil.copy(CPUINFO, machine / "proc/cpuinfo")
    for name in ("user_key", "host_key"):
        if not (work / name).exists():
            command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name))
            subprocess.run(command, check=True, timeout=START_S)
    for name in ("passwd", "group"):  # what is mounted over must be there
        (sysroot / "etc" / name).touch()
    rows = [f"{user}:x:{uid}:{uid}::{home}:/bin/bash\n" for user, uid, home in _USERS]
    (work / "passwd").write_text("".join(rows))
    (work / "group").write_text("".join(f"{user}:x:{uid}:\n" for user, uid, _ in _USERS))
    # "*" can log in by key alone; "!" would be a locked account.
    (work / "shadow").write_text("".join(f"{user}:*:19000:0:99999:7:::\n" for user, *_ in _USERS))
    (work / "binfmt").write_text(binfmt_row())
    (work / "sshd_config").write_text(_SSHD.format(work=work))
    (work / "ssh_config").write_text(_SSH.format(work=work))
    kind, key, *_ = (work / "host_key.pub").read_text().split()
    (work / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the board's sshd does not answer: {log.read_text()[-1000:]}")
