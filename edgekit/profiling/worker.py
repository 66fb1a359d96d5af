"""The fresh process: a job on stdin, one JSON document on stdout.

    {"result": ...}                               what the job's ``work`` returned
    {"error": {"kind", "message", "facts"}}       an EdgekitError, for the parent to raise

    python -m edgekit.profiling.worker < job.json

The process pins itself before it imports anything heavy, dies with its parent, and keeps the
real stdout for the document: what a vendor's library prints goes to stderr. No environment
variable is changed, ``OMP_NUM_THREADS`` and its kin neither: what the user set holds here too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from typing import Any

from edgekit.bundle import schema
from edgekit.errors import EdgekitError, UnknownNameError, UsageError
from edgekit.profiling.clock import SystemClock
from edgekit.profiling.job import Job

# kind of a job -> module:function that does it.
KINDS = {
    "latency": "edgekit.profiling.latency:work",
    "sustained": "edgekit.profiling.sustained:work",
    "layers": "edgekit.profiling.layers:work",
    "memory": "edgekit.profiling.memory:work",
    "turns": "edgekit.profiling.references:work",
    "stages": "edgekit.profiling.stages:work",
}

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def main(parent: int | None = None) -> None:
    """Do the job on stdin, for the process ``parent``: this one does not outlive it."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds: temporary files go
    _die_with_parent(os.getppid() if parent is None else parent)
    document = _answer(sys.stdin.buffer.read())
    with answer:
        json.dump(document, answer, allow_nan=False)
        answer.write("\n")


def _answer(request: bytes) -> dict[str, Any]:
    try:
        job = schema.decode(Job, schema.loads(request.decode()))
        pin(job.cpus)
        return {"result": do(job)}
    except schema.SchemaError as error:
        return _error(UsageError(f"not a job: {error}"))
    except EdgekitError as error:
        return _error(error)
    except MemoryError:
        return _error(EdgekitError("the process ran out of memory"))


def do(job: Job) -> Any:
    """The work of ``job``, in this process.

    Raises:
        UnknownNameError: no such kind.
    """
    if job.kind not in KINDS:
        raise UnknownNameError("kind of job", job.kind, KINDS)
    module, _, name = KINDS[job.kind].partition(":")
    return getattr(importlib.import_module(module), name)(job, SystemClock())


def pin(cpus: tuple[int, ...]) -> None:
    """Let this process run on ``cpus`` only; threads started later inherit it.

    Raises:
        UsageError: the system does not allow it.
    """
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system cannot pin a process to CPUs: give --cpus none")
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError) as error:
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UsageError(
            f"cannot pin to CPUs {','.join(map(str, cpus))}: {error}; allowed here: {allowed}"
        ) from None


def _error(error: EdgekitError) -> dict[str, Any]:
    return {
        "error": {
            "kind": type(error).__name__,
            "message": str(error),
            "facts": {k: v for k, v in vars(error).items() if isinstance(v, str)},
        }
    }


def _die_with_parent(parent: int) -> None:
    """Be killed when the profiler is, however that happens; where the system can do it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    main()
