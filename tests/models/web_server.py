"""A web server on this machine that misbehaves by path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODY = bytes(range(256)) * 64  # 16 KiB


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    body: bytes
    requests: list[str]
    released: threading.Event

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests hang up in the middle, on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(self.path)
        name = path.strip("/").split("/")[0].replace("-", "_")
        getattr(self, f"serve_{name}", self.serve_missing)(self.server.body)

    def head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def serve_missing(self, body: bytes) -> None:
        self.head(404, Content_Length="0")

    def serve_good(self, body: bytes) -> None:
        self.head(Content_Length=str(len(body)))
        self.wfile.write(body)

    serve_owner = serve_good  # hf://owner/...

    def serve_no_length(self, body: bytes) -> None:
        self.head()
        self.wfile.write(body)

    def serve_digits(self, body: bytes) -> None:
        """A length that Python refuses to make a number of; then without end."""
        self.head(Content_Length="9" * 5000)
        while not self.server.released.is_set():
            self.wfile.write(body)

    def serve_short(self, body: bytes) -> None:
        self.head(Content_Length=str(len(body) + 1))
        self.wfile.write(body)

    def serve_chunked_short(self, body: bytes) -> None:
        self.protocol_version = "HTTP/1.1"
        self.head(Transfer_Encoding="chunked", Connection="close")
        self.wfile.write(b"1000\r\n" + body[:100])

    def serve_announces_too_much(self, body: bytes) -> None:
        self.head(Content_Length=str(1 << 40))

    def serve_endless(self, body: bytes) -> None:
        """Announces nothing and never stops."""
        self.head()
        while not self.server.released.is_set():
            self.wfile.write(body)

    def serve_dripping(self, body: bytes) -> None:
        """Each byte well within a socket's timeout."""
        self.head(Content_Length=str(len(body)))
        while not self.server.released.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def serve_silent(self, body: bytes) -> None:
        self.server.released.wait(10)

    def serve_stalling(self, body: bytes) -> None:
        self.head(Content_Length=str(len(body)))
        self.wfile.write(body[:10])
        self.wfile.flush()
        self.server.released.wait(10)

    def serve_empty(self, body: bytes) -> None:
        self.head(Content_Length="0")

    def serve_html(self, body: bytes) -> None:
        page = b"<html>Please accept our conditions</html>"
        self.head(Content_Length=str(len(page)))
        self.wfile.write(page)

    def serve_broken(self, body: bytes) -> None:
        self.wfile.write(b"not http at all\r\n\r\n")

    def serve_moved(self, body: bytes) -> None:
        self.head(302, Location="/good/file.bin", Content_Length="0")

    def serve_to(self, body: bytes) -> None:
        """/to?URL redirects to URL."""
        self.head(302, Location=urlsplit(self.path).query, Content_Length="0")

    def serve_circle(self, body: bytes) -> None:
        self.head(302, Location=f"/circle?{time.monotonic_ns()}", Content_Length="0")

    def log_message(self, *args: object) -> None:
        """Silence."""


@contextmanager
def serving(body: bytes = BODY) -> Iterator[tuple[str, list[str]]]:
    """Address without a trailing slash, and the paths that were asked for so far."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.body, server.requests, server.released = body, [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.requests
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
