"""A program that answers as ``qemu-aarch64`` does, and a folder that passes for an AArch64 system.

What a run does is in ``behaviour.json`` beside the program: ``marks`` (the plugin's text), ``out``,
``err``, ``status``, ``signal``, ``sleep_s``; ``version``, ``help`` and ``cpus`` for questions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CPUS = ("cortex-a53", "cortex-a72", "max")
ANSWER = {"errors": {"logits": 2e-6}, "midr": 0x410FD083}

_PROGRAM = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path(sys.argv[0]).resolve().parent
facts = json.loads((here / "behaviour.json").read_text())
words = sys.argv[1:]
if words == ["--version"]:
    print(facts["version"])
elif words == ["-h"]:
    print(facts["help"])
elif words == ["-cpu", "help"]:
    print("Available CPUs:", *facts["cpus"], sep="\\n  ")
else:
    (here / "words.json").write_text(json.dumps([words, dict(os.environ), sys.stdin.read()]))
    plugin = words[words.index("-plugin") + 1]
    pathlib.Path(plugin.split("out=")[1]).write_text(facts["marks"])
    time.sleep(facts["sleep_s"])
    sys.stdout.write(facts["out"])
    sys.stderr.write(facts["err"])
    sys.stdout.flush(), sys.stderr.flush()
    if facts["signal"]:
        os.kill(os.getpid(), facts["signal"])
    sys.exit(facts["status"])
"""


def marks(per_inference: int, rounds: int = 3, many: int = 11, others: int = 0) -> str:
    """What the plugin writes when every inference takes ``per_inference`` instructions."""
    rows, own, everyone = [], 1000, 5000
    for number in range(2 * rounds):
        times = many if number % 2 else 1
        rows.append(f"{2 * number} {own} {everyone}\n")
        own += 300 + times * per_inference
        everyone += 300 + times * (per_inference + others)
        rows.append(f"{2 * number + 1} {own} {everyone}\n")
    return "".join(rows)


def write_qemu(folder: Path, **behaviour: Any) -> Path:
    """The program in ``folder``, which then belongs on PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / "qemu-aarch64"
    program.write_text(_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    facts = {
        "version": "qemu-aarch64 version 7.2.22 (Debian 1:7.2)\nCopyright (c) 2003-2022",
        "help": "-plugin             QEMU_PLUGIN       [file=]<file>",
        "cpus": CPUS,
        "marks": marks(8_000_000),
        "out": json.dumps(ANSWER) + "\n",
        "err": "",
        "status": 0,
        "signal": 0,
        "sleep_s": 0,
    }
    (folder / "behaviour.json").write_text(json.dumps({**facts, **behaviour}))
    return program


def asked(folder: Path) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """Words, environment and input of the last run."""
    words, environment, text = json.loads((folder / "words.json").read_text())
    return words, environment, json.loads(text)


def write_sysroot(folder: Path, packages: tuple[str, ...] = ("numpy", "onnxruntime")) -> Path:
    """A folder with the header of an AArch64 Python and empty packages."""
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "bin").symlink_to("usr/bin")
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00"
    (folder / "usr/bin/python3.11").write_bytes(header)
    for package in packages:
        (folder / "usr/local/lib/python3.11/dist-packages" / package).mkdir(parents=True)
    return folder
