"""An ARM core without a board: how many instructions an inference takes. A count, never a time.

    count.py      count_instructions: the emulated processes, and what their marks say
    cores.py      the cores, and the /proc/cpuinfo and /sys that tell a runtime about one
    emulator.py   QEMU's user mode, and its plugin count_instructions.c, compiled when first used
    sysroot.py    the AArch64 system that the runtimes stand on: python -m ...emulation.sysroot DIR
    guest.py      what runs inside: opens the bundle, proves its answer, marks the inferences

The count is repeatable to 0.01 % on any machine, so that continuous integration can gate on it. It
is no time: caches, widths and latencies of the core are not modelled, and int8 code that runs
faster than float32 may well take more instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.profiling.emulation.count import count_instructions

__all__ = ["count_instructions"]


def __getattr__(name: str) -> Any:
    # Late: the guest, which imports this package too, starts the sooner.
    if name != "count_instructions":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgekit.profiling.emulation.count import count_instructions

    return count_instructions
