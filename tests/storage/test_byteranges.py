from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.errors import FormatError
from nbmodel.storage.byteranges import ContentRange, Parts, asked_ranges, boundary_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("bytes 0-99/200", (0, 100, 200), id="of a known whole"),
        pytest.param("bytes 5-5/*", (5, 6, None), id="of an unknown whole"),
        pytest.param("Bytes  7-9/10 ", (7, 10, 10), id="in other letters"),
        pytest.param(None, None, id="no header"),
        pytest.param("bytes */200", None, id="no range could be given"),
        pytest.param("bytes 9-5/200", None, id="backwards"),
        pytest.param("bytes 0-200/200", None, id="longer than the whole"),
        pytest.param("lines 0-9/10", None, id="no bytes"),
        pytest.param("bytes 0-9/10, 3", None, id="something behind it"),
        pytest.param(f"bytes 0-{10**30}/*", None, id="too many digits"),
        pytest.param("bytes ¹-²/³", None, id="other digits"),
    ],
)
def test_content_ranges(text: str | None, found: tuple[int, int, int | None] | None) -> None:
    assert ContentRange.parse(text) == found


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        pytest.param("multipart/byteranges; boundary=abc", b"abc", id="plain"),
        pytest.param('Multipart/ByteRanges; boundary="a b:c"', b"a b:c", id="quoted"),
        pytest.param("multipart/byteranges", None, id="without a boundary"),
        pytest.param("multipart/mixed; boundary=abc", None, id="of something else"),
        pytest.param("application/octet-stream", None, id="not multipart"),
        pytest.param("multipart/byteranges; boundary=" + "x" * 71, None, id="too long"),
        pytest.param("multipart/byteranges; boundary=é", None, id="not of these letters"),
        pytest.param(None, None, id="no header"),
    ],
)
def test_boundaries(content_type: str | None, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


# The example of RFC 9110 §15.3.7.2, its bodies shortened.
EXAMPLE = (
    b"--THIS_STRING_SEPARATES\r\n"
    b"Content-Type: application/pdf\r\n"
    b"Content-Range: bytes 500-509/8000\r\n"
    b"\r\n"
    b"0123456789\r\n"
    b"--THIS_STRING_SEPARATES\r\n"
    b"Content-Type: application/pdf\r\n"
    b"Content-Range: bytes 7000-7006/8000\r\n"
    b"\r\n"
    b"\r\n--THI\r\n"
    b"--THIS_STRING_SEPARATES--\r\n"
)


def pieces(body: bytes, length: int) -> Iterator[bytes]:
    return (body[at : at + length] for at in range(0, len(body), length))


@given(st.integers(1, len(EXAMPLE)))
def test_parts_are_read_however_the_body_is_cut(length: int) -> None:
    parts = Parts(pieces(EXAMPLE, length), b"THIS_STRING_SEPARATES")
    assert parts.following() == (500, 510, 8000)
    assert b"".join(parts.take(10)) == b"0123456789"
    assert parts.following() == (7000, 7007, 8000)
    assert b"".join(parts.take(7)) == b"\r\n--THI", "what looks like a boundary may be content"
    assert parts.following() is None


def test_something_may_stand_before_the_first_part() -> None:
    parts = Parts(iter([b"\r\nnot a part\r\n", EXAMPLE]), b"THIS_STRING_SEPARATES")
    assert parts.following() == (500, 510, 8000)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "ends before", id="empty"),
        pytest.param(EXAMPLE[:40], "ends before", id="cut in a head"),
        pytest.param(b"--b\r\nContent-Type: x\r\n\r\n", "does not say which", id="no range"),
        pytest.param(b"--b\r\nContent-Range: x\r\n\r\n", "does not say which", id="no such range"),
        pytest.param(b"x" * 100_000, "expected a part", id="one long line"),
        pytest.param(b"x\r\n" * 100_000, "expected a part", id="many lines"),
    ],
)
def test_what_is_no_multipart_body_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Parts(pieces(body, 1000), b"b").following()


def test_a_part_that_ends_too_early_is_refused() -> None:
    parts = Parts(iter([EXAMPLE[:120]]), b"THIS_STRING_SEPARATES")
    parts.following()
    with pytest.raises(FormatError, match="ends before"):
        list(parts.take(1000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, None, id="no header"),
        pytest.param("bytes=0-9", [(0, 10)], id="the first bytes"),
        pytest.param("bytes=90-", [(90, 100)], id="from there on"),
        pytest.param("bytes=-5", [(95, 100)], id="the last bytes"),
        pytest.param("bytes=-500", [(0, 100)], id="more of the last than there are"),
        pytest.param("bytes=90-500", [(90, 100)], id="past the end"),
        pytest.param("bytes=100-", [], id="behind the end"),
        pytest.param("bytes=-0", [], id="none of the last"),
        pytest.param("bytes=50-59, 0-9", [(0, 10), (50, 60)], id="several"),
        pytest.param("bytes=0-9,10-19,15-29", [(0, 30)], id="that touch"),
        pytest.param("bytes=0-9,200-", [(0, 10)], id="one of them not there"),
        pytest.param("bytes=9-0", None, id="backwards"),
        pytest.param("bytes=a-b", None, id="no numbers"),
        pytest.param("bytes=-", None, id="neither end"),
        pytest.param("bytes=0-" + "9" * 19, None, id="a number without end"),
        pytest.param("lines=0-9", None, id="of something else"),
        pytest.param("bytes=" + ",".join(["0-0"] * 101), None, id="too many"),
    ],
)
def test_ranges_are_asked_for_as_the_standard_says(
    text: str | None, expected: list[tuple[int, int]] | None
) -> None:
    assert asked_ranges(text, 100) == expected
