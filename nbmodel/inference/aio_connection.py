"""The connection of ``connection``, for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from nbmodel.inference.connection import (
    IDLE_KEPT,
    NoConnectionInTimeError,
    NothingCameError,
)
from nbmodel.inference.http1 import MAX_HEAD, Answer, ResponseReader


class AsyncConnection(asyncio.BufferedProtocol):
    """An open connection, for one request at a time. Made by ``connect``.

    Attributes:
        keeps_alive: Whether another request may follow.
        answered: How many requests were answered.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = bytearray(MAX_HEAD)
        self._reader = ResponseReader(self._scratch)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0  # loop time at which something came last
        self.keeps_alive = True
        self.answered = 0

    @classmethod
    async def connect(cls, host: str, port: int, *, timeout_s: float) -> AsyncConnection:
        """Open one.

        Raises:
            OSError: There is none; NoConnectionInTimeError when it took too long.
        """
        loop = asyncio.get_running_loop()
        try:
            # Loops set TCP_NODELAY themselves.
            _, connection = await asyncio.wait_for(
                loop.create_connection(cls, host, port), timeout_s
            )
        except asyncio.TimeoutError as exc:  # not the built-in one before Python 3.11
            raise NoConnectionInTimeError(str(exc)) from exc
        return connection

    def close(self) -> None:
        """Close it at once."""
        self.keeps_alive = False
        if self._transport is not None:
            self._transport.abort()

    def is_fresh(self) -> bool:
        """Whether it can be used again."""
        return self.keeps_alive and self._transport is not None

    async def exchange(self, parts: Sequence[bytes | memoryview], timeout_s: float) -> Answer:
        """Send a request and wait for its answer; as ``Connection.exchange``.

        When the task is cancelled meanwhile, the connection is closed.
        """
        if self._transport is None:
            raise NothingCameError("the server closed the connection")
        self._reader = ResponseReader(self._scratch)
        self._waiter = self._loop.create_future()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._is_late, timeout_s)
        try:
            self._transport.writelines(parts)
            answer = await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._timer.cancel()
            self._waiter = None
        self.answered += 1
        return answer

    # ── called by the loop ────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        # Other loops have classes of their own, of no common base.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to receive."""
        del sizehint
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Something came."""
        self._heard = self._loop.time()
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked
            return
        try:
            if not self._reader.received(nbytes):
                return
        except Exception as exc:  # noqa: BLE001 - raised where the answer is awaited
            self._waiter.set_exception(exc)
            return
        self.keeps_alive = self.keeps_alive and self._reader.keeps_alive
        self._waiter.set_result(self._reader.answer())

    def eof_received(self) -> None:
        """The other side has closed."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._transport = None
        self._ended(exc)

    def _ended(self, exc: Exception | None) -> None:
        self.keeps_alive = False
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            waiter.set_result(self._last(exc))
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            waiter.set_exception(error)

    def _last(self, exc: Exception | None) -> Answer:
        """The answer that the end of the stream completes."""
        if self._reader.is_empty:
            raise NothingCameError("the server closed the connection without an answer") from exc
        if exc is not None:
            raise exc
        self._reader.closed()
        return self._reader.answer()

    def _is_late(self, timeout_s: float) -> None:
        if self._waiter is None or self._waiter.done():
            return
        left = self._heard + timeout_s - self._loop.time()
        if left > 0:  # a long answer is on its way
            self._timer = self._loop.call_later(left, self._is_late, timeout_s)
        else:
            self._waiter.set_exception(TimeoutError())


class AsyncPool:
    """Connections to one server, of one event loop.

    Args:
        host: Name or address.
        port: TCP port.
        connect_timeout_s: Seconds to wait for a connection.
    """

    def __init__(self, host: str, port: int, *, connect_timeout_s: float) -> None:
        self._address = host, port
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[AsyncConnection] = []
        self._is_closed = False

    def close(self) -> None:
        """Close those that nobody uses; one in use is closed when it is done."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def exchange(
        self, parts: Sequence[bytes | memoryview], timeout_s: float, *, may_repeat: bool
    ) -> Answer:
        """Send a request and wait for its answer; as ``Pool.exchange``."""
        connection = await self._take()
        try:
            answer = await connection.exchange(parts, timeout_s)
        except NothingCameError:
            if not (may_repeat and connection.answered):
                raise
            connection = await self._open()
            answer = await connection.exchange(parts, timeout_s)
        self._give(connection)
        return answer

    async def _open(self) -> AsyncConnection:
        return await AsyncConnection.connect(*self._address, timeout_s=self._connect_timeout_s)

    async def _take(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.close()
        return await self._open()

    def _give(self, connection: AsyncConnection) -> None:
        if connection.keeps_alive and not self._is_closed and len(self._idle) < IDLE_KEPT:
            self._idle.append(connection)
        else:
            connection.close()
