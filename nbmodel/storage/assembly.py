"""Which chunks a storage has, and blobs put together from them."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from nbmodel.core.chunks import ChunkTable, Have, max_table, offsets, segments
from nbmodel.core.manifest import MAX_MANIFEST, FileEntry
from nbmodel.core.patch import MAX_HEAD, Given, Patch, plan
from nbmodel.errors import BlobNotFoundError, FormatError, StorageError
from nbmodel.storage.base import Storage, translated
from nbmodel.storage.manifests import chunked_blobs

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 1024 * 1024  # bytes of one read


def read_table(storage: Storage, table: str, size: int) -> ChunkTable:
    """A chunk table that is stored.

    Args:
        storage: Where it is.
        table: Digest of its blob.
        size: Bytes of the file that it is of.

    Raises:
        ManifestError: It is no table of a file of that size.
        StorageError: It is not there, damaged, or larger than such a table can be.
    """
    return ChunkTable.from_bytes(storage.read(table, limit=max_table(size)), size)


def chunk_index(
    storage: Storage, manifests: Iterable[str], wanted: Container[bytes] | None = None
) -> dict[bytes, tuple[str, int]]:
    """Where the chunks of stored versions are.

    What cannot be read is left out: a table that is gone or lies only costs savings.

    Args:
        storage: Where manifests, tables and blobs are.
        manifests: Digests of the manifests to look into.
        wanted: The chunks to look for; None for all that there are.

    Returns:
        Chunk digest → digest of a blob that should have it, and where in it in bytes.
    """
    index: dict[bytes, tuple[str, int]] = {}
    seen: set[str] = set()
    for manifest in manifests:
        for blob, entry in _tables(storage, manifest).items():
            if blob in seen:
                continue
            seen.add(blob)
            for offset, digest in _chunks(storage, blob, entry):
                if wanted is None or digest in wanted:
                    index.setdefault(digest, (blob, offset))
    return index


def assemble(
    storage: Storage,
    digest: str,
    patch: BinaryIO,
    table: ChunkTable,
    have: Have,
) -> None:
    """Put a blob together from a patch and chunks of other blobs.

    Nothing that patch, table or chunks say is believed: no more is written than the file
    has bytes by its table, and that becomes a blob only when its digest is right.

    Args:
        storage: Where the chunks are, and the blob will be.
        digest: Of the blob.
        patch: Its bytes, a file to read and seek in.
        table: The chunks of the blob.
        have: Where the chunks that are not in the patch should be.

    Raises:
        ManifestError: The patch is none of such a file.
        BlobNotFoundError: A chunk is neither in the patch nor in the storage.
        DigestMismatchError: What was put together is not the blob.
        StorageUnavailableError: The storage does not take it.
    """
    size = patch.seek(0, os.SEEK_END)
    patch.seek(0)
    head = patch.read(min(size, MAX_HEAD))
    parsed = Patch.from_head(head, size=size, file_size=table.size)
    steps = plan(parsed, segments(table, have))
    with storage.receive() as writer, _Blobs(storage) as blobs:
        for step in steps:
            source = patch if isinstance(step, Given) else blobs.open(step.blob)
            for piece in _range(source, step.offset, step.length):
                writer.write(piece)
        writer.commit(digest)


class _Blobs:
    """The blob that was read last, kept open: the next range is mostly of the same."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._open: tuple[str, BinaryIO] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open[1].close()

    def open(self, digest: str) -> BinaryIO:
        """The blob as a file; it is open until the next one is asked for."""
        if self._open is None or self._open[0] != digest:
            file = self._storage.open(digest)
            self.__exit__()
            self._open = (digest, file)
        return self._open[1]


def _range(source: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    source.seek(offset)
    while length:
        with translated("read a chunk"):
            piece = source.read(min(length, _PIECE))
        if not piece:
            raise BlobNotFoundError(f"a chunk at byte {offset} is gone: the blob ends before it")
        length -= len(piece)
        yield piece


def _tables(storage: Storage, manifest: str) -> Mapping[str, FileEntry]:
    try:
        return chunked_blobs(storage.read(manifest, limit=MAX_MANIFEST))
    except (FormatError, StorageError):
        return {}


def _chunks(storage: Storage, blob: str, entry: FileEntry) -> Iterator[tuple[int, bytes]]:
    """Offset and digest of the chunks of a blob, as its table tells them."""
    try:
        table = read_table(storage, entry.digest, storage.size(blob))
    except (FormatError, StorageError):
        return
    for offset, (_, digest) in zip(offsets(table), table.chunks, strict=True):
        yield offset, digest
