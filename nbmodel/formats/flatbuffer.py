"""Reading flatbuffer tables in a file, each offset checked before it is followed.

Nothing here knows TFLite. A reader follows fields by number, so that a file can never make
it recurse; every vector and string is bounded by the file it lies in.

Source: FlatBuffers, "FlatBuffer Internals" (https://flatbuffers.dev/internals/).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import ByteSource

_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


class Table:
    """One table of a flatbuffer.

    Args:
        source: The file.
        position: Where the table starts.
        end: Where the flatbuffer ends; a file may hold one inside another.
        path: How a person would name the table: ``subgraphs[0].tensors[3]``.

    Raises:
        FormatError: There is no table at ``position``. All methods raise it where the
            field they read leads out of the flatbuffer.
    """

    __slots__ = ("_end", "_fields", "_position", "_source", "path")

    def __init__(self, source: ByteSource, position: int, end: int, path: str) -> None:
        self._source = source
        self._position = position
        self._end = end
        self.path = path
        source.spend_steps(1, path)
        vtable = position - self._number("i", position, "vtable")
        length = self._number("H", vtable, "vtable")
        if length < 4 or length % 2 or vtable + length > end:
            raise FormatError(f"{path}: malformed vtable at offset {vtable:,}")
        self._fields = struct.unpack(f"<{length // 2 - 2}H", source.read(vtable + 4, length - 4))

    def integer(self, index: int, code: str, default: int = 0) -> int:
        """A whole number; ``code`` is its ``struct`` code."""
        at = self._field(index)
        return default if at is None else int(self._number(code, at, f"field {index}"))

    def real(self, index: int, default: float = 0.0) -> float:
        """A float."""
        at = self._field(index)
        return default if at is None else float(self._number("f", at, f"field {index}"))

    def text(self, index: int, name: str) -> str:
        """A string; empty when it is absent."""
        at = self._field(index)
        return "" if at is None else self._text(self._follow(at, name), name)

    def texts(self, index: int, name: str, limit: int) -> tuple[str, ...]:
        """A vector of strings."""
        start, count = self._vector(index, name, 4, limit)
        return tuple(
            self._text(self._follow(start + 4 * i, name), f"{name}[{i}]") for i in range(count)
        )

    def table(self, index: int, name: str) -> Table | None:
        """A table, or None when it is absent."""
        at = self._field(index)
        if at is None:
            return None
        return Table(self._source, self._follow(at, name), self._end, self._join(name))

    def tables(self, index: int, name: str, limit: int) -> Iterator[Table]:
        """A vector of tables, in order.

        Raises:
            FormatError: There are more than ``limit``.
        """
        start, count = self._vector(index, name, 4, limit)
        for i in range(count):
            position = self._follow(start + 4 * i, name)
            yield Table(self._source, position, self._end, self._join(f"{name}[{i}]"))

    def item(self, index: int, name: str, i: int) -> Table:
        """The i-th table of a vector of tables, which may be as long as it likes.

        Raises:
            FormatError: The vector is shorter than that.
        """
        start, count = self._vector(index, name, 4, self._end)
        if not 0 <= i < count:
            raise FormatError(f"{self._join(name)} has {count} entries, found index {i}")
        return Table(
            self._source, self._follow(start + 4 * i, name), self._end, self._join(f"{name}[{i}]")
        )

    def count(self, index: int, name: str) -> int:
        """How many entries a vector of tables has."""
        return self._vector(index, name, 4, self._end)[1]

    def numbers(self, index: int, name: str, code: str, limit: int) -> tuple[float, ...]:
        """A vector of numbers; whole ones unless ``code`` is ``f``."""
        size = _SIZES[code]
        start, count = self._vector(index, name, size, limit)
        self._source.spend_steps(count // 16, self.path)
        return struct.unpack(f"<{count}{code}", self._source.read(start, size * count))

    def span(self, index: int, name: str) -> tuple[int, int]:
        """Where the bytes of a byte vector begin and end; equal when it is absent."""
        start, count = self._vector(index, name, 1, self._end)
        return start, start + count

    def _join(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _field(self, index: int) -> int | None:
        offset = self._fields[index] if index < len(self._fields) else 0
        return self._position + offset if offset else None

    def _number(self, code: str, at: int, name: str) -> int:
        size = _SIZES[code]
        if at < 0 or at + size > self._end:
            raise FormatError(f"{self._join(name)}: offset {at:,} is outside, {self._limits()}")
        value: int = struct.unpack(f"<{code}", self._source.read(at, size))[0]
        return value

    def _follow(self, at: int, name: str) -> int:
        target = at + self._number("I", at, name)
        if target >= self._end or target == at:
            raise FormatError(
                f"{self._join(name)}: offset at {at:,} points to {target:,}, {self._limits()}"
            )
        return target

    def _vector(self, index: int, name: str, size: int, limit: int) -> tuple[int, int]:
        """Where the entries start and how many there are; 0 when the vector is absent."""
        at = self._field(index)
        if at is None:
            return 0, 0
        start = self._follow(at, name)
        count = self._number("I", start, name)
        if start + 4 + count * size > self._end:
            raise FormatError(
                f"{self._join(name)} at offset {start:,} has {count:,} entries of {size} bytes, "
                f"{self._limits()}"
            )
        if count > limit:
            raise FormatError(f"{self._join(name)} has {count:,} entries, expected ≤ {limit:,}")
        return start + 4, count

    def _text(self, at: int, name: str) -> str:
        length = self._number("I", at, name)
        if at + 4 + length > self._end:
            raise FormatError(
                f"{self._join(name)} at offset {at:,} is {length:,} bytes long, {self._limits()}"
            )
        return self._source.text(at + 4, length, self._join(name))

    def _limits(self) -> str:
        return f"but the data ends at {self._end:,}"


def root(source: ByteSource, start: int, end: int, identifier: bytes, name: str) -> Table:
    """The root table of the flatbuffer between two offsets.

    Args:
        source: The file.
        start: Where the flatbuffer begins.
        end: Where it ends.
        identifier: The four bytes that name its schema.
        name: How to call it in messages; empty for the file itself.

    Raises:
        FormatError: It is too short, of another schema, or has no table at its root.
    """
    what = name or "the file"
    if end - start < 12:
        raise FormatError(f"{what} has {end - start} bytes, a flatbuffer has at least 12")
    head = source.read(start, 8)
    if head[4:] != identifier:
        raise FormatError(
            f"{what}: expected {identifier!r} at offset {start + 4:,}, found {head[4:]!r}"
        )
    return Table(source, start + int.from_bytes(head[:4], "little"), end, name)
