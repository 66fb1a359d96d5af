"""One piece of work for one fresh process: what the profiler sends and what comes back.

    parent   run_job(job)  ->  python -m edgekit.profiling.worker  (job as JSON on stdin)
    child    pins itself, imports the runtime, works, prints one JSON document

A fresh process each time, because a cold start, a memory peak and the luck of one process's
memory layout can be seen in no other way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from edgekit import errors
from edgekit.bundle import schema
from edgekit.errors import EdgekitError
from edgekit.runtimes import get_runtime

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True)
class Job:
    """What a worker does. ``kind`` is a key of ``edgekit.profiling.worker.KINDS``.

    Attributes:
        bundle: path of the bundle.
        runtime: key of ``edgekit.runtimes.RUNTIMES``.
        threads: the engine computes with.
        cpus: to pin the process to before anything is imported; empty: not pinned.
        scopes: measured one after the other, see ``result.Run``.
        seconds: timed, per scope, at least.
        samples: timed, per scope, at least.
        most_seconds: timed, per scope, at most: ``samples`` is given up for it.
        pace_hz: inferences started per second; 0 is back-to-back.
        warm_runs: before the timed ones, at least; ``warm_seconds`` likewise.
        most_warm_seconds: after which an unsettled warm-up is given up and reported.
        others: bundles of reference networks, for kind ``turns``.
        options: of the runtime, see its module.
        image: file that the pipeline scope is fed; "" for a drawn one.
        epoch_ns: ``perf_counter_ns`` at the start of the profile.
        spawned_ns: likewise just before this process was started.
    """

    kind: str
    bundle: str
    runtime: str
    threads: int = 1
    cpus: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ("engine",)
    seconds: float = 3.4
    samples: int = 340
    most_seconds: float = 20.0
    pace_hz: float = 0.0
    warm_runs: int = 10
    warm_seconds: float = 1.0
    most_warm_seconds: float = 30.0
    others: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    epoch_ns: int = 0
    spawned_ns: int = 0


def time_limit(job: Job) -> float:
    """Seconds after which a process that does ``job`` must be hanging."""
    scopes = max(len(job.scopes), 1)
    start = BUILD_S if get_runtime(job.runtime).builds else _START_S
    return start + 3 * scopes * (job.most_warm_seconds + max(job.most_seconds, job.seconds))


BUILD_S = 3600.0  # TensorRT compiles the plan when a bundle is opened for the first time
_START_S = 120.0  # to import, verify and open: minutes on a board with a slow card
_LAST_WORDS = 200


def run_job(job: Job, timeout_s: float | None = None) -> dict[str, Any]:
    """Do ``job`` in a fresh process and return what its ``work`` returned.

    The process finds its modules where this one does, has the same environment, and is gone
    when this returns, however it returns.

    Raises:
        EdgekitError: of the kind that the work raised; or the process died, hung or printed
            something else, and the message says which.
    """
    import subprocess

    timeout_s = time_limit(job) if timeout_s is None else timeout_s
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from edgekit.profiling.worker import main; main({os.getpid()})"
    )
    job = dataclasses.replace(job, spawned_ns=time.perf_counter_ns())
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us, and we end it
    )
    try:
        request = json.dumps(schema.encode(job)).encode()
        out, err = child.communicate(request, timeout_s)
    except subprocess.TimeoutExpired:
        raise EdgekitError(
            f"{_who(job)} did not finish within {timeout_s:.0f} s and was stopped: "
            "leave its runtime out with --runtime, or measure less"
        ) from None
    finally:
        _end(child)
    return _result(job, child.returncode, out, err)


_GOODBYE_S = 2.0  # to remove its temporary files


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, then kill what is left of it and of its children."""
    import subprocess

    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GOODBYE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _result(job: Job, code: int, out: bytes, err: bytes) -> dict[str, Any]:
    if code != 0:
        raise EdgekitError(f"{_who(job)} {_death(code)}{_last_words(err)}")
    try:
        document = schema.loads(out.decode())
    except (schema.SchemaError, UnicodeDecodeError):
        raise EdgekitError(
            f"{_who(job)} printed no result but {out[:60]!r}: something on this machine prints "
            "when Python starts, e.g. a sitecustomize; remove it"
        ) from None
    if not isinstance(document, dict) or not document.keys() <= {"result", "error"}:
        raise EdgekitError(f"{_who(job)} answered with something else than a result")
    if "error" in document:
        _raise(document["error"])
    result: dict[str, Any] = document.get("result") or {}
    return result


def _who(job: Job) -> str:
    threads = "1 thread" if job.threads == 1 else f"{job.threads} threads"
    return f"the {job.kind} process of {job.runtime} with {threads}"


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, most likely because memory ran out (dmesg tells): free some, or"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"crashed ({signal.Signals(-code).name}):"
    return f"ended with exit code {code}:"


def _last_words(err: bytes) -> str:
    """What to do, and the end of what the process said."""
    lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    words = f"; it said: {lines[-1].strip()[:_LAST_WORDS]}" if lines else ""
    return f" leave it out with --runtime{words}"


def _raise(document: Any) -> NoReturn:
    """Raise the error of another process: the same class where there is one of that name."""
    name, message = str(document.get("kind")), str(document.get("message"))
    kind = getattr(errors, name, EdgekitError)
    if not (isinstance(kind, type) and issubclass(kind, EdgekitError)):
        kind = EdgekitError
    error = kind.__new__(kind)  # some constructors take more than a message
    error.args = (message,)
    facts = document.get("facts")
    error.__dict__.update(facts if isinstance(facts, dict) else {})
    raise error
