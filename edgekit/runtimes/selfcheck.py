"""Does a runtime really work here? It opens and runs a model of one node, in a child process.

Installed is not working: a wheel may be built for another numpy, another CPU or another libc,
and some of those take the process down. ``data/check.onnx`` and ``data/check.tflite`` are
y = relu(x) for x of shape (1, 4).
"""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.runtimes import RUNTIMES, is_available
from edgekit.runtimes.probe import probe_file

TIMEOUT_SECONDS = 60.0
_DATA = Path(__file__).parent / "data"


def why_broken(runtime: str) -> str:
    """Why ``runtime`` does not work on this machine, or "" when it does.

    Raises:
        UnknownNameError: no such runtime.
    """
    if not is_available(runtime):
        return "not installed"
    suffixes = RUNTIMES[runtime].suffixes
    file = _DATA / ("check.tflite" if ".tflite" in suffixes else "check.onnx")
    try:
        probe_file(file, runtime, timeout=TIMEOUT_SECONDS)
    except EdgekitError as error:
        return str(error)
    return ""
