"""``ssh://[user@]host[:port]``, parsed strictly: what passes here is safe as an argument.

    ssh://rpi4                 a name, also one from ~/.ssh/config
    ssh://pi@rpi4.local:2222   user and port
    ssh://pi@[fe80::1]         IPv6 in brackets

What has a shell's, an option's or a terminal's meaning in it is refused, not quoted. A board
that cannot be written so gets a ``Host`` entry in ``~/.ssh/config`` and is named by it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from edgekit.errors import UsageError

_SCHEME = "ssh://"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\]")
_PORT = re.compile(r"[0-9]{1,5}")
_FORM = "ssh://[user@]host[:port]"
_ALIAS = "; give any other board a Host entry in ~/.ssh/config and name that"


@dataclass(frozen=True)
class DeviceUrl:
    """Where a board is. ``user`` is "" and ``port`` is 0 where ssh's own defaults hold."""

    host: str
    user: str = ""
    port: int = 0

    @property
    def name(self) -> str:
        """As a person calls it: ``pi@rpi4:2222``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")
        )

    @property
    def login(self) -> str:
        """The words that a user types after ``ssh`` to get there by hand."""
        port = f"-p {self.port} " if self.port else ""
        return port + (f"{self.user}@" if self.user else "") + self.host


def parse_url(text: str) -> DeviceUrl:
    """Parse the address of a board.

    Raises:
        UsageError: in one line, what about it is not accepted. A password is never repeated.
    """
    if not text.startswith(_SCHEME):
        raise UsageError(f"a device is named {_FORM}, got {text[:80]!r}")
    user, at, place = text[len(_SCHEME) :].rpartition("@")
    if ":" in user:
        raise UsageError(
            f"no password belongs into a device's address ({_FORM}): edgekit uses the keys of "
            "your ssh; ssh-copy-id puts yours onto the board"
        )
    if at and not _USER.fullmatch(user):
        raise UsageError(f"user {user[:80]!r} of the device is not letters, digits, '._-'" + _ALIAS)
    host, port = _host_and_port(place)
    return DeviceUrl(host, user, port)


def _host_and_port(place: str) -> tuple[str, int]:
    bracketed = _IPV6.match(place)
    if bracketed:
        host, rest = _ipv6(bracketed.group(1)), place[bracketed.end() :]
    else:
        host, colon, port = place.partition(":")
        rest = colon + port
        if not _HOST.fullmatch(host):
            raise UsageError(
                f"host {host[:80]!r} of the device is not letters, digits, '._-' ({_FORM}, IPv6 "
                "in brackets)" + _ALIAS
            )
    if not rest:
        return host, 0
    if not (rest[0] == ":" and _PORT.fullmatch(rest[1:]) and 1 <= int(rest[1:]) <= 65535):
        raise UsageError(f"after the host of a device comes :PORT, 1 to 65535, got {rest[:80]!r}")
    return host, int(rest[1:])


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise UsageError(f"[{text}] is not an IPv6 address ({_FORM})") from None
