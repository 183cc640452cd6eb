"""Cutting files into chunks where their content says so, so that a change moves few cuts.

A chunk may end behind every window of 8 bytes whose sum is 77 modulo 256 and whose product
with an odd constant, modulo 2^64, is large: one window in 24,576. Summing finds one window
in 256 with additions of bytes alone, which numpy does at many GB/s; only those are
multiplied. The sum is odd so that no run of one byte, of one 16-bit or of one 32-bit value
has an end in it: such runs would be cut into as many chunks as there can be.

An end is taken at the earliest ``MIN_CHUNK`` bytes behind the last one, and where there is
none for ``MAX_CHUNK`` bytes the chunk ends there. The table of a file depends on its bytes
alone, so that one made here and one made elsewhere name the same chunks.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from nbmodel.core.chunks import DIGEST_SIZE, MAX_CHUNKS, ChunkTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_CHUNK = 8 * 1024  # bytes
MAX_CHUNK = 64 * 1024  # bytes: the most that is sent for nothing beside a change
_WINDOW = 8  # bytes
_SUM = np.uint8(77)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd (Knuth, TAOCP 6.4)
_ABOVE = np.uint64(2**64 - 1 - 2**64 // 96)  # with the sum: one window in 256 · 96
_BLOCK = 512 * 1024  # bytes looked at in one go: what is worked out stays in the cache


class Chunker:
    """Makes the table of a file from its bytes, a piece at a time. Not thread-safe."""

    def __init__(self) -> None:
        self._chunks: list[tuple[int, bytes]] = []
        self._hash = hashlib.sha256()
        self._length = 0  # of the chunk under way
        self._tail = b""  # the last bytes seen, which begin windows that are not over
        self._finder = _Finder()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the file; done with them on return."""
        piece = memoryview(data).cast("B")
        ends = self._finder.ends(self._tail, piece).tolist()
        # What is over reaches into the tail, where no chunk can end any more.
        self._tail = (self._tail + bytes(piece[-_WINDOW + 1 :]))[-_WINDOW + 1 :]
        at = index = 0
        while len(self._chunks) <= MAX_CHUNKS:
            begin = at - self._length
            index = bisect_left(ends, begin + MIN_CHUNK, index)
            end = min([begin + MAX_CHUNK, *ends[index : index + 1]])
            if end > len(piece):
                break
            self._take(piece[at:end])
            self._cut()
            at = end
        self._take(piece[at:])

    def finish(self) -> ChunkTable | None:
        """The table of everything that was fed; None when it has more chunks than one takes."""
        if self._length:
            self._cut()
        return ChunkTable(tuple(self._chunks)) if len(self._chunks) <= MAX_CHUNKS else None

    def _take(self, piece: memoryview) -> None:
        self._hash.update(piece)
        self._length += len(piece)

    def _cut(self) -> None:
        self._chunks.append((self._length, self._hash.digest()[:DIGEST_SIZE]))
        self._hash = hashlib.sha256()
        self._length = 0


def chunk_table(data: bytes) -> ChunkTable | None:
    """The table of bytes in memory; None when they have more chunks than a table takes."""
    chunker = Chunker()
    chunker.feed(data)
    return chunker.finish()


class _Finder:
    """Finds where chunks may end; keeps the memory that it needs for that."""

    def __init__(self) -> None:
        # Fresh memory for each block would cost more than all the sums.
        self._sums = np.empty((2, _BLOCK + _WINDOW), np.uint8)
        self._fits = np.empty(_BLOCK + _WINDOW, np.bool_)

    def ends(self, tail: bytes, piece: memoryview) -> NDArray[np.int64]:
        """Where chunks may end in a piece, as offsets from its start, ascending.

        Args:
            tail: The bytes before the piece, at most 7.
            piece: The bytes.
        """
        joint = np.frombuffer(tail + bytes(piece[: _WINDOW - 1]), np.uint8)
        found = [self._starts(joint) + (_WINDOW - len(tail))]
        data = np.frombuffer(piece, np.uint8)
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK + _WINDOW - 1]
            found.append(self._starts(block) + (start + _WINDOW))
        return np.concatenate(found)

    def _starts(self, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Where windows begin behind which a chunk may end; at most a block of them."""
        count = len(data) - _WINDOW + 1
        if count <= 0:
            return np.empty(0, np.int64)
        one, other = self._sums
        pairs = np.add(data[:-1], data[1:], out=one[: count + 6])
        fours = np.add(pairs[:-2], pairs[2:], out=other[: count + 4])
        sums = np.add(fours[:-4], fours[4:], out=one[:count])
        (found,) = np.equal(sums, _SUM, out=self._fits[:count]).nonzero()
        windows = np.ndarray((count,), "<u8", data, 0, (1,))  # one begins at every byte
        starts: NDArray[np.int64] = found[windows[found] * _FACTOR > _ABOVE]
        return starts
