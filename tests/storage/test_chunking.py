"""Cutting files into chunks: by their content alone, and so that changes stay where they are."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbmodel.core.chunks import ChunkTable, chunk_digest
from nbmodel.storage import chunking
from nbmodel.storage.chunking import MAX_CHUNK, MIN_CHUNK, Chunker, chunk_table

KIB = 1024
NEARBY = 1024 * KIB  # bytes behind a change by which cuts are the same again

seeds = st.integers(0, 2**32)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def table_of(data: bytes) -> ChunkTable:
    table = chunk_table(data)
    assert table is not None
    return table


def cuts_of(data: bytes) -> list[int]:
    """Where chunks end."""
    return list(accumulate(length for length, _ in table_of(data).chunks))


def reference_cuts(data: bytes) -> list[int]:
    """The rule as it is described, byte by byte."""
    cuts, start = [], 0
    for end in range(1, len(data) + 1):
        window = data[end - 8 : end] if end >= 8 else b""
        product = int.from_bytes(window, "little") * 0x9E3779B97F4A7C15 % 2**64
        fits = sum(window) % 256 == 77 and product > 2**64 - 1 - 2**64 // 96
        length = end - start
        if (fits and length >= MIN_CHUNK) or length == MAX_CHUNK or end == len(data):
            cuts.append(end)
            start = end
    return cuts


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, MIN_CHUNK, MAX_CHUNK, MAX_CHUNK + 1, 600 * KIB])
def test_cuts_are_where_the_rule_says(size: int) -> None:
    data = noise(size)
    assert cuts_of(data) == reference_cuts(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(400 * KIB), id="zeros"),
        pytest.param(np.full(50_000, 1.0, "<f4").tobytes(), id="one number in 32 bits"),
        pytest.param(np.full(25_000, 77, "<u8").tobytes(), id="windows that all have the sum"),
        pytest.param(
            np.random.default_rng(0).normal(size=60_000).astype("<f4").tobytes(), id="weights"
        ),
        pytest.param(
            np.random.default_rng(0).normal(0, 20, 300_000).astype("i1").tobytes(),
            id="quantised weights",
        ),
        pytest.param(b"".join(b"%d," % number for number in range(60_000)), id="text"),
    ],
)
def test_cuts_of_other_content_are_where_the_rule_says(data: bytes) -> None:
    assert cuts_of(data) == reference_cuts(data)


def test_chunks_are_called_by_their_bytes() -> None:
    data = noise(500 * KIB)
    cuts = [0, *cuts_of(data)]
    chunks = [data[start:end] for start, end in pairwise(cuts)]
    assert b"".join(chunks) == data
    assert [digest for _, digest in table_of(data).chunks] == list(map(chunk_digest, chunks))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 300 * KIB), max_size=8), seeds)
def test_a_table_is_the_same_however_the_bytes_come(sizes: list[int], seed: int) -> None:
    data = noise(sum(sizes), seed)
    chunker, at = Chunker(), 0
    for size in sizes:
        chunker.feed(memoryview(data)[at : at + size])
        at += size
    assert chunker.finish() == chunk_table(data)


def test_a_table_is_the_same_byte_by_byte() -> None:
    data = noise(40 * KIB, seed=3)
    chunker = Chunker()
    for byte in data:
        chunker.feed(bytes([byte]))
    assert chunker.finish() == chunk_table(data)


def test_the_mean_is_that_of_the_description() -> None:
    data = noise(16 * 1024 * KIB)
    lengths = [length for length, _ in table_of(data).chunks]
    # 8 KiB, and a geometric wait of 24 KiB on average that is cut off at 56.
    expected = 8 * KIB + 24 * KIB * (1 - np.exp(-56 / 24))
    assert np.mean(lengths) == pytest.approx(expected, rel=0.1)
    assert min(lengths[:-1]) >= MIN_CHUNK
    assert max(lengths) <= MAX_CHUNK


@settings(max_examples=15)
@given(seeds, st.floats(0, 1), st.integers(0, 100_000), st.integers(0, 100_000))
def test_a_change_moves_cuts_only_nearby(
    seed: int, where: float, taken: int, inserted: int
) -> None:
    """Bytes are changed, inserted or removed: before and well behind them nothing moves."""
    data = noise(3072 * KIB, seed)
    at = int(where * len(data))
    changed = data[:at] + noise(inserted, seed + 1) + data[at + taken :]
    shift = len(changed) - len(data)
    before, after = cuts_of(data), cuts_of(changed)
    assert [cut for cut in before if cut < at] == [cut for cut in after if cut < at]
    settled = at + max(taken, 0) + NEARBY
    assert [cut + shift for cut in before if cut > settled] == [
        cut for cut in after if cut > settled + shift
    ]


def test_what_has_too_many_chunks_gets_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(300 * KIB)
    count = len(table_of(data).chunks)
    monkeypatch.setattr(chunking, "MAX_CHUNKS", count)
    assert chunk_table(data) is not None
    monkeypatch.setattr(chunking, "MAX_CHUNKS", count - 1)
    assert chunk_table(data) is None
