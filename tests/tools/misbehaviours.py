"""How a registry can answer wrongly: each turns an honest answer into another one."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from tests.tools.hostile_answers import (
    BOUNDARY,
    ELSEWHERE,
    Answer,
    Asked,
    Fault,
    error,
    of_parts,
    one_range,
    part_of,
    ranges_of,
    several_ranges,
)

# -- misbehaviours of any answer ----------------------------------------------------------------


def failing(status: int, **headers: str) -> Fault:
    """An error instead of the answer."""
    return lambda asked, answer: error(status, "UNKNOWN").with_headers(**headers)


def truncated(at: float, *, reset: bool = False) -> Fault:
    """The connection ends after a part of the body, 0 to 1; never after all of it."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        size = len(answer.body)
        return replace(answer, cut=min(int(size * at), max(0, size - 1)), reset=reset)

    return fault


def corrupted(seed: int, *, bits: int = 0x10) -> Fault:
    """One byte of the body, at a random place, is another."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        if not answer.body:
            return answer
        body = bytearray(answer.body)
        body[Random(seed).randrange(len(body))] ^= bits
        return replace(answer, body=bytes(body))

    return fault


def dripping(piece: int = 16, pause_s: float = 0.05) -> Fault:
    """A few bytes at a time."""
    return lambda asked, answer: replace(answer, piece=piece, pause_s=pause_s)


def hanging(seconds: float = 3600.0) -> Fault:
    """It takes the request, and says nothing."""
    return lambda asked, answer: replace(answer, wait_s=seconds)


def closed(asked: Asked, answer: Answer) -> Answer:
    """It takes the request, and closes the connection."""
    return replace(answer, status=0)


def endless(asked: Asked, answer: Answer) -> Answer:
    """The body begins again and again, and no length is told."""
    filler = answer.body or b"\0" * 4096
    body = filler * (1 + 65536 // len(filler))
    return replace(answer, body=body, repeated=True, chunked=True)


def longer(asked: Asked, answer: Answer) -> Answer:
    """A kilobyte more than there should be, and the length is that of what is sent."""
    return replace(answer, body=answer.body + b"\0" * 1024)


def shorter(asked: Asked, answer: Answer) -> Answer:
    """A byte less than there should be, and the length is that of what is sent."""
    return replace(answer, body=answer.body[:-1])


def empty(asked: Asked, answer: Answer) -> Answer:
    """Nothing, and it says so."""
    return replace(answer, body=b"")


def in_chunks(asked: Asked, answer: Answer) -> Answer:
    """The right body in chunks, without its length; nothing is wrong with that."""
    return replace(answer, chunked=True)


def compressed(asked: Asked, answer: Answer) -> Answer:
    """Compressed, though nobody said that this is welcome."""
    body = gzip.compress(answer.body, mtime=0)
    return replace(answer, body=body).with_headers(Content_Encoding="gzip")


def captive_portal(asked: Asked, answer: Answer) -> Answer:
    """The page of a network that wants to be paid first."""
    page = b"<!doctype html><title>Welcome to our hotel</title><p>Please log in."
    return Answer(200, {"Content-Type": "text/html"}, page)


def not_http(asked: Asked, answer: Answer) -> Answer:
    """Bytes of another protocol."""
    return Answer(200, body=b"SSH-2.0-OpenSSH_9.6\r\n", raw=True)


def huge(asked: Asked, answer: Answer) -> Answer:
    """64 MB of JSON that begins like what was asked for."""
    body = b'{"schemaVersion":2,"name":"scale","tags":["' + b"x" * 64_000_000 + b'"]}'
    return replace(answer, body=body).with_headers(Docker_Content_Digest=None)


def deep(asked: Asked, answer: Answer) -> Answer:
    """JSON that is nested a hundred thousand times."""
    body = b'{"tags":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return replace(answer, body=body).with_headers(Docker_Content_Digest=None)


def saying(body: bytes) -> Fault:
    """Other bytes, with the headers of the right ones."""
    return lambda asked, answer: replace(answer, body=body).with_headers(Docker_Content_Digest=None)


def redirected(to: str, status: int = 307) -> Fault:
    """To another place; ``{path}`` stands for the one that was asked for."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        if asked.path.startswith(ELSEWHERE):
            return answer
        return Answer(status, {"Location": to.format(path=asked.path)})

    return fault


def looping(asked: Asked, answer: Answer) -> Answer:
    """To where it was asked for."""
    return Answer(307, {"Location": asked.path})


# -- misbehaviours of ranges --------------------------------------------------------------------


def whole_always(asked: Asked, answer: Answer) -> Answer:
    """200 with everything, whatever part was asked for; which is allowed."""
    if answer.status != 206:
        return answer
    headers = {k: v for k, v in answer.headers.items() if k != "Content-Range"}
    headers["Content-Type"] = "application/octet-stream"
    return replace(answer, status=200, headers=headers, body=answer.whole)


def single_only(asked: Asked, answer: Answer) -> Answer:
    """One range as asked, everything for several; which is allowed."""
    return answer if "Content-Range" in answer.headers else whole_always(asked, answer)


def first_only(asked: Asked, answer: Answer) -> Answer:
    """The first of several ranges alone; which is allowed."""
    ranges = ranges_of(asked.range, len(answer.whole))
    if answer.status != 206 or not ranges:
        return answer
    return one_range(replace(answer, body=answer.whole), *ranges[0])


def never_satisfied(asked: Asked, answer: Answer) -> Answer:
    """416 for every range."""
    if answer.status != 206:
        return answer
    return Answer(416, {"Content-Range": f"bytes */{len(answer.whole)}"})


def etag_changing(*, honest: bool) -> Fault:
    """An ETag that is another one each time.

    Args:
        honest: Whether a range of what had another ETag is answered with everything.
    """
    count = iter(range(1, 1_000_000))

    def fault(asked: Asked, answer: Answer) -> Answer:
        if honest and "if-range" in asked.headers:
            answer = whole_always(asked, answer)
        return answer.with_headers(ETag=f'"state-{next(count)}"')

    return fault


def without(*headers: str) -> Fault:
    """Some headers are missing."""
    return lambda asked, answer: answer.with_headers(**dict.fromkeys(headers))


def _of_range(change: Callable[[Answer, int, int], Answer]) -> Fault:
    """What changes the answer to a request for one range, from its first and last byte."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        ranges = ranges_of(asked.range, len(answer.whole))
        if answer.status != 206 or ranges is None or len(ranges) != 1:
            return answer
        return change(replace(answer, body=answer.whole), *ranges[0])

    return fault


def _moved(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, max(0, first - 7), max(0, last - 7))


def _mislabelled(whole: Answer, first: int, last: int) -> Answer:
    size = len(whole.body)
    answer = one_range(whole, max(0, first - 7), max(0, last - 7))
    return answer.with_headers(Content_Range=f"bytes {first}-{last}/{size}")


def _of_another_size(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, first, last, says=f"bytes {first}-{last}/{len(whole.body) + 1}")


def _halved(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, first, (first + last) // 2)


def _one_byte(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, first, first)


def _beyond(whole: Answer, first: int, last: int) -> Answer:
    size = len(whole.body)
    return replace(
        one_range(whole, first, last), body=whole.body[first:] + b"\0" * 4096
    ).with_headers(Content_Range=f"bytes {first}-{size + 4095}/{size + 4096}")


def _unsaid(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, first, last).with_headers(Content_Range=None)


def _unreadable(whole: Answer, first: int, last: int) -> Answer:
    return one_range(whole, first, last, says="bytes 0x10-banana/-3")


#: Wrong answers to a request for one range.
WRONG_RANGES: Mapping[str, Fault] = {
    "another range": _of_range(_moved),
    "another range, called the right one": _of_range(_mislabelled),
    "a range of a file of another size": _of_range(_of_another_size),
    "half the range": _of_range(_halved),
    "a byte of the range": _of_range(_one_byte),
    "more than the range": _of_range(_beyond),
    "a range that does not say which": _of_range(_unsaid),
    "a range that cannot be read": _of_range(_unreadable),
    "no range can be satisfied": never_satisfied,
    "200 for 206": whole_always,
    "an ETag that changes": etag_changing(honest=True),
    "an ETag that changes, with ranges all the same": etag_changing(honest=False),
    "no ETag": without("ETag"),
}


def _of_several(change: Callable[[Answer, list[tuple[int, int]]], Answer]) -> Fault:
    """What changes the answer to a request for several ranges."""

    def fault(asked: Asked, answer: Answer) -> Answer:
        ranges = ranges_of(asked.range, len(answer.whole))
        if answer.status != 206 or ranges is None or len(ranges) < 2:
            return answer
        return change(replace(answer, body=answer.whole), ranges)

    return fault


def _one_missing(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return several_ranges(whole, ranges[:-1])


def _in_reverse(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return several_ranges(whole, ranges[::-1])


def _joined(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return one_range(whole, ranges[0][0], ranges[-1][1])


def _one_twice(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return several_ranges(whole, [ranges[0], *ranges])


def _one_moved(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    first, last = ranges[-1]
    return several_ranges(whole, [*ranges[:-1], (max(0, first - 7), max(0, last - 7))])


def _parts(whole: Answer, ranges: list[tuple[int, int]]) -> list[bytes]:
    size, body = len(whole.body), whole.body
    return [part_of(f"bytes {a}-{b}/{size}", body[a : b + 1]) for a, b in ranges]


def _one_mislabelled(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    (a, b), size = ranges[0], len(whole.body)
    wrong = part_of(f"bytes {a}-{b}/{size}", whole.body[a + 1 : b + 2])
    return of_parts(whole, [wrong, *_parts(whole, ranges[1:])])


def _one_short(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    (a, b), size = ranges[0], len(whole.body)
    wrong = part_of(f"bytes {a}-{b}/{size}", whole.body[a:b])
    return of_parts(whole, [wrong, *_parts(whole, ranges[1:])])


def _another_boundary(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return several_ranges(whole, ranges).with_headers(
        Content_Type="multipart/byteranges; boundary=something-else"
    )


def _no_boundary(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    return several_ranges(whole, ranges).with_headers(Content_Type="multipart/byteranges")


def _cut_in_a_part(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    answer = several_ranges(whole, ranges)
    return replace(answer, cut=len(answer.body) * 2 // 3)


def _no_end(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    answer = several_ranges(whole, ranges)
    return replace(answer, body=answer.body.removesuffix(f"--{BOUNDARY}--\r\n".encode()))


def _huge_head(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    head = f"--{BOUNDARY}\r\nX-Padding: ".encode() + b"x" * 32_000_000
    return of_parts(whole, [head, *_parts(whole, ranges)])


def _endless_parts(whole: Answer, ranges: list[tuple[int, int]]) -> Answer:
    answer = of_parts(whole, _parts(whole, ranges[:1]))
    return replace(answer, body=answer.body.removesuffix(b"--\r\n"), repeated=True, chunked=True)


#: Wrong, or unusual, answers to a request for several ranges.
WRONG_PARTS: Mapping[str, Fault] = {
    "everything for several ranges": single_only,
    "the first range alone": first_only,
    "one range over all of them": _of_several(_joined),
    "a part is missing": _of_several(_one_missing),
    "parts in reverse": _of_several(_in_reverse),
    "a part twice": _of_several(_one_twice),
    "a part of another place": _of_several(_one_moved),
    "a part that is not what it says": _of_several(_one_mislabelled),
    "a part that is shorter than it says": _of_several(_one_short),
    "parts between other boundaries": _of_several(_another_boundary),
    "parts without a boundary": _of_several(_no_boundary),
    "cut within a part": _of_several(_cut_in_a_part),
    "parts without an end": _of_several(_no_end),
    "a part with a huge head": _of_several(_huge_head),
    "parts for ever": _of_several(_endless_parts),
}
