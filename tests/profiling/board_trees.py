"""/proc and /sys of boards, made from the text files of tests/data/boards (its README says how)."""

import re
import shlex
from pathlib import Path

BOARDS = Path(__file__).resolve().parents[1] / "data" / "boards"
NAMES = tuple(sorted(path.stem for path in BOARDS.glob("*.txt")))

_LINE = re.compile(r"(?P<path>\S+)(?: \*(?P<times>\d+))? (?P<kind>[=!$])(?: (?P<text>.*))?")
_ESCAPE = re.compile(r"\\(n|t|0|x[0-9a-f]{2})")
_CHARACTERS = {"n": "\n", "t": "\t", "0": "\0"}


def tree(folder, name):
    """The board's files under a folder of ``folder``."""
    root = folder / name
    for line in (BOARDS / f"{name}.txt").read_text().splitlines():
        match = _LINE.fullmatch(line)
        assert match, f"{name}: {line!r}"
        text = _ESCAPE.sub(_character, match["text"] or "")
        repeated = "".join(text.replace("{n}", str(n)) for n in range(int(match["times"] or 1)))
        put(root, match["path"], repeated, match["kind"])
    return root


def put(root, path, text, kind="="):
    """One file; "!" cannot be read, "$" is a program that prints ``text``."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "!":
        place.mkdir()  # refuses even root
    elif kind == "$":
        place.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(text)}\n")
        place.chmod(0o755)
    else:
        place.write_text(text)


def _character(match):
    code = match[1]
    return _CHARACTERS.get(code) or chr(int(code[1:], 16))
