"""The user's own OpenSSH client: its command line, and what its errors mean.

    ssh -T -x -a -o BatchMode=yes ... [-l USER] [-p PORT] -- HOST CONSTANT

CONSTANT is the whole remote command and holds nothing of the user's: it looks for a Python 3,
which reads its program from stdin. So no name, path or option ever meets the board's shell.
Their ``~/.ssh/config``, keys, agent and ``known_hosts`` hold as always; nothing asks for a
password, and the check of host keys is never made weaker than the user's.

    EDGEKIT_SSH             another client, or options for it: ``ssh -F FILE``
    EDGEKIT_DEVICE_PYTHON   the one Python to use there: ``/home/pi/venv/bin/python``
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgekit.errors import MissingDependencyError, UsageError
from edgekit.profiling.remote.exchange import Ending, Exchange, Limits, StartError
from edgekit.profiling.remote.frames import Frame, printable
from edgekit.profiling.remote.url import DeviceUrl

# The system's first: on a Jetson it is the one that has TensorRT.
_PYTHONS = (
    "/usr/bin/python3",
    "python3",
    "/usr/local/bin/python3",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
)
_PYTHON = re.compile(r"[A-Za-z0-9_./+-]{1,200}")
NO_PYTHON = "edgekit: no python3"
_LOADER = '-c "import sys;exec(sys.stdin.buffer.readline())"'

_OPTIONS = (
    "BatchMode=yes",  # no question is ever asked: no password, no passphrase
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "ClearAllForwardings=yes",  # a forwarding of the user's that is in use would be fatal
    "RemoteCommand=none",
    "LogLevel=ERROR",  # QUIET would hide why
)
_LANGUAGE = {"LC_ALL": "C", "LANGUAGE": "C"}  # its errors are read


@dataclass(frozen=True)
class Failure:
    """Why a call failed. ``passing``: trying again may help."""

    message: str
    passing: bool


@dataclass(frozen=True)
class Client:
    """One board through one ssh program."""

    url: DeviceUrl
    program: tuple[str, ...]
    remote: str

    def call(
        self,
        nonce: str,
        chunks: Iterable[bytes],
        on_frame: Callable[[Frame], None],
        limits: Limits,
    ) -> Ending:
        """Run the constant command there with ``chunks`` on its stdin.

        Raises:
            DeviceError: it answers with what is no message.
            MissingDependencyError: the ssh program cannot be started.
        """
        environment = {**os.environ, **_LANGUAGE}
        try:
            return Exchange(nonce, limits).run(self.command(), chunks, on_frame, environment)
        except StartError as error:
            raise _no_ssh(self.program[0], str(error)) from None

    def command(self) -> list[str]:
        """The words of the local command line."""
        options = [word for option in _OPTIONS for word in ("-o", option)]
        user = ["-l", self.url.user] if self.url.user else []
        port = ["-p", str(self.url.port)] if self.url.port else []
        place = ["--", self.url.host, self.remote]
        return [*self.program, "-T", "-x", "-a", *options, *user, *port, *place]


def client(url: DeviceUrl, environment: Mapping[str, str] | None = None) -> Client:
    """The client for ``url`` as the environment has it.

    Raises:
        MissingDependencyError: no ssh on this machine.
        UsageError: ``EDGEKIT_SSH`` or ``EDGEKIT_DEVICE_PYTHON`` cannot be used as written.
    """
    environment = os.environ if environment is None else environment
    program = _program(environment.get("EDGEKIT_SSH") or "ssh")
    return Client(url, program, remote_command(environment.get("EDGEKIT_DEVICE_PYTHON", "")))


def _program(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"EDGEKIT_SSH={text!r} cannot be split into words: {error}") from None
    if not words:
        raise UsageError(f"EDGEKIT_SSH={text!r} names no program; unset it to use ssh")
    found = shutil.which(words[0])
    if found is None:
        raise _no_ssh(words[0], "")
    return (found, *words[1:])


def _no_ssh(name: str, detail: str) -> MissingDependencyError:
    remedy = "sudo apt install openssh-client, or name another client in EDGEKIT_SSH"
    return MissingDependencyError("a remote device", name, remedy, detail=detail)


def remote_command(python: str = "") -> str:
    """What the board's shell is given: a constant, but for ``python``, which is checked.

    Any login shell takes it: sh, bash, zsh, fish and csh read single quotes alike.

    Raises:
        UsageError: ``python`` has a character that a path of a Python needs not.
    """
    if python and (not _PYTHON.fullmatch(python) or python.startswith("-")):
        raise UsageError(
            f"EDGEKIT_DEVICE_PYTHON={python!r}: only letters, digits and '_./+-' are accepted"
        )
    pythons = " ".join((python,) if python else _PYTHONS)
    return (
        f"/bin/sh -c 'for p in {pythons}; do "
        f'command -v "$p" >/dev/null 2>&1 && exec "$p" {_LOADER}; '
        f"done; echo {NO_PYTHON} >&2; exit 127'"
    )


@dataclass(frozen=True)
class _Meaning:
    """What a line on stderr means. ``{name}``, ``{login}`` ... are filled in.

    ``code``: exit status it comes with: 255 is ssh's own, any other is of the command there.
    """

    pattern: str
    message: str
    passing: bool = False
    code: int = 255


_MEANINGS = (
    _Meaning(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "the host key of {name} is not the one in known_hosts: it was installed anew, or somebody "
        "is in between; if you know why, ssh-keygen -R '{known}', then ssh {login} and compare the "
        "fingerprint",
    ),
    _Meaning(
        r"Host key verification failed|host key is known for|authenticity of host",
        "{name} is not in your known_hosts: ssh {login} once by hand and compare the fingerprint",
    ),
    _Meaning(
        r"Permission denied|Too many authentication failures|No more authentication methods",
        "{name} refuses every key your ssh offers (edgekit never asks for a password): "
        "ssh-copy-id {login}; a key with a passphrase goes into ssh-agent first: ssh-add",
    ),
    _Meaning(
        r"Could not resolve hostname",
        "no such host as {name}: check the name, or give the board's IP address",
        passing=True,
    ),
    _Meaning(
        r"[Tt]imed out|No route to host|Network is unreachable|Host is down|not responding",
        "{name} does not answer: is it on, and in this network? (ssh {login} tells more)",
        passing=True,
    ),
    _Meaning(
        r"Connection refused",
        "{name} is there and has no ssh server on that port: sudo systemctl enable --now ssh there",
        passing=True,
    ),
    _Meaning(
        r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad|keyword .* extra",
        "your ssh configuration stops ssh: {errors}",
    ),
    _Meaning(
        r"Connection (reset|closed|to .* closed)|closed by remote host|Broken pipe|kex_exchange",
        "{name} closed the connection",
        passing=True,
    ),
    _Meaning(
        re.escape(NO_PYTHON),
        "{name} has no python3: sudo apt install python3 there, or name one in "
        "EDGEKIT_DEVICE_PYTHON",
        code=127,
    ),
    _Meaning(
        r"This account is currently not available|nologin|restricted",
        "the account of {name} may not run commands: use one that can log in",
        code=1,
    ),
)


def explain(ending: Ending, url: DeviceUrl) -> Failure:
    """Why a call that did not finish failed, from what ssh and the board said."""
    errors = printable(ending.errors[-2000:], 400)
    words = {"name": url.name, "login": url.login, "known": _known(url), "errors": errors}
    if not ending.frames:
        for meaning in _MEANINGS:
            mine = ending.returncode in (meaning.code, None)
            if mine and re.search(meaning.pattern, ending.errors):
                return Failure(meaning.message.format(**words), meaning.passing)
    if ending.timed_out:
        return Failure(f"{url.name} hangs: {ending.timed_out}{_said(ending)}", passing=True)
    if ending.returncode == 255 or ending.returncode is None or ending.frames:
        return Failure(f"the connection to {url.name} was lost{_said(ending)}", passing=True)
    return Failure(
        f"{url.name} does not run edgekit's helper (exit {ending.returncode}){_said(ending)}; "
        f"does `ssh {url.login} python3 --version` work?",
        passing=False,
    )


def _said(ending: Ending) -> str:
    """What was heard instead, quoted."""
    heard = printable(ending.errors[-600:]) or printable(ending.noise)
    return f": it says {heard!r}" if heard else ""


def _known(url: DeviceUrl) -> str:
    """The name of an entry in known_hosts."""
    return f"[{url.host}]:{url.port}" if url.port not in (0, 22) else url.host
