"""Chunk tables of the files that a version is made of."""

from __future__ import annotations

from pathlib import Path

from nbmodel.core.chunks import CHUNKED_FROM, max_table
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import FormatError, StorageError
from nbmodel.registry.catalog import Catalog
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.manifests import chunked_blobs

CHUNKS_SUFFIX = ".chunks"  # of a file's path: that of its table, for other OCI tools


def add_with_table(
    storage: Storage, path: Path, size: int, progress: Progress | None
) -> tuple[str, int, bytes | None]:
    """Copy a file in, cutting it into chunks in the same pass.

    Args:
        storage: Where to.
        path: The file.
        size: Its size in bytes, as it was found.
        progress: Told of the bytes just copied.

    Returns:
        Digest, size in bytes, and the chunk table; None for a small file, and for one with
        more chunks than a table takes.

    Raises:
        InputError: ``path`` is no regular file, cannot be read, or changed meanwhile.
        StorageUnavailableError: The storage does not take the bytes.
    """
    if size < CHUNKED_FROM:
        return *storage.add_file(path, progress=progress), None
    from nbmodel.storage.chunking import Chunker  # numpy: for large files alone

    chunker = Chunker()
    digest, found = storage.add_file(path, progress=progress, beside=chunker.feed)
    table = chunker.finish()
    return digest, found, None if table is None else table.to_bytes()


def table_of(data: bytes) -> bytes | None:
    """The chunk table of bytes in memory; None where ``add_with_table`` makes none."""
    if len(data) < CHUNKED_FROM:
        return None
    from nbmodel.storage.chunking import chunk_table

    table = chunk_table(data)
    return None if table is None else table.to_bytes()


def known_table(catalog: Catalog, digest: str, size: int) -> bytes | None:
    """The chunk table that a version has of a file, None when no version has one.

    Args:
        catalog: The registry.
        digest: Of the file.
        size: Of the file, in bytes.
    """
    if size < CHUNKED_FROM:
        return None
    with catalog.db.read() as db:
        rows = db.execute(
            "SELECT v.digest FROM versions v JOIN blobs b ON b.version = v.id"
            " WHERE b.digest = ? ORDER BY v.id DESC LIMIT 8",
            (digest,),
        ).fetchall()
    for (manifest,) in rows:
        try:
            tables = chunked_blobs(catalog.storage.read(manifest, limit=MAX_MANIFEST))
            if digest in tables:
                return catalog.storage.read(tables[digest].digest, limit=max_table(size))
        except (FormatError, StorageError):
            continue  # a damaged version is verify's to tell of; this one does without
    return None
