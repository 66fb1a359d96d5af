"""A real OpenSSH client and server on 127.0.0.1, with keys and known_hosts of their own."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgekit.errors import DeviceError
from edgekit.profiling.remote import profile_on_device
from edgekit.profiling.request import Request
from tests.profiling.remote.remote_boards import HERE, HURRIED, ROOT, wait_until

SSHD = "/usr/sbin/sshd"

pytestmark = [
    pytest.mark.skipif(not Path(SSHD).exists(), reason="no /usr/sbin/sshd (openssh-server)"),
    pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh client"),
]

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv EDGEKIT_CACHE={folder}/cache EDGEKIT_DEVICE_LOCK={folder}/lock PYTHONPATH={path}
"""
CLIENT = """\
IdentityFile {folder}/user
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
GlobalKnownHostsFile /dev/null
ControlMaster auto
ControlPath {sockets}/%C
ControlPersist 5
"""


class Server:
    """sshd in a folder; ``url`` is where it listens."""

    def __init__(self, folder):
        self.folder, self.port = folder, _free_port()
        self.url = f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"
        for name in ("host", "user", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(command, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        self.know("host")
        words = {"folder": folder, "port": self.port, "path": f"{HERE / 'board_site'}:{ROOT}"}
        words["sockets"] = self.sockets = tempfile.mkdtemp(prefix="ek")  # 108 characters at most
        (folder / "sshd_config").write_text(CONFIG.format(**words))
        (folder / "config").write_text(CLIENT.format(**words))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and separates privileges there
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL
        )
        wait_until(self._listens)

    def know(self, key):
        """The client expects this host key."""
        public = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path, monkeypatch, board):
    server = Server(tmp_path)
    monkeypatch.setenv("EDGEKIT_SSH", f"ssh -F {tmp_path}/config")
    yield server
    subprocess.run(
        ["ssh", "-F", tmp_path / "config", "-O", "exit", "-p", str(server.port), "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    )
    server.process.terminate()
    server.process.wait()
    shutil.rmtree(server.sockets)


def profile(server, board):
    request = Request(str(board.bundle))
    return profile_on_device(server.url, request, progress=board.lines.append, patience=HURRIED)


def test_a_profile_through_a_real_ssh(server, board):
    result = profile(server, board)
    assert result.complete and result.device == server.url.removeprefix("ssh://")
    assert list((server.folder / "cache" / "device" / "bundles").iterdir())
    assert list((server.folder / "cache" / "device" / "jobs").iterdir()) == []


def test_an_unknown_host_key_is_not_accepted(server, board):
    (server.folder / "known").unlink()
    with pytest.raises(DeviceError, match="not in your known_hosts: ssh -p"):
        profile(server, board)
    assert not (server.folder / "known").exists()


def test_another_host_key_is_not_accepted(server, board):
    server.know("other")
    with pytest.raises(DeviceError, match=r"host key of .* is not the one in known_hosts"):
        profile(server, board)


def test_a_key_that_is_not_authorized_is_refused(server, board):
    shutil.copy(server.folder / "other.pub", server.folder / "authorized")
    with pytest.raises(DeviceError, match="refuses every key your ssh offers"):
        profile(server, board)


def test_nobody_listens(server, board):
    server.url = f"ssh://127.0.0.1:{_free_port()}"
    with pytest.raises(DeviceError, match="no ssh server on that port"):
        profile(server, board)


def test_no_such_name(board, monkeypatch):
    monkeypatch.setenv("EDGEKIT_SSH", "ssh -F /dev/null")
    with pytest.raises(DeviceError, match="no such host as board.invalid|does not answer"):
        profile_on_device("ssh://board.invalid", Request(str(board.bundle)), patience=HURRIED)


def test_the_python_is_the_one_that_is_named(server, board, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", sys.executable)
    profile(server, board)
    version = "{}.{}.{}".format(*sys.version_info[:3])
    assert f"Python {version}" in board.lines[0]
