from __future__ import annotations

import numpy as np
import pytest

from nbmodel.errors import FormatError, InputError
from nbmodel.inference.http1 import (
    MAX_BODY,
    MAX_HEAD,
    Answer,
    ResponseReader,
    field_lines,
    request_head,
)


def read(data: bytes, *, piece: int | None = None, ends: bool = False) -> ResponseReader:
    """A reader that was given ``data`` in pieces, and perhaps the end of the stream."""
    reader = ResponseReader(bytearray(MAX_HEAD))
    is_whole, position = False, 0
    while position < len(data) and not is_whole:
        room = reader.buffer()
        assert room.nbytes > 0
        taken = data[position : position + min(room.nbytes, piece or len(data))]
        room[: len(taken)] = taken
        position += len(taken)
        is_whole = reader.received(len(taken))
    if ends and not is_whole:
        reader.closed()
        is_whole = True
    assert is_whole, "the answer is not whole"
    return reader


LONG = bytes(range(256)) * 200

ANSWERS = [
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True, id="with a length"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 51200\r\n\r\n" + LONG, LONG, True, id="a long body"
    ),
    pytest.param(b"HTTP/1.1 400 \r\ncontent-length:0\r\n\r\n", b"", True, id="nothing"),
    pytest.param(b"HTTP/1.1 204\r\n\r\n", b"", True, id="no content, no reason"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n",
        b"hello",
        True,
        id="in chunks",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nC800\r\n"
        + LONG
        + b"\r\n0\r\nTrailer: 1\r\n\r\n",
        LONG,
        True,
        id="a long chunk and a trailer",
    ),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        True,
        id="an interim answer first",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        False,
        id="a last answer",
    ),
    pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False, id="of HTTP/1.0"),
    pytest.param(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        True,
        id="of HTTP/1.0 that goes on",
    ),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False, id="no length"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
        True,
        id="the same length twice",
    ),
]


@pytest.mark.parametrize("piece", [None, 1, 7, 4096])
@pytest.mark.parametrize(("data", "body", "keeps_alive"), ANSWERS)
def test_an_answer_is_read_in_whatever_pieces_it_comes(
    data: bytes, body: bytes, keeps_alive: bool, piece: int | None
) -> None:
    reader = read(data, piece=piece, ends=b"until the end" in data)
    assert bytes(reader.answer().body) == body
    assert reader.keeps_alive is keeps_alive


def test_head_and_headers_are_given_by_lower_case_name() -> None:
    answer = read(
        b"HTTP/1.1 503 Not now \r\nX-One:  a b\t\r\nx-TWO: 1\r\nx-two: 2\r\nContent-Length: 0\r\n\r\n"
    ).answer()
    assert (answer.status, answer.reason) == (503, "Not now ")
    assert dict(answer.headers) == {"x-one": "a b", "x-two": "1, 2", "content-length": "0"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n", "not an answer of HTTP", id="another protocol"),
        pytest.param(b"HTTP/2 200\r\n\r\n", "not an answer of HTTP", id="another version"),
        pytest.param(b"HTTP/1.1 99 No\r\n\r\n", "not an answer of HTTP", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: 1\n\r\n\r\n", "not an answer", id="a bare line feed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n", "not an answer", id="a folded line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", "not an answer", id="a blank in a name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "not an answer", id="a null"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "length cannot be read",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ambiguous",
            id="a length with chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "ambiguous", id="gzip"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "length cannot", id="a signed length"
        ),
        pytest.param(
            f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode(),
            "length cannot",
            id="longer than is read",
        ),
        pytest.param(b"HTTP/1.1 101 Up\r\n\r\n", "101", id="another protocol from here"),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 40, "100", id="interim answers for ever"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEAD, "longer than 16384", id="too long a head"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "no size", id="no size"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello",
            "longer than its size",
            id="a chunk that is too long",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 400,
            "a line without end",
            id="a size without end",
        ),
    ],
)
@pytest.mark.parametrize("piece", [None, 1])
def test_what_is_no_answer_is_refused(data: bytes, says: str, piece: int | None) -> None:
    with pytest.raises(FormatError, match=says):
        read(data, piece=piece)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
    ],
)
def test_an_answer_that_breaks_off_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="in the middle"):
        read(data, ends=True)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nmore",
    ],
)
def test_nothing_is_read_on_after_bytes_that_nobody_asked_for(data: bytes) -> None:
    reader = read(data)
    assert bytes(reader.answer().body) == b"hi"
    assert not reader.keeps_alive


@pytest.mark.parametrize("before", [0, 1, 63, 64, 111])
def test_tensors_after_json_of_any_length_are_aligned_and_writable(before: int) -> None:
    numbers = np.arange(10_000, dtype=np.float64)
    body = b" " * before + numbers.tobytes()
    head = f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {before}\r\n"
    answer = read(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body).answer()
    found = np.frombuffer(answer.body, np.float64, offset=before)
    assert found.flags.aligned
    assert found.flags.writeable
    np.testing.assert_array_equal(found, numbers)


def test_the_scratch_is_free_for_the_next_answer() -> None:
    scratch = bytearray(MAX_HEAD)

    def one(body: bytes) -> Answer:
        reader = ResponseReader(scratch)
        data = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        reader.buffer()[: len(data)] = data
        assert reader.received(len(data))
        return reader.answer()

    first, second = one(b"first"), one(b"other")
    assert (bytes(first.body), bytes(second.body)) == (b"first", b"other")


def test_a_request_head_says_where_what_and_how_long() -> None:
    fields = field_lines({"Host": "h:1", "X-Two": "a b"})
    assert request_head("POST", "/v2/a%20b", fields, 12) == (
        b"POST /v2/a%20b HTTP/1.1\r\nHost: h:1\r\nX-Two: a b\r\nContent-Length: 12\r\n\r\n"
    )


@pytest.mark.parametrize(
    "headers", [{"A": "1\r\nB: 2"}, {"A": "1\n"}, {"A b": "1"}, {"": "1"}, {"A": "\0"}, {"A:": "1"}]
)
def test_a_header_that_would_be_two_is_not_sent(headers: dict[str, str]) -> None:
    with pytest.raises(InputError, match="not an HTTP header"):
        field_lines(headers)
