"""A remote and the connections to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nbmodel.core.remote import Remote
from nbmodel.errors import RemoteFaultError
from nbmodel.storage.remote_registry import RemoteRegistry, open_registry

if TYPE_CHECKING:
    from typing_extensions import Self

    from nbmodel.storage.copying import Progress

Connect = Callable[[Remote], RemoteRegistry]
_PAUSES_S = (
    0.05,
    0.2,
    0.5,
    1.0,
    2.0,
)  # before a request over which the registry stumbled is made again
T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 4  # connections: more gain little and take the registry from others
_FEW = 4  # requests that are not worth a further connection


def connect(
    remote: Remote,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    sessions: Path | None = None,
) -> RemoteRegistry:
    """A connection to a remote, entered as the environment and docker's config say.

    Args:
        remote: Which one.
        cancelled: Asked while bytes move; see ``open_registry``.
        sessions: Folder of uploads that are not over; None: each begins anew.
    """
    from nbmodel.storage.access import Access  # httpx: where the network is used

    return open_registry(
        remote.base_url, access=Access.of(os.environ), cancelled=cancelled, sessions=sessions
    )


def steadily(action: Callable[[], T]) -> T:
    """What a small request gives; made again when the registry stumbles.

    Some do over a tag that another writes at the same moment.

    Args:
        action: The request, which may be made again.

    Raises:
        RemoteFaultError: The registry stumbled each time.
    """
    for pause_s in _PAUSES_S:
        try:
            return action()
        except RemoteFaultError:
            time.sleep(pause_s)
    return action()


class Peer:
    """A remote while something is done with it.

    Opens connections when they are needed, and closes them as a context manager.

    Args:
        remote: Which one.
        connect: Opens a connection.
        leads: Whether its numbers count also for models that have theirs from another one.
        progress: Told of the bytes that were sent or received, or found to be there.
        cancelled: Asked between requests and while bytes move.
        expect: Told how many bytes there will be in all, when that is known.
    """

    def __init__(
        self,
        remote: Remote,
        connect: Connect = connect,
        *,
        leads: bool = False,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        expect: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.remote = remote
        self.leads = leads
        self.connect = connect
        self._progress = progress
        self.cancelled = cancelled
        self.expect = expect
        self._idle: list[RemoteRegistry] = []
        self._first: RemoteRegistry | None = None

    @property
    def registry(self) -> RemoteRegistry:
        """The connection that one thing after another goes by."""
        if self._first is None:
            self._first = self.connect(self.remote)
        return self._first

    def check(self) -> None:
        """Go on, unless nobody wants that any more.

        Raises:
            CancelledError: So it is.
        """
        if self.cancelled():
            raise CancelledError

    def advance(self, amount: int) -> None:
        """Tell of bytes that moved, or were found where they belong.

        Raises:
            CancelledError: Nobody wants more of them.
        """
        self.check()
        if self._progress is not None:
            self._progress(amount)

    def each(self, function: Callable[[RemoteRegistry, T], R], items: Sequence[T]) -> list[R]:
        """What a function answers for each of many things, in their order, several at once.

        Args:
            function: Asks the remote about one; called from other threads.
            items: The things.

        Raises:
            CancelledError: Nobody wants the answers any more.
        """
        width = min(_AT_ONCE, len(items) // _FEW)
        if width < 2:
            return [self._one(function, self.registry, item) for item in items]
        with ThreadPoolExecutor(width, thread_name_prefix="nbmodel-remote") as pool:
            try:
                return list(pool.map(lambda item: self._lent(function, item), items))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:
        """Close the connections."""
        first, self._first = self._first, None
        for registry in (*self._idle, *([] if first is None else [first])):
            registry.close()
        self._idle.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(
        self, function: Callable[[RemoteRegistry, T], R], registry: RemoteRegistry, item: T
    ) -> R:
        self.check()
        return function(registry, item)

    def _lent(self, function: Callable[[RemoteRegistry, T], R], item: T) -> R:
        with self._connection() as registry:
            return self._one(function, registry, item)

    @contextmanager
    def _connection(self) -> Iterator[RemoteRegistry]:
        """One that nobody else uses meanwhile."""
        try:
            registry = self._idle.pop()
        except IndexError:
            registry = self.connect(self.remote)
        try:
            yield registry
        finally:
            self._idle.append(registry)
