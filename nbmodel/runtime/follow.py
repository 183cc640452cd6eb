"""Following registries: versions that packages name are fetched, and their tags set here.

A device is a registry itself; its own storage and tags say which versions are on it. A
follower does for packages with a registry what a direct push does for others: it brings
the blobs, and sets the tags last. Whoever reads the tags never sees half a version, needs
no network, and is told by ``on_change``.

All waiting goes by the monotonic clock: a device may not know the time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress

from nbmodel.core.credential import TOKEN_VARIABLE
from nbmodel.core.digest import short_digest
from nbmodel.core.machine import MachineConfig, Package
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.remote import Remote
from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    ConfigError,
    DigestMismatchError,
    NbModelError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
    TrustError,
)
from nbmodel.runtime.arrival import Arrival, is_here
from nbmodel.runtime.backoff import backoff_s
from nbmodel.runtime.bandwidth import Bandwidth
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.followed import Followed
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.resolve import identify, own_tags, wanted_tags
from nbmodel.runtime.trust import TrustGate
from nbmodel.runtime.upstream import Named, Upstream
from nbmodel.storage.access import Access
from nbmodel.storage.base import Storage
from nbmodel.storage.fetch import UPLOAD_PREFIX
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.origin import Origin
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.referrers import fetch_signatures
from nbmodel.storage.tags import TagStore

TURN_S = 30.0  # then another package that waits has its turn
POLL_JITTER = 0.1  # of the time between two looks: devices that started together drift apart
MISMATCH_PAUSE_S = 3600.0  # between attempts at a version whose bytes are wrong in the registry
MAX_MISMATCHES = 3  # until then it may have been the line
ROOM_EVERY = 16 * 1024 * 1024  # bytes until it is looked again whether there is room
PART_AGE_S = 72 * 3600.0  # parts of blobs that nobody wants any more
TIDY_EVERY_S = 3600.0
_MAX_NEIGHBOURS = 8  # versions whose chunks are looked through
_REFUSED_HINT = (
    f"set {TOKEN_VARIABLE} in the environment of the runtime, or DOCKER_CONFIG to the folder "
    f"with a config.json that has a login"
)
_JOIN_S = 0.2  # how often a thread that should end is told to

logger = logging.getLogger(__name__)


class Follower:
    """Keeps the packages of a config as their registries have them, in a thread of its own.

    Where a registry names a version for a package, that goes: a tag that somebody else moved
    here is moved back. What cannot be fetched leaves everything here as it is.

    Args:
        storage: Where blobs go.
        tags: Where tags are set.
        journal: What is told of it.
        on_change: Called, from the follower's thread, with the name of a repository whose
            tags changed.
        free_bytes: How much the disk takes.
        access: With what registries are entered; each package's registry gets what is its
            own, and nobody that it redirects to.
        referrers: Where signatures of versions are noted; None: they are not fetched.
        trust: Whether versions may run; None: all may, and their signatures are not fetched.
            What may not is not fetched either.
    """

    def __init__(
        self,
        storage: Storage,
        tags: TagStore,
        journal: Journal,
        *,
        on_change: Callable[[str], None],
        free_bytes: Callable[[], int],
        access: Access | None = None,
        referrers: ReferrerStore | None = None,
        trust: TrustGate | None = None,
    ) -> None:
        self._storage = storage
        self._tags = tags
        self._referrers = referrers
        self._trust = trust
        self._journal = journal
        self._on_change = on_change
        self._free_bytes = free_bytes
        self._access = Access() if access is None else access
        self._poll_s = 60.0
        self._min_free = 0
        self._bandwidth = Bandwidth()
        self._followed: dict[str, Followed] = {}
        self._current: Followed | None = None
        self._turn_began = 0.0
        self._tidied = time.monotonic()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def follow(self, config: MachineConfig) -> None:
        """Follow what a config says from now on; returns at once."""
        with self._wake:
            before, after = self._followed, {}
            for package in config.packages:
                if package.registry is not None and package.is_model:
                    known = before.get(package.name)
                    if known is None or known.package != package:
                        known = Followed(package, self._connect)
                    after[package.name] = known
            self._followed = after
            self._poll_s = config.settings.poll_s
            self._min_free = config.settings.min_free_bytes
            self._bandwidth.bytes_per_s = config.settings.max_bytes_per_s
            if self._followed and self._thread is None and not self._closing:
                self._thread = threading.Thread(
                    target=self._run, name="nbmodel-follow", daemon=True
                )
                self._thread.start()
            self._wake.notify_all()
            for followed in before.values():
                if followed is self._current and self._is_left():
                    followed.abort()  # its turn ends, and closes it
                elif after.get(followed.package.name) is not followed:
                    followed.close()

    def status(self, package: str) -> FetchStatus | None:
        """How far a package is, by its local name; None when it follows no registry."""
        with self._wake:
            followed = self._followed.get(package)
            return None if followed is None else followed.status

    @property
    def busy(self) -> bool:
        """Whether a package is being fetched, or its registry is still to be asked.

        Not while it waits for the next look, or for another attempt after a failure.
        """
        with self._wake:
            return any(
                one.asked or one.status.state == "fetching" for one in self._followed.values()
            )

    def check_now(self) -> None:
        """Ask all registries again soon, whatever failed before; returns at once."""
        with self._wake:
            for followed in self._followed.values():
                followed.ask()
            self._wake.notify_all()

    def close(self) -> None:
        """Stop; what was fetched in part stays and is gone on with another time."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        while self._thread is not None and self._thread.is_alive():
            current = self._current
            if current is not None:
                current.abort()
            self._thread.join(_JOIN_S)

    # Whose turn it is

    def _run(self) -> None:
        while (followed := self._next()) is not None:
            try:
                self._turn(followed)
                self._tidy()
            except Exception:
                # The thread must live: the next version may well be better.
                logger.exception("following package %s failed", followed.package.name)
            finally:
                with self._wake:
                    if self._is_left():
                        followed.close()
                    self._current = None
        for followed in self._followed.values():
            followed.close()

    def _next(self) -> Followed | None:
        """The package whose turn it is, when it is; None at the end."""
        with self._wake:
            while not self._closing:
                now = time.monotonic()
                first = min(self._followed.values(), key=lambda one: one.due, default=None)
                if first is not None and first.due <= now:
                    self._current, self._turn_began = first, now
                    return first
                self._wake.wait(None if first is None else first.due - now)
            return None

    def _is_over(self) -> bool:
        """Whether whoever has the turn should leave off."""
        return self._closing or self._is_left() or self._is_others_turn()

    def _is_left(self) -> bool:
        current = self._current
        return current is not None and (self._followed.get(current.package.name) is not current)

    def _is_others_turn(self) -> bool:
        now = time.monotonic()
        return now - self._turn_began > TURN_S and any(
            one.due <= now for one in self._followed.values() if one is not self._current
        )

    def _turn(self, followed: Followed) -> None:
        with self._wake:
            followed.begin()
        pause = self._poll_s
        try:
            self._look(followed)
            pause = self._until_next_look()
        except CancelledError:
            pause = 0.0  # another has the turn, then it goes on
        except NbModelError as exc:
            if not isinstance(exc, TargetUnreachableError):
                followed.forget()
            pause = self._pause_after(followed, exc)
            self._tell(followed, exc)
            followed.failed(exc, pause, terminal=isinstance(exc, _NoRoomError))
        except Exception as exc:
            error = StorageError(f"{type(exc).__name__}: {exc}")
            pause = self._pause_after(followed, error)
            self._tell(followed, error)
            followed.failed(error, pause, terminal=False)
            raise
        finally:
            with self._wake:
                followed.wait(pause)

    def _tell(self, followed: Followed, error: NbModelError) -> None:
        if str(error) != followed.status.error:
            hint = f" ({error.hint})" if error.hint else ""
            self._journal.warn(
                f"package {followed.package.name} cannot be fetched: {error}{hint}",
                type="FetchFailed",
            )

    def _until_next_look(self) -> float:
        return self._poll_s * (1 + POLL_JITTER * random.uniform(-1, 1))  # noqa: S311 # no secret

    def _pause_after(self, followed: Followed, error: NbModelError) -> float:
        if isinstance(error, BlobNotFoundError | AuthenticationError | TrustError | _NoRoomError):
            return self._until_next_look()  # somebody has to do something
        failures = followed.count_failure()
        if isinstance(error, DigestMismatchError) and followed.count_mismatch() >= MAX_MISMATCHES:
            return MISMATCH_PAUSE_S * (1 + random.random())  # noqa: S311 # no secret
        return backoff_s(failures, random.random())  # noqa: S311 # no secret

    # Fetching

    def _look(self, followed: Followed) -> None:
        """Have here what the registry names."""
        if self._is_settled(followed):
            return
        named = self._ask(followed)
        followed.named(named)
        self._check_not_taken(followed, named)
        self._check_trust(followed, named)
        arrival = Arrival(named, self._storage)
        missing = arrival.missing()
        if missing:
            self._bring(followed, arrival, missing)
        if missing or not self._is_tagged(named) or followed.is_to_be_named:
            self._tag(followed, arrival, is_new=bool(missing))
        self._arrived(followed, named.repository, named.digest, arrival.size)

    def _ask(self, followed: Followed) -> Named:
        """What the registry names; one that says nothing in all of its turn has failed."""
        try:
            return followed.upstream.look()
        except CancelledError:
            if self._closing or self._is_left():
                raise
            raise TargetUnreachableError(
                f"{followed.upstream.origin.host} does not answer: nothing came in {TURN_S:.0f} s",
                hint="is it running, and is the address right?",
            ) from None

    def _is_settled(self, followed: Followed) -> bool:
        """Whether a version that is named for good is here as a whole; then nobody is asked."""
        package = followed.package
        wanted = wanted_tags(package.version)
        if not own_tags(wanted):
            return False
        for repository in package.repositories:
            try:
                digest = self._tags.get(repository, wanted[0])
                if digest is None or not is_here(self._storage, digest):
                    continue
                if self._trust is not None and not self._trust.accepts(repository, digest):
                    continue  # its registry may have a signature by now
                size = sum(blobs_of(self._storage.read(digest, limit=MAX_MANIFEST)).values())
            except NbModelError:
                continue  # as good as not here
            self._arrived(followed, repository, digest, size)
            return True
        return False

    def _arrived(self, followed: Followed, repository: str, digest: str, size: int) -> None:
        tags = self._tags.tags(repository)
        version = identify(repository, digest, tags, follows="")
        followed.arrived(version.label, digest, size)

    def _check_not_taken(self, followed: Followed, named: Named) -> None:
        """Two registries cannot both say what the tags of one repository are."""
        for other in self._followed.values():
            if other is followed:
                return
            if (
                other.repository == named.repository
                and other.package.registry != followed.package.registry
            ):
                raise ConfigError(
                    f"packages {other.package.name!r} and {followed.package.name!r} have "
                    f"{named.repository!r} from two registries",
                    hint="give both the same registry",
                )

    def _check_trust(self, followed: Followed, named: Named) -> None:
        """Fetch the signatures of a version that may not run yet, before anything large.

        Raises:
            TrustError: It may not run with them either.
        """
        if self._trust is None or self._referrers is None:
            return
        what = f"{named.repository}:{named.tag}"
        with suppress(TrustError):
            self._trust.check(named.repository, what, named.digest, named.raw)
            return
        fetched = fetch_signatures(
            followed.upstream.origin,
            named.place,
            named.digest,
            self._storage,
            known=self._referrers.of(named.digest),
        )
        for digest in fetched:
            self._referrers.add(named.digest, digest)
        self._trust.check(named.repository, what, named.digest, named.raw)
        if fetched and self._storage.has(named.digest):
            self._on_change(named.repository)  # it is here already, and may run now

    def _is_tagged(self, named: Named) -> bool:
        return (
            self._storage.has(named.digest)
            and self._tags.get(named.repository, named.tag) == named.digest
            and all(self._tags.get(named.repository, tag) is None for tag in named.unset)
        )

    def _bring(self, followed: Followed, arrival: Arrival, missing: dict[str, int]) -> None:
        named, name = arrival.named, followed.package.name
        followed.fetching(arrival, missing)
        self._check_room(arrival, missing)
        size = sum(missing.values())
        begun = arrival.begun(missing)  # maybe by the process before
        arrival.hold()
        began = time.monotonic()
        if followed.status.attempt == 1:
            self._journal.note(
                f"package {name}: fetching {named.repository}:{named.tag} "
                f"({short_digest(named.digest)}), {size} bytes, from {followed.upstream.origin.host}",
                type="Fetching",
            )
        neighbours = self._neighbours(named)
        checked = False
        for digest in missing:
            if not checked and self._storage.has(next(iter(arrival.blobs))):
                arrival.check()  # nothing large is fetched of what is no model
                checked = True
            arrival.fetch(
                followed.upstream.origin,
                digest,
                neighbours=neighbours,
                progress=self._progress(followed),
                reused=followed.reuse,
                pace=self._wait_for_line,
            )
            arrival.hold()
        arrival.check()
        if arrival.missing():
            raise StorageError(f"blobs of {named.repository}:{named.tag} went while it was fetched")
        self._journal.note(
            f"package {name}: {named.repository}:{named.tag} is here after "
            f"{time.monotonic() - began:.1f} s, {max(0, size - begun - followed.local)} bytes "
            f"fetched, {followed.local} found in versions here"
            f"{f', {begun} fetched before' if begun else ''}",
            type="Fetched",
        )

    def _neighbours(self, named: Named) -> tuple[str, ...]:
        """Versions here that may have some of the same bytes, likeliest first."""
        tags = self._tags.tags(named.repository)
        last = [tags[tag] for tag in (named.tag, *named.unset) if tag in tags]
        return tuple(dict.fromkeys((*last, *tags.values())))[:_MAX_NEIGHBOURS]

    def _tag(self, followed: Followed, arrival: Arrival, *, is_new: bool) -> None:
        """Set the tags of a version that is here; the one that is followed last."""
        named = arrival.named
        created = arrival.check()
        self._storage.add_bytes(named.raw)
        before = self._tags.tags(named.repository)
        for tag in (*self._own_tags(followed, named, created), named.tag):
            if before.get(tag) != named.digest:
                self._tags.set(named.repository, tag, named.digest)
        for tag in named.unset:
            self._tags.delete(named.repository, tag)
        # Bytes that were damaged here may come again under tags that are as they were.
        if is_new or self._tags.tags(named.repository) != before:
            self._on_change(named.repository)

    def _own_tags(self, followed: Followed, named: Named, created: str) -> tuple[str, ...]:
        here = self._tags.tags(named.repository)
        known = identify(named.repository, named.digest, here, follows=named.tag)
        if known.number is not None and known.stamp is not None:
            followed.unnamed = 0
            return ()
        found = followed.upstream.own_tags(named, created)
        # It serves meanwhile; a registry that never tells is not asked for ever.
        followed.unnamed = 0 if found.is_final else followed.unnamed + 1
        return found.tags

    # The line and the disk

    def _wait_for_line(self, count: int) -> None:
        delay = self._bandwidth.delay_s(count, time.monotonic())
        if delay > 0:
            with self._wake:
                self._wake.wait_for(self._is_over, delay)

    def _progress(self, followed: Followed) -> Callable[[int], None]:
        since = 0

        def progress(count: int) -> None:
            nonlocal since
            followed.progress(count)
            since += count
            if since >= ROOM_EVERY:
                since = 0
                if self._free_bytes() < self._min_free:
                    raise _no_room(followed.left, self._free_bytes(), self._min_free)

        return progress

    def _check_room(self, arrival: Arrival, missing: dict[str, int]) -> None:
        if self._lacks_room(arrival, missing):
            self._discard_parts(but=arrival.uploads(), before=float("inf"))
        if self._lacks_room(arrival, missing):
            raise _no_room(arrival.needed(missing), self._free_bytes(), self._min_free)

    def _lacks_room(self, arrival: Arrival, missing: dict[str, int]) -> bool:
        return arrival.needed(missing) + self._min_free > self._free_bytes()

    def _tidy(self) -> None:
        """Let go of parts of blobs: at once when all is here, else of old ones, now and then."""
        followed = self._followed.values()
        if all(one.status.state == "done" for one in followed):
            self._discard_parts(but=set(), before=float("inf"))
        elif time.monotonic() - self._tidied > TIDY_EVERY_S:
            self._tidied = time.monotonic()
            wanted = {name for one in followed for name in one.uploads}
            self._discard_parts(but=wanted, before=time.time() - PART_AGE_S)

    def _discard_parts(self, *, but: set[str], before: float) -> None:
        for name, _ in list(self._storage.abandoned(before)):
            if name.startswith(UPLOAD_PREFIX) and name not in but:
                self._storage.discard(name)

    def _connect(self, package: Package) -> Upstream:
        assert package.registry is not None  # others are not followed
        remote = Remote.parse(package.registry)
        origin = Origin(
            remote.base_url, access=self._access, cancelled=self._is_over, hint=_REFUSED_HINT
        )
        return Upstream(package, origin, remote.namespace)


class _NoRoomError(StorageUnavailableError):
    """A version does not fit on the disk."""


def _no_room(needed: int, free: int, kept: int) -> _NoRoomError:
    return _NoRoomError(
        f"it does not fit on the disk: {needed} bytes are missing and {kept} are to stay free, "
        f"but {free} are free",
        hint="free some space; it goes on by itself",
    )
