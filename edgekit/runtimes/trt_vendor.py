"""Which TensorRT is here, and what it says while it works.

    tensorrt       on a Jetson, from JetPack (package python3-libnvinfer); on a PC, if installed
    tensorrt_rtx   on x86, from pip: parses and builds without a GPU; never on a board

Both have the same Python names. Names come and go between 10.3 and 11, so code that uses them
asks ``hasattr``, never a version number.
"""

from __future__ import annotations

import importlib
import logging
import platform
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from edgekit.errors import MissingDependencyError
from edgekit.optional import is_installed
from edgekit.runtimes import get_runtime

MODULES = ("tensorrt", "tensorrt_rtx")
_LOGGER = logging.getLogger("edgekit.tensorrt")
_KEPT_LINES = 64  # of one operation; TensorRT repeats itself after that


def vendor() -> ModuleType:
    """The TensorRT module that this machine has.

    Raises:
        MissingDependencyError: none can be imported; says how to get it on this machine.
    """
    failures = []
    on_board = platform.machine() == "aarch64"
    for name in MODULES[:1] if on_board else MODULES:
        if not is_installed(name):
            continue
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # bindings without their library raise either
            failures.append(f"{name} is installed, but its import fails: {error}")
    facts = "; ".join([*failures, *([_python()] if on_board else [])])
    remedy = get_runtime("tensorrt").remedy
    raise MissingDependencyError("runtime 'tensorrt'", "tensorrt", remedy, detail=facts)


def _python() -> str:
    """JetPack's bindings are for one Python only: which one this is."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    venv = "in a virtual environment" if sys.prefix != sys.base_prefix else "outside any"
    return f"this is Python {python}, {venv}"


def title(trt: ModuleType) -> str:
    """E.g. ``"tensorrt 10.3.0"``: module and version, as checks and reports print it."""
    return f"{trt.__name__.replace('_', '-')} {trt.__version__}"


class Said:
    """What TensorRT reported as errors during one operation, oldest first."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def because(self) -> str:
        """The first error as one line, or a plain admission that there was none."""
        return one_line(self.lines[0]) if self.lines else "TensorRT gave no reason"


def one_line(text: str) -> str:
    """A message of TensorRT without its line breaks."""
    return " ".join(text.split())


class _Log:
    """The one logger a process may have.

    TensorRT keeps the first logger it is given and ignores any other, so what it says is
    handed to whoever is listening: one operation at a time, under a lock.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.listeners: list[Said] = []
        self.last = ""
        self.loggers: dict[str, Any] = {}

    def of(self, trt: ModuleType) -> Any:
        with self.lock:
            if trt.__name__ not in self.loggers:
                made = self.loggers[trt.__name__] = self._make(trt)
                if hasattr(trt, "init_libnvinfer_plugins"):
                    # ScatterElements and InstanceNormalization are plugins of TensorRT's own.
                    trt.init_libnvinfer_plugins(made, "")
            return self.loggers[trt.__name__]

    def _make(self, trt: ModuleType) -> Any:
        severity, log = trt.ILogger, self
        levels = {
            severity.INTERNAL_ERROR: logging.ERROR,
            severity.ERROR: logging.ERROR,
            severity.WARNING: logging.WARNING,
        }

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                level = levels.get(severity, logging.DEBUG)
                # Errors reach the user as exceptions; as log lines they are detail for -v.
                _LOGGER.log(min(level, logging.INFO), "%s", one_line(message))
                if level == logging.ERROR:
                    log.last = one_line(message)
                    for said in log.listeners:
                        said.lines.append(message)

        return Logger()


_LOG = _Log()


def logger(trt: ModuleType) -> Any:
    """The ``ILogger`` of this process, to be given to every builder and runtime."""
    return _LOG.of(trt)


def last_error() -> str:
    """The last error of any operation: for calls too quick to wait for ``listening``."""
    return _LOG.last or "TensorRT gave no reason"


@contextmanager
def listening() -> Iterator[Said]:
    """Collect TensorRT's errors; operations take turns, so that each hears its own."""
    with _LOG.lock:
        said = Said()
        _LOG.listeners.append(said)
        try:
            yield said
        finally:
            _LOG.listeners.remove(said)
