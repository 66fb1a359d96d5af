"""Read small facts from /proc and /sys: absence, garbage and refusal all read as "not found".

A board's files are written by its vendor, and some zones of a gated unit fail when read. Nothing
here raises, nothing blocks (a pipe is not waited for), and no file is read beyond its limit.
Programs are asked in the same spirit: a few seconds, a few kilobytes, or they said nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 1 << 20  # /proc/cpuinfo of 256 cores has 400 kB
MAX_ENTRIES = 1024
MAX_TEXT = 200

ASK_SECONDS = 3.0
_MAX_ANSWER = 64 << 10
# Not PATH: what a user's own folders have in front is not asked about the board.
_TOOL_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin", "opt/vc/bin")

_WHOLE = re.compile(r"[-+]?\d{1,18}")


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The first ``limit`` bytes of ``path`` as text; "" when it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError):
        return ""
    try:
        return _read_up_to(handle, limit).decode("utf-8", "replace")
    except OSError:  # a directory; a sensor that is switched off
        return ""
    finally:
        os.close(handle)


def _read_up_to(handle: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit:
        piece = os.read(handle, limit - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def read_word(path: Path) -> str:
    """The first line of ``path``, fit to be shown: without what could steer a terminal."""
    return shown(read_text(path, 4096).partition("\n")[0])


def shown(text: str) -> str:
    """``text`` stripped, printable and not longer than a line; NUL ends are device-tree's."""
    stripped = text.strip("\0 \t\r\n")[:MAX_TEXT]
    return "".join(c if c.isprintable() else "?" for c in stripped)


def read_whole(path: Path) -> int | None:
    """A whole number, the way sysfs has them, or None."""
    word = read_text(path, 64).strip()
    return int(word) if _WHOLE.fullmatch(word) else None


def read_items(path: Path) -> tuple[str, ...]:
    """The NUL-separated items of a device-tree property."""
    return tuple(item for part in read_text(path, 4096).split("\0") if (item := shown(part)))


def entries(folder: Path, pattern: str) -> Iterator[Path]:
    """What ``folder`` has that fully matches the regular expression, in counting order."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for _, entry in zip(range(MAX_ENTRIES), found, strict=False)]
    except (OSError, ValueError):
        return
    for name in sorted((n for n in names if re.fullmatch(pattern, n)), key=_counting):
        yield folder / name


def _counting(name: str) -> tuple[tuple[int, str], ...]:
    """A key that puts cpu2 before cpu10."""
    parts = re.findall(r"\d{1,18}|\D+", name)
    return tuple((int(part), "") if part[0].isdecimal() else (-1, part) for part in parts)


def fields(text: str) -> dict[str, str]:
    """``key: value`` lines as a table, the first of each key."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            table.setdefault(key.strip(), value.strip())
    return table


def parse_list(text: str, most: int = 4096) -> tuple[int, ...]:
    """CPUs of ``0-3,6``, in order and once each.

    Raises:
        ValueError: not such a list, or a CPU of ``most`` and beyond.
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part, re.ASCII)
        if match is None:
            raise ValueError(part)
        first = int(match[1])
        last = int(match[2] or first)
        if not first <= last < most:
            raise ValueError(part)
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def list_text(numbers: tuple[int, ...]) -> str:
    """``parse_list`` backwards: ``0-3,6``."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def read_list(path: Path) -> tuple[int, ...]:
    """A list of CPUs from a file; empty when there is none."""
    try:
        return parse_list(read_text(path, 4096))
    except ValueError:
        return ()


def ask(root: Path, program: str, *words: str, seconds: float = ASK_SECONDS) -> str:
    """What ``program`` of ``root`` prints, whatever its exit status; "" when it cannot.

    Its whole process group is ended after ``seconds``, or once it has printed enough.
    """
    places = [root / folder / program for folder in _TOOL_FOLDERS]
    tool = next((place for place in places if os.access(place, os.X_OK)), None)
    if tool is None:
        return ""
    try:
        child = subprocess.Popen(
            [str(tool), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        return _answer(child, seconds)
    finally:
        _end(child)


def _answer(child: subprocess.Popen[bytes], seconds: float) -> str:
    assert child.stdout is not None
    deadline = time.monotonic() + seconds
    data = bytearray()
    while len(data) < _MAX_ANSWER:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            break
        piece = os.read(child.stdout.fileno(), 4096)
        if not piece:
            break
        data += piece
    return data.decode("utf-8", "replace")


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        os.killpg(child.pid, signal.SIGKILL)
    if child.stdout is not None:
        child.stdout.close()
    child.wait()
