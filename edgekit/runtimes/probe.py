"""Open a model file that is no bundle of ours: first in a child process, then here.

A vendor's parser may crash, hang or eat all memory on a damaged or hostile file. The child
takes that instead of the user's app: it has a time limit and a memory limit, opens the file and
runs it once on zeros. Only when that went well does this process open the file too.

    python -m edgekit.runtimes.probe RUNTIME FILE
        exit 0   opened and run
        exit 3   refused: one line on stdout says why
        else     it crashed
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgekit.bundle.checks import check_structure
from edgekit.errors import BundleError, EdgekitError, GraphError
from edgekit.runtimes import get_runtime, open_session, require_runtime
from edgekit.runtimes.session import Session

TIMEOUT_SECONDS = 120.0
# Address space, not resident memory: a runtime maps a few GB for its threads and arenas.
MEMORY_BYTES = 8 << 30
MAX_FILE_BYTES = 2 << 30  # the most a protobuf can be

_REFUSED = 3
_ROOT = str(Path(__file__).resolve().parents[2])  # the folder that holds edgekit


def open_unknown(
    path: Path, runtime: str, threads: int = 1, *, timeout: float = TIMEOUT_SECONDS
) -> Session:
    """A session on a bare model file that has first been opened in a child process.

    Raises:
        GraphError: missing, not a model, or its runtime refuses it, crashes on it or hangs.
        MissingDependencyError: the runtime's package is not installed.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GraphError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
        check_structure(path.name, path.read_bytes())
    except FileNotFoundError:
        raise GraphError(f"no model at {str(path)!r}") from None
    except OSError as error:
        raise GraphError(f"cannot open {str(path)!r}: {error.strerror or error}") from None
    except BundleError as error:
        raise GraphError(str(error)) from None
    probe_file(path, runtime, timeout=timeout)
    return open_session(runtime, [path], threads=threads)


def probe_file(path: Path, runtime: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
    """Open and run a model file in a child process.

    Args:
        path: the file.
        runtime: key of ``RUNTIMES``.
        timeout: seconds the child may take.

    Raises:
        GraphError: the runtime refuses the file, crashes on it, or takes too long.
        MissingDependencyError: the runtime's package is not installed.
    """
    require_runtime(runtime)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "edgekit.runtimes.probe", runtime, str(path.resolve())],
            cwd=_ROOT,  # not the user's: "-m" would import what lies there
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GraphError(
            f"{path.name}: {runtime} did not finish opening it in {timeout:g} s; it is not opened"
        ) from None
    if child.returncode == _REFUSED:
        raise GraphError(child.stdout.decode("utf-8", "replace"))
    if child.returncode != 0:
        raise GraphError(
            f"{path.name}: {runtime} crashes on it (a child process ended with "
            f"{_death(child.returncode)}); the file is damaged or hostile, and is not opened"
        )


def _environment() -> dict[str, str]:
    """This environment, in which the child finds the same edgekit."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else _ROOT}


def _death(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


# ---- in the child ----------------------------------------------------------------------------


def _limit_memory(runtime: str) -> None:
    try:
        import resource
    except ImportError:  # not a Unix: the time limit alone has to do
        return
    if not get_runtime(runtime).builds:  # CUDA reserves address space beyond any limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run_on_zeros(session: Session) -> None:
    if all(size > 0 for spec in session.inputs for size in spec.shape):
        session.run({s.name: np.zeros(s.shape, s.dtype) for s in session.inputs})


def main(arguments: list[str]) -> int:
    """The child's side: open, run, and say in one line why not."""
    runtime, path = arguments
    _limit_memory(runtime)
    try:
        with open_session(runtime, [Path(path)]) as session:
            _run_on_zeros(session)
    except EdgekitError as error:
        sys.stdout.write(f"{error}\n")
        return _REFUSED
    except MemoryError:
        sys.stdout.write(f"{Path(path).name}: {runtime} wants more than {MEMORY_BYTES >> 30} GB\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
