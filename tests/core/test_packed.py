"""Heads of packed blobs."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.chunks import Local, Missing, Segment
from nbmodel.core.packed import HEAD_SIZE, Packed, bases_of, bases_size, head_size
from nbmodel.core.patch import Given
from nbmodel.errors import ManifestError

A, B = ("sha256:" + hashlib.sha256(name).hexdigest() for name in (b"a", b"b"))


def rows(kinds: list[tuple[str | None, int, int]]) -> tuple[Segment, ...]:
    """Segments in a row, of blob (None: missing), offset and length each."""
    found: list[Segment] = []
    start = 0
    for blob, offset, length in kinds:
        found.append(Missing(start, length) if blob is None else Local(blob, offset, start, length))
        start += length
    return tuple(found)


segments = st.lists(
    st.tuples(st.none() | st.sampled_from([A, B]), st.integers(0, 2**40), st.integers(1, 2**40))
).map(rows)


@given(segments)
def test_a_head_is_read_back_as_it_was_written(found: tuple[Segment, ...]) -> None:
    packed = Packed.of(found)
    head = packed.head()
    assert len(head) == packed.head_size == head_size(head[:HEAD_SIZE])
    assert Packed.from_head(head + b"rest", size=packed.packed_size) == packed
    names = bases_size(head[:HEAD_SIZE])
    assert bases_of(head[:names]) == packed.bases
    if packed.bases:
        with pytest.raises(ManifestError):
            bases_of(head[: names - 1])
    assert packed.size == sum(one.length for one in found)
    assert [one.length for one in packed.given] == [
        one.length for one in found if isinstance(one, Missing)
    ]


def test_a_packed_blob_has_the_bytes_that_its_documentation_shows() -> None:
    packed = Packed.of((Local(A, 7, 0, 10), Missing(10, 3)))
    own = 16 + 32 + 2 * 20
    assert packed.head() == (
        b"NBPACK01"
        + struct.pack(">II", 1, 2)
        + hashlib.sha256(b"a").digest()
        + struct.pack(">IQQ", 1, 7, 10)
        + struct.pack(">IQQ", 0, own, 3)
    )
    assert packed.steps == (Local(A, 7, 0, 10), Given(own, 10, 3))
    assert packed.packed_size == own + 3


WRONG = {
    "nothing": b"",
    "something else": b"NBPATCH1" + bytes(8),
    "more steps than are there": b"NBPACK01" + struct.pack(">II", 0, 1),
    "more steps than one takes": b"NBPACK01" + struct.pack(">II", 0, 2**32 - 1),
    "more bases than one takes": b"NBPACK01" + struct.pack(">II", 2**32 - 1, 0),
    "a base that it does not name": b"NBPACK01"
    + struct.pack(">II", 0, 1)
    + struct.pack(">IQQ", 1, 0, 1),
    "an empty step": b"NBPACK01" + struct.pack(">II", 0, 1) + struct.pack(">IQQ", 0, 36, 0),
    "own bytes that are its head": b"NBPACK01"
    + struct.pack(">II", 0, 1)
    + struct.pack(">IQQ", 0, 0, 36),
    "fewer bytes than its steps have": b"NBPACK01"
    + struct.pack(">II", 0, 1)
    + struct.pack(">IQQ", 0, 36, 2)
    + b"x",
    "bytes behind its steps": b"NBPACK01" + struct.pack(">II", 0, 0) + b"x",
}


@pytest.mark.parametrize("raw", WRONG.values(), ids=WRONG)
def test_what_is_no_packed_blob_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestError, match="packed blob"):
        Packed.from_head(raw, size=len(raw))


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda end: b"NBPACK01" + end))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    try:
        packed = Packed.from_head(raw, size=len(raw))
    except ManifestError:
        return
    assert packed.packed_size == len(raw)
