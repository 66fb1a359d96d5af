"""Boards that cannot be measured on: each is one clear line, in time."""

import json
import stat
import sys

import pytest

from edgekit import __version__
from edgekit.errors import DeviceError, EdgekitError, MissingDependencyError
from edgekit.profiling.remote import Patience, device
from edgekit.profiling.remote.exchange import Ending, Limits
from edgekit.profiling.remote.frames import Frame
from edgekit.profiling.remote.ssh import Client
from edgekit.profiling.remote.url import parse_url

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for board has changed and you have requested strict checking.
Host key verification failed."""


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (CHANGED, r"host key of pi@board is not the one in known_hosts.*ssh-keygen -R 'board'"),
        ("Host key verification failed.", r"not in your known_hosts: ssh pi@board once by hand"),
        ("pi@board: Permission denied (publickey).", r"refuses every key.*ssh-copy-id pi@board"),
        ("ssh: Could not resolve hostname board: Name or service not known", "no such host"),
        ("ssh: connect to host board port 22: Connection timed out", "does not answer: is it on"),
        ("ssh: connect to host board port 22: Connection refused", "no ssh server on that port"),
        ("/root/.ssh/config: line 1: Bad configuration option: x", "configuration stops ssh.*line"),
        ("kex_exchange_identification: Connection closed by remote host", "closed the connection"),
        (
            "something \x1b[2J new",
            r"connection to pi@board was lost: it says 'something \?\[2J new'",
        ),
    ],
)
def test_what_ssh_says_becomes_what_to_do(board, said, match):
    board.calls = [{"say": said}]
    with pytest.raises(DeviceError, match=match) as caught:
        board.profile()
    assert caught.value.exit_code == 6
    assert len(board.words()) == 1


def test_no_ssh_on_this_machine(board, monkeypatch):
    monkeypatch.setenv("EDGEKIT_SSH", "no-such-ssh-client")
    with pytest.raises(MissingDependencyError, match="no-such-ssh-client.*openssh-client"):
        board.profile()


def test_no_python_there(board, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", "/nowhere/python3")
    with pytest.raises(DeviceError, match="has no python3: sudo apt install python3"):
        board.profile()


def test_a_python_that_does_not_start(board, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", _script(tmp_path / "python3", "exit 126"))
    with pytest.raises(DeviceError, match="does not run edgekit's helper .exit 126"):
        board.profile()


def test_a_python_too_old_for_the_helper_says_so(board, tmp_path, monkeypatch):
    line = "import sys;sys.version_info=(3,6,9);exec(sys.stdin.buffer.readline())"
    script = _script(tmp_path / "python3", f'exec {sys.executable} -c "{line}"')
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", script)
    with pytest.raises(DeviceError, match="pi@board has Python 3.6: edgekit needs 3.10"):
        board.profile()


def test_a_python_too_old_for_edgekit_says_so(board, monkeypatch):
    monkeypatch.setattr(device, "OLDEST_PYTHON", (3, 99))
    monkeypatch.setattr("edgekit.profiling.remote.measuring.OLDEST_PYTHON", (3, 99))
    with pytest.raises(DeviceError, match="newest Python found there is 3.*3.10 or later"):
        board.profile()


def test_another_edgekit_there_is_not_used(board, monkeypatch):
    monkeypatch.setattr("edgekit.profiling.remote.measuring.__version__", "9.9")
    match = rf"needs edgekit 9.9.*has edgekit {__version__}.*add --install.*edgekit==9.9"
    with pytest.raises(MissingDependencyError, match=match):
        board.profile()


def test_what_the_boards_shell_says_is_not_taken_for_ssh(board, tmp_path, monkeypatch):
    script = _script(tmp_path / "python3", "echo 'log: Permission denied' >&2; exit 3")
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", script)
    with pytest.raises(DeviceError, match="does not run edgekit's helper .exit 3.: it says 'log"):
        board.profile()


def test_a_banner_is_no_answer_and_does_no_harm(board):
    board.calls = [{"banner": 'Welcome!\n{"kind": "reply", "bytes": 0}\n\x1b[31m'}] * 4
    assert board.profile().complete


def test_garbage_without_end_is_cut_off(board):
    board.calls = [{"garbage": True}]
    with pytest.raises(DeviceError, match=r"MiB of something else.*\?\[31mwelcome"):
        board.profile()


def test_a_board_that_takes_everything_and_says_nothing(board, monkeypatch):
    monkeypatch.setattr(device, "Limits", lambda idle, total: Limits(0.5, 5.0))
    board.calls = [{"hang": True}]
    with pytest.raises(DeviceError, match="pi@board hangs: silent for 0.5 s"):
        board.profile()


def test_a_job_that_hangs_is_stopped(board, tmp_path):
    board.scenario = {"pieces": 2, "gate": {"2": str(tmp_path / "never")}}
    impatient = Patience(lost_s=3, silent_s=-1, idle_s=20, pauses_s=(0.01,), poll_s=0.05)
    with pytest.raises(DeviceError, match="has said nothing for"):
        board.profile(patience=impatient)
    assert board.jobs == []


def test_a_full_disk_is_told_before_anything_is_sent(board):
    board.scenario = {"free": 1000}
    with pytest.raises(DeviceError, match=r"disk of pi@board is full: 0.0 MB needed, 0.0 MB free"):
        board.profile()


def test_a_disk_that_fills_while_sending_is_cleaned_up(board):
    board.scenario = {"full": True}
    with pytest.raises(DeviceError, match="disk of pi@board is full"):
        board.profile()
    assert not list((board.base / "bundles").glob(".incoming*"))


def test_a_home_that_cannot_be_written(board, tmp_path):
    (tmp_path / "file").write_text("")
    board.environment["EDGEKIT_CACHE"] = str(tmp_path / "file" / "cache")
    with pytest.raises(DeviceError, match=r"does not let its user write: .*file.*EDGEKIT_CACHE"):
        board.profile()


def test_a_cache_elsewhere_is_honoured_there(board, tmp_path):
    board.environment["EDGEKIT_CACHE"] = str(tmp_path / "elsewhere")
    assert board.profile().complete
    assert list((tmp_path / "elsewhere" / "device" / "bundles").iterdir())
    assert not board.base.exists()


def test_a_checkout_in_the_home_is_not_taken_for_the_package(board):
    (board.home / "edgekit").mkdir()
    (board.home / "edgekit" / "__init__.py").write_text("raise SystemExit('a checkout')\n")
    assert board.profile().complete


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b'{"kind": "reply", "bytes": 2}\n{}', "does not describe itself"),
        (b'{"kind": "reply", "bytes": 3}\nnot', "does not describe itself"),
        (b'{"kind": "end", "bytes": 0}\n', "does not describe itself"),
        (b'{"kind": "reply", "bytes": -1}\n', "impossible size"),
        (b'{"kind": "reply", "bytes": 1e99}\n', "impossible size"),
        (b"[1, 2\n", "damaged message"),
        (
            b'{"kind": "refused", "bytes": 0, "code": "odd", "message": "\\u001b[2J"}\n',
            r"refuses: ",
        ),
    ],
)
def test_an_agent_that_answers_with_nonsense(board, tmp_path, monkeypatch, answer, match):
    monkeypatch.setenv("EDGEKIT_DEVICE_PYTHON", _liar(tmp_path / "python3", answer))
    with pytest.raises(EdgekitError, match=match) as caught:
        board.profile()
    assert str(caught.value).isprintable()


def facts(**changes):
    """What the agent says of a board."""
    board = {
        "python": [3, 11, 2], "executable": "/usr/bin/python3", "edgekit": "", "bits": 64,
        "implementation": "cpython", "machine": "aarch64", "libc": "glibc 2.36", "markers": {},
        "free": 1, "base": "/b", "board": "", "l4t": "", "system": "", "memory_available": 1,
        "stored": {}, "busy": None,
    }  # fmt: skip
    return json.dumps({**board, **changes}).encode()


class Talker(Client):
    """A client whose board replies with these."""

    def __init__(self, *replies):
        super().__init__(parse_url("ssh://board"), (), "")
        object.__setattr__(self, "replies", replies)

    def call(self, nonce, chunks, on_frame, limits):
        for reply in vars(self)["replies"]:
            on_frame(Frame("reply", {}, reply))
        return Ending(True, 0, "", 1, "", b"")


def test_what_a_board_may_say_of_itself():
    talker = Talker(facts(), b"more, without end")
    assert device.Device(talker).probe(install=False).python == (3, 11, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"python": []},
        {"python": [3]},
        {"python": [3, 11, 2, 1]},
        {"python": [3, -1, 0]},
        {"python": [3, 10**9, 0]},
        {"board": "x" * 300_000},
        {"board": "\x1b[2J"},
        {"free": "much"},
    ],
)
def test_what_it_may_not(changes):
    with pytest.raises(DeviceError, match="does not describe itself"):
        device.Device(Talker(facts(**changes))).probe(install=False)


def test_what_fails_here_is_not_taken_for_a_missing_ssh(board):
    class Closed(list[str]):
        def append(self, line):
            if line.startswith("piece 1"):
                raise BrokenPipeError(32, "Broken pipe")

    board.lines = Closed()
    with pytest.raises(BrokenPipeError):
        board.profile()


def test_a_disk_that_fills_while_measuring_keeps_what_was_finished(board):
    board.scenario = {"pieces": 3, "full_at": 2}
    with pytest.raises(DeviceError, match=r"pi@board: the system refuses.*No space left.*is kept"):
        board.profile()
    assert [kept.seconds for kept in board.kept] == [1.0]
    assert board.jobs == []


def _liar(path, answer):
    """A Python that reads the nonce of the first line and answers what it likes."""
    program = path.with_name("liar.py")
    program.write_text(
        "import re, sys\n"
        "line = sys.stdin.buffer.readline()\n"
        "nonce = re.search(rb\"main'\\]\\('([0-9a-f]{32})'\", line).group(1)\n"
        "out = sys.stdout.buffer\n"
        f"out.write(b'\\n' + nonce + b' ' + {answer!r})\n"
        'out.write(b\'\\n\' + nonce + b\' {"kind": "end", "bytes": 0}\\n\')\n'
    )
    return _script(path, f"exec {sys.executable} {program}")


def _script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)
