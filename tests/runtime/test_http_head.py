"""Heads and chunks from bytes; h11 is asked whether it reads the same."""

from __future__ import annotations

import random

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("httptools", reason="pip install 'nbmodel[runtime]'")
from nbmodel.runtime.http_head import ChunkedBody, Head, RefusedError, parse_head

HEADS = [
    b"POST /v2/models/m/infer?a=b HTTP/1.1\r\nHost: a:1\r\nContent-Length: 12\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"GET http://b:2/a%2Fb HTTP/1.1\r\nhost:a\r\nConnection: keep-alive, Close\r\n\r\n",
    b"PUT / HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\nX: \xe9 y\r\n\r\n",
]
#: What matters to framing, put where it may not be.
PIECES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b",", b";", b"1", b"-", b"\x7f", b"\xff"]
PIECES += [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1", b"chunked"]

CHUNKS = [b"5\r\nabcde\r\n", b"3;x=y\r\nabc\r\n", b"0\r\n", b"\r\n", b"A: b\r\n", b"0\r\n\r\n"]
CHUNKS += [b"\n", b"\r", b"f", b"1\r\na", b"GET / HTTP/1.1\r\n", b"ffffffff\r\n", b" "]


def parse(data: bytes) -> Head | None:
    try:
        return parse_head(data, max_headers=100)
    except RefusedError as exc:
        if exc.status not in (400, 417, 431):
            raise
        return None


def read_by_h11(data: bytes) -> tuple[str, int | None]:
    """Method and length of the body (None: chunked) of a head."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    headers = dict(request.headers)
    if b"transfer-encoding" in headers:
        return request.method.decode(), None
    return request.method.decode(), int(headers.get(b"content-length", b"0"))


def mutated(head: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(head) - 3)
        piece = rng.choice(PIECES) if rng.random() < 0.8 else bytes([rng.randrange(256)])
        head = head[:at] + piece + head[at + rng.choice((0, 0, 1, len(piece))) :]
    return head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def check_mutations(count: int, seed: int) -> int:
    rng, accepted = random.Random(seed), 0
    for _ in range(count):
        data = mutated(rng.choice(HEADS), rng)
        head = parse(data)
        if head is not None:
            accepted += 1
            assert (head.method, head.length) == read_by_h11(data), data
    return accepted


def test_what_is_accepted_is_read_as_h11_reads_it() -> None:
    assert check_mutations(3000, seed=1) > 300


@pytest.mark.slow
def test_what_is_accepted_is_read_as_h11_reads_it_two_hundred_thousand_times() -> None:
    assert check_mutations(200_000, seed=2) > 20_000


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (HEADS[0], ("POST", "/v2/models/m/infer", 12, True, False)),
        (HEADS[1], ("POST", "/a", None, True, True)),
        (HEADS[2], ("GET", "/a%2Fb", 0, False, False)),
        (HEADS[3], ("PUT", "/", 0, True, False)),
    ],
)
def test_a_head_is_read(data: bytes, head: tuple[str, str, int | None, bool, bool]) -> None:
    read = parse(data)
    assert read is not None
    assert (read.method, read.path, read.length, read.keep_alive, read.expects_continue) == head


def test_headers_are_by_lower_case_name_and_joined() -> None:
    head = parse(b"GET / HTTP/1.1\r\nHOST: a\r\nX-A: 1\r\nx-a:\t2 \r\nEmpty:\r\n\r\n")
    assert head is not None
    assert head.headers == {"host": "a", "x-a": "1, 2", "empty": ""}


def test_an_unknown_expectation_cannot_be_met() -> None:
    with pytest.raises(RefusedError) as caught:
        parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200\r\n\r\n", max_headers=9)
    assert caught.value.status == 417


def outcome(parts: list[bytes]) -> tuple[object, ...]:
    """What becomes of a chunked body that comes in these parts."""
    body, used = ChunkedBody(max_bytes=40, max_trailer_bytes=40), 0
    try:
        for part in parts:
            used += body.feed(memoryview(part))
    except RefusedError as exc:
        return (exc.status,)
    return bytes(body.data), used, body.is_done


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(CHUNKS),
        max_size=12,
    ),
    seed=st.integers(0, 2**32),
)
@example(pieces=[b"1\r\na", b"\r\n", b"0\r\n\r\n", b"rest"], seed=0)
def test_it_does_not_matter_how_a_chunked_body_is_cut(pieces: list[bytes], seed: int) -> None:
    whole, rng = b"".join(pieces), random.Random(seed)
    cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randint(0, 9)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert outcome(parts) == outcome([whole])
