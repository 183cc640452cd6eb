"""Versions that differ little take little: a former file is kept as what differs from the next.

The newest version of a model lies on disk as it is, for it is the one that is loaded, pushed
and served. Whatever fails here fails quietly, and the files stay whole: a version is there
before its predecessor is packed.
"""

from __future__ import annotations

import logging
from itertools import pairwise

from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import FormatError, StorageError
from nbmodel.registry.catalog import Catalog
from nbmodel.storage.assembly import chunk_index, read_table
from nbmodel.storage.manifests import blobs_of, chunked_blobs

_log = logging.getLogger(__name__)


def pack_predecessor(catalog: Catalog, model: str, number: int) -> int:
    """Pack the files of the version before one; bytes that are free now.

    Args:
        catalog: The registry.
        model: Name of the model.
        number: Of the newer version. Nothing is packed when there is no older one.
    """
    with catalog.db.read() as db:
        rows = db.execute(
            "SELECT v.digest FROM versions v JOIN models m ON m.id = v.model"
            " WHERE m.name = ? AND v.number <= ? ORDER BY v.number DESC LIMIT 2",
            (model, number),
        ).fetchall()
    if len(rows) < 2:
        return 0
    (newer,), (older,) = rows
    return _pack(catalog, older, newer)


def pack_pulled(catalog: Catalog, model: str, number: int) -> int:
    """Pack the files of a version that came; those of the one before, where it is the newest here.

    Args:
        catalog: The registry.
        model: Name of the model.
        number: Of the version.

    Returns:
        Bytes that are free now.
    """
    with catalog.db.read() as db:
        rows = db.execute(
            "SELECT v.digest, v.number FROM versions v JOIN models m ON m.id = v.model"
            " WHERE m.name = ? AND v.id NOT IN (SELECT version FROM unfetched) ORDER BY v.number",
            (model,),
        ).fetchall()
    if not rows:
        return 0  # it was deleted meanwhile
    *former, (newest, last) = rows
    older = [digest for digest, one in former if number in (one, last)]
    return _pack(catalog, older[-1], newest) if older else 0


def pack_all(catalog: Catalog) -> int:
    """Pack the files of every version but the newest of each model; bytes that are free now."""
    with catalog.db.read() as db:
        rows = db.execute("SELECT model, digest FROM versions ORDER BY model, number").fetchall()
    return sum(
        _pack(catalog, older, newer)
        for (one, older), (other, newer) in pairwise(rows)
        if one == other
    )


def _pack(catalog: Catalog, older: str, newer: str) -> int:
    storage = catalog.storage
    freed = 0
    try:
        stay = blobs_of(storage.read(newer, limit=MAX_MANIFEST))
        tables = chunked_blobs(storage.read(older, limit=MAX_MANIFEST))
        large = {blob: entry for blob, entry in tables.items() if blob not in stay}
        if not any(map(storage.is_whole, large)):
            return 0
        have = chunk_index(storage, [newer])
        for blob, entry in large.items():
            if storage.is_whole(blob):
                table = read_table(storage, entry.digest, storage.size(blob))
                freed += storage.pack(blob, table, have)
    except (FormatError, StorageError) as exc:
        _log.info("files of %s stay whole: %s", older, exc)
    return freed
