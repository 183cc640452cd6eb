"""What a device can let go of: versions that nothing wants and that are not the last ones.

A number or a timestamp id names a version for good; every push adds them, so they alone
do not keep a version. Neither do those of a model that no package of the config names:
a device is nobody's archive. Anything else does: a tag that moves (``latest``, ``pinned``,
an alias), a package of the config, and what a service runs or ran before.

What was in use goes as soon as it is not. What never was may belong to a push or a fetch
that is under way, and gets time: time of this process's own clock. A device may start in
1970 and learn the date in the middle of a push, so the times of files say little here: that
one *changed* means that somebody wants the file again, and only what looks a week old when
the process starts does not get all the time that a push gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import BlobNotFoundError
from nbmodel.runtime.resolve import own_tags
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.tags import TagStore

GRACE_S = 24 * 3600.0  # the blobs of a version come before the tag that keeps them
UPLOAD_GRACE_S = 72 * 3600.0  # a large upload over a bad line may be gone on with
LEFT_BEHIND_S = 7 * 24 * 3600.0  # what is older when the process starts was left behind
LEFT_BEHIND_GRACE_S = 600.0  # but a config may be put right that was wrong for a moment
SHORT_GRACE_S = 60.0  # where there is no room: a push whose blobs these are has most likely failed


@dataclass(frozen=True, slots=True)
class Collected:
    """What was let go of.

    Attributes:
        tags: How many tags.
        blobs: How many blobs and unfinished uploads.
        size: Their bytes.
    """

    tags: int = 0
    blobs: int = 0
    size: int = 0


class Idleness:
    """How long things have been of no use, by a clock that nobody sets.

    Args:
        clock: Seconds, from anywhere, forwards only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[Hashable, object] = {}
        self._since: dict[Hashable, tuple[object, float]] = {}
        self._seen: set[Hashable] = set()

    def used(self, thing: Hashable, mark: object) -> None:
        """Note that a thing is in use now; ``mark`` changes when somebody asks for it anew."""
        self._seen.add(thing)
        self._used[thing] = mark
        self._since.pop(thing, None)

    def idle_s(self, thing: Hashable, mark: object, *, before_s: float = 0.0) -> float:
        """Seconds since a thing was first seen unused with this mark.

        Infinite when it was in use until now and has its mark from then.

        Args:
            thing: Which.
            mark: As for ``used``.
            before_s: How long it counts as unused already when it is first seen.
        """
        self._seen.add(thing)
        if thing in self._used and self._used[thing] == mark:
            return float("inf")
        self._used.pop(thing, None)
        now = self._clock()
        known = self._since.get(thing)
        if known is None or known[0] != mark:
            known = self._since[thing] = (mark, now - before_s)
        return now - known[1]

    @property
    def is_anything_idle(self) -> bool:
        """Whether something is of no use, and was not let go of yet."""
        return bool(self._since)

    def forget(self, thing: Hashable) -> None:
        """Forget a thing that is gone."""
        self._seen.discard(thing)

    def forget_unseen(self) -> None:
        """Forget the things that were not asked about since the last call."""
        seen, self._seen = self._seen, set()
        self._used = {thing: mark for thing, mark in self._used.items() if thing in seen}
        self._since = {thing: since for thing, since in self._since.items() if thing in seen}


class Collector:
    """Removes tags, blobs and uploads that nothing needs.

    Args:
        storage: Where the blobs are.
        tags: Where the tags are.
        referrers: What refers to the versions, as signatures do; it stays as long as they.
            None: nothing does.
        clock: As for ``Idleness``.
    """

    def __init__(
        self,
        storage: Storage,
        tags: TagStore,
        *,
        referrers: ReferrerStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._tags = tags
        self._referrers = referrers
        self._idleness = Idleness(clock)
        #: What was written before counts as left behind; told by the first pass alone.
        self._left_behind = time.time() - LEFT_BEHIND_S
        self._grace_s = float("inf")  # at most, in the pass that is under way

    @property
    def is_waiting(self) -> bool:
        """Whether the last pass left something that a later one will let go of."""
        return self._idleness.is_anything_idle

    def collect(
        self,
        held: Collection[str],
        *,
        models: Collection[str] | None = None,
        is_short: bool = False,
    ) -> Collected:
        """Remove what nothing needs.

        Args:
            held: Manifest digests of versions that stay whatever their tags.
            models: Repositories that the config names; the tags of others keep nothing.
                None: every repository counts as named.
            is_short: Whether something had no room: then what never was in use gets
                ``SHORT_GRACE_S`` and no more.

        Raises:
            StorageError: A manifest or tag that stays cannot be read, and no blob was removed;
                or the disk does not let something go.
        """
        self._grace_s = SHORT_GRACE_S if is_short else float("inf")
        forgotten = self._collect_tags(held, models)
        kept = {digest for _, _, digest in self._tags.all()} | set(held)
        needed = _needed(self._storage, kept)
        if self._referrers is not None:
            needed |= self._referrers.needed(self._storage, kept)
            self._collect_referrers(self._referrers, kept)
        blobs, size = self._collect_blobs(needed)
        uploads, uploaded = self._collect_uploads()
        self._idleness.forget_unseen()
        self._left_behind = float("-inf")
        return Collected(forgotten, blobs + uploads, size + uploaded)

    def _collect_tags(self, held: Collection[str], models: Collection[str] | None) -> int:
        known = list(self._tags.all())
        forgettable = set(forgettable_tags(known, held, models))
        forgotten = 0
        for name, tag, digest in known:
            written = -self._tags.age(name, tag, now=0.0)
            thing, mark = ("tag", name, tag), (digest, written)
            if (name, tag) not in forgettable:
                self._idleness.used(thing, mark)
            elif self._is_over(thing, mark, written, GRACE_S):
                forgotten += self._tags.delete(name, tag)
                self._idleness.forget(thing)
        return forgotten

    def _collect_blobs(self, needed: Collection[str]) -> tuple[int, int]:
        blobs = size = 0
        for digest, length, written in list(self._storage.digests()):
            thing = ("blob", digest)
            if digest in needed:
                self._idleness.used(thing, written)
            elif self._is_over(thing, written, written, GRACE_S):
                self._storage.delete(digest)
                self._idleness.forget(thing)
                blobs, size = blobs + 1, size + length
        return blobs, size

    def _collect_referrers(self, referrers: ReferrerStore, kept: Collection[str]) -> None:
        """Forget what refers to versions that are gone; it may have come before its version."""
        for subject in referrers.subjects():
            thing = ("referrers", subject)
            if subject in kept:
                self._idleness.used(thing, None)
            elif self._is_over(thing, None, float("inf"), GRACE_S):
                referrers.remove_all(subject)
                self._idleness.forget(thing)

    def _collect_uploads(self) -> tuple[int, int]:
        uploads = size = 0
        old = dict(self._storage.abandoned(self._left_behind))
        for name, length in list(self._storage.abandoned(float("inf"))):
            written = float("-inf") if name in old else float("inf")
            if self._is_over(("upload", name), length, written, UPLOAD_GRACE_S) and (
                self._storage.discard(name)
            ):
                self._idleness.forget(("upload", name))
                uploads, size = uploads + 1, size + length
        return uploads, size

    def _is_over(self, thing: Hashable, mark: object, written: float, grace_s: float) -> bool:
        """Whether a thing that is not in use was long enough not."""
        grace_s = min(grace_s, self._grace_s)
        before_s = max(0.0, grace_s - LEFT_BEHIND_GRACE_S) if written < self._left_behind else 0.0
        return self._idleness.idle_s(thing, mark, before_s=before_s) > grace_s


def forgettable_tags(
    tags: Iterable[tuple[str, str, str]],
    held: Collection[str],
    models: Collection[str] | None = None,
) -> list[tuple[str, str]]:
    """Repository and tag of the tags that alone do not keep their version.

    Args:
        tags: Repository, tag and manifest digest of every tag.
        held: Manifest digests of versions that stay whatever their tags.
        models: Repositories whose tags that move keep a version; None: all.
    """
    known = list(tags)
    own = own_tags(tag for _, tag, _ in known)
    moving = {
        (name, tag)
        for name, tag, _ in known
        if tag not in own and (models is None or name in models)
    }
    kept = {digest for name, tag, digest in known if (name, tag) in moving} | set(held)
    return [
        (name, tag)
        for name, tag, digest in known
        if (name, tag) not in moving and digest not in kept
    ]


def _needed(storage: Storage, manifests: Iterable[str]) -> set[str]:
    needed: set[str] = set()
    for digest in manifests:
        needed.add(digest)
        try:
            needed |= blobs_of(storage.read(digest, limit=MAX_MANIFEST)).keys()
        except BlobNotFoundError:
            continue  # gone already, and with it the only list of what it needed
    return needed
