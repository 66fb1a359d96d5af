"""On the board: do one job and write down how far it is, for whoever asks.

    python -m edgekit.profiling.remote.board JOB
      reads   JOB/job.json       the Request
      writes  JOB/progress.txt   one line a step
              JOB/result.json    after each finished piece, at once or not at all
              JOB/outcome.json   how it ended; absent while it runs, and when it was killed

Started by the agent, detached: a dropped connection does not touch it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edgekit.bundle import schema
from edgekit.errors import DeviceError, EdgekitError, MissingDependencyError
from edgekit.profiling.profile import run_profile
from edgekit.profiling.request import Request
from edgekit.profiling.result import ProfileResult, result_to_json
from edgekit.runtimes import RUNTIMES, provider

JOB, PROGRESS, RESULT, OUTCOME = "job.json", "progress.txt", "result.json", "outcome.json"
_COMPILE_S = 300.0
DONE, FAILED, STOPPED, DEAD = STATES = ("done", "failed", "stopped", "dead")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: of ``STATES``.
        exit_code: of the error, see ``edgekit.errors``; 0 where there is none.
        message: its one line.
        feature: of a missing dependency; ``package`` and ``remedy`` likewise.
        log: the last line of the job's log, where it died without a word.
    """

    state: str
    exit_code: int = 0
    message: str = ""
    feature: str = ""
    package: str = ""
    remedy: str = ""
    log: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> int:
    """Do the job in the folder that ``arguments`` names."""
    (name,) = arguments
    job = Path(name)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT may come ignored, from a shell's &
        signal.signal(number, signal.default_int_handler)
    outcome = _do(job)
    _write(job / OUTCOME, json.dumps(schema.encode(outcome)))
    return outcome.exit_code


def _do(job: Path) -> Outcome:
    try:
        document = json.loads((job / JOB).read_text(encoding="utf-8"))
        request = schema.decode(Request, document["request"])
        with (job / PROGRESS).open("a", encoding="utf-8") as lines:
            if document["sent"]:
                _compile(lines)
            result = run_profile(
                request,
                progress=lambda line: print(" ".join(line.split()), file=lines, flush=True),
                keep=lambda result: _keep(job, result),
            )
        _keep(job, result)
        return Outcome(DONE)
    except KeyboardInterrupt:
        return Outcome(STOPPED)
    except MissingDependencyError as error:
        names = (error.feature, error.package, error.remedy)
        return Outcome(FAILED, error.exit_code, str(error), *names)
    except EdgekitError as error:
        return Outcome(FAILED, error.exit_code, str(error))
    except OSError as error:  # no space left for a line or a result
        where = f" {error.filename}" if error.filename else ""
        return Outcome(
            FAILED,
            DeviceError.exit_code,
            f"the system refuses{where}: {error.strerror or error}; what was finished is kept",
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the host is to hear of it
        traceback.print_exc()
        return Outcome(FAILED, 1, f"unexpected {type(error).__name__}: {error}")


def _compile(lines: TextIO) -> None:
    """Import the runtimes once: what pip does when it installs, and a cold start must not pay."""
    print("importing the runtimes once, for their bytecode", file=lines, flush=True)
    for row in RUNTIMES.values():
        package = provider(row)
        if package:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its own run will tell
                subprocess.run([sys.executable, "-c", f"import {package}"], timeout=_COMPILE_S)


def _keep(job: Path, result: ProfileResult) -> None:
    _write(job / RESULT, result_to_json(result))


def _write(path: Path, text: str) -> None:
    """Write a whole file: it survives the power going off a moment later."""
    temporary = path.with_name(f".{path.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # what it takes of a full disk, the outcome needs
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
