"""Protobuf's wire format in memory. Expected bytes are protobuf's own."""

from __future__ import annotations

import numpy as np
import pytest

from nbmodel.errors import FormatError
from nbmodel.protocol.wire import MAX_FIELDS, fields, fixed_list, key_of, text, varint

F4 = np.dtype("<f4")
U8 = np.dtype("<u8")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(0, "00", id="zero"),
        pytest.param(127, "7f", id="the last of one byte"),
        pytest.param(150, "9601", id="the example of the specification"),
        pytest.param(2**64 - 1, "ffffffffffffffffff01", id="the largest"),
    ],
)
def test_a_number_is_written_as_the_specification_has_it(value: int, expected: str) -> None:
    assert varint(value).hex() == expected


def test_fields_come_in_order_with_their_content() -> None:
    # field 1 = 150, field 2 = "testing", field 3 = fixed32 1, field 4 = fixed64 2
    data = bytes.fromhex("089601 120774657374696e67 1d01000000 210200000000000000")
    found = [
        (number, kind, bytes(content)) for number, kind, content in fields(memoryview(data), "M")
    ]
    assert found == [
        (1, 0, b"\x96\x01"),
        (2, 2, b"testing"),
        (3, 5, b"\1\0\0\0"),
        (4, 1, b"\2\0\0\0\0\0\0\0"),
    ]


def test_a_large_field_number_and_length_are_written_for_its_content() -> None:
    # protobuf writes field 99 of 300 bytes as 9a 06 ac 02
    assert key_of(99, 300).hex() == "9a06ac02"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param("08", "no complete number", id="a key without a value"),
        pytest.param("0880", "no complete number", id="a number that goes on behind the end"),
        pytest.param("08ffffffffffffffffffff01", "no complete number", id="a number of 11 bytes"),
        pytest.param("0a0541", "truncated", id="text behind the end"),
        pytest.param("0affffffffffffffffff01", "truncated", id="a length near 2**64"),
        pytest.param("0d0000", "truncated", id="a fixed number behind the end"),
        pytest.param("0b", "wire type 3", id="a group"),
        pytest.param("0f", "wire type 7", id="a wire type that there is not"),
        pytest.param("0001", "number 0", id="field number 0"),
        pytest.param("808080801001", "number 536870912", id="a field number of 30 bits"),
    ],
)
def test_what_is_no_message_is_refused_with_the_message_name(data: str, message: str) -> None:
    with pytest.raises(FormatError, match=f"Thing.*{message}"):
        list(fields(memoryview(bytes.fromhex(data)), "Thing"))


def test_a_message_of_endless_tiny_fields_is_refused() -> None:
    with pytest.raises(FormatError, match="more than 65,536 fields"):
        list(fields(memoryview(b"\x08\x01" * (MAX_FIELDS + 1)), "Thing"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("0a08 0000803f 00000040", id="packed"),
        pytest.param("0d 0000803f 0d 00000040", id="unpacked"),
        pytest.param("0a04 0000803f 0a04 00000040", id="packed in two pieces"),
        pytest.param("0a04 0000803f 0d 00000040", id="packed, then unpacked"),
        pytest.param("0d 0000803f 0a04 00000040", id="unpacked, then packed"),
        pytest.param("0d 0000803f 1001 0d 00000040", id="with a field of later versions between"),
    ],
)
def test_a_list_of_floats_is_read_however_it_was_written(data: str) -> None:
    found = fixed_list(memoryview(bytes.fromhex(data)), 1, F4, "M")
    np.testing.assert_array_equal(found, np.float32([1, 2]))


def test_a_hundred_thousand_unpacked_floats_are_one_view() -> None:
    record = np.zeros(100_000, [("key", "u1"), ("value", "<f4")])
    record["key"], record["value"] = 0x0D, np.arange(100_000)
    found = fixed_list(memoryview(record.tobytes()), 1, F4, "M")
    np.testing.assert_array_equal(found, np.arange(100_000, dtype=np.float32))


def test_a_packed_list_is_no_copy() -> None:
    data = bytes.fromhex("0a08 0000803f 00000040")
    assert not fixed_list(memoryview(data), 1, F4, "M").flags.owndata


def test_an_absent_list_is_empty() -> None:
    assert fixed_list(memoryview(b""), 1, U8, "M").size == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("0a03 000000", id="a packed list of three bytes"),
        pytest.param("0801", id="a varint"),
        pytest.param("09 0000000000000000", id="an entry of the wrong width"),
    ],
)
def test_what_is_no_list_of_floats_is_refused(data: str) -> None:
    with pytest.raises(FormatError, match="expected elements of 4 bytes"):
        fixed_list(memoryview(bytes.fromhex(data)), 1, F4, "M")


def test_text_that_is_not_utf8_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match="the name is not UTF-8"):
        text(memoryview(b"\xff"), "the name")
