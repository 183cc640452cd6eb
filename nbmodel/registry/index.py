"""``index.json`` of the layout: the versions, for other OCI tools.

Written after the commit and under the write lock, from the index alone, so it never names
a version that is not there. A process killed in between leaves it one change behind, and
the next change brings it up to date. Aliases and pins are not in it.
"""

from __future__ import annotations

import sqlite3

from nbmodel.core.manifest import ARTIFACT_TYPE, MANIFEST_TYPE
from nbmodel.errors import StorageUnavailableError
from nbmodel.registry.catalog import Catalog

# Names, numbers and digests need no escaping in JSON.
_DESCRIPTORS = f"""
SELECT '[' || ifnull(group_concat(descriptor, ','), '') || ']' FROM (
    SELECT '{{"mediaType":"{MANIFEST_TYPE}","artifactType":"{ARTIFACT_TYPE}","digest":"'
        || v.digest || '","size":' || v.manifest_size
        || ',"annotations":{{"org.opencontainers.image.ref.name":"' || m.name || ':' || v.number
        || '"}}}}' AS descriptor
    FROM versions v JOIN models m ON m.id = v.model
    ORDER BY v.id
)
"""  # noqa: S608 - constants


def touch_index(db: sqlite3.Connection) -> None:
    """Note, in the transaction that changes the set of versions, that it changed."""
    db.execute("UPDATE revision SET changes = changes + 1")


def descriptors(db: sqlite3.Connection) -> str:
    """The versions as a JSON list of OCI descriptors, in its text."""
    (text,) = db.execute(_DESCRIPTORS).fetchone()
    return str(text)


def is_behind(db: sqlite3.Connection) -> bool:
    """Whether ``index.json`` lacks a change."""
    (behind,) = db.execute("SELECT changes > indexed FROM revision").fetchone()
    return bool(behind)


def write_index(catalog: Catalog) -> None:
    """Bring ``index.json`` up to date, unless somebody else just did.

    A disk that is full or read-only leaves it behind, which the index knows: the change
    itself is made and must not be reported as failed.
    """
    try:
        with catalog.db.write() as db:
            if is_behind(db):
                catalog.storage.write_index(descriptors(db))
                db.execute("UPDATE revision SET indexed = changes")
    except StorageUnavailableError:
        return
