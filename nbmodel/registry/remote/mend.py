"""Mending: files that are here and damaged are fetched anew."""

from __future__ import annotations

from collections.abc import Mapping

from nbmodel.errors import BlobNotFoundError, DigestMismatchError, StorageUnavailableError
from nbmodel.registry.remote.peer import Peer
from nbmodel.storage.base import Storage


def damaged_among(storage: Storage, blobs: Mapping[str, int]) -> dict[str, int]:
    """The blobs whose bytes are not what they should be, with their sizes; reads all of them.

    Args:
        storage: Where they are.
        blobs: Digest → size in bytes.
    """
    found = {}
    for digest, size in blobs.items():
        try:
            storage.check(digest)
        except BlobNotFoundError:
            continue  # it went meanwhile, and is fetched as what is not here
        except (DigestMismatchError, StorageUnavailableError):
            found[digest] = size
    return found


def mend(peer: Peer, repository: str, storage: Storage, damaged: Mapping[str, int]) -> None:
    """Fetch blobs anew. Until one is there as a whole, what is here of it stays.

    Args:
        peer: The remote.
        repository: What has them there.
        storage: Where they are damaged.
        damaged: Digest → size in bytes.

    Raises:
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        CancelledError: Nobody wants to go on.
    """
    for digest, size in damaged.items():
        peer.registry.pull_blob(repository, storage, digest, size=size, progress=peer.advance)
