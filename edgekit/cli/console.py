"""Where a command's lines go.

    stdout   tables, results, the next command; or with --json one document and nothing else
    stderr   progress (not with -q), notes (with -v), warnings and errors

Colours only on a terminal and never with ``NO_COLOR``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TextIO

_BOLD, _RED, _YELLOW, _DIM = "1", "31", "33", "2"
_PROSE_WIDTH = 100
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[-+]?\d+)?( .*)?")  # with its unit; versions are text


class Console:
    """Prints for one command, as loud as the user asked."""

    def __init__(self) -> None:
        self.verbose = self.quiet = self.json = False

    def configure(self, *, verbose: bool, quiet: bool, json: bool) -> None:
        """Take what the command line says, once it has been read."""
        self.verbose, self.quiet, self.json = verbose, quiet, json

    def progress(self, line: str) -> None:
        """One stage of something slow."""
        if not self.quiet:
            self._err(_paint(line, _DIM, sys.stderr))

    def note(self, line: str) -> None:
        """A detail for ``-v``."""
        if self.verbose:
            self._err(line)

    def warn(self, line: str) -> None:
        """Something the user must not overlook; shown even with ``-q``."""
        self._err(_paint(f"edgekit: warning: {line}", _YELLOW, sys.stderr))

    def error(self, line: str) -> None:
        """Why the command failed, in one line."""
        self._err(_paint(f"edgekit: error: {line}", _RED, sys.stderr))

    def print(self, text: str = "") -> None:
        """A result; not with ``--json``."""
        if not self.json:
            print(text)

    def paragraph(self, text: str) -> None:
        """Prose, wrapped; not with ``--json``."""
        wrapped = textwrap.fill(
            text,
            _PROSE_WIDTH,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )  # ids have hyphens
        self.print(wrapped)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns under ``headers``; those that hold numbers are set flush right."""
        lines = _columns(headers, rows)
        self.print(_paint(lines[0], _BOLD, sys.stdout))
        for line in lines[1:]:
            self.print(line)

    def next(self, command: str) -> None:
        """The last line: what to type next."""
        if not self.quiet:
            self.print(f"\nnext: {command}")

    def document(self, value: object) -> None:
        """With ``--json``, ``value`` as the one document; dataclasses become objects."""
        if self.json:
            print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))

    def json_text(self, text: str) -> None:
        """With ``--json``, ``text`` that is the one document already."""
        if self.json:
            print(text, end="")

    def _err(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def size_text(count: int) -> str:
    """Bytes for people: ``7.1 MB``."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def shape_text(shape: Sequence[int]) -> str:
    """``1 x 3 x 224 x 224``; a free size is ``any``."""
    return " x ".join("any" if size == -1 else str(size) for size in shape)


def count_text(count: int) -> str:
    """A count for people: ``5.31 M``, ``35.4 k``, ``840``."""
    if count >= 1_000_000:
        return f"{count / 1e6:.2f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (headers, *rows)
    ]


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or _NUMBER.fullmatch(cell) is not None


def _paint(text: str, code: str, stream: TextIO) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or os.name == "nt"
    coloured = stream.isatty() and not plain
    return f"\033[{code}m{text}\033[0m" if coloured else text


def _plain(value: object) -> object:
    """What JSON can say of ``value``; a figure that is no number becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
