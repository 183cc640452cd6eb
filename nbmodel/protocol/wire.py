"""Protobuf's wire format over a message in memory: fields as views, and back to bytes.

For messages whose bulk must not pass through protobuf's own objects: a tensor of a hundred
thousand floats is one view here, where protobuf would make each float a Python object.
No message is known here.

Source: Protocol Buffers, "Encoding" (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
#: Fields of one message. Many more stand for nothing but work; a packed list is one field.
MAX_FIELDS = 65_536
_MAX_NUMBER = 2**29 - 1  # of a field
_WIDTHS = {FIXED32: 4, FIXED64: 8}


def fields(data: memoryview, message: str) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of one message, in its order.

    Args:
        data: The whole message, as bytes.
        message: Its name, for errors.

    Yields:
        Field number, wire type and content: a view of ``data``, for a varint of its bytes.

    Raises:
        FormatError: The bytes are no protobuf message, or it has more than ``MAX_FIELDS``.
    """
    at, end, count = 0, len(data), 0
    while at < end:
        count += 1
        if count > MAX_FIELDS:
            raise FormatError(f"{message} has more than {MAX_FIELDS:,} fields")
        key, begin = _varint(data, at, message)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            length, begin = _varint(data, begin, message)
            after = begin + length
        elif kind == VARINT:
            _, after = _varint(data, begin, message)
        elif kind in _WIDTHS:
            after = begin + _WIDTHS[kind]
        else:
            raise FormatError(
                f"{message}: field {number} has wire type {kind}, expected 0, 1, 2 or 5"
            )
        if not 0 < number <= _MAX_NUMBER:
            raise FormatError(f"{message} has a field with number {number}")
        if after > end:
            raise FormatError(
                f"{message}: field {number} reaches to byte {after:,} of {end:,}; it is truncated"
            )
        yield number, kind, data[begin:after]
        at = after


def fixed_list(data: memoryview, number: int, dtype: np.dtype[Any], message: str) -> NDArray[Any]:
    """The elements of a repeated field of fixed width, packed or not.

    Packed, as official encoders write it, is a view and costs nothing; several packed
    pieces are joined, as the encoding demands.

    Args:
        data: The message that has the field.
        number: Of the field.
        dtype: Little-endian, of four or eight bytes.
        message: Name of the message, for errors.

    Returns:
        The elements [n]; usually a read-only view of ``data``, maybe not aligned.

    Raises:
        FormatError: The field is not such a list, or the message is malformed.
    """
    unpacked = FIXED32 if dtype.itemsize == 4 else FIXED64
    key = number << 3 | unpacked
    if len(data) and data[0] == key:
        alone = _all_unpacked(data, key, dtype)
        if alone is not None:
            return alone
    pieces = []
    for found, kind, content in fields(data, message):
        if found != number:
            continue
        if kind not in (BYTES, unpacked) or len(content) % dtype.itemsize:
            raise FormatError(
                f"{message}: field {number} with wire type {kind} and {len(content)} bytes, "
                f"expected elements of {dtype.itemsize} bytes"
            )
        pieces.append(content)
    return np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype)


def text(content: memoryview, what: str) -> str:
    """A string field.

    Raises:
        FormatError: It is not UTF-8.
    """
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as exc:
        raise FormatError(f"{what} is not UTF-8") from exc


def key_of(number: int, length: int) -> bytes:
    """What stands before ``length`` bytes of a length-delimited field ``number``."""
    return varint(number << 3 | BYTES) + varint(length)


def varint(value: int) -> bytes:
    """An unsigned number below 2**64."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _all_unpacked(data: memoryview, key: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The elements of a message that is nothing but one unpacked field, or None.

    Walking them one by one would cost as much as the protobuf objects that are avoided.
    """
    record = np.dtype([("key", "u1"), ("value", dtype)])
    if key > 0x7F or len(data) % record.itemsize:
        return None
    records = np.frombuffer(data, record)
    return records["value"] if bool((records["key"] == key).all()) else None


def _varint(data: memoryview, at: int, message: str) -> tuple[int, int]:
    """A varint at ``at``, and the index behind it."""
    value = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        if byte < 0x80:
            return (value | byte << shift) & 0xFFFF_FFFF_FFFF_FFFF, at
        value |= (byte & 0x7F) << shift
        shift += 7
    raise FormatError(f"{message}: no complete number at byte {at:,}")
