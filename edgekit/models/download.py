"""One file over http or https, with a limit on everything.

    connect      3 s per address
    headers      10 s until the answer begins: name lookup, redirects, TLS and headers together
    total        as the caller says
    redirects    5, to http and https only, and never from https back to http
    bytes        as the caller says, counted as they arrive: Content-Length is only a claim,
                 but a body shorter than the claim is an error

The file appears under its name only when it is complete, has the right checksum and passes
the caller's own check; a failed download leaves nothing behind.

``urllib`` and not ``requests``: one GET of one file does not earn every user, and every board,
five more packages; what urllib lacks (the limits above) is the subject of this file.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import DownloadError

_CHUNK = 1 << 16
_MAX_REDIRECTS = 5
_SCHEMES = ("http", "https")
# ValueError: what urllib makes of an address that is none.
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
_PARTIAL = ".part-"
_LEFTOVER_AGE_S = 24 * 3600.0  # no download lasts that long


@dataclass(frozen=True)
class Limits:
    """What a download may take. Seconds and bytes."""

    bytes: int
    total_s: float
    connect_s: float = 3.0
    answer_s: float = 10.0


def fetch(
    url: str,
    destination: Path,
    limits: Limits,
    *,
    sha256: str | None = None,
    check: Callable[[Path], None] = lambda path: None,
) -> str:
    """Download ``url`` to ``destination`` and return its sha256.

    Args:
        url: http or https.
        destination: written by rename, so that it is never half a file.
        limits: see `Limits`.
        sha256: what the content must hash to, where that is known.
        check: is given the complete temporary file; what it raises, nobody catches here.

    Raises:
        DownloadError: names the URL, what went wrong, and what to do.
    """
    shown = public_url(url)
    deadline = time.monotonic() + limits.total_s
    response = _open(url, limits)
    with _closing(response), _temporary(destination) as (file, path):
        digest = _copy(response, file, shown, limits, deadline)
        if sha256 is not None and digest != sha256:
            raise DownloadError(
                f"{shown} has sha256 {digest}, expected {sha256}: it is damaged or was replaced. "
                "Nothing was kept."
            )
        check(path)
        path.replace(destination)
    return digest


def public_url(url: str) -> str:
    """``url`` without user name, password, query and fragment, which may hold secrets."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "(not an address)"
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def cache_name(url: str) -> str:
    """File name for ``url`` in a cache: its last part, made unique by a hash of the whole."""
    base = urllib.parse.unquote(public_url(url)).rpartition("/")[2]
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in base)[-80:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{safe or 'file'}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow to ftp, and from https back to http."""

    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = (urllib.parse.urlsplit(u).scheme.lower() for u in (req.full_url, newurl))
        if new not in _SCHEMES or (old, new) == ("https", "http"):
            raise DownloadError(
                f"{public_url(req.full_url)} redirects to {public_url(newurl)}: only http and "
                "https are followed, and never from https to http."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> urllib.request.OpenerDirector:
    """Handlers for http and https alone: file:, ftp: and data: have nobody to serve them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _open(url: str, limits: Limits) -> http.client.HTTPResponse:
    """Until the headers are there. In a thread, because name lookup knows no timeout."""
    outcome: list[http.client.HTTPResponse | Exception] = []
    given_up = threading.Event()

    def work() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "edgekit"})
            outcome.append(_opener().open(request, timeout=limits.connect_s))
        except Exception as error:  # noqa: BLE001 - the waiting thread names or raises it
            outcome.append(error)
        if given_up.is_set() and not isinstance(outcome[0], Exception):
            outcome[0].close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limits.answer_s)
    if not outcome:
        given_up.set()
        raise DownloadError(
            f"{public_url(url)} has not answered within {limits.answer_s:g} s: check the network, "
            "or download it by hand and pass the file."
        )
    if not isinstance(outcome[0], Exception):
        return outcome[0]
    if isinstance(outcome[0], _NETWORK_ERRORS):
        raise _named(url, outcome[0]) from outcome[0]
    raise outcome[0]


def _named(url: str, error: Exception) -> DownloadError:
    """``error``, one of ``_NETWORK_ERRORS``, as a `DownloadError` that names the URL."""
    shown = public_url(url)
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return DownloadError(f"{shown} answers {error.code} {error.reason}: check the address.")
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return DownloadError(
        f"cannot fetch {shown}: {reason}. Check the network and the address, or download it by "
        "hand and pass the file."
    )


def _copy(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    shown: str,
    limits: Limits,
    deadline: float,
) -> str:
    """Body to ``file``; returns its sha256."""
    claimed = _claimed_length(response)
    if claimed is not None and claimed > limits.bytes:
        raise _too_large(shown, f"announces {claimed:,} bytes", limits)
    digest, count = hashlib.sha256(), 0
    for chunk in _chunks(response, shown, limits, deadline):
        count += len(chunk)
        if count > limits.bytes:
            raise _too_large(shown, f"sends more than {limits.bytes:,} bytes", limits)
        digest.update(chunk)
        file.write(chunk)
    if claimed is not None and count != claimed:
        raise DownloadError(
            f"{shown} announced {claimed:,} bytes and sent {count:,}: the connection was cut. "
            "Nothing was kept; try again."
        )
    if not count:
        raise DownloadError(f"{shown} is empty.")
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _chunks(
    response: http.client.HTTPResponse, shown: str, limits: Limits, deadline: float
) -> Iterator[bytes]:
    """Pieces as they arrive: ``read`` would wait for a full chunk and outlive the deadline."""
    while True:
        if time.monotonic() > deadline:
            raise DownloadError(
                f"{shown} is not complete after {limits.total_s:g} s: nothing was kept. "
                "Download it by hand and pass the file."
            )
        try:
            chunk = response.read1(_CHUNK)
        except _NETWORK_ERRORS as error:
            raise _named(shown, error) from error
        if not chunk:
            return
        yield chunk


def _claimed_length(response: http.client.HTTPResponse) -> int | None:
    value = response.headers.get("Content-Length", "")
    try:
        return int(value) if value.isdecimal() else None
    except ValueError:  # thousands of digits
        return None


def _too_large(shown: str, what: str, limits: Limits) -> DownloadError:
    return DownloadError(
        f"{shown} {what}, more than the {limits.bytes:,} allowed: nothing was kept. If it is what "
        "you want, download it by hand and pass the file."
    )


@contextmanager
def _closing(response: http.client.HTTPResponse) -> Iterator[None]:
    try:
        yield
    finally:
        # close() reads ahead on a kept-alive connection, which a hostile server can fail.
        with suppress(OSError, http.client.HTTPException):
            response.close()


@contextmanager
def _temporary(destination: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open temporary sibling of ``destination``, removed if it was not renamed."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(destination.parent)
        handle, name = tempfile.mkstemp(dir=destination.parent, prefix=_PARTIAL)
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache {destination.parent}: {error.strerror}. Set EDGEKIT_CACHE "
            "to a folder that can be written."
        ) from error
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, path
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache {destination.parent}: {error.strerror}. Free some space, "
            "or set EDGEKIT_CACHE to another folder."
        ) from error
    finally:
        path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Temporary files of downloads that were killed."""
    for path in folder.glob(f"{_PARTIAL}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink()
