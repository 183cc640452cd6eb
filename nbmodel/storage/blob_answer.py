"""A blob as the answer to a GET: all of it, a range, or several.

It is read from an open file, so that it arrives whatever becomes of the blob's name meanwhile,
and a packed blob needs no file of its own to be served.

Source: RFC 9110 §13.1.5 "If-Range", §14 "Range Requests".
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from starlette.responses import Response, StreamingResponse

from nbmodel.storage.byteranges import asked_ranges

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

_PIECE = 1024 * 1024  # bytes of one read: each takes a turn of a thread
_TYPE = "application/octet-stream"


def answer_blob(request: Request, file: BinaryIO, digest: str) -> Response:
    """Answer with what a request asks for of a blob.

    Args:
        request: A GET.
        file: The blob, which the answer closes.
        digest: The blob's.
    """
    size = file.seek(0, os.SEEK_END)
    etag = f'"{digest}"'
    headers = {"Docker-Content-Digest": digest, "ETag": etag, "Accept-Ranges": "bytes"}
    asked = request.headers.get("Range")
    if request.headers.get("If-Range", etag) != etag:
        asked = None
    ranges = asked_ranges(asked, size)
    if ranges is None:
        headers |= {"Content-Length": str(size), "Content-Type": _TYPE}
        return _Answer(file, [(b"", 0, size)], 200, headers)
    if not ranges:
        file.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    if len(ranges) == 1:
        ((start, end),) = ranges
        headers |= {"Content-Length": str(end - start), "Content-Type": _TYPE}
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return _Answer(file, [(b"", start, end)], 206, headers)
    boundary = secrets.token_hex(16)
    parts = [(_head(boundary, start, end, size), start, end) for start, end in ranges]
    parts.append((f"\r\n--{boundary}--\r\n".encode(), size, size))
    length = sum(len(head) + end - start for head, start, end in parts)
    headers |= {
        "Content-Length": str(length),
        "Content-Type": f"multipart/byteranges; boundary={boundary}",
    }
    return _Answer(file, parts, 206, headers)


class _Answer(StreamingResponse):
    """Parts of a file, each after a few bytes of its own."""

    def __init__(
        self,
        file: BinaryIO,
        parts: Sequence[tuple[bytes, int, int]],
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(_pieces(file, parts), status, headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the file is closed also when nobody listens any more."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _pieces(file: BinaryIO, parts: Sequence[tuple[bytes, int, int]]) -> Iterator[bytes]:
    for head, start, end in parts:
        file.seek(start)
        before = head
        while start < end:
            piece = file.read(min(_PIECE, end - start))
            if not piece:
                raise OSError(f"blob ends after {start} bytes, expected {end}")
            start += len(piece)
            yield before + piece if before else piece
            before = b""
        if before:
            yield before


def _head(boundary: str, start: int, end: int, size: int) -> bytes:
    return (
        f"\r\n--{boundary}\r\nContent-Type: {_TYPE}\r\n"
        f"Content-Range: bytes {start}-{end - 1}/{size}\r\n\r\n"
    ).encode()
