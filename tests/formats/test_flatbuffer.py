"""Reading flatbuffers: what the flatbuffers library writes comes back, nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.flatbuffer import Table, root

Source = Callable[[bytes], ByteSource]
Write = Callable[[Mapping[int, Any], bytes], bytes]


@pytest.fixture
def table(flatbuffer: Write, source_of: Source) -> Table:
    content = flatbuffer(
        {
            0: ("i", -7),
            1: "text",
            2: [{0: "first"}, {0: "second"}],
            3: ("f", [0.5, -2.0]),
            4: ("q", [2**40, -1]),
            5: ["a", "b"],
            6: {1: ("f", 1.5)},
            7: b"\x01\x02\x03",
            9: ("Q", 2**63),
        },
        b"TEST",
    )
    return root(source_of(content), 0, len(content), b"TEST", "")


def test_everything_written_comes_back(table: Table, source_of: Source) -> None:
    assert table.integer(0, "i") == -7
    assert table.integer(9, "Q") == 2**63
    assert table.text(1, "name") == "text"
    assert [item.text(0, "name") for item in table.tables(2, "items", 2)] == ["first", "second"]
    assert table.item(2, "items", 1).text(0, "name") == "second"
    assert table.count(2, "items") == 2
    assert table.numbers(3, "floats", "f", 2) == (0.5, -2.0)
    assert table.numbers(4, "longs", "q", 2) == (2**40, -1)
    assert table.texts(5, "texts", 2) == ("a", "b")
    inner = table.table(6, "inner")
    assert inner is not None
    assert (inner.real(1), inner.path) == (1.5, "inner")
    start, end = table.span(7, "bytes")
    assert end - start == 3


def test_what_is_absent_has_its_default(table: Table) -> None:
    for index in (8, 99):  # within the vtable, and behind it
        assert table.integer(index, "i", default=4) == 4
        assert table.real(index) == 0
        assert table.text(index, "name") == ""
        assert table.table(index, "table") is None
        assert list(table.tables(index, "tables", 1)) == []
        assert table.numbers(index, "numbers", "i", 1) == ()
        assert table.texts(index, "texts", 1) == ()
        assert table.span(index, "bytes") == (0, 0)


def test_vectors_are_no_longer_than_expected(table: Table) -> None:
    with pytest.raises(FormatError, match="items has 2 entries, expected ≤ 1"):
        list(table.tables(2, "items", 1))
    with pytest.raises(FormatError, match="items has 2 entries, found index 2"):
        table.item(2, "items", 2)
    with pytest.raises(FormatError, match="items has 2 entries, found index -1"):
        table.item(2, "items", -1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"\x0c\0\0\0TEST", "the file has 8 bytes", id="too short"),
        pytest.param(b"\x0c\0\0\0ELSEmore", "expected b'TEST' at offset 4, found b'ELSE'", id="another schema"),
        pytest.param(b"\xff\xff\xff\x7fTESTmore", "offset 2,147,483,647 is outside, but the data ends at 12", id="the root is outside"),
        pytest.param(b"\x08\0\0\0TEST\xff\xff\xff\x7f", "vtable: offset -2,147,483,639 is outside", id="the vtable is before the file"),
        pytest.param(b"\x08\0\0\0TEST\0\0\0\x80", "vtable: offset 2,147,483,656 is outside", id="the vtable is behind the file"),
        pytest.param(b"\x08\0\0\0TEST\x02\0\0\0", "malformed vtable at offset 6", id="the vtable reaches outside"),
        pytest.param(b"\x0c\0\0\0TEST\x03\0\x04\0\x04\0\0\0", "malformed vtable", id="the vtable has an odd length"),
    ],
)  # fmt: skip
def test_a_broken_root_is_an_error(source_of: Source, content: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        root(source_of(content), 0, len(content), b"TEST", "")


def vector_file(count: int, offset: int) -> bytes:
    """A root table whose only field points ``offset`` bytes on, to a vector of ``count``."""
    vtable = b"\x06\0\x08\0\x04\0\0\0"
    table = (8).to_bytes(4, "little") + offset.to_bytes(4, "little")
    return b"\x10\0\0\0TEST" + vtable + table + count.to_bytes(4, "little") + b"\0" * 8


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(vector_file(3, 4), "offset 24 has 3 entries of 4 bytes, but the data ends at 36", id="longer than the file"),
        pytest.param(vector_file(2**32 - 1, 4), "4,294,967,295 entries", id="a count of 2**32"),
        pytest.param(vector_file(1, 1000), "points to 1,020", id="outside the file"),
        pytest.param(vector_file(1, 0), "points to 20", id="pointing at itself"),
    ],
)  # fmt: skip
def test_a_vector_that_leads_outside_is_an_error(
    source_of: Source, content: bytes, problem: str
) -> None:
    table = root(source_of(content), 0, len(content), b"TEST", "")
    with pytest.raises(FormatError, match=problem):
        table.numbers(0, "numbers", "i", 2**40)


def test_a_text_that_leads_outside_is_an_error(source_of: Source) -> None:
    content = vector_file(9, 4)
    table = root(source_of(content), 0, len(content), b"TEST", "")
    with pytest.raises(FormatError, match="name at offset 24 is 9 bytes long"):
        table.text(0, "name")
