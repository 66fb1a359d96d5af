"""Inside the emulated core: open the bundle, mark the inferences, prove the answer right.

    warm up
    per round   mark, 1 inference, mark;  mark, 11 inferences, mark
    compare     the result with the golden one: a wrong answer is counted by nobody

The marks go to the emulator's plugin, ``count_instructions.c``. What a mark itself takes is the
same around 1 inference as around 11, and the difference is without it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import struct
import sys
from collections.abc import Callable
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.bundle.agreement import relative_error
from edgekit.errors import EdgekitError
from edgekit.runtimes.model import open_artifact

WARM_UP = 10  # CPython specialises a call by its eighth

_GETPGID, _MARK = 155, 0x7E570000  # count_instructions.c
_READ_MIDR, _RETURN = 0xD5380000, 0xD65F03C0  # mrs x0, midr_el1; ret


def main() -> int:
    """Read the request from stdin, work, print one JSON document."""
    request = json.load(sys.stdin)
    try:
        answer = work(request, mark_point)
        answer["midr"] = read_midr()
    except EdgekitError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def work(request: dict[str, Any], mark: Callable[[int], object]) -> dict[str, Any]:
    """Marked inferences of the ``bundle``'s artifact for ``runtime``.

    Returns:
        ``errors``: the relative error of each output against the golden one.
    """
    with (
        open_bundle(request["bundle"]) as bundle,
        open_artifact(bundle, request["runtime"], 1) as session,
    ):
        golden = bundle.golden()
        call = session.engine_call(golden.inputs)
        mark_rounds(call, request["rounds"], request["many"], mark)
        got = call.results()
        errors = {
            name: relative_error(got[name], wanted) for name, wanted in golden.outputs.items()
        }
        return {"errors": errors}


def mark_rounds(
    call: Callable[[], object], rounds: int, many: int, mark: Callable[[int], object]
) -> None:
    """Marks 4 r and 4 r + 1 around one call, 4 r + 2 and 4 r + 3 around ``many``."""
    for _ in range(min(WARM_UP, many)):
        call()
    gc.collect()
    gc.disable()
    for number in range(rounds):
        for part, times in enumerate((1, many)):
            mark(4 * number + 2 * part)
            for _ in range(times):
                call()
            mark(4 * number + 2 * part + 1)
    gc.enable()


def mark_point(number: int) -> None:
    """A system call that the plugin watches for, and that does nothing else."""
    _SYSCALL(_GETPGID, _MARK + number)


_SYSCALL = ctypes.CDLL(None).syscall


def read_midr() -> int:
    """What the core calls itself: Linux lets a program read MIDR_EL1 of AArch64."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(struct.pack("<2I", _READ_MIDR, _RETURN))
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return int(ctypes.CFUNCTYPE(ctypes.c_uint64)(start)())


if __name__ == "__main__":
    sys.exit(main())
