"""The command line of ssh: complete, constant, and never weaker than the user's own."""

import shutil
import subprocess
import sys

import pytest

from edgekit.errors import MissingDependencyError, UsageError
from edgekit.profiling.remote.ssh import NO_PYTHON, client, remote_command
from edgekit.profiling.remote.url import parse_url


def _command(url="ssh://pi@[::1]:2222", **environment):
    return client(parse_url(url), {"EDGEKIT_SSH": sys.executable, **environment}).command()


def test_host_and_command_come_after_the_options():
    words = _command()
    at = words.index("--")
    assert words[at + 1] == "::1"
    assert words[at + 2] == remote_command()
    assert len(words) == at + 3
    assert words[at - 4 : at] == ["-l", "pi", "-p", "2222"]


def test_nothing_is_asked_and_nothing_is_weakened():
    words = _command()
    assert "BatchMode=yes" in words
    assert not any("StrictHostKeyChecking" in word or "KnownHosts" in word for word in words)
    assert not any("Password" in word for word in words)


def test_user_and_port_are_left_to_the_configuration():
    words = _command("ssh://rpi4")
    assert "-l" not in words and "-p" not in words


def test_another_client_with_options():
    words = _command(EDGEKIT_SSH=f"{sys.executable} -F 'a file'")
    assert words[1:3] == ["-F", "a file"]


@pytest.mark.parametrize("program", ["ssh 'x", "   "])
def test_a_client_that_is_no_command(program):
    with pytest.raises(UsageError, match="EDGEKIT_SSH"):
        _command(EDGEKIT_SSH=program)


def test_a_client_that_is_missing():
    with pytest.raises(MissingDependencyError, match="openssh-client"):
        _command(EDGEKIT_SSH="no-such-client")


@pytest.mark.parametrize(
    "python", ["-c", "a b", "$(id)", "a;b", "a'b", 'a"b', "a\nb", "a`b`", "~/p"]
)
def test_a_python_that_would_mean_something_to_a_shell(python):
    with pytest.raises(UsageError, match="EDGEKIT_DEVICE_PYTHON"):
        remote_command(python)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh"])
def test_every_login_shell_takes_the_command(shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [path, "-c", remote_command(sys.executable)],
        input=b"print('it runs', sys.stdin.buffer.read())\nthe rest",
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"it runs b'the rest'\n"


def test_without_any_python_it_says_so():
    done = subprocess.run(
        ["/bin/sh", "-c", remote_command("/nowhere/python")], capture_output=True, timeout=60
    )
    assert done.returncode == 127
    assert done.stderr.decode().strip() == NO_PYTHON
