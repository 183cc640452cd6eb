"""What a request's head and a chunked body are, from bytes: rules without sockets.

Framing is where servers are attacked: when two of them on a path read the length of a
request differently, one sees a request that the other took for a body. So whatever could
be read in two ways is refused here, and nothing is repaired: a bare line feed, a folded
header, two lengths, a length with a transfer coding, a coding other than ``chunked``,
chunk sizes that are not plain hexadecimal. Names and values are checked by llhttp.

Source: RFC 9112 sections 2.2, 3, 5, 6 and 7.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import httptools

END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])\r\n")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)([^#]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")
_MAX_SIZE_LINE = 256  # bytes of a chunk's size with its extensions
_CRLF = b"\r\n"


class RefusedError(Exception):
    """A request that is not answered as asked; the connection ends with the answer.

    Attributes:
        status: HTTP status.
        hint: What to do, or None.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers of one request.

    Attributes:
        method: In upper case.
        path: As it was sent, percent-encoded, without the query.
        headers: By lower-case name; of a name given twice, the values joined by a comma.
        length: Bytes of the body; None: chunked.
        version: ``1.0`` or ``1.1``.
        keep_alive: Whether another request may follow on the connection.
        expects_continue: Whether the client waits for a ``100 Continue`` to send the body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    length: int | None
    version: str
    keep_alive: bool
    expects_continue: bool


class _Headers:
    """Collects what the parser reports."""

    __slots__ = ("lines", "on_header")

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        self.on_header = self._add

    def _add(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))


def parse_head(data: bytes, *, max_headers: int) -> Head:
    """Read a head.

    Args:
        data: From the first byte of the request line to the empty line, that included.
        max_headers: Most headers it may have.

    Raises:
        RefusedError: 400: it is malformed, or its framing could be read in two ways; 417:
            it expects something unknown; 431: too many headers.
    """
    breaks = data.count(b"\r\n")
    is_folded = b"\r\n " in data or b"\r\n\t" in data
    if is_folded or not breaks == data.count(b"\n") == data.count(b"\r"):
        _refuse("a line that does not end in CRLF, or a folded header")
    line = _REQUEST_LINE.match(data)
    if line is None:
        _refuse("the request line is not that of HTTP/1.1 or HTTP/1.0")
    method, minor = line[1].decode("ascii"), line[3]
    if method == "CONNECT":
        _refuse("CONNECT is not served")
    headers = _read_headers(data, max_headers)
    version = "1.1" if minor == b"1" else "1.0"
    path, authority = _target(line[2].decode("latin-1"))
    host = headers.get("host")
    if host is None and version == "1.1":
        _refuse("the header Host is missing")
    if authority is not None:
        headers["host"] = authority
    return Head(
        method=method,
        path=path,
        headers=headers,
        length=_length(headers, version),
        version=version,
        keep_alive=_keep_alive(headers, version),
        expects_continue=version == "1.1" and _expects_continue(headers),
    )


def is_hopeless(data: bytes | bytearray) -> bool:
    """Whether the beginning of a head can never become one."""
    return _BARE_LF.search(data) is not None


def _read_headers(data: bytes, max_headers: int) -> dict[str, str]:
    collected = _Headers()
    parser = httptools.HttpRequestParser(collected)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an upgrade is an offer, which may be left unanswered (RFC 9110 section 7.8)
    except httptools.HttpParserError as exc:
        _refuse(str(exc))
    if len(collected.lines) > max_headers:
        raise RefusedError(431, f"more than {max_headers} headers (--max-headers)")
    headers: dict[str, str] = {}
    for raw_name, raw_value in collected.lines:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1").strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in ("host", "content-length", "transfer-encoding"):
            _refuse(f"the header {name} is there twice")
        else:
            headers[name] += ", " + value
    return headers


def _target(target: str) -> tuple[str, str | None]:
    """Path without query, and the authority when the target names one."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return target.partition("?")[0], None
    return found[2].partition("?")[0] or "/", found[1].rpartition("@")[2]


def _length(headers: Mapping[str, str], version: str) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            _refuse("a Transfer-Encoding with a Content-Length, or in HTTP/1.0")
        if coding.lower() != "chunked":
            _refuse(f"unknown Transfer-Encoding {coding!r}")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        _refuse(f"malformed Content-Length {length!r}")
    return int(length)


def _keep_alive(headers: Mapping[str, str], version: str) -> bool:
    connection = headers.get("connection")
    if connection is None:
        return version == "1.1"
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


def _expects_continue(headers: Mapping[str, str]) -> bool:
    expected = headers.get("expect")
    if expected is None:
        return False
    if expected.lower() != "100-continue":
        raise RefusedError(417, f"cannot meet the expectation {expected!r}")
    return True


def _refuse(message: str) -> NoReturn:
    raise RefusedError(400, f"malformed request: {message}")


class ChunkedBody:
    """A body that comes in chunks, put together.

    Args:
        max_bytes: Largest body.
        max_trailer_bytes: Most that may follow the last chunk; it is read and dropped.

    Attributes:
        data: What came so far.
        is_done: Whether all of it is there.
    """

    __slots__ = ("_left", "_line", "_max", "_state", "_trailer_left", "data", "is_done")

    def __init__(self, *, max_bytes: int, max_trailer_bytes: int) -> None:
        self.data = bytearray()
        self.is_done = False
        self._max = max_bytes
        self._trailer_left = max_trailer_bytes
        self._left = 0  # bytes of the present chunk that are to come
        self._line = b""
        self._state = self._on_size

    def feed(self, data: memoryview) -> int:
        """Take what arrived.

        Returns:
            How much of it belongs to this body.

        Raises:
            RefusedError: 400: a chunk is malformed; 413: the body gets too large; 431: so
                does what follows it.
        """
        used = 0
        while used < len(data) and not self.is_done:
            if self._left:
                part = data[used : used + self._left]
                self.data += part
                self._left -= len(part)
                used += len(part)
            else:
                used += self._feed_line(data[used:])
        return used

    def _feed_line(self, data: memoryview) -> int:
        limit = self._trailer_left if self._state == self._on_trailer else _MAX_SIZE_LINE
        room = limit - len(self._line)
        window = bytes(data[:room])
        end = window.find(b"\n") + 1
        if end == 0:
            if len(window) == room:
                status = 431 if self._state == self._on_trailer else 400
                raise RefusedError(status, "a line between chunks is too long")
            self._line += window
            return len(window)
        line, self._line = self._line + window[:end], b""
        self._state(line)
        return end

    def _on_size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            _refuse("a chunk's size is not a hexadecimal number in a line of its own")
        self._left = int(found[1], 16)
        if len(self.data) + self._left > self._max:
            raise RefusedError(413, too_large(self._max), hint=TOO_LARGE_HINT)
        self._state = self._on_data_end if self._left else self._on_trailer

    def _on_data_end(self, line: bytes) -> None:
        if line != _CRLF:
            _refuse("a chunk is longer than its size")
        self._state = self._on_size

    def _on_trailer(self, line: bytes) -> None:
        self._trailer_left -= len(line)
        if line == _CRLF:
            self.is_done = True
        elif _TRAILER.fullmatch(line) is None:
            _refuse("a malformed trailer")


#: What to do about a body over the limit.
TOO_LARGE_HINT = "send fewer rows at once, or start the runtime with a larger --max-request-bytes"


def too_large(max_bytes: int, found: int | None = None) -> str:
    """What is said of a body over the limit.

    Args:
        max_bytes: The limit.
        found: Its bytes, where its head tells them.
    """
    size = "" if found is None else f": it has {found} bytes"
    return f"request body is larger than {max_bytes} bytes (--max-request-bytes){size}"
