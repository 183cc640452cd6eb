"""Collecting what no manifest in an object store refers to.

What a tag leads to is needed, and what refers to that (signatures), each with its blobs; an
image index with its manifests. Anything else goes when it is older than a grace period: what a
push left that did not end, what a deleted tag led to, and versions that were pushed by digest
alone. ``object_store_presence`` says why no writer loses what it found there.

Where one of these cannot be read nothing is deleted: nobody knows what it needs. Parts of
uploads that were not ended are no objects; a rule of the store ends them ("abort incomplete
multipart uploads").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from nbmodel.core.digest import check_digest, digest_of, is_digest
from nbmodel.core.manifest import MAX_MANIFEST, read_object
from nbmodel.errors import BlobNotFoundError, DigestMismatchError, InputError, InUseError
from nbmodel.storage.object_store import Bucket, Item
from nbmodel.storage.object_store_presence import COLLECTORS, HOLDS_S, WRITERS, Presence

_BLOBS = "blobs/sha256/"
_REPOSITORIES = "repositories/"
_MAX_DESCRIPTOR = 64 * 1024  # bytes
_AT_ONCE = 8  # requests


@dataclass(frozen=True, slots=True)
class Garbage:
    """What nobody needed.

    Attributes:
        blobs: How many blobs and manifests.
        freed: Their bytes.
    """

    blobs: int
    freed: int


def collect_garbage(
    bucket: Bucket,
    *,
    grace_s: float,
    dry_run: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Garbage:
    """Delete what no manifest refers to.

    Args:
        bucket: The store.
        grace_s: What was written in the last ``grace_s`` seconds by the store's clock stays;
            0 or more.
        dry_run: Only count. Nothing is asked of those who write.
        cancelled: Asked between requests.

    Raises:
        InputError: ``grace_s`` is negative.
        InUseError: Somebody pushes to it.
        ManifestError, DigestMismatchError: What a tag leads to cannot be read.
        CancelledError: Nobody wants to go on; what is deleted by then stays so.
        StorageError: The store refuses, or this process slept too long.
    """
    if not grace_s >= 0:
        raise InputError(f"grace period of {grace_s} s, expected 0 or more")
    presence = Presence(bucket, COLLECTORS)
    try:
        presence.begin()
        if not dry_run:
            _check_alone(bucket, presence)
        before = presence.now() - grace_s
        blobs = list(bucket.items(_BLOBS))
        known = _Known(bucket, cancelled=lambda: _went_on(presence, cancelled))
        idle = [item for item in known.idle if item.at <= before]
        gone = [
            item
            for item in blobs
            if item.at <= before
            and is_digest(digest := f"sha256:{item.key.removeprefix(_BLOBS)}")
            and digest not in known.needed
        ]
        for item in () if dry_run else (*gone, *idle, *_left(bucket, presence)):
            _went_on(presence, cancelled)
            bucket.delete(item.key)
        return Garbage(len(gone), sum(item.size for item in gone))
    finally:
        presence.end()


class _Known:
    """What tags lead to, and what refers to that.

    Attributes:
        needed: Digests of manifests and blobs.
        idle: Objects that say what refers to manifests that are not needed.
    """

    def __init__(self, bucket: Bucket, *, cancelled: Callable[[], object]) -> None:
        self._bucket = bucket
        self._cancelled = cancelled
        self.needed: set[str] = set()
        self.idle: list[Item] = []
        tags: list[Item] = []
        referrers: dict[str, list[tuple[str, Item]]] = {}
        for item in bucket.items(_REPOSITORIES):
            name = item.key.removeprefix(_REPOSITORIES)
            subject, _, referrer = name.partition("/_referrers/")[2].partition("/")
            if is_digest(f"sha256:{subject}") and is_digest(f"sha256:{referrer}"):
                referrers.setdefault(f"sha256:{subject}", []).append((f"sha256:{referrer}", item))
            elif "/_tags/" in name:
                tags.append(item)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbmodel-collect") as pool:
            wanted = {digest for digest in pool.map(self._tagged, tags) if digest is not None}
            while wanted:
                self.needed |= wanted
                found: set[str] = set()
                for manifests, blobs in pool.map(self._named, wanted):
                    self.needed |= blobs
                    found |= manifests
                for subject in wanted:
                    found |= {digest for digest, _ in referrers.get(subject, ())}
                wanted = found - self.needed
        for subject, those in referrers.items():
            if subject not in self.needed:
                self.idle += [item for _, item in those]

    def _tagged(self, item: Item) -> str | None:
        """Digest of the manifest that a tag leads to; None when it was deleted meanwhile."""
        self._cancelled()
        try:
            _, raw = self._bucket.read(item.key, limit=_MAX_DESCRIPTOR)
        except BlobNotFoundError:
            return None
        data = read_object(raw, f"tag {item.key}", _MAX_DESCRIPTOR)
        return check_digest(data.get("digest"), f"the manifest of {item.key}")

    def _named(self, digest: str) -> tuple[set[str], set[str]]:
        """The manifests and the blobs that a manifest names; none where it is not there."""
        self._cancelled()
        key = _BLOBS + digest.partition(":")[2]
        try:
            _, raw = self._bucket.read(key, limit=MAX_MANIFEST)
        except BlobNotFoundError:
            return set(), set()
        if digest_of(raw) != digest:
            what = f"manifest in {self._bucket.url}"
            raise DigestMismatchError(what, expected=digest, actual=digest_of(raw))
        data = read_object(raw, f"manifest {digest}", MAX_MANIFEST)
        blobs = _digests([data.get("config")]) | _digests(data.get("layers"))
        return _digests(data.get("manifests")), blobs | _digests(data.get("blobs"))


def _digests(descriptors: Any) -> set[str]:
    those: Iterable[Any] = descriptors if isinstance(descriptors, list) else ()
    found = (one.get("digest") for one in those if isinstance(one, dict))
    return {digest for digest in found if isinstance(digest, str) and is_digest(digest)}


def _check_alone(bucket: Bucket, presence: Presence) -> None:
    writers = presence.others(WRITERS)
    if writers:
        minutes = HOLDS_S[WRITERS] / 60
        raise InUseError(
            f"somebody pushes to {bucket.url}: nothing was collected",
            hint=f"try again when it is done; a push that was killed counts for {minutes:.0f} min",
        )


def _left(bucket: Bucket, presence: Presence) -> list[Item]:
    """What was said by those who ended without taking it back."""
    now = presence.now()
    return [
        item
        for kind, holds_s in HOLDS_S.items()
        for item in bucket.items(kind)
        if now - item.at > holds_s
    ]


def _went_on(presence: Presence, cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CancelledError
    presence.go_on()
