"""The text of a result file, read as if a stranger had written it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgekit.errors import InputError


def result_text(path: Path, most: int) -> str:
    """All of a plain file of UTF-8; not read at all when it is too large. A pipe is not waited for.

    Args:
        path: of the file.
        most: bytes that it may have, in whole MiB.

    Raises:
        InputError: missing, no plain file, too large or not UTF-8.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(
                    f"{str(path)!r} is no plain file: give a result of edgekit profile"
                )
            data = stream.read(most + 1)
        if len(data) > most:
            raise InputError(f"{path.name} has more than {most >> 20} MiB: no result has")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the result {str(path)!r}: {reason}") from None
