"""Watching over the connections of a server: those that take too long are ended."""

from __future__ import annotations

import asyncio
from typing import Protocol

from nbmodel.runtime.limits import Limits


class Watched(Protocol):
    """A connection that ends itself when it has taken too long."""

    def check_time(self, now: float) -> None:
        """Look at the time; called every few seconds.

        Args:
            now: Loop time.
        """


class Watch:
    """The open connections of one server.

    Args:
        limits: What clients may use.

    Attributes:
        connections: Those that are open.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections: set[Watched] = set()
        # A quarter of the shortest limit is exact enough, and seldom costs nothing.
        shortest = min(limits.head_timeout_s, limits.body_timeout_s, limits.idle_timeout_s)
        self._period_s = min(max(shortest / 4, 0.05), 5.0)
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the times of connections by this event loop, which serves them."""
        self._loop = loop

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self.connections) > self.limits.max_connections

    def add(self, connection: Watched) -> None:
        """Watch over a connection's times."""
        self.connections.add(connection)
        if self._sweeper is None and self._loop is not None:
            self._sweeper = self._loop.call_later(self._period_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if self._loop is None or not self.connections:
            return
        now = self._loop.time()
        for connection in tuple(self.connections):
            connection.check_time(now)
        self._sweeper = self._loop.call_later(self._period_s, self._sweep)
