"""Collecting what no version needs.

A blob that an upload in flight reuses is kept by three things: reusing it renews its
time, a collector spares what is younger than the grace period, and the upload's commit
looks, under the lock that the collector deletes under, whether all blobs are there, and
stores them again where they are not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from nbmodel.errors import InputError, StorageError, StorageUnavailableError
from nbmodel.registry.catalog import Catalog
from nbmodel.storage.room import is_full


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection freed, or would free.

    Attributes:
        blobs: How many blobs.
        uploads: How many unfinished uploads.
        freed: Bytes of both, less those of what was kept as its difference to one of them;
            that is not known where it was only looked at.
        dry_run: Whether it was only looked at.
        packed: Bytes freed besides, of files that are kept as what differs from a newer one.
        waiting: Bytes of blobs that no version needs, and that are too young to go.
        wait_s: Seconds until the last of them may go.
    """

    blobs: int
    uploads: int
    freed: int
    dry_run: bool = False
    packed: int = 0
    waiting: int = 0
    wait_s: float = 0.0

    @property
    def count(self) -> int:
        """Blobs and unfinished uploads together."""
        return self.blobs + self.uploads

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "blobs": self.blobs,
            "uploads": self.uploads,
            "freed": self.freed,
            "dry_run": self.dry_run,
            "packed": self.packed,
            "waiting": self.waiting,
            "wait_s": round(self.wait_s, 1),
        }


def collect(catalog: Catalog, *, grace_s: float, dry_run: bool) -> GcReport:
    """Free blobs that no version needs and uploads that nobody is writing to.

    On a full disk such uploads go however young they are, before the index is opened: they can
    be fetched again, and it needs room.

    Args:
        catalog: The registry.
        grace_s: What was written or reused in the last ``grace_s`` seconds stays; ≥ 0.
        dry_run: Only count.

    Raises:
        InputError: ``grace_s`` is negative.
        StorageError: The index is gone while the layout lists versions.
        StorageUnavailableError: The disk does not let something go; the rest is freed.
    """
    if not grace_s >= 0:
        raise InputError(f"grace period of {grace_s} s, expected 0 or more")
    if not catalog.root.exists():
        return GcReport(0, 0, 0, dry_run)
    before = time.time() - grace_s
    young = time.time() if is_full(catalog.root) else before
    uploads, freed = _sweep_uploads(catalog, young, dry_run=dry_run)
    begun = GcReport(0, uploads, freed, dry_run)
    if dry_run:
        with catalog.db.read() as db:
            return _sweep(catalog, _needed(catalog, db), before, begun)
    begun = replace(begun, freed=freed - _release(catalog, before))
    with catalog.db.write() as db:
        report = _sweep(catalog, _needed(catalog, db), before, begun)
        catalog.referrers.forget(but=_versions(db), before=before)
        db.execute("DELETE FROM seen WHERE digest NOT IN (SELECT digest FROM blobs)")
    return report


def _needed(catalog: Catalog, db: Any) -> set[str]:
    """The blobs of versions, and those of what refers to them, as signatures do."""
    versions = _versions(db)
    blobs = {digest for (digest,) in db.execute("SELECT digest FROM blobs")}
    return blobs | versions | catalog.referrers.needed(catalog.storage, versions)


def _versions(db: Any) -> set[str]:
    return {digest for (digest,) in db.execute("SELECT digest FROM versions")}


def _sweep_uploads(catalog: Catalog, before: float, *, dry_run: bool) -> tuple[int, int]:
    """How many went, and their bytes."""
    storage = catalog.storage
    gone = [
        size for name, size in list(storage.abandoned(before)) if dry_run or storage.discard(name)
    ]
    return len(gone), sum(gone)


def _release(catalog: Catalog, before: float) -> int:
    """Make whole what rests on what is to go, which may take minutes, before others must wait."""
    with catalog.db.read() as db:
        needed = _needed(catalog, db)
    storage = catalog.storage
    gone = {digest for digest, _, at in storage.digests() if digest not in needed and at <= before}
    return storage.release(gone)


def _sweep(catalog: Catalog, needed: set[str], before: float, begun: GcReport) -> GcReport:
    """Blobs, beside what went before."""
    storage, dry_run = catalog.storage, begun.dry_run
    blobs, freed = 0, begun.freed
    waiting, youngest = 0, before
    failed: StorageUnavailableError | None = None
    for digest, size, at in list(storage.digests()):
        if digest in needed:
            continue
        if at > before:
            waiting, youngest = waiting + size, max(youngest, at)
            continue
        if not dry_run:
            try:
                size = storage.delete(digest)
            except StorageUnavailableError as exc:
                # No room to make whole what rests on it, it may be: others may make it.
                failed = failed or exc
                continue
            except StorageError:
                # Another collector, without our index, was faster, or damage rests on it.
                continue
        blobs, freed = blobs + 1, freed + size
    if failed is not None:
        raise failed
    return replace(begun, blobs=blobs, freed=freed, waiting=waiting, wait_s=youngest - before)
