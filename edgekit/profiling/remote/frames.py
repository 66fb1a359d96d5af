r"""What comes back from a board: frames between whatever else its shell prints.

    <noise> \n NONCE {"kind": "reply", "bytes": 3, ...} \n abc

The nonce is random, 128 bits, and sent with each call: a banner, a message of the day or a
hostile echo cannot contain it by accident. Noise is kept, in part, for the diagnosis. Sizes
are limited, because a board can be broken or somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import DeviceError
from edgekit.profiling.result import MAX_RESULT_BYTES

MAX_NOISE = 1 << 20
MAX_HEADER = 1 << 20
END = "end"  # kind of the last frame of a call


@dataclass(frozen=True)
class Frame:
    """One message: ``kind``, its fields, and bytes that came with it."""

    kind: str
    fields: Mapping[str, Any]
    data: bytes = b""


class FrameReader:
    """Finds the frames in a stream of bytes.

    Attributes:
        noise: the start of what was no frame.
    """

    def __init__(self, nonce: str) -> None:
        self._mark = nonce.encode() + b" "
        self._buffer = bytearray()
        self._header: dict[str, Any] | None = None
        self._skipped = 0
        self.noise = b""

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that are complete with ``chunk``.

        Raises:
            DeviceError: more noise than any login prints, or a frame that is none.
        """
        self._buffer += chunk
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._header is None and not self._find_header():
            return None
        assert self._header is not None
        size = self._header["bytes"]
        if len(self._buffer) < size:
            return None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        fields, self._header = self._header, None
        return Frame(fields["kind"], fields, data)

    def _find_header(self) -> bool:
        at = self._buffer.find(self._mark)
        if at < 0:
            # The end may be the start of a mark.
            self._skip(max(len(self._buffer) - len(self._mark), 0))
            return False
        self._skip(at)
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADER:
                raise DeviceError("the device sends a message without end")
            return False
        self._header = _parse(bytes(self._buffer[len(self._mark) : end]))
        del self._buffer[: end + 1]
        return True

    def _skip(self, count: int) -> None:
        self.noise = (self.noise + bytes(self._buffer[: min(count, 400)]))[:400]
        self._skipped += count
        del self._buffer[:count]
        if self._skipped > MAX_NOISE:
            raise DeviceError(
                f"the device prints {MAX_NOISE >> 20} MiB of something else instead of an "
                f"answer: {printable(self.noise)!r}; look at its shell's start-up files"
            )


def printable(data: bytes | str, limit: int = 200) -> str:
    """Text of a board as one short line that is safe on a terminal."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    line = " ".join(text.split())
    safe = "".join(c if c.isprintable() else "?" for c in line)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def _parse(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        kind, size = header["kind"], header["bytes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DeviceError(f"the device sends a damaged message: {printable(line)!r}") from None
    if not isinstance(kind, str) or type(size) is not int or not 0 <= size <= MAX_RESULT_BYTES:
        raise DeviceError(f"the device sends a message of impossible size: {printable(line)!r}")
    return dict(header)
