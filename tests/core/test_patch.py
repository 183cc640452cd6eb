"""Patches: their bytes, their limits, and putting a file together with them."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.chunks import MAX_CHUNKS, Local, Missing, Segment
from nbmodel.core.patch import MAX_HEAD, Given, Patch, Step, plan
from nbmodel.errors import BlobNotFoundError, ManifestError

BLOB = "sha256:" + "a" * 64


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Missing, ...]:
    gaps = draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=8))
    made, at = [], 0
    for gap, length in gaps:
        made.append(Missing(at + gap, length))
        at += gap + length
    return tuple(made)


def test_the_bytes_of_a_patch_are_as_described() -> None:
    patch = Patch((Missing(256, 3), Missing(2**40, 1)))
    expected = b"NBPATCH1" + bytes([0, 0, 0, 2])
    expected += bytes([0, 0, 0, 0, 0, 0, 1, 0]) + bytes([0, 0, 0, 0, 0, 0, 0, 3])
    expected += bytes([0, 0, 1, 0, 0, 0, 0, 0]) + bytes([0, 0, 0, 0, 0, 0, 0, 1])
    assert patch.head() == expected
    assert (patch.head_size, patch.size) == (44, 48)
    assert Patch.from_head(expected + b"abcd", size=48, file_size=2**40 + 1) == patch


@given(ranges(), st.binary(max_size=10))
def test_a_patch_goes_there_and_back(made: tuple[Missing, ...], behind: bytes) -> None:
    patch = Patch(made)
    end = sum(made[-1]) if made else 0
    assert Patch.from_head(patch.head() + behind, size=patch.size, file_size=end) == patch
    assert patch.head_size <= MAX_HEAD


def raw_head(*found: tuple[int, int], magic: bytes = b"NBPATCH1", count: int = -1) -> bytes:
    count = len(found) if count < 0 else count
    return magic + struct.pack(">I", count) + b"".join(struct.pack(">QQ", *one) for one in found)


@pytest.mark.parametrize(
    ("raw", "size", "said"),
    [
        pytest.param(b"", 0, "not a patch", id="nothing"),
        pytest.param(b"NBPATCH1", 8, "not a patch", id="a magic number alone"),
        pytest.param(raw_head((0, 9), magic=b"NBPATCH2"), 37, "not a patch", id="another"),
        pytest.param(raw_head((0, 9), count=2), 37, "too short for its 2", id="fewer ranges"),
        pytest.param(raw_head(count=2**32 - 1), 12, "too short", id="a huge count"),
        pytest.param(raw_head((0, 9)), 36, "of 36 bytes, expected 37", id="fewer bytes"),
        pytest.param(raw_head((0, 9)), 38, "of 38 bytes, expected 37", id="more bytes"),
        pytest.param(raw_head((0, 0)), 28, "at least one byte", id="an empty range"),
        pytest.param(raw_head((0, 9), (8, 1)), 54, "from 9 or later", id="an overlap"),
        pytest.param(raw_head((50, 9), (0, 9)), 62, "from 59 or later", id="disorder"),
        pytest.param(raw_head((95, 6)), 34, "up to byte 101", id="beyond the file"),
        pytest.param(raw_head((2**64 - 1, 6)), 34, "expected a file of 100", id="far beyond"),
        pytest.param(raw_head((0, 2**64 - 1)), 2**64 + 27, "expected a file", id="very long"),
    ],
)
def test_what_is_no_patch_of_the_file_is_refused(raw: bytes, size: int, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        Patch.from_head(raw, size=size, file_size=100)


def test_a_patch_has_a_limit_of_ranges() -> None:
    many = tuple(Missing(at, 1) for at in range(0, 2 * MAX_CHUNKS + 2, 2))
    with pytest.raises(ManifestError, match=f"at most {MAX_CHUNKS}"):
        Patch(many)


@given(st.binary(max_size=100), st.integers(0, 2**64), st.integers(0, 2**64))
def test_any_bytes_are_a_patch_or_refused(raw: bytes, size: int, file_size: int) -> None:
    for sent in (raw, b"NBPATCH1\0\0\0" + raw):
        with suppress(ManifestError):
            assert Patch.from_head(sent, size=size, file_size=file_size).size == size


@pytest.mark.parametrize(
    ("patch", "found", "expected"),
    [
        pytest.param([], [Local(BLOB, 7, 0, 10)], [Local(BLOB, 7, 0, 10)], id="all is here"),
        pytest.param([(0, 10)], [Missing(0, 10)], [Given(28, 0, 10)], id="all is given"),
        pytest.param(
            [(0, 4), (8, 2)],
            [Missing(0, 4), Local(BLOB, 0, 4, 4), Missing(8, 2)],
            [Given(44, 0, 4), Local(BLOB, 0, 4, 4), Given(48, 8, 2)],
            id="in turn",
        ),
        pytest.param(
            [(3, 4)],
            [Local(BLOB, 5, 0, 10)],
            [Local(BLOB, 5, 0, 3), Given(28, 3, 4), Local(BLOB, 12, 7, 3)],
            id="given inside what is here",
        ),
        pytest.param(
            [(2, 6)],
            [Local(BLOB, 0, 0, 4), Missing(4, 2), Local(BLOB, 50, 6, 4)],
            [Local(BLOB, 0, 0, 2), Given(28, 2, 6), Local(BLOB, 52, 8, 2)],
            id="more is given than is missing",
        ),
        pytest.param([], [], [], id="an empty file"),
    ],
)
def test_a_file_is_put_together_of_what_is_given_and_what_is_here(
    patch: list[tuple[int, int]], found: list[Segment], expected: list[Step]
) -> None:
    assert plan(Patch(tuple(Missing(*one) for one in patch)), found) == tuple(expected)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param([], id="nothing is given"),
        pytest.param([(4, 2)], id="its end is not given"),
        pytest.param([(6, 2)], id="its begin is not given"),
    ],
)
def test_bytes_from_nowhere_are_told(patch: list[tuple[int, int]]) -> None:
    found: list[Segment] = [Local(BLOB, 0, 0, 4), Missing(4, 4), Local(BLOB, 9, 8, 4)]
    with pytest.raises(BlobNotFoundError, match="neither in the patch nor here"):
        plan(Patch(tuple(Missing(*one) for one in patch)), found)


@given(ranges(), st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=10))
def test_the_steps_cover_the_file_exactly_or_are_refused(
    made: tuple[Missing, ...], parts: list[tuple[bool, int]]
) -> None:
    found: list[Segment] = []
    size = 0
    for here, length in parts:
        found.append(Local(BLOB, 1000 + 2 * size, size, length) if here else Missing(size, length))
        size += length
    inside = tuple(one for one in made if sum(one) <= size)
    given_bytes = {byte for start, length in inside for byte in range(start, start + length)}
    source = {
        byte: segment.offset + byte - segment.start
        for segment in found
        if isinstance(segment, Local)
        for byte in range(segment.start, segment.start + segment.length)
    }
    if any(byte not in given_bytes and byte not in source for byte in range(size)):
        with pytest.raises(BlobNotFoundError):
            plan(Patch(inside), found)
        return
    at, offset = 0, Patch(inside).head_size
    for step in plan(Patch(inside), found):
        assert step.start == at
        assert step.length > 0
        at += step.length
        covered = range(step.start, at)
        if isinstance(step, Given):
            assert step.offset == offset
            offset += step.length
            assert given_bytes.issuperset(covered)
        else:
            assert [source[byte] for byte in covered] == list(
                range(step.offset, step.offset + step.length)
            )
    assert at == size
    assert offset == Patch(inside).size
