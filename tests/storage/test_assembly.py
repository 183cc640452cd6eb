"""Putting blobs together from chunks, whatever tables, patches and indexes claim."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbmodel.core.chunks import ChunkTable, Local, Missing, chunk_digest, offsets, segments
from nbmodel.core.patch import Patch
from nbmodel.errors import BlobNotFoundError, DigestMismatchError, ManifestError
from nbmodel.storage import BlobWriter, MemoryStorage, OciLayout, Storage
from nbmodel.storage.assembly import assemble, chunk_index, read_table
from nbmodel.storage.chunking import chunk_table
from tests.tools.storage_server import add_version

MISSING = "sha256:" + "0" * 64


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def table_of(data: bytes) -> ChunkTable:
    table = chunk_table(data)
    assert table is not None
    return table


def patch_of(data: bytes, ranges: tuple[Missing, ...]) -> bytes:
    payload = (data[start : start + length] for start, length in ranges)
    return Patch(ranges).head() + b"".join(payload)


@pytest.mark.parametrize("folder", [True, False], ids=["oci-layout", "memory"])
def test_a_blob_is_made_of_a_patch_and_chunks(tmp_path: Path, folder: bool) -> None:
    storage = OciLayout(tmp_path) if folder else MemoryStorage()
    old = noise(3_000_000)
    manifest = add_version(storage, {"model.onnx": old})
    new = b"in front" + old[:1_000_000] + noise(5000, 1) + old[1_200_000:]
    table = table_of(new)
    have = chunk_index(storage, [manifest])
    found = segments(table, have)
    ranges = tuple(segment for segment in found if isinstance(segment, Missing))
    patch = patch_of(new, ranges)
    assert len(patch) < 300_000
    assemble(storage, sha256(new), io.BytesIO(patch), table, have)
    assert storage.read(sha256(new), limit=len(new)) == new


class CountingStorage(MemoryStorage):
    """Counts what is written to it."""

    written = 0

    def _receive(self, name: str | None) -> BlobWriter:
        writer = super()._receive(name)
        append = writer._append

        def counted(data: memoryview) -> None:
            self.written += len(data)
            append(data)

        writer._append = counted  # type: ignore[method-assign]
        return writer


BLOBS = [noise(4096 * 3 + 100, seed) for seed in range(2)]
PIECES = [blob[at : at + 4096] for blob in BLOBS for at in range(0, 4096 * 3, 4096)]
known = st.sampled_from(PIECES)
lengths = st.integers(4096, 6000)
honest_chunks = known.map(lambda piece: (len(piece), chunk_digest(piece)))
lying_chunks = st.tuples(lengths, st.binary(min_size=16, max_size=16) | known.map(chunk_digest))
tables = st.lists(honest_chunks | lying_chunks, max_size=6).map(
    lambda chunks: ChunkTable(tuple(chunks))
)
places = st.tuples(
    st.sampled_from([*map(sha256, BLOBS), MISSING]), st.integers(0, 4096 * 4) | st.just(2**40)
)
haves = st.dictionaries(known.map(chunk_digest), places, max_size=6)
numbers = st.integers(0, 30_000) | st.integers(0, 2**64 - 1)
heads = st.lists(st.tuples(numbers, numbers), max_size=4).map(
    lambda ranges: (
        b"NBPATCH1"
        + struct.pack(">I", len(ranges))
        + b"".join(struct.pack(">QQ", *one) for one in ranges)
    )
)
sorted_cuts = st.lists(st.integers(0, 30_000), max_size=8, unique=True).map(sorted)
honest_heads = sorted_cuts.map(
    lambda cuts: patch_of(
        bytes(30_000),
        tuple(Missing(a, b - a) for a, b in zip(cuts[::2], cuts[1::2], strict=False)),
    )
)
patches = (
    honest_heads
    | st.binary(max_size=60)
    | heads
    | st.tuples(heads, st.binary(max_size=60)).map(b"".join)
)


@settings(max_examples=300, deadline=None)
@given(tables, haves, patches, st.data())
def test_nothing_hostile_makes_a_wrong_blob(
    table: ChunkTable, have: dict[bytes, tuple[str, int]], patch: bytes, data: st.DataObject
) -> None:
    """Whatever is claimed: the right blob or none, and no more written than it may have."""
    storage = CountingStorage()
    for blob in BLOBS:
        storage.add_bytes(blob)
    before = {digest for digest, _, _ in storage.digests()}
    storage.written = 0
    digest = data.draw(st.sampled_from([sha256(b"something"), sha256(b"")]))
    try:
        assemble(storage, digest, io.BytesIO(patch), table, have)
    except (ManifestError, BlobNotFoundError, DigestMismatchError):
        assert {digest for digest, _, _ in storage.digests()} == before
    else:
        storage.check(digest)
    assert storage.written <= table.size
    assert list(storage.abandoned(time.time() + 1)) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(known | st.binary(min_size=4096, max_size=4200), max_size=6), sorted_cuts)
def test_an_honest_patch_always_makes_the_blob(pieces: list[bytes], cuts: list[int]) -> None:
    """Also when it gives more than is missing, or breaks chunks apart."""
    storage = MemoryStorage()
    have: dict[bytes, tuple[str, int]] = {}
    for blob in BLOBS:
        digest = storage.add_bytes(blob)
        have |= {
            chunk_digest(blob[at : at + 4096]): (digest, at) for at in range(0, 4096 * 3, 4096)
        }
    data = b"".join(pieces)
    table = ChunkTable(tuple((len(piece), chunk_digest(piece)) for piece in pieces))
    wanted = {
        byte
        for segment in segments(table, have)
        if isinstance(segment, Missing)
        for byte in range(segment.start, segment.start + segment.length)
    }
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        wanted |= set(range(start, min(end, len(data))))
    edges = sorted(byte for byte in wanted if byte - 1 not in wanted)
    ends = sorted(byte + 1 for byte in wanted if byte + 1 not in wanted)
    ranges = tuple(Missing(a, b - a) for a, b in zip(edges, ends, strict=True))
    assemble(storage, sha256(data), io.BytesIO(patch_of(data, ranges)), table, have)
    assert storage.read(sha256(data), limit=len(data)) == data


def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    storage = OciLayout(tmp_path)
    old = noise(16_000_000)
    have = chunk_index(storage, [add_version(storage, {"model.onnx": old})])
    new = old + old
    table, digest = table_of(new), sha256(new)
    found = segments(table, have)
    patch = io.BytesIO(
        patch_of(new, tuple(segment for segment in found if isinstance(segment, Missing)))
    )
    tracemalloc.start()
    try:
        assemble(storage, digest, patch, table, have)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000  # a patch's ranges, and two pieces of 1 MiB on their way


# What is at hand.


@dataclass(frozen=True)
class Shelf:
    """A storage with two versions of a file."""

    storage: Storage
    old: bytes
    new: bytes
    manifests: tuple[str, str]


@pytest.fixture
def shelf() -> Shelf:
    storage = MemoryStorage()
    old = noise(1_500_000)
    new = old[:1_200_000] + noise(300_000, 1)
    manifests = tuple(
        add_version(storage, {"model.onnx": data, "labels.txt": b"a"}) for data in (old, new)
    )
    return Shelf(storage, old, new, (manifests[0], manifests[1]))


def test_the_index_says_where_chunks_are(shelf: Shelf) -> None:
    index = chunk_index(shelf.storage, shelf.manifests)
    for data in (shelf.old, shelf.new):
        table = table_of(data)
        for start, (length, digest) in zip(offsets(table), table.chunks, strict=True):
            blob, offset = index[digest]
            whole = shelf.storage.read(blob, limit=2_000_000)
            assert whole[offset : offset + length] == data[start : start + length]
    assert all(isinstance(one, Local) for one in segments(table_of(shelf.new), index))


def test_only_what_is_wanted_is_looked_for(shelf: Shelf) -> None:
    wanted = {digest for _, digest in table_of(shelf.old).chunks[:3]}
    assert chunk_index(shelf.storage, shelf.manifests, wanted).keys() == wanted
    assert chunk_index(shelf.storage, shelf.manifests, set()) == {}


def test_what_cannot_be_read_is_left_out(shelf: Shelf) -> None:
    storage = shelf.storage
    old, new = shelf.manifests
    whole = chunk_index(storage, [new])
    assert chunk_index(storage, [MISSING, storage.add_bytes(b"no manifest"), new]) == whole
    storage.delete(sha256(shelf.old))
    assert chunk_index(storage, [old]) == {}, "its blob is gone"
    storage.delete(sha256(table_of(shelf.new).to_bytes()))
    assert chunk_index(storage, [new]) == {}, "its table is gone"


def test_a_table_is_read_as_one_of_its_file(shelf: Shelf) -> None:
    table = table_of(shelf.old)
    digest = sha256(table.to_bytes())
    assert read_table(shelf.storage, digest, len(shelf.old)) == table
    with pytest.raises(ManifestError, match="expected 1499999"):
        read_table(shelf.storage, digest, len(shelf.old) - 1)
    with pytest.raises(BlobNotFoundError):
        read_table(shelf.storage, MISSING, len(shelf.old))
