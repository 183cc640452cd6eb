"""A web server on loopback whose answers a test writes: files, ranges, cuts, redirects."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.tools.certificate import Certificate


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Page:
    """An answer.

    Attributes:
        content: Its body.
        status: Of the answer.
        headers: Added.
        cut_after: Bytes after which the connection is closed, the first time it is asked for.
        ranges: Whether parts of it are given.
        etag: With quotes, or empty.
        length: What ``Content-Length`` says; None: the truth; -1: nothing.
    """

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    ranges: bool = True
    etag: str = '"one"'
    length: int | None = None


Answer = Callable[[Asked], Page]


class Site:
    """The pages of a server, and what was asked of it.

    Attributes:
        url: ``http://127.0.0.1:port``.
        pages: Path, with its query or without, → the answer or what makes it.
        asked: Every request, in order.
        other: What makes the answer for paths that are not among ``pages``; None: 404.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Page | Answer] = {}
        self.asked: list[Asked] = []
        self.cut: set[str] = set()
        self.other: Answer | None = None

    def answer(self, asked: Asked) -> Page:
        """The page that a request is answered with."""
        plain = unquote(asked.path.partition("?")[0])
        found = self.pages.get(asked.path) or self.pages.get(plain)
        if found is None and self.other is not None:
            return self.other(asked)
        if found is None:
            return Page(b"not here", 404)
        return found(asked) if callable(found) else found


@contextmanager
def site(certificate: Certificate | None = None) -> Iterator[Site]:
    """Run a server on a free port; with a certificate it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, dict(self.headers.items()), body)
            made.asked.append(asked)
            page = made.answer(asked)
            content, status, headers = page.content, page.status, dict(page.headers)
            said = self.headers.get("Range", "")
            known = {page.etag, headers.get("Last-Modified")}
            condition = self.headers.get("If-Range", page.etag)
            if page.ranges and said.startswith("bytes=") and condition in known:
                start = int(said[6:].partition("-")[0])
                if start >= len(content):
                    content, status = b"", 416
                else:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    content, status = content[start:], 206
            if page.etag:
                headers["ETag"] = page.etag
            length = len(content) if page.length is None else page.length
            self.send_response(status)
            if length >= 0:
                headers.setdefault("Content-Length", str(length))
            else:
                headers["Connection"] = "close"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            first = page.cut_after is not None and asked.path not in made.cut
            if first:
                made.cut.add(asked.path)
                content = content[: page.cut_after]
                self.close_connection = True
            with suppress(OSError):
                self.wfile.write(content)
                self.wfile.flush()
            if length != len(content):
                self.close_connection = True

        do_GET = do_POST = do_HEAD = _any  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    made = Site(f"{scheme}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
