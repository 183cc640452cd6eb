"""Ranges of bytes as HTTP asks for them and answers tell them; no I/O.

Source: RFC 9110 §14.2 "Range", §14.4 "Content-Range", §14.6 "Media Type multipart/byteranges"; RFC 2046
§5.1 "Multipart Media Type".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from typing import NamedTuple

from nbmodel.errors import FormatError

_MAX_HEAD = 16 * 1024  # bytes between two parts: a boundary and a few headers
_CONTENT_RANGE = re.compile(
    r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\s*", re.IGNORECASE
)

_ASKED = re.compile(r"\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*")
_MAX_ASKED = 100  # ranges of one request


def asked_ranges(text: str | None, size: int) -> list[tuple[int, int]] | None:
    """The ranges of a whole that a ``Range`` header asks for.

    Args:
        text: Its value.
        size: Bytes of the whole.

    Returns:
        Where each begins and ends, sorted, those that touch as one; empty when the whole has
        none of them; None when all of it is to be sent: no header, or none to follow.
    """
    unit, _, those = (text or "").partition("=")
    if unit.strip().lower() != "bytes" or those.count(",") >= _MAX_ASKED:
        return None
    found: list[tuple[int, int]] = []
    for one in those.split(","):
        match = _ASKED.fullmatch(one)
        if match is None or match[1] == match[2] == "":
            return None
        first, last = match[1], match[2]
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if first and last and int(last) < start:
            return None
        if start < end:
            found.append((start, end))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class ContentRange(NamedTuple):
    """Which bytes of the whole an answer, or a part of one, has.

    Attributes:
        start: The first.
        end: Behind the last.
        total: How many the whole has; None when that is not told.
    """

    start: int
    end: int
    total: int | None

    @classmethod
    def parse(cls, text: str | None) -> ContentRange | None:
        """The value of a ``Content-Range`` header; None when it tells no range."""
        found = None if text is None else _CONTENT_RANGE.fullmatch(text.strip())
        if found is None:
            return None
        start, end = int(found[1]), int(found[2]) + 1
        total = None if found[3] == "*" else int(found[3])
        if end <= start or (total is not None and end > total):
            return None
        return cls(start, end, total)


def boundary_of(content_type: str | None) -> bytes | None:
    """The boundary of a ``multipart/byteranges`` answer; None when it is none."""
    message = Message()
    message["Content-Type"] = content_type or ""
    if message.get_content_type() != "multipart/byteranges":
        return None
    boundary = message.get_boundary()
    try:
        return boundary.encode("ascii") if boundary and len(boundary) <= 70 else None
    except UnicodeEncodeError:
        return None


class Parts:
    """The parts of a ``multipart/byteranges`` body, read one after the other.

    Args:
        pieces: The body, in pieces of any length.
        boundary: Between its parts, without the leading dashes.
    """

    def __init__(self, pieces: Iterator[bytes], boundary: bytes) -> None:
        self._pieces = pieces
        self._boundary = b"--" + boundary
        self._rest = b""

    def following(self) -> ContentRange | None:
        """Go to the next part, and tell which bytes it has; None at the end.

        The bytes of the part before must have been taken.

        Raises:
            FormatError: Here is no part.
        """
        left = _MAX_HEAD
        while True:
            line = self._line(left)
            left -= len(line)
            if line.rstrip() == self._boundary + b"--":
                return None
            if line.rstrip() == self._boundary:
                break
        found: ContentRange | None = None
        while line := self._line(left).strip():
            left -= len(line)
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-range":
                found = ContentRange.parse(value.decode("latin-1"))
        if found is None:
            raise FormatError("a part of a multipart answer does not say which bytes it has")
        return found

    def take(self, length: int) -> Iterator[bytes]:
        """The next bytes of the part, in pieces.

        Raises:
            FormatError: The body ends before.
        """
        while length:
            if not self._rest:
                self._read()
            piece, self._rest = self._rest[:length], self._rest[length:]
            length -= len(piece)
            yield piece

    def _line(self, limit: int) -> bytes:
        """The next line with its end."""
        while (end := self._rest.find(b"\n", 0, limit)) < 0:
            if len(self._rest) >= limit:
                raise FormatError(
                    f"expected a part of a multipart answer, found {self._rest[:40]!r}"
                )
            before, self._rest = self._rest, b""
            self._read()
            self._rest = before + self._rest
        line, self._rest = self._rest[: end + 1], self._rest[end + 1 :]
        return line

    def _read(self) -> None:
        self._rest = next(self._pieces, b"")
        if not self._rest:
            raise FormatError("a multipart answer ends before its last part")
