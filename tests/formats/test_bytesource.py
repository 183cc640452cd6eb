"""Reading at random places: always what the file has there, never more than was allowed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import MAX_TEXT, WINDOW, ByteSource

CONTENT = bytes(range(256)) * (3 * WINDOW // 256) + b"the end"


def source() -> ByteSource:
    return ByteSource(io.BytesIO(CONTENT), len(CONTENT))


@given(
    st.lists(
        st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 2 * WINDOW)).map(
            lambda pair: (pair[0], min(pair[1], len(CONTENT) - pair[0]))
        )
    )
)
def test_reads_anywhere_in_any_order(places: list[tuple[int, int]]) -> None:
    reader = source()
    for offset, length in places:
        assert reader.read(offset, length) == CONTENT[offset : offset + length]


@given(st.lists(st.integers(0, len(CONTENT) - 1)))
def test_a_window_has_what_the_next_field_needs(offsets: list[int]) -> None:
    reader = source()
    for offset in offsets:
        window, start = reader.window(offset)
        have = window[offset - start : offset - start + 20]
        assert have == CONTENT[offset : offset + 20]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (len(CONTENT), 1), (1, 2**70)])
def test_nothing_outside_the_file_is_read(offset: int, length: int) -> None:
    with pytest.raises(FormatError, match="reach behind the end of the file"):
        source().read(offset, length)


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 3 * WINDOW)
    with path.open("rb", buffering=0) as file:
        reader = ByteSource(file, 3 * WINDOW)
        reader.read(0, 10)
        path.write_bytes(b"x" * WINDOW)
        with pytest.raises(FormatError, match="the file ends at offset"):
            reader.read(2 * WINDOW, 10)
        with pytest.raises(FormatError, match="the file ends at offset"):
            reader.window(2 * WINDOW)


def test_a_window_behind_the_end_is_an_error() -> None:
    with pytest.raises(FormatError, match="the file ends"):
        source().window(len(CONTENT))


@pytest.mark.parametrize("needle_at", [0, WINDOW - 2, WINDOW, 2 * WINDOW + 5])
def test_finds_a_word_wherever_it_is(needle_at: int) -> None:
    content = bytearray(b"." * 3 * WINDOW)
    content[needle_at : needle_at + 5] = b"magic"
    reader = ByteSource(io.BytesIO(content), len(content))
    assert reader.contains(b"magic", 0, len(content))
    assert reader.contains(b"magic", needle_at, needle_at + 5)
    assert not reader.contains(b"magic", needle_at + 1, len(content))
    assert not reader.contains(b"magic", 0, needle_at + 4)


def test_text_is_utf8() -> None:
    reader = ByteSource(io.BytesIO(b"ab\xffcd"), 5)
    with pytest.raises(
        FormatError, match="name at offset 1: expected UTF-8, found 0xff at offset 2"
    ):
        reader.text(1, 3, "name")


def test_text_is_bounded() -> None:
    reader = ByteSource(io.BytesIO(b"x" * 20), 20)
    reader.spend_text(MAX_TEXT - 10, "what came before")
    assert reader.text(0, 6, "name") == "xxxxxx"
    with pytest.raises(FormatError, match="name: more than 16,777,216 bytes of names and texts"):
        reader.text(6, 6, "name")
