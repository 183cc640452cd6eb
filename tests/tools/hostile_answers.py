"""What is asked of a registry and what it answers: values, and ranges of a body.

Source: RFC 9110 §14 (ranges), §15.3.7 (``multipart/byteranges``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

BOUNDARY = "3d6b6a416f9b5"
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")

Kind = Literal["ping", "tags", "manifest", "blob", "upload", "other"]

ELSEWHERE = "/elsewhere"  # what is under it is what is without it: where redirects lead
MOST_SENT = 512 * 1024 * 1024  # bytes of one answer; a client that takes more is broken
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came.

    Attributes:
        method: In capitals.
        path: With the query.
        kind: What is asked for.
        name: The repository, or empty.
        reference: The tag or digest, or empty.
        headers: By name in lower case.
        content: The body.
    """

    method: str
    path: str
    kind: Kind
    name: str
    reference: str
    headers: Mapping[str, str]
    content: bytes = b""

    @property
    def range(self) -> str | None:
        """What parts it wants, as it says them."""
        return self.headers.get("range")

    @property
    def authorization(self) -> str | None:
        """What it shows."""
        return self.headers.get("authorization")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back, and how.

    Attributes:
        status: Of HTTP; 0: nothing, the connection is closed.
        headers: Without Content-Length, which is that of ``body`` unless it is given.
        body: The bytes.
        cut: The connection ends after this many bytes of the body; None: it does not.
        reset: Whether it ends with a reset instead of an orderly close.
        piece: Bytes sent at a time.
        pause_s: Seconds before each piece.
        wait_s: Seconds before the head.
        repeated: Send the body again and again, to ``MOST_SENT`` bytes.
        chunked: Send it in chunks, without its length.
        raw: Send the body alone, without a head.
        whole: All bytes of what was asked for, whichever of them ``body`` has.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    reset: bool = False
    piece: int = 256 * 1024
    pause_s: float = 0.0
    wait_s: float = 0.0
    repeated: bool = False
    chunked: bool = False
    raw: bool = False
    whole: bytes = b""

    def with_headers(self, **headers: str | None) -> Answer:
        """The same with other headers; ``_`` stands for ``-``, None takes one away."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {**self.headers, **named}
        return replace(self, headers={k: v for k, v in kept.items() if v is not None})


Fault = Callable[[Asked, Answer], Answer]


def error(status: int, code: str) -> Answer:
    """An error in the specification's form."""
    return as_json(status, {"errors": [{"code": code, "message": code.lower(), "detail": None}]})


def as_json(status: int, data: object) -> Answer:
    """JSON."""
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(data).encode())


def conditional(asked: Asked, answer: Answer) -> Answer:
    """304 for who has it, else the answer."""
    if asked.headers.get("if-none-match") == answer.headers["ETag"]:
        return Answer(304, {"ETag": answer.headers["ETag"]})
    return answer


def ranges_of(text: str | None, size: int) -> list[tuple[int, int]] | None:
    """First and last byte of each range that a Range header asks for.

    None: there is no such header, or one that means nothing. Ranges that lie behind the end
    are left out.
    """
    if text is None or not text.startswith("bytes="):
        return None
    found = []
    for part in text.removeprefix("bytes=").split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None or part.strip() == "-":
            return None
        if not match[1]:
            first, last = max(0, size - int(match[2])), size - 1
        else:
            first, last = int(match[1]), int(match[2] or size)
        if first < size and first <= last:
            found.append((first, min(last, size - 1)))
    return found


def ranged(asked: Asked, whole: Answer) -> Answer:
    """The part that was asked for, under the condition that was set, else everything."""
    condition = asked.headers.get("if-range")
    if condition is not None and condition != whole.headers["ETag"]:
        return whole
    ranges = ranges_of(asked.range, len(whole.body))
    if ranges is None:
        return whole
    if not ranges:
        return Answer(416, {"Content-Range": f"bytes */{len(whole.body)}"})
    if len(ranges) == 1:
        return one_range(whole, *ranges[0])
    return several_ranges(whole, ranges)


def one_range(whole: Answer, first: int, last: int, *, says: str | None = None) -> Answer:
    """The 206 for one range; ``says``: its Content-Range, where it is not the true one."""
    told = f"bytes {first}-{last}/{len(whole.body)}" if says is None else says
    partial = replace(whole, status=206, body=whole.body[first : last + 1])
    return partial.with_headers(Content_Range=told)


def several_ranges(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    """The 206 for several ranges."""
    size = len(whole.body)
    parts = [
        part_of(f"bytes {first}-{last}/{size}", whole.body[first : last + 1])
        for first, last in ranges
    ]
    return of_parts(whole, parts)


def part_of(content_range: str, data: bytes) -> bytes:
    """One part of a ``multipart/byteranges`` body."""
    head = f"Content-Type: application/octet-stream\r\nContent-Range: {content_range}\r\n\r\n"
    return f"--{BOUNDARY}\r\n{head}".encode() + data + b"\r\n"


def of_parts(whole: Answer, parts: list[bytes]) -> Answer:
    """The 206 of these parts."""
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    partial = replace(whole, status=206, body=body)
    return partial.with_headers(Content_Type=f"multipart/byteranges; boundary={BOUNDARY}")
