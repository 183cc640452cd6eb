"""Bytes of HTTP/1.1 as a client writes and reads them; sockets are not here.

Both connections, the blocking one and that of an event loop, send what ``request_head``
makes and receive into what ``ResponseReader.buffer`` gives. A body of known length goes
straight into its final memory.

Stricter than a browser, because whatever is ambiguous here could be read as the wrong
answer: a head must have CRLF line ends and no folded lines, one way to tell where its body
ends, and at most ``MAX_HEAD`` bytes.

Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from nbmodel.errors import FormatError, InputError
from nbmodel.protocol.http import HEADER_LENGTH

MAX_HEAD = 16 * 1024  # bytes of an answer's head; servers send a few hundred
MAX_BODY = 2**31  # bytes of an answer; as much as a gRPC message may have
_MAX_CHUNK_LINE = 256  # bytes of a chunk's size with its extensions
_MAX_INTERIM = 16  # answers of 1xx before the real one
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word, no secret
_LINE = rf"{_TOKEN}:[^\r\n\x00]*\r\n"
_HEAD = re.compile(rf"HTTP/1\.([01]) ([1-9][0-9]{{2}})(?: ([^\r\n\x00]*))?\r\n((?:{_LINE})*)\r\n")
_FIELD = re.compile(r"([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NUMBER = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
#: Says how many bytes of the body are JSON; the tensors behind them are aligned by it.
_JSON_LENGTH = HEADER_LENGTH.lower()
_ALIGNMENT = 64  # bytes; a cache line, and what vector instructions like best

_Framing = Literal["head", "length", "chunked", "close", "done"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent back.

    Attributes:
        status: 200..599.
        reason: The words beside it; may be empty.
        headers: By lower-case name; values of repeated ones are joined by a comma.
        body: All of it. Writable, and nobody else's.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: memoryview


def field_lines(headers: Mapping[str, str]) -> str:
    """Headers as they are sent, each with its line end.

    Raises:
        InputError: A name or value cannot be one, as with a line break in it.
    """
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise InputError(f"not an HTTP header: {name!r}: {value!r}")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def request_head(method: str, target: str, fields: str, length: int) -> bytes:
    """The head of a request.

    Args:
        method: In upper case.
        target: Path and query, percent-encoded.
        fields: Lines made by ``field_lines``, ``Host`` among them.
        length: Bytes of the body.
    """
    return (f"{method} {target} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n").encode(
        "latin-1"
    )


class ResponseReader:
    """Reads one answer, from bytes in whatever pieces they come.

    Receive into ``buffer()``, then tell ``received`` how many bytes came, until it says
    that the answer is whole. ``closed`` is for the end of the stream.

    Args:
        scratch: Memory of ``MAX_HEAD`` bytes, free for the next reader when this one is
            done.

    Attributes:
        is_empty: Whether nothing has come yet.
        keeps_alive: Whether another request may follow on the connection; of a whole
            answer.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_filled",
        "_framing",
        "_head",
        "_interims",
        "_scratch",
        "_view",
        "is_empty",
        "keeps_alive",
    )

    def __init__(self, scratch: bytearray) -> None:
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._framing: _Framing = "head"
        self._filled = 0  # of the scratch while reading the head, then of the body
        self._head = _NO_HEAD
        self._body = memoryview(b"")
        self._chunks = _Chunks()
        self._interims = 0
        self.is_empty = True
        self.keeps_alive = False

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._framing == "length":
            return self._body[self._filled :]
        return self._view[self._filled :] if self._framing == "head" else self._view

    def received(self, count: int) -> bool:
        """Take the ``count`` bytes that were put into ``buffer()``; whether that is all.

        Raises:
            FormatError: It is not an HTTP answer, or longer than this reads.
        """
        self.is_empty = False
        if self._framing == "head":
            begin = self._filled
            self._filled += count
            return self._read_head(begin)
        if self._framing == "length":
            self._filled += count
            return self._filled == self._body.nbytes and self._finish()
        return self._take(self._view[:count])

    def closed(self) -> None:
        """The other side has closed the connection.

        Raises:
            FormatError: In the middle of the answer.
        """
        if self._framing != "close":
            where = "head" if self._framing == "head" else "body"
            raise FormatError(f"the connection was closed in the middle of the answer's {where}")
        self._body = memoryview(self._chunks.body)
        self._framing = "done"

    def answer(self) -> Answer:
        """The whole answer."""
        assert self._framing == "done"
        return Answer(self._head.status, self._head.reason, self._head.headers, self._body)

    def _read_head(self, begin: int) -> bool:
        end = self._scratch.find(b"\r\n\r\n", max(0, begin - 3), self._filled)
        if end < 0:
            if self._filled == len(self._scratch):
                raise FormatError(f"the answer's head is longer than {len(self._scratch)} bytes")
            if not b"HTTP/".startswith(self._scratch[: min(5, self._filled)]):
                raise FormatError("what came is not an answer of HTTP/1.1")
            return False
        end += 4
        head = _parse_head(bytes(self._scratch[:end]))
        rest = self._view[end : self._filled]
        if head.status < 200:
            return self._skip_interim(head.status, rest)
        self._head = head
        self.keeps_alive = head.keeps_alive
        self._framing = head.framing
        if head.framing == "length":
            self._body = _memory(head.length, head.json_length)
        if self._framing != "length":
            return self._take(rest)
        if rest.nbytes > self._body.nbytes:
            self.keeps_alive = False  # bytes that nobody asked for: no place to read on from
            rest = rest[: self._body.nbytes]
        self._body[: rest.nbytes] = rest
        self._filled = rest.nbytes
        return self._filled == self._body.nbytes and self._finish()

    def _skip_interim(self, status: int, rest: memoryview) -> bool:
        self._interims += 1
        if status == 101 or self._interims > _MAX_INTERIM:
            raise FormatError(f"the server answers with {status}, which was not asked for")
        kept = bytes(rest)
        self._view[: len(kept)] = kept
        self._filled = len(kept)
        return self._read_head(0)

    def _take(self, data: memoryview) -> bool:
        if self._framing == "close":
            self._chunks.add(data)
            return False
        if not self._chunks.feed(data):
            return False
        if self._chunks.rest:
            self.keeps_alive = False
        self._body = memoryview(self._chunks.body)
        return self._finish()

    def _finish(self) -> bool:
        self._framing = "done"
        return True


class _Chunks:
    """A body of unknown length, with or without the framing of chunks."""

    __slots__ = ("_is_trailing", "_missing", "body", "rest")

    def __init__(self) -> None:
        self.body = bytearray()
        self.rest = bytearray()  # not understood yet; after the last chunk, what follows it
        self._missing = 0  # bytes of the chunk under way, its line end included
        self._is_trailing = False

    def add(self, data: memoryview) -> None:
        if len(self.body) + data.nbytes > MAX_BODY:
            raise FormatError(f"the answer is longer than {MAX_BODY} bytes")
        self.body += data

    def feed(self, data: memoryview) -> bool:
        """Take bytes; whether the last chunk and its trailer are there."""
        self.rest += data
        while True:
            if self._missing:
                if not self._take_data():
                    return False
                continue
            end = self.rest.find(b"\r\n")
            if end < 0:
                limit = MAX_HEAD if self._is_trailing else _MAX_CHUNK_LINE
                if len(self.rest) > limit:
                    raise FormatError("the answer's chunks cannot be read: a line without end")
                return False
            line = bytes(self.rest[:end])
            del self.rest[: end + 2]
            if self._is_trailing:
                if not line:
                    return True
            else:
                self._begin_chunk(line)

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise FormatError(f"the answer's chunks cannot be read: {line[:40]!r} is no size")
        size = int(found[1], 16)
        if size == 0:
            self._is_trailing = True
        else:
            self._missing = size + 2

    def _take_data(self) -> bool:
        """Move what there is of a chunk to the body; whether the chunk is whole."""
        size = self._missing - 2
        if size > 0:
            with memoryview(self.rest) as view:
                piece = view[:size]
                self.add(piece)
                taken = piece.nbytes
                piece.release()
            del self.rest[:taken]
            self._missing -= taken
        if self._missing > 2 or len(self.rest) < 2:
            return False
        if self.rest[:2] != b"\r\n":
            raise FormatError("the answer's chunks cannot be read: one is longer than its size")
        del self.rest[:2]
        self._missing = 0
        return True


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    reason: str
    headers: Mapping[str, str]
    keeps_alive: bool
    framing: _Framing
    length: int  # bytes of the body, where that is how it is framed
    json_length: int  # bytes of the body before its tensors


_NO_HEAD = _Head(0, "", {}, False, "head", 0, 0)


@lru_cache(maxsize=64)  # a server repeats itself
def _parse_head(head: bytes) -> _Head:
    found = _HEAD.fullmatch(head.decode("latin-1"))
    if found is None:
        raise FormatError(f"what came is not an answer of HTTP/1.1: {head[:40]!r}")
    headers: dict[str, str] = {}
    for name, value in _FIELD.findall(found[4]):
        key = name.lower()
        if key not in headers:
            headers[key] = value
        elif key != "content-length" or headers[key] != value:
            headers[key] += f", {value}"
    status = int(found[2])
    framing, length = _framing(status, headers)
    connection = headers.get("connection", "").lower()
    is_kept = "close" not in connection if found[1] == "1" else "keep-alive" in connection
    text = headers.get(_JSON_LENGTH, "")
    return _Head(
        status,
        found[3] or "",
        MappingProxyType(headers),
        is_kept and framing != "close",
        framing,
        length,
        int(text) if _NUMBER.fullmatch(text) else 0,
    )


def _framing(status: int, headers: Mapping[str, str]) -> tuple[_Framing, int]:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and (length is not None or coding.lower() != "chunked"):
        raise FormatError(
            f"the answer's length is ambiguous: Transfer-Encoding {coding!r}, "
            f"Content-Length {length!r}"
        )
    if status < 200 or status in (204, 304):
        return "length", 0
    if coding is not None:
        return "chunked", 0
    if length is None:
        return "close", 0
    if _NUMBER.fullmatch(length) is None or int(length) > MAX_BODY:
        raise FormatError(
            f"the answer's length cannot be read: expected 0..{MAX_BODY}, found {length!r}"
        )
    return "length", int(length)


def _memory(size: int, before: int) -> memoryview:
    """Room for a body, in which what follows its first ``before`` bytes is aligned."""
    gap = -before % _ALIGNMENT
    # Not zeroed, which a bytearray would be: every byte is received, or the body not used.
    room: memoryview = np.empty(size + gap, np.uint8).data
    return room[gap:]
