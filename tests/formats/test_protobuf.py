"""Walking protobuf: what onnx's own protobuf library writes comes back, nothing else does."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import MAX_STEPS, ByteSource
from nbmodel.formats.protobuf import ANY, BYTES, VARINT, Message, signed, walk

Source = Callable[[bytes], ByteSource]
MESSAGE = Message("Message", {1: ("number", VARINT), 2: ("text", BYTES), 3: ("any", ANY)})


def fields(source: ByteSource) -> list[tuple[str, int, int]]:
    return list(walk(source, 0, source.size, MESSAGE))


# The encodings of 150 and "testing" are the ones in protobuf's documentation.
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", [], id="an empty message has no fields"),
        pytest.param(b"\x08\x96\x01", [("number", 150, 3)], id="a varint comes with its value"),
        pytest.param(b"\x12\x07testing", [("text", 2, 9)], id="a text comes with its place"),
        pytest.param(b"\x08\x01\x08\x02", [("number", 1, 2), ("number", 2, 4)], id="a field may come twice"),
        pytest.param(b"\x20\x05\x2a\x01x\x08\x01", [("number", 1, 7)], id="unknown fields are stepped over"),
        pytest.param(b"\x31" + b"\0" * 8 + b"\x3d" + b"\0" * 4 + b"\x08\x01", [("number", 1, 16)], id="fixed fields are stepped over"),
        pytest.param(b"\x1d\0\0\0\0\x1a\x01x\x18\x07", [("any", 1, 5), ("any", 7, 8), ("any", 7, 10)], id="a field of any kind comes as it is"),
        pytest.param(b"\xf2\xff\xff\xff\x0f\x01x", [], id="a field number may have five bytes"),
    ],
)  # fmt: skip
def test_fields_come_in_file_order(
    source_of: Source, content: bytes, expected: list[tuple[str, int, int]]
) -> None:
    assert fields(source_of(content)) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"\x12", "field at offset 0 has no complete number", id="the length is missing"),
        pytest.param(b"\x12\x05abc", "Message.text at offset 0 reaches to offset 7, but Message ends at 5", id="a text is cut off"),
        pytest.param(b"\x2a\x05abc", "Message.field 5 at offset 0 reaches to offset 7", id="an unknown field is cut off"),
        pytest.param(b"\x3d\0\0", "reaches to offset 5, but Message ends at 3", id="a fixed field is cut off"),
        pytest.param(b"\x08" + b"\xff" * 11, "no complete number", id="a varint never ends"),
        pytest.param(b"\x80", "no complete number", id="a key is cut off"),
        pytest.param(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "reaches to offset", id="a length of 2**64"),
        pytest.param(b"\x0a\x00", "Message.number at offset 0: expected a varint field, found length-delimited", id="a text where a number belongs"),
        pytest.param(b"\x0b", "wire type 3", id="a group"),
        pytest.param(b"\x0f", "wire type 7", id="a wire type that does not exist"),
        pytest.param(b"\x00\x00", "number 0", id="field number 0"),
    ],
)  # fmt: skip
def test_broken_messages_say_where(source_of: Source, content: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem.replace("*", r"\*")):
        fields(source_of(content))


def test_a_nested_message_ends_where_its_parent_says(source_of: Source) -> None:
    source = source_of(b"\x12\x03\x12\x02ab")
    ((_, start, end),) = walk(source, 0, 5, MESSAGE)
    with pytest.raises(FormatError, match="reaches to offset 6, but Message ends at 5"):
        list(walk(source, start, end, MESSAGE))


def test_work_is_bounded(source_of: Source) -> None:
    source = source_of(b"\x08\x01" * 10)
    source.spend_steps(MAX_STEPS - 15, "what came before")
    assert len(fields(source)) == 10
    with pytest.raises(FormatError, match="Message: more than 2,000,000 fields to read"):
        fields(source)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (2**64 - 1, -1)]
)
def test_signed_numbers_are_two_complement(value: int, expected: int) -> None:
    assert signed(value) == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.text())
def test_what_protobuf_writes_comes_back(dims: list[int], name: str) -> None:
    onnx = pytest.importorskip("onnx")
    written = onnx.TensorProto(dims=dims, name=name, raw_data=b"\xff" * 20_000)
    content = written.SerializeToString()
    source = ByteSource(io.BytesIO(content), len(content))
    message = Message("TensorProto", {1: ("dims", VARINT), 8: ("name", BYTES)})
    found = list(walk(source, 0, source.size, message))
    assert [signed(value) for key, value, _ in found if key == "dims"] == dims
    names = [source.text(start, end - start, key) for key, start, end in found if key == "name"]
    assert names == [name]


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_format_error(content: bytes) -> None:
    source = ByteSource(io.BytesIO(content), len(content))
    try:
        found = fields(source)
    except FormatError:
        return
    assert len(found) <= len(content)
