"""Fetching the files of versions that are known here, and whose files are on a remote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from nbmodel.core.reference import Reference
from nbmodel.core.version import Version
from nbmodel.errors import BlobNotFoundError, DeployError, StorageError, TargetUnreachableError
from nbmodel.registry.catalog import Catalog, find_version
from nbmodel.registry.remote.peer import Connect, Peer
from nbmodel.registry.remote.peer import connect as connect_anyhow
from nbmodel.registry.remote.seen import places_of
from nbmodel.registry.remote.signature_copies import pull_signatures
from nbmodel.registry.rows import VersionRow
from nbmodel.storage.copying import Progress


def is_unfetched(db: sqlite3.Connection, version_id: int) -> bool:
    """Whether a version's files are on a remote alone."""
    found = db.execute("SELECT 1 FROM unfetched WHERE version = ?", (version_id,))
    return found.fetchone() is not None


def fetch_version(
    catalog: Catalog,
    version: Version,
    connect: Connect | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> str | None:
    """As ``fetch_row``, for a version that was looked up."""
    with catalog.db.read() as db:
        row = find_version(db, Reference(version.model, digest=version.digest))
    return fetch_row(
        catalog, row, connect or connect_anyhow, progress=progress, cancelled=cancelled
    )


def fetch_row(
    catalog: Catalog,
    row: VersionRow,
    connect: Connect = connect_anyhow,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> str | None:
    """Bring the files of a version, unless they are here.

    Args:
        catalog: The registry.
        row: The version.
        connect: Opens a connection to a remote.
        progress: Told of the bytes that were received, or are here already.
        cancelled: Asked while bytes move.

    Returns:
        The host that they came from; None when they were here.

    Raises:
        BlobNotFoundError: No remote is known to have them.
        TargetUnreachableError, AuthenticationError, StorageError: The last remote's own,
            when none of them gave the files.
        CancelledError: Nobody wants them any more.
    """
    with catalog.db.read() as db:
        if not is_unfetched(db, row.id):
            return None
        places = places_of(db, row.digest)
    error: StorageError | DeployError = BlobNotFoundError(
        f"the files of {row.reference} are not here, and no remote is known to have them",
        hint=f"sync {row.model} with the registry that has them",
    )
    for remote, model in places:
        with Peer(remote, connect, progress=progress, cancelled=cancelled) as peer:
            repository = remote.repository(model)
            try:
                peer.registry.pull(repository, row.digest, catalog.storage, progress=peer.advance)
                pull_signatures(catalog, peer.registry, repository, row.digest)
            except (StorageError, DeployError) as exc:
                error = exc
                continue
        with catalog.db.write() as db:
            db.execute("DELETE FROM unfetched WHERE version = ?", (row.id,))
        return remote.host
    if isinstance(error, TargetUnreachableError):
        raise TargetUnreachableError(
            f"{error}; the files of {row.reference} are only there, and were not fetched yet",
            hint=error.hint,
        ) from error
    raise error
