"""One board: calls of the agent, and what it refuses put into words.

call(operation)   ssh -> python3 <- one line that loads the agent, the agent, the request
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bundle import schema
from edgekit.errors import DeviceError
from edgekit.profiling.environment.jetson import jetpack
from edgekit.profiling.remote.exchange import Limits
from edgekit.profiling.remote.frames import Frame, printable
from edgekit.profiling.remote.goods import Goods
from edgekit.profiling.remote.ssh import Client, explain

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)  # pyproject.toml: requires-python
_SLOWEST_BYTES_PER_S = 20_000
_AGENT = Path(__file__).with_name("agent.py")


@dataclass(frozen=True)
class Holder:
    """Who holds the board with which job, since when by the board's clock."""

    who: str
    since: str
    job: str


@dataclass(frozen=True)
class BoardFacts:
    """What a board says of itself.

    Attributes:
        python: version of the Python that is to run edgekit; ``executable`` is its path.
        edgekit: version that this Python has, or "".
        bits: of this Python: a 32-bit one on a 64-bit kernel takes 32-bit wheels.
        machine: of the kernel, as ``uname -m``.
        libc: e.g. ``"glibc 2.36"``, ``"musl"`` or "".
        markers: environment of PEP 508, for pip.
        free: bytes of disk below ``base``, where everything lies there.
        stored: per kind of goods, the digests that are there.
        busy: who is measuring there now.
    """

    python: tuple[int, ...]
    executable: str
    edgekit: str
    implementation: str
    bits: int
    machine: str
    libc: str
    markers: Mapping[str, str]
    free: int
    base: str
    board: str
    l4t: str
    system: str
    memory_available: int
    stored: Mapping[str, tuple[str, ...]]
    busy: Holder | None

    def has(self, goods: Goods) -> bool:
        """Whether ``goods`` need not be sent."""
        return goods.digest in self.stored.get(goods.kind, ())

    def jetson(self) -> str:
        """``L4T 36.4.0 (JetPack 6.1)``; "" for any other board."""
        found = re.search(r"\bR([0-9]{1,3})\b.*REVISION: *([0-9]{1,3})(\.[0-9]{1,3})?", self.l4t)
        if found is None:
            return ""
        release = f"{found[1]}.{found[2]}{found[3] or '.0'}"
        name = jetpack(release)
        return f"L4T {release}" + (f" (JetPack {name})" if name else "")

    def text(self) -> str:
        """One line for people."""
        version = ".".join(map(str, self.python))
        disk, memory = self.free / 1e9, self.memory_available / 1e9
        parts = (
            self.board,
            self.machine,
            self.jetson(),
            self.system,
            f"Python {version}",
            self.libc,
        )
        room = f"{memory:.1f} GB of memory and {disk:.1f} GB of disk free"
        return ", ".join(filter(None, (*parts, room)))


class LostError(DeviceError):
    """A call did not come to its end. ``passing``: trying again may help."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class RefusedError(DeviceError):
    """The agent says no. ``code`` is a key of ``_REFUSALS``."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# What the agent calls it -> what the user reads.
_REFUSALS = {
    "old-python": "{name} has {message}: edgekit needs 3.10 or later there (JetPack 6, Raspberry "
    "Pi OS 12, Ubuntu 22.04); name another Python in EDGEKIT_DEVICE_PYTHON",
    "no-python": "no Python of {name} works: {message}",
    "disk-full": "the disk of {name} is full: {needs} needed, {free} free; remove what is not "
    "needed there (edgekit's own: rm -r {base})",
    "read-only": "{name} does not let its user write: {message}; make the home writable, or set "
    "EDGEKIT_CACHE there (/etc/environment) to a folder that is",
    "busy": "{name} is measuring for {who} since {since}: one measurement at a time, or both are "
    "worth nothing; wait, or stop the other (there: fuser -v /tmp/edgekit-device.lock)",
    "damaged": "what was sent to {name} arrived damaged: {message}; try again",
    "cut": "the connection to {name} was cut: {message}",
}


class Device:
    """A board behind one ssh client."""

    def __init__(self, client: Client) -> None:
        self._client, self._program = client, _AGENT.read_bytes()
        self.name = client.url.name

    def probe(self, *, install: bool, only_this_python: bool = False) -> BoardFacts:
        """What the board is.

        Raises:
            DeviceError: it cannot be reached, or answers with something else.
        """
        asked = {
            "install": install,
            "edgekit": __version__,
            "oldest": OLDEST_PYTHON,
            "newest": NEWEST_PYTHON,
            "only_this_python": only_this_python,
        }
        reply = self.call("probe", asked, Limits(90.0, 240.0))
        try:
            return _facts(reply.data if reply else b"")
        except (schema.SchemaError, UnicodeDecodeError) as error:
            raise DeviceError(
                f"{self.name} does not describe itself as edgekit's helper does: {error}"
            ) from None

    def put(self, goods: Iterable[Goods], stored: Callable[[str], object]) -> None:
        """Send ``goods``; ``stored`` is told each digest that is safe there.

        Raises:
            DeviceError: the connection, the disk or the content did not hold.
        """
        goods = tuple(goods)
        asked = {"groups": [each.document() for each in goods]}
        total = sum(each.size for each in goods) / _SLOWEST_BYTES_PER_S
        chunks = (chunk for each in goods for chunk in each.chunks())

        def take(frame: Frame) -> None:
            if frame.kind == "stored":
                stored(str(frame.fields.get("digest")))

        self.call("put", asked, Limits(300.0, 300.0 + total), chunks=chunks, on_frame=take)

    def call(
        self,
        operation: str,
        asked: Mapping[str, Any],
        limits: Limits,
        *,
        chunks: Iterable[bytes] = (),
        on_frame: Callable[[Frame], None] = lambda frame: None,
    ) -> Frame | None:
        """One call of the agent: its reply, where it gives one.

        Raises:
            RefusedError: it says no.
            LostError: it did not come to an end.
        """
        nonce = secrets.token_hex(16)
        request = {**asked, "operation": operation, "limit_s": int(limits.total_s)}
        answers: dict[str, Frame] = {}  # one of a kind: a board that never ends fills no memory

        def take(frame: Frame) -> None:
            if frame.kind in ("reply", "refused"):
                answers.setdefault(frame.kind, frame)
            on_frame(frame)

        ending = self._client.call(nonce, self._input(nonce, request, chunks), take, limits)
        if "refused" in answers:
            raise self._refused(answers["refused"].fields)
        if not ending.finished:
            failure = explain(ending, self._client.url)
            raise LostError(failure.message, failure.passing)
        return answers.get("reply")

    def _input(
        self, nonce: str, request: Mapping[str, Any], chunks: Iterable[bytes]
    ) -> Iterator[bytes]:
        yield loader(nonce, len(self._program))
        yield self._program
        yield json.dumps(request).encode() + b"\n"
        yield from filter(None, chunks)

    def busy(self, holder: Holder) -> RefusedError:
        """The error of a board that somebody else measures on."""
        return self._refused({"code": "busy", "who": holder.who, "since": holder.since})

    def _refused(self, fields: Mapping[str, Any]) -> RefusedError:
        code = printable(str(fields.get("code", "")))
        words = {
            "name": self.name,
            "base": "~/.cache/edgekit/device",
            "message": printable(str(fields.get("message", ""))),
            "who": printable(str(fields.get("who", "?"))),
            "since": printable(str(fields.get("since", "?"))),
            **{key: _size(fields.get(key)) for key in ("needs", "free")},
        }
        text = _REFUSALS.get(code, "{name} refuses: {message}").format(**words)
        return RefusedError(text, code)


def loader(nonce: str, size: int) -> bytes:
    """The first line on stdin: reads the agent and starts it, or says that Python is too old.

    It is all that an old Python 3 parses; the agent has newer grammar.
    """
    old = {"kind": "refused", "bytes": 0, "code": "old-python", "message": "Python %d.%d"}
    end = {"kind": "end", "bytes": 0}
    refusal = f"\n{nonce} {json.dumps(old)}\n\n{nonce} {json.dumps(end)}\n"
    statements = (
        "import sys",
        "i=sys.stdin.buffer",
        f"p=i.read({size})",
        "g={'__name__':'agent'}",
        "v=sys.version_info[:2]",
        f"v<(3,8) and (sys.stdout.write({refusal!r}%v),sys.stdout.flush(),sys.exit(0))",
        "exec(compile(p,'agent','exec'),g)",
        f"g['main']({nonce!r},i,g['own_stdout']())",
    )
    return ";".join(statements).encode() + b"\n"


_MOST_FACTS = 1 << 18  # bytes; names of goods are most of them


def _facts(data: bytes) -> BoardFacts:
    if len(data) > _MOST_FACTS:
        raise schema.SchemaError("", f"{len(data)} bytes")
    facts = schema.decode(BoardFacts, schema.loads(data.decode()))
    if len(facts.python) != 3 or not all(0 <= number < 1000 for number in facts.python):
        raise schema.SchemaError("python", "expected a version of three numbers")
    return facts


def _size(value: object) -> str:
    return f"{value / 1e6:.1f} MB" if isinstance(value, int) else "more"
