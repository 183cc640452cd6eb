"""Walking protobuf messages in a file, field by field, without keeping them.

Only what is asked for is yielded; everything else is stepped over by its length, so a
gigabyte of weights costs one read of a few bytes. Nothing here knows ONNX.

Source: Protocol Buffers, "Encoding" (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import ByteSource

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
#: A field that may be packed or not: yielded whatever its wire type.
ANY = -1
_KINDS = {VARINT: "varint", FIXED64: "64-bit", BYTES: "length-delimited", FIXED32: "32-bit"}


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a message that a reader wants.

    Attributes:
        name: As the .proto file has it, for messages.
        fields: Field number → (name, wire type).
    """

    name: str
    fields: Mapping[int, tuple[str, int]]


def walk(
    source: ByteSource, start: int, end: int, message: Message
) -> Iterator[tuple[str, int, int]]:
    """The wanted fields of one message, in the order of the file.

    Args:
        source: The file.
        start: Where the message begins.
        end: Where it ends; at most the size of the file.
        message: What is wanted.

    Yields:
        The field's name and, for a varint, its value (unsigned) and the offset behind it;
        for anything else the offsets where its content begins and ends.

    Raises:
        FormatError: The bytes are no protobuf message, a wanted field has another wire
            type, or the file has asked for too much work.
    """
    wanted = message.fields
    position = start
    while position < end:
        source.spend_steps(1, message.name)
        window, base = source.window(position)
        at = position - base
        key, value = window[at], 0
        if key < 0x80:  # one byte, as nearly always
            at += 1
        else:
            key, at = _varint(window, at, position, message)
        number, kind = key >> 3, key & 7
        if kind in (BYTES, VARINT):
            value, at = _varint(window, at, position, message)
        begin = base + at
        if kind == BYTES:
            after = begin + value
        elif kind == VARINT:
            after = begin
        else:
            after = begin + _fixed(kind, number, position, message)
        if number == 0:
            raise FormatError(f"{message.name}: the field at offset {position:,} has number 0")
        if after > end:
            name = wanted[number][0] if number in wanted else f"field {number}"
            raise FormatError(
                f"{message.name}.{name} at offset {position:,} reaches to offset {after:,}, "
                f"but {message.name} ends at {end:,}"
            )
        if number in wanted:
            name, expected = wanted[number]
            if expected not in (kind, ANY):
                raise FormatError(
                    f"{message.name}.{name} at offset {position:,}: expected a "
                    f"{_KINDS[expected]} field, found {_KINDS[kind]}"
                )
            yield (name, value, after) if kind == VARINT else (name, begin, after)
        position = after


def signed(value: int) -> int:
    """The int64 that an unsigned varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(window: bytes, at: int, position: int, message: Message) -> tuple[int, int]:
    """A varint of at most ten bytes at ``at``, and the index behind it."""
    if at < len(window) and window[at] < 0x80:
        return window[at], at + 1
    value = shift = 0
    for byte in window[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise FormatError(f"{message.name}: the field at offset {position:,} has no complete number")


def _fixed(kind: int, number: int, position: int, message: Message) -> int:
    if kind == FIXED32:
        return 4
    if kind == FIXED64:
        return 8
    raise FormatError(
        f"{message.name}: field {number} at offset {position:,} has wire type {kind}, "
        "expected 0, 1, 2 or 5"
    )
