"""Patches: the ranges of a file that somebody lacks, and how the file is put together again.

As bytes a patch is a magic number, the number of ranges, where each of them is in the file,
and then their bytes one after another; all numbers unsigned, big-endian::

    "NBPATCH1"  count:4  (start:8  length:8) × count  bytes of the ranges

Everything of the file that is not in the patch comes from chunks at hand, by the file's
table. Whether the result is the file, its sha256 tells and nothing here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from nbmodel.core.chunks import MAX_CHUNKS, Local, Missing, Segment
from nbmodel.errors import BlobNotFoundError, ManifestError

_MAGIC = b"NBPATCH1"
_HEAD = struct.Struct(">8sI")
_RANGE = struct.Struct(">QQ")
MAX_HEAD = _HEAD.size + MAX_CHUNKS * _RANGE.size  # bytes before those of the ranges


class Given(NamedTuple):
    """A range of a file whose bytes the patch has.

    Attributes:
        offset: Where they begin in the patch, in bytes.
        start: Where they begin in the file, in bytes.
        length: How many they are.
    """

    offset: int
    start: int
    length: int


Step: TypeAlias = Local | Given


@dataclass(frozen=True, slots=True)
class Patch:
    """Which ranges of a file a patch has.

    Attributes:
        ranges: In order, without overlaps; none is empty.

    Raises:
        ManifestError: They are not so, or more than ``MAX_CHUNKS``.
    """

    ranges: tuple[Missing, ...]

    def __post_init__(self) -> None:
        if len(self.ranges) > MAX_CHUNKS:
            raise ManifestError(f"patch: {len(self.ranges)} ranges, expected at most {MAX_CHUNKS}")
        end = 0
        for start, length in self.ranges:
            if start < end or length < 1:
                raise ManifestError(
                    f"patch: range of {length} bytes from {start}, "
                    f"expected at least one byte, from {end} or later"
                )
            end = start + length

    @property
    def head_size(self) -> int:
        """How many bytes of it come before those of the file."""
        return _HEAD.size + len(self.ranges) * _RANGE.size

    @property
    def size(self) -> int:
        """Bytes of the whole patch."""
        return self.head_size + sum(length for _, length in self.ranges)

    def head(self) -> bytes:
        """Everything before the bytes of the ranges; ``from_head`` reads it back."""
        ranges = b"".join(_RANGE.pack(start, length) for start, length in self.ranges)
        return _HEAD.pack(_MAGIC, len(self.ranges)) + ranges

    @classmethod
    def from_head(cls, raw: bytes, *, size: int, file_size: int) -> Patch:
        """Read the head of a patch that came from elsewhere.

        Args:
            raw: The first ``MAX_HEAD`` bytes of the patch, or all where they are fewer.
            size: Bytes of the whole patch.
            file_size: Bytes of the file that it is for.

        Raises:
            ManifestError: It is no patch, has other than ``size`` bytes, or ranges that
                overlap or are outside the file.
        """
        if len(raw) < _HEAD.size or not raw.startswith(_MAGIC):
            raise ManifestError(f"not a patch: expected {_MAGIC!r}, found {raw[:8]!r}")
        _, count = _HEAD.unpack_from(raw)
        end = _HEAD.size + count * _RANGE.size
        if len(raw) < end:
            raise ManifestError(f"patch of {size} bytes is too short for its {count} ranges")
        ranges = _RANGE.iter_unpack(memoryview(raw)[_HEAD.size : end])
        patch = cls(tuple(Missing(start, length) for start, length in ranges))
        if patch.size != size:
            raise ManifestError(f"patch of {size} bytes, expected {patch.size} by its ranges")
        if patch.ranges and sum(patch.ranges[-1]) > file_size:
            raise ManifestError(
                f"patch: range up to byte {sum(patch.ranges[-1])}, "
                f"expected a file of {file_size} bytes"
            )
        return patch


def plan(patch: Patch, found: Sequence[Segment]) -> tuple[Step, ...]:
    """How to put a file together, in order and covering it exactly.

    Args:
        patch: What it gives is taken from it, also where it is at hand.
        found: Where the bytes of the file come from, all of them in order.

    Raises:
        BlobNotFoundError: Bytes are neither in the patch nor at hand.
    """
    steps: list[Step] = []
    at, offset, index = 0, patch.head_size, 0
    size = sum(found[-1][-2:]) if found else 0
    for start, length in (*patch.ranges, Missing(size, 0)):
        while index < len(found) and found[index].start < start:
            segment = found[index]
            steps.extend(_local(segment, max(at, segment.start), start))
            if segment.start + segment.length > start:
                break
            index += 1
        if length:
            steps.append(Given(offset, start, length))
        at, offset = start + length, offset + length
    return tuple(steps)


def _local(segment: Segment, begin: int, end: int) -> Iterator[Local]:
    """The part of a segment in the range; nothing where they do not meet."""
    end = min(end, segment.start + segment.length)
    if begin >= end:
        return
    if isinstance(segment, Missing):
        raise BlobNotFoundError(f"bytes {begin} to {end} are neither in the patch nor here")
    yield Local(segment.blob, segment.offset + begin - segment.start, begin, end - begin)
