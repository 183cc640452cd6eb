"""Packed blobs: a blob kept as where its bytes are in other blobs, and the bytes that none has.

As bytes a head, and behind it the blob's own bytes in order; all numbers unsigned, big-endian::

    "NBPACK01"  bases:4  steps:4  sha256:32 × bases  (source:4  offset:8  length:8) × steps

Source 0 is the packed blob itself, where ``offset`` counts from its beginning; source n is the
n-th base. The steps in order are the blob. Whether what they give is the blob, its sha256 tells
and nothing here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from nbmodel.core.chunks import MAX_CHUNKS, Local, Missing, Segment
from nbmodel.core.patch import Given, Step
from nbmodel.errors import ManifestError

_MAGIC = b"NBPACK01"
_HEAD = struct.Struct(">8sII")
_STEP = struct.Struct(">IQQ")
_SHA256 = 32  # bytes
HEAD_SIZE = _HEAD.size  # bytes that tell how many there are of the rest of the head


@dataclass(frozen=True, slots=True)
class Packed:
    """How a blob is put together.

    Attributes:
        steps: In order and without gaps; those that are given are so in the order in which
            the packed blob has them, from ``head_size`` on.
    """

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, found: Sequence[Segment]) -> Packed:
        """How to keep a blob whose bytes come from there, all of them in order."""
        bases = {one.blob for one in found if isinstance(one, Local)}
        at = _HEAD.size + len(bases) * _SHA256 + len(found) * _STEP.size
        steps: list[Step] = []
        for one in found:
            if isinstance(one, Missing):
                steps.append(Given(at, one.start, one.length))
                at += one.length
            else:
                steps.append(one)
        return cls(tuple(steps))

    @property
    def bases(self) -> tuple[str, ...]:
        """Digests of the blobs that it needs, each once."""
        return tuple(dict.fromkeys(one.blob for one in self.steps if isinstance(one, Local)))

    @property
    def given(self) -> tuple[Given, ...]:
        """The ranges of the blob that the packed one has itself, in order."""
        return tuple(one for one in self.steps if isinstance(one, Given))

    @property
    def head_size(self) -> int:
        """How many bytes of it come before its own bytes of the blob."""
        return _HEAD.size + len(self.bases) * _SHA256 + len(self.steps) * _STEP.size

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return sum(one.length for one in self.steps)

    @property
    def packed_size(self) -> int:
        """Bytes of the packed blob."""
        return self.head_size + sum(one.length for one in self.given)

    def head(self) -> bytes:
        """Everything before its own bytes; ``from_head`` reads it back."""
        number = {base: index for index, base in enumerate(self.bases, 1)}
        names = b"".join(bytes.fromhex(base.partition(":")[2]) for base in self.bases)
        steps = b"".join(
            _STEP.pack(number[one.blob] if isinstance(one, Local) else 0, one.offset, one.length)
            for one in self.steps
        )
        return _HEAD.pack(_MAGIC, len(self.bases), len(self.steps)) + names + steps

    @classmethod
    def from_head(cls, raw: bytes, *, size: int) -> Packed:
        """Read the head of a packed blob.

        Args:
            raw: Its first ``head_size`` bytes, or more.
            size: Bytes of the whole packed blob.

        Raises:
            ManifestError: It is none, or its steps are not in what it and its bases can have.
        """
        bases, count = _counts(raw)
        end = _HEAD.size + bases * _SHA256
        if len(raw) < end + count * _STEP.size:
            raise ManifestError(f"packed blob of {size} bytes is too short for its {count} steps")
        names = _names(raw, bases)
        steps: list[Step] = []
        start = 0
        own = end + count * _STEP.size
        entries = _STEP.iter_unpack(memoryview(raw)[end:own])
        for source, offset, length in entries:
            if source > bases or length < 1 or (source == 0 and offset != own):
                raise ManifestError(f"packed blob: step at byte {start} leads nowhere")
            if source == 0:
                steps.append(Given(offset, start, length))
                own += length
            else:
                steps.append(Local(names[source - 1], offset, start, length))
            start += length
        if own != size:
            raise ManifestError(f"packed blob of {size} bytes, expected {own} by its steps")
        return cls(tuple(steps))


def head_size(raw: bytes) -> int:
    """How long the head of a packed blob is that begins with these ``HEAD_SIZE`` bytes.

    Raises:
        ManifestError: It is no packed blob, or has more steps than one takes.
    """
    bases, count = _counts(raw)
    return _HEAD.size + bases * _SHA256 + count * _STEP.size


def bases_size(raw: bytes) -> int:
    """How many bytes the part of a head has that begins with these and tells the bases.

    Raises:
        ManifestError: It is no packed blob, or has more bases than one takes.
    """
    return _HEAD.size + _counts(raw)[0] * _SHA256


def bases_of(raw: bytes) -> tuple[str, ...]:
    """Digests of the blobs that a packed one needs, without looking at its steps.

    Args:
        raw: Its first ``bases_size`` bytes, or more.

    Raises:
        ManifestError: It is no packed blob, or is too short.
    """
    bases, _ = _counts(raw)
    if len(raw) < _HEAD.size + bases * _SHA256:
        raise ManifestError(f"packed blob: {len(raw)} bytes are too short for {bases} bases")
    return tuple(_names(raw, bases))


def _names(raw: bytes, bases: int) -> list[str]:
    starts = range(_HEAD.size, _HEAD.size + bases * _SHA256, _SHA256)
    return ["sha256:" + raw[at : at + _SHA256].hex() for at in starts]


def _counts(raw: bytes) -> tuple[int, int]:
    if len(raw) < _HEAD.size or not raw.startswith(_MAGIC):
        raise ManifestError(f"not a packed blob: expected {_MAGIC!r}, found {raw[:8]!r}")
    _, bases, count = _HEAD.unpack_from(raw)
    if max(bases, count) > MAX_CHUNKS:
        raise ManifestError(f"packed blob: {count} steps, expected at most {MAX_CHUNKS}")
    return bases, count
