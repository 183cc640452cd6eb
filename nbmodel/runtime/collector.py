"""What a device can let go of: versions that nothing wants and that are not the last ones.

A number or a timestamp id names a version for good; every push adds them, so they alone
do not keep a version. Anything else does: a tag that moves (``latest``, ``pinned``, an
alias), a package of the config, and what a service runs or ran before.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import BlobNotFoundError
from nbmodel.runtime.resolve import own_tags
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.tags import TagStore

GRACE_S = 3600.0  # a push takes less, and its blobs come before the tag that keeps them
UPLOAD_GRACE_S = 24 * 3600.0  # a large upload over a bad line may be gone on with


@dataclass(frozen=True, slots=True)
class Collected:
    """What was let go of.

    Attributes:
        tags: How many tags.
        blobs: How many blobs and unfinished uploads.
        size: Their bytes.
    """

    tags: int
    blobs: int
    size: int


def collect(
    storage: Storage, tags: TagStore, *, held: Collection[str], grace_s: float = GRACE_S
) -> Collected:
    """Remove tags and blobs that nothing needs.

    Args:
        storage: Where the blobs are.
        tags: Where the tags are.
        held: Manifest digests of versions that stay whatever their tags.
        grace_s: What is younger stays.

    Raises:
        StorageError: A manifest or tag that stays cannot be read; no blob was removed.
    """
    now = time.time()
    forgotten = 0
    for name, tag in forgettable_tags(list(tags.all()), held):
        if tags.age(name, tag, now=now) > grace_s and tags.delete(name, tag):
            forgotten += 1
    needed = _needed(storage, {digest for _, _, digest in tags.all()} | set(held))
    blobs = size = 0
    for digest, length, written in list(storage.digests()):
        if digest not in needed and written < now - grace_s:
            storage.delete(digest)
            blobs, size = blobs + 1, size + length
    for upload, length in list(storage.abandoned(now - max(grace_s, UPLOAD_GRACE_S))):
        if storage.discard(upload):
            blobs, size = blobs + 1, size + length
    return Collected(forgotten, blobs, size)


def forgettable_tags(
    tags: Iterable[tuple[str, str, str]], held: Collection[str]
) -> list[tuple[str, str]]:
    """Repository and tag of the tags that alone do not keep their version.

    Args:
        tags: Repository, tag and manifest digest of every tag.
        held: Manifest digests of versions that stay whatever their tags.
    """
    known = list(tags)
    own = own_tags(tag for _, tag, _ in known)
    kept = {digest for _, tag, digest in known if tag not in own} | set(held)
    return [(name, tag) for name, tag, digest in known if tag in own and digest not in kept]


def _needed(storage: Storage, manifests: Iterable[str]) -> set[str]:
    needed: set[str] = set()
    for digest in manifests:
        needed.add(digest)
        try:
            needed |= blobs_of(storage.read(digest, limit=MAX_MANIFEST)).keys()
        except BlobNotFoundError:
            continue  # gone already, and with it the only list of what it needed
    return needed
