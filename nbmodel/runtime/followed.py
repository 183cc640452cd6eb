"""A package that follows a registry: how far it is, and when it has its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import Package
from nbmodel.errors import NbModelError
from nbmodel.runtime.arrival import Arrival
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.upstream import Named, Upstream

WORTH = 1024 * 1024  # bytes that came make the next failure a first one
_MAX_NAMING = 10  # looks after which a version goes without a number


class Followed:
    """A package with a registry, and how far it is.

    Its follower alone changes it; ``status`` is a value that any thread may read.

    Args:
        package: As the config has it.
        connect: Makes a way to its registry; called for its first turn.

    Attributes:
        status: How far it is.
        due: When it has its next turn, by the monotonic clock.
        asked: Whether somebody waits for that turn.
        repository: Where the registry has it; None before that told.
        uploads: Names of the parts that wait for the rest.
        local: Bytes of this attempt that were found in blobs here.
        unnamed: How often its version's number was asked for in vain.
    """

    def __init__(self, package: Package, connect: Callable[[Package], Upstream]) -> None:
        self.package = package
        self._connect = connect
        self._upstream: Upstream | None = None
        self.status = FetchStatus()
        self.due = 0.0
        self.asked = True
        self.repository: str | None = None
        self.uploads: set[str] = set()
        self.local = 0
        self.unnamed = 0
        self._asks = self._answered = 0
        self._failures = self._mismatches = 0
        self._mark = 0  # bytes of the version that were here at the last failure
        self._digest: str | None = None  # of the version that is being fetched, or is here
        self._found = 0  # bytes of that version that were here before

    @property
    def upstream(self) -> Upstream:
        """Its registry.

        Raises:
            InputError: The config's address cannot be one.
        """
        if self._upstream is None:
            self._upstream = self._connect(self.package)
        return self._upstream

    def forget(self) -> None:
        """Have its registry send everything again, whatever the ETag."""
        if self._upstream is not None:
            self._upstream.forget()

    def abort(self) -> None:
        """Break off what is asked of its registry; from any thread."""
        if self._upstream is not None:
            self._upstream.origin.abort()

    def close(self) -> None:
        """Leave its registry."""
        if self._upstream is not None:
            self._upstream.origin.close()

    @property
    def is_to_be_named(self) -> bool:
        """Whether the number of its version should be asked for again."""
        return 0 < self.unnamed <= _MAX_NAMING

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.status.total - self.status.bytes

    def ask(self) -> None:
        """Have the turn soon, as if nothing had failed before."""
        self._asks += 1
        self.asked, self.due = True, 0.0
        self._failures = self._mismatches = 0

    def begin(self) -> None:
        """Its turn begins."""
        self._answered = self._asks
        self.local = 0
        self.status = replace(self.status, attempt=self._failures + 1)

    def wait(self, pause: float) -> None:
        """The turn is over; the next one is after a pause, unless it was asked for."""
        self.asked = self._asks != self._answered
        self.due = 0.0 if self.asked else time.monotonic() + pause

    def named(self, named: Named) -> None:
        """The registry told which version it is."""
        self.repository = named.repository
        if named.digest != self._digest:
            self._digest, self._found, self._mark, self._mismatches = named.digest, -1, 0, 0
            self.unnamed = 0
            self.status = FetchStatus(
                version=short_digest(named.digest), attempt=self.status.attempt
            )

    def fetching(self, arrival: Arrival, missing: Mapping[str, int]) -> None:
        """Some of its blobs, digest → size in bytes, are going to be fetched."""
        here = arrival.size - sum(missing.values())
        if self._found < 0:
            self._found = self._mark = here
        self.uploads = arrival.uploads()
        self.status = replace(
            self.status,
            state="fetching",
            bytes=here,
            total=arrival.size,
            reused=self._found,
            retry_at=None,
        )

    def progress(self, count: int) -> None:
        """So many bytes more are here; less than nothing when some were thrown away."""
        self.status = replace(self.status, bytes=self.status.bytes + count)

    def reuse(self, count: int) -> None:
        """So many of the bytes told of, or soon told of, were in blobs here."""
        self.local += count
        self.status = replace(self.status, reused=self.status.reused + count)

    def arrived(self, version: str, digest: str, size: int) -> None:
        """The version is here, with its tags.

        Args:
            version: What it is called.
            digest: Of its manifest.
            size: Bytes of its blobs.
        """
        reused = self.status.reused if self.status.state == "fetching" else size
        if self.status.state == "done" and self._digest == digest:
            reused = self.status.reused
        self._digest, self._failures, self._mismatches = digest, 0, 0
        self.uploads = set()
        self.status = FetchStatus(
            state="done",
            version=version,
            bytes=size,
            total=size,
            reused=reused,
            attempt=self.status.attempt,
        )

    def failed(self, error: NbModelError, pause: float, *, terminal: bool) -> None:
        """It went wrong, and is tried again after a pause in seconds."""
        self.status = replace(
            self.status,
            # What was here when the registry was asked still is.
            state="done" if self.status.state == "done" else "failed",
            retry_at=None if terminal else time.monotonic() + pause,
            error=str(error),
            hint=error.hint,
            terminal=terminal,
        )

    def count_failure(self) -> int:
        """How often it failed in a row, since something worth it came."""
        came = self.status.bytes - self._mark
        self._failures = 1 if came >= WORTH else self._failures + 1
        self._mark = max(self._mark, self.status.bytes)
        return self._failures

    def count_mismatch(self) -> int:
        """How often the bytes of this version were wrong."""
        self._mismatches += 1
        return self._mismatches
