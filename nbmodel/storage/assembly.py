"""Which chunks a storage has, and blobs put together from them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from nbmodel.core.chunks import ChunkTable, max_table, offsets
from nbmodel.core.manifest import MAX_MANIFEST, FileEntry
from nbmodel.errors import FormatError, StorageError
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import chunked_blobs


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
