"""Chunk tables: their bytes, their limits, and where the bytes of a file come from."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.chunks import (
    MAX_CHUNKS,
    MAX_LENGTH,
    MIN_LENGTH,
    ChunkTable,
    Local,
    Missing,
    chunk_digest,
    max_table,
    missing_ranges,
    offsets,
    segments,
)
from nbmodel.errors import ManifestError

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
K = MIN_LENGTH
BLOB, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64

lengths = st.integers(MIN_LENGTH, MAX_LENGTH)
digests = st.sampled_from([bytes([number]) * 16 for number in range(12)])
tables = st.builds(
    lambda chunks, last: ChunkTable((*chunks, *last)),
    st.lists(st.tuples(lengths, digests), max_size=30),
    st.lists(st.tuples(st.integers(1, MAX_LENGTH), digests), max_size=1),
)


def test_a_chunk_is_called_by_the_head_of_its_sha256() -> None:
    assert chunk_digest(b"chunk") == bytes.fromhex(hashlib.sha256(b"chunk").hexdigest()[:32])


def test_the_bytes_of_a_table_are_as_described() -> None:
    table = ChunkTable(((5000, A), (7, B)))
    expected = b"NBCHUNK1" + bytes([0, 0, 0, 2])
    expected += bytes([0, 0, 0x13, 0x88]) + A + bytes([0, 0, 0, 7]) + B
    assert table.to_bytes() == expected
    assert ChunkTable.from_bytes(expected, 5007) == table


@given(tables)
def test_a_table_goes_there_and_back(table: ChunkTable) -> None:
    raw = table.to_bytes()
    assert len(raw) <= max_table(table.size)
    assert ChunkTable.from_bytes(raw, table.size) == table


def raw_table(*chunks: tuple[int, bytes], magic: bytes = b"NBCHUNK1", count: int = -1) -> bytes:
    count = len(chunks) if count < 0 else count
    return (
        magic
        + struct.pack(">I", count)
        + b"".join(struct.pack(">I", length) + digest for length, digest in chunks)
    )


@pytest.mark.parametrize(
    ("raw", "size", "said"),
    [
        pytest.param(b"", 100, "not a chunk table", id="nothing"),
        pytest.param(b"NBCHUNK1", 100, "not a chunk table", id="a magic number alone"),
        pytest.param(raw_table((9, A), magic=b"NBCHUNK2"), 9, "not a chunk table", id="another"),
        pytest.param(raw_table((9, A), count=2), 9, "expected 52", id="fewer chunks than counted"),
        pytest.param(raw_table((9, A), count=0), 9, "expected 12", id="more chunks than counted"),
        pytest.param(raw_table(count=2**32 - 1), 9, "with 4294967295", id="a huge count"),
        pytest.param(raw_table((K, A)) + b"x", K, "expected 32", id="something behind it"),
        pytest.param(raw_table((0, A)), 0, "expected 1 to", id="an empty chunk"),
        pytest.param(raw_table((9, A), (K, B)), K + 9, "expected 4096", id="a short chunk inside"),
        pytest.param(
            raw_table((2**32 - 1, A)), 2**32 - 1, "expected 1 to 1048576", id="a long chunk"
        ),
        pytest.param(raw_table((9, A)), 10, "of 9 bytes, expected 10", id="of a smaller file"),
        pytest.param(raw_table((9, A)), 8, "of 9 bytes, expected 8", id="of a larger file"),
        pytest.param(
            raw_table(*[(MIN_LENGTH, A)] * 9), 9, "for a file of 9", id="too much for the file"
        ),
    ],
)
def test_what_is_no_table_of_the_file_is_refused(raw: bytes, size: int, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        ChunkTable.from_bytes(raw, size)


@given(st.binary(max_size=200), st.integers(0, 2**40))
def test_any_bytes_are_a_table_or_refused(raw: bytes, size: int) -> None:
    for sent in (raw, b"NBCHUNK1" + raw):
        with suppress(ManifestError):
            assert ChunkTable.from_bytes(sent, size).size == size


def test_a_table_has_limits_however_it_is_made() -> None:
    with pytest.raises(ManifestError, match="digest of chunk 0 has 2 bytes, expected 16"):
        ChunkTable(((9, b"ab"),))
    with pytest.raises(ManifestError, match=f"at most {MAX_CHUNKS}"):
        ChunkTable(((MAX_LENGTH, A),) * (MAX_CHUNKS + 1))
    assert max_table(2**62) == 12 + 20 * MAX_CHUNKS
    assert ChunkTable(()).size == 0


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        pytest.param({}, [Missing(0, 4 * K)], id="nothing at hand"),
        pytest.param(
            {A: (BLOB, 10), B: (BLOB, 10 + K)},
            [Local(BLOB, 10, 0, 2 * K), Missing(2 * K, K), Local(BLOB, 10, 3 * K, K)],
            id="neighbours in one blob are one range",
        ),
        pytest.param(
            {A: (BLOB, 0), B: (OTHER, K)},
            [
                Local(BLOB, 0, 0, K),
                Local(OTHER, K, K, K),
                Missing(2 * K, K),
                Local(BLOB, 0, 3 * K, K),
            ],
            id="neighbours in two blobs are two",
        ),
        pytest.param(
            {A: (BLOB, K), B: (BLOB, 0)},
            [
                Local(BLOB, K, 0, K),
                Local(BLOB, 0, K, K),
                Missing(2 * K, K),
                Local(BLOB, K, 3 * K, K),
            ],
            id="swapped ones are two",
        ),
        pytest.param(
            {A: (BLOB, 0)},
            [Local(BLOB, 0, 0, K), Missing(K, 2 * K), Local(BLOB, 0, 3 * K, K)],
            id="what is missing is merged",
        ),
    ],
)
def test_segments_are_where_bytes_come_from(
    have: dict[bytes, tuple[str, int]], expected: list[Local | Missing]
) -> None:
    table = ChunkTable(((K, A), (K, B), (K, C), (K, A)))
    assert segments(table, have) == tuple(expected)
    assert missing_ranges(segments(table, have)) == tuple(
        segment for segment in expected if isinstance(segment, Missing)
    )


@given(tables, st.dictionaries(digests, st.tuples(st.just(BLOB), st.integers(0, 2**40))))
def test_segments_cover_the_file_exactly(
    table: ChunkTable, have: dict[bytes, tuple[str, int]]
) -> None:
    at = 0
    found = segments(table, have)
    for segment in found:
        assert segment.start == at
        assert segment.length > 0
        at += segment.length
    assert at == table.size
    local = sum(segment.length for segment in found if isinstance(segment, Local))
    assert local == sum(length for length, digest in table.chunks if digest in have)
    kinds = [type(segment) for segment in found]
    assert all(pair != (Missing, Missing) for pair in pairwise(kinds))


def test_offsets_are_where_chunks_begin() -> None:
    assert offsets(ChunkTable(((5000, A), (6000, B), (7, C)))) == (0, 5000, 11000)
    assert offsets(ChunkTable(())) == ()
