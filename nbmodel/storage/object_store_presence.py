"""Who is at work in an object store: those who write, and those who collect what nobody needs.

::

    writers/<id>           somebody pushes
    collectors/<id>        somebody deletes what no manifest refers to

A writer that finds a blob there does not send it, and a collector may be about to delete just
that one. A store has no lock for that, but what was written to it is seen by whoever reads later
(S3, Google's and Microsoft's stores and folders of one machine promise it). So each says that it
is there before it looks for the other: of two at a time at least one sees the other. A writer
that sees a collector waits for its end; a collector that sees a writer leaves.

What is said holds for a while and is said again while the work goes on, so that nobody waits
for ever for one that was killed. Its age is told by the store's clock alone. Who was asleep for
longer than it held, as a laptop is, stops: somebody may have passed by.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from threading import Lock
from typing import Final

from nbmodel.errors import NbModelError, StorageError
from nbmodel.storage.object_store import Bucket, Item

WRITERS: Final = "writers/"
COLLECTORS: Final = "collectors/"
HOLDS_S: Final = {WRITERS: 3600.0, COLLECTORS: 600.0}  # after it was said last
_AGAIN_S = 30.0  # until it is said again
_MARGIN_S = 300.0  # before it holds no more, for a request that is on its way
_POLL_S = 0.5
_MAX_THERE = 10_000


class Presence:
    """Says that somebody is at work. May be used by several threads.

    Args:
        bucket: Where.
        kind: ``WRITERS`` or ``COLLECTORS``.
    """

    def __init__(self, bucket: Bucket, kind: str) -> None:
        self._bucket = bucket
        self._kind = kind
        self._key = kind + secrets.token_hex(16)
        self._said: tuple[float, float] | None = None
        self._lock = Lock()

    def begin(self) -> bool:
        """Say so, unless that was done; whether it was not."""
        with self._lock:
            if self._said is not None:
                return False
            self._say()
            return True

    def go_on(self) -> None:
        """Say so again when it is time.

        Raises:
            StorageError: It was too long ago.
        """
        with self._lock:
            if self._said is None:
                return
            # The one does not count while a machine sleeps, the other may be set back.
            passed = max(time.monotonic() - self._said[0], time.time() - self._said[1])
            if passed > HOLDS_S[self._kind] - _MARGIN_S:
                raise StorageError(
                    f"nothing was heard of this process for {passed:.0f} s in {self._bucket.url}",
                    hint="do it again: it may be that somebody collected garbage meanwhile",
                )
            if passed > _AGAIN_S:
                self._say()

    def end(self) -> None:
        """Take it back; what a store does not take back ends by itself."""
        with self._lock:
            if self._said is not None:
                self._said = None
                with suppress(NbModelError):
                    self._bucket.delete(self._key)

    def others(self, kind: str) -> list[Item]:
        """Who of a kind is at work now, as far as it still holds."""
        now = self.now()
        there = self._bucket.items(kind, at_most=_MAX_THERE)
        return [one for one in there if now - one.at < HOLDS_S[kind] and one.key != self._key]

    def now(self) -> float:
        """The store's time, seconds since 1970."""
        with self._lock:
            self._say()
        item = self._bucket.find(self._key)
        if item is None:
            raise StorageError(f"{self._bucket.url} does not keep what is written to it")
        return item.at

    def _say(self) -> None:
        # What was true when it was asked for holds from then on, not from the answer.
        said = (time.monotonic(), time.time())
        self._bucket.put(self._key, b"")
        self._said = said


def begin_to_write(presence: Presence, *, cancelled: Callable[[], bool]) -> None:
    """Be a writer from now on, after the end of those who collect.

    Args:
        presence: The writer's.
        cancelled: Asked while one waits.

    Raises:
        CancelledError: Nobody wants to go on.
        StorageError: It was said too long ago; what was found there may be gone.
    """
    if not presence.begin():
        presence.go_on()
        return
    try:
        _wait(presence, cancelled)
    except BaseException:
        presence.end()  # or the next one would think that nobody collects
        raise


def _wait(presence: Presence, cancelled: Callable[[], bool]) -> None:
    while presence.others(COLLECTORS):
        if cancelled():
            raise CancelledError
        time.sleep(_POLL_S)
