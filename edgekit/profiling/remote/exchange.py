"""One ssh process: bytes in, frames out, and never without a time limit.

    chunks -> stdin [ssh] stdout -> frames -> on_frame
                          stderr -> its last 8 kB, for the diagnosis

One thread and no blocking call: a board that takes no more bytes, sends none, or keeps the
connection open for ever runs into ``idle_s`` or ``total_s`` and the process is killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import DeviceError
from edgekit.profiling.remote.frames import END, MAX_NOISE, Frame, FrameReader, printable

_CHUNK = 1 << 16
_STDERR_KEPT = 8192
_GOODBYE_S = 5.0  # for ssh to end after the last frame


@dataclass(frozen=True)
class Limits:
    """Seconds: ``idle_s`` without a byte in either direction, ``total_s`` altogether."""

    idle_s: float = 60.0
    total_s: float = 120.0


@dataclass(frozen=True)
class Ending:
    """How a call ended.

    Attributes:
        finished: whether the last frame came.
        returncode: of ssh; None when it was killed.
        timed_out: which limit, in words, or "".
        frames: how many came.
        errors: the end of what ssh said on stderr.
        noise: the start of what came on stdout and was no frame.
    """

    finished: bool
    returncode: int | None
    timed_out: str
    frames: int
    errors: str
    noise: bytes


class StartError(Exception):
    """The program cannot be started. No OSError: ``on_frame`` and ``chunks`` may raise those."""


class Exchange:
    """One call of a program that is fed ``chunks`` and answers in frames."""

    def __init__(self, nonce: str, limits: Limits) -> None:
        self._reader, self._limits = FrameReader(nonce), limits
        self._frames, self._finished = 0, False
        self._errors, self._said = b"", 0
        self._pending = memoryview(b"")

    def run(
        self,
        command: Sequence[str],
        chunks: Iterable[bytes],
        on_frame: Callable[[Frame], None],
        environment: Mapping[str, str] | None = None,
    ) -> Ending:
        """Run ``command`` to its end.

        Raises:
            StartError: the program cannot be started.
            DeviceError: what it sends is no frame; see ``FrameReader``.
        """
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours: the job on the board is to be told
            )
        except OSError as error:
            raise StartError(error.strerror or str(error)) from None
        try:
            timed_out = self._pump(process, iter(chunks), on_frame)
            returncode = None if timed_out else _wait(process)
            self._drain_errors(process)
        finally:
            _kill(process)
        errors = self._errors.decode("utf-8", "replace")
        noise = self._reader.noise
        return Ending(self._finished, returncode, timed_out, self._frames, errors, noise)

    def _pump(
        self,
        process: subprocess.Popen[bytes],
        chunks: Iterator[bytes],
        on_frame: Callable[[Frame], None],
    ) -> str:
        """Move bytes until the last frame, the end of the output, or a limit (named)."""
        started = last = time.monotonic()
        with selectors.DefaultSelector() as selector:
            self._register(selector, process)
            while self._wants_more(process):
                now = time.monotonic()
                until = min(last + self._limits.idle_s, started + self._limits.total_s)
                if now >= until:
                    return self._which_limit(now - started)
                for key, _ in selector.select(until - now):
                    if self._move(selector, process, key, chunks, on_frame):
                        last = time.monotonic()
        return ""

    def _register(self, selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
        for stream, event in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stdout, selectors.EVENT_READ),
            (process.stderr, selectors.EVENT_READ),
        ):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, event)

    def _wants_more(self, process: subprocess.Popen[bytes]) -> bool:
        # Not the end of stderr: a connection that the user's ssh shares and keeps open keeps it.
        assert process.stdout is not None
        return not self._finished and not process.stdout.closed

    def _which_limit(self, passed: float) -> str:
        if passed >= self._limits.total_s:
            return f"not done after {self._limits.total_s:g} s"
        return f"silent for {self._limits.idle_s:g} s"

    def _move(
        self,
        selector: selectors.BaseSelector,
        process: subprocess.Popen[bytes],
        key: selectors.SelectorKey,
        chunks: Iterator[bytes],
        on_frame: Callable[[Frame], None],
    ) -> bool:
        """Whether a byte moved."""
        if key.fileobj is process.stdin:
            more = self._write(key.fd, chunks)
        elif key.fileobj is process.stdout:
            more = self._read(key.fd, on_frame)
        else:
            more = self._read_errors(key.fd)
        if not more:
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr] # a pipe's file, not a number
        return more

    def _write(self, descriptor: int, chunks: Iterator[bytes]) -> bool:
        if not self._pending:
            self._pending = memoryview(next(chunks, b""))
            if not self._pending:
                return False
        try:
            self._pending = self._pending[os.write(descriptor, self._pending[:_CHUNK]) :]
        except BrokenPipeError:
            return False  # why is on stdout or stderr
        return True

    def _read(self, descriptor: int, on_frame: Callable[[Frame], None]) -> bool:
        chunk = os.read(descriptor, _CHUNK)
        for frame in self._reader.feed(chunk):
            self._frames += 1
            if frame.kind == END:
                self._finished = True
                break
            on_frame(frame)
        return bool(chunk)

    def _drain_errors(self, process: subprocess.Popen[bytes]) -> None:
        """What is on stderr by now; not its end, which a shared connection keeps open."""
        assert process.stderr is not None
        with contextlib.suppress(BlockingIOError):
            while not process.stderr.closed and self._read_errors(process.stderr.fileno()):
                pass

    def _read_errors(self, descriptor: int) -> bool:
        chunk = os.read(descriptor, _CHUNK)
        self._errors = (self._errors + chunk)[-_STDERR_KEPT:]
        self._said += len(chunk)
        if self._said > MAX_NOISE:  # or it would count as a sign of life for ever
            raise DeviceError(
                f"the device prints {MAX_NOISE >> 20} MiB of errors: "
                f"{printable(self._errors[-200:])!r}; look at its shell's start-up files"
            )
        return bool(chunk)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started, and close its pipes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
