"""Chunk tables: a file as a row of pieces with digests, and which of them are at hand.

A table travels beside a large file, so that whoever has an older version of it needs only
the ranges that differ. Where pieces begin is decided by ``storage.chunking``; the rules
here take any cut within their limits. A table only ever saves bytes: what is put together
by one is checked by the sha256 of the whole file, as anything else that arrives.

As bytes a table is a magic number, the number of chunks, and for each chunk its length and
digest; all numbers unsigned, big-endian::

    "NBCHUNK1"  count:4  (length:4  digest:16) × count
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from nbmodel.errors import ManifestError

CHUNKS_TYPE = "application/vnd.nbmodel.chunks.v1"
CHUNKED_FROM = 1024 * 1024  # bytes; a table for less saves less than a round trip costs
MIN_LENGTH = 4 * 1024  # bytes of any chunk but the last: bounds what a table can cost
MAX_LENGTH = 1024 * 1024  # bytes of any chunk
MAX_CHUNKS = 1_000_000  # of a table: 20 MB, and 30 GB of file at 32 KiB each
DIGEST_SIZE = 16  # bytes

_MAGIC = b"NBCHUNK1"
_HEAD = struct.Struct(">8sI")
_ENTRY = struct.Struct(f">I{DIGEST_SIZE}s")


class Chunk(NamedTuple):
    """A piece of a file.

    Attributes:
        length: In bytes.
        digest: The first 16 bytes of the sha256 of its bytes.
    """

    length: int
    digest: bytes


class Local(NamedTuple):
    """A range of a file whose bytes a blob at hand has.

    Attributes:
        blob: Digest of that blob.
        offset: Where they begin in the blob, in bytes.
        start: Where they begin in the file, in bytes.
        length: How many they are.
    """

    blob: str
    offset: int
    start: int
    length: int


class Missing(NamedTuple):
    """A range of a file that no blob at hand has.

    Attributes:
        start: Where it begins in the file, in bytes.
        length: How many bytes it has.
    """

    start: int
    length: int


Segment: TypeAlias = Local | Missing

#: Chunk digest → the blob that has such a chunk, and where in it.
Have: TypeAlias = Mapping[bytes, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """The chunks of a file, in order and without gaps.

    Attributes:
        chunks: Length in bytes and digest of each. A plain pair will do for one.

    Raises:
        ManifestError: A chunk is longer than ``MAX_LENGTH``, one that is not the last is
            shorter than ``MIN_LENGTH``, a digest has not 16 bytes, or there are more
            than ``MAX_CHUNKS``.
    """

    chunks: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        last = len(self.chunks) - 1
        if last >= MAX_CHUNKS:
            raise ManifestError(f"chunk table: {last + 1} chunks, expected at most {MAX_CHUNKS}")
        for index, (length, digest) in enumerate(self.chunks):
            least = 1 if index == last else MIN_LENGTH
            if not least <= length <= MAX_LENGTH:
                raise ManifestError(
                    f"chunk table: chunk {index} of {last + 1} has {length} bytes, "
                    f"expected {least} to {MAX_LENGTH}"
                )
            if len(digest) != DIGEST_SIZE:
                raise ManifestError(
                    f"chunk table: digest of chunk {index} has {len(digest)} bytes, "
                    f"expected {DIGEST_SIZE}"
                )

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return sum(length for length, _ in self.chunks)

    def to_bytes(self) -> bytes:
        """The table as it travels; ``from_bytes`` reads it back."""
        entries = b"".join(_ENTRY.pack(length, digest) for length, digest in self.chunks)
        return _HEAD.pack(_MAGIC, len(self.chunks)) + entries

    @classmethod
    def from_bytes(cls, raw: bytes, size: int | None = None) -> ChunkTable:
        """Read a table that came from elsewhere.

        Args:
            raw: The bytes; ``max_table(size)`` is the most that they can be.
            size: Bytes of the file that it has to describe; None for any.

        Raises:
            ManifestError: It is no table, breaks a limit, or is not of a file of ``size``
                bytes. Nothing larger than a table of such a file can be is looked at.
        """
        if size is not None and len(raw) > max_table(size):
            raise ManifestError(
                f"chunk table of {len(raw)} bytes for a file of {size}, "
                f"expected at most {max_table(size)}"
            )
        if len(raw) < _HEAD.size or not raw.startswith(_MAGIC):
            raise ManifestError(f"not a chunk table: expected {_MAGIC!r}, found {raw[:8]!r}")
        _, count = _HEAD.unpack_from(raw)
        expected = _HEAD.size + count * _ENTRY.size
        if len(raw) != expected:
            raise ManifestError(
                f"chunk table with {count} chunks has {len(raw)} bytes, expected {expected}"
            )
        entries = _ENTRY.iter_unpack(memoryview(raw)[_HEAD.size :])
        table = cls(tuple((length, digest) for length, digest in entries))
        if size is not None and table.size != size:
            raise ManifestError(f"chunk table of a file of {table.size} bytes, expected {size}")
        return table


def max_table(size: int) -> int:
    """The most bytes that the table of a file of ``size`` bytes can have."""
    return _HEAD.size + min(size // MIN_LENGTH + 1, MAX_CHUNKS) * _ENTRY.size


def chunk_digest(data: bytes | bytearray | memoryview) -> bytes:
    """What a table calls a chunk by: the first 16 bytes of its sha256."""
    return hashlib.sha256(data).digest()[:DIGEST_SIZE]


def offsets(table: ChunkTable) -> tuple[int, ...]:
    """Where each chunk begins, in bytes."""
    return tuple(accumulate((length for length, _ in table.chunks), initial=0))[:-1]


def segments(table: ChunkTable, have: Have) -> tuple[Segment, ...]:
    """Where the bytes of a file come from, its neighbouring ranges merged.

    Args:
        table: The file's.
        have: Which chunks are at hand, and where.

    Returns:
        Ranges in order, which cover the file exactly, without gaps or overlaps.
    """
    merged: list[Segment] = []
    for start, (length, digest) in zip(offsets(table), table.chunks, strict=True):
        place = have.get(digest)
        found = Missing(start, length) if place is None else Local(*place, start, length)
        before = merged[-1] if merged else None
        if before is not None and _continues(before, found):
            merged[-1] = before._replace(length=before.length + length)
        else:
            merged.append(found)
    return tuple(merged)


def missing_ranges(found: tuple[Segment, ...]) -> tuple[Missing, ...]:
    """The ranges among segments that have to be fetched, in order."""
    return tuple(segment for segment in found if isinstance(segment, Missing))


def _continues(before: Segment, after: Segment) -> bool:
    """Whether a range goes on, in the file and in its source, where the former ends."""
    if isinstance(before, Missing):
        return isinstance(after, Missing)
    return (
        isinstance(after, Local)
        and after.blob == before.blob
        and after.offset == before.offset + before.length
    )
