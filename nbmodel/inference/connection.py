"""One blocking connection to a server, and the few that are kept open.

A plain socket, because an HTTP library costs more time than a small model's answer; the
rules of HTTP are those of ``http1``.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from nbmodel.inference.http1 import MAX_HEAD, Answer, ResponseReader

IDLE_KEPT = 16  # open connections that nobody uses
_PARTS_AT_ONCE = 64  # of one sendmsg; every system takes as many


class NothingCameError(ConnectionError):
    """A connection ended before any byte of the answer: the request may be sent again."""


class NoConnectionInTimeError(TimeoutError):
    """The server did not take the connection."""


class Connection:
    """An open connection, for one request at a time.

    Args:
        host: Name or address.
        port: TCP port.
        timeout_s: Seconds to wait for the connection.

    Attributes:
        keeps_alive: Whether another request may follow.
        answered: How many requests were answered.

    Raises:
        OSError: There is no connection; NoConnectionInTimeError when it took too long.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except TimeoutError as exc:
            raise NoConnectionInTimeError(str(exc)) from exc
        self._scratch = bytearray(MAX_HEAD)
        self._timeout_s = timeout_s
        self._poll: select.poll | None = None
        self.keeps_alive = True
        self.answered = 0
        # Head, JSON and tensors leave at once, not after the other side's acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close it; a thread that waits for an answer is woken with an error."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def is_fresh(self) -> bool:
        """Whether it can be used again: an idle server that says something says goodbye."""
        if not hasattr(select, "poll"):  # Windows
            return not select.select([self._socket], [], [], 0)[0]
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
        return not self._poll.poll(0)

    def exchange(self, parts: Sequence[bytes | memoryview], timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Whatever is raised, a KeyboardInterrupt included, the connection is closed then.

        Args:
            parts: Head and body, in order; sent as they are, without joining them.
            timeout_s: Seconds to wait for the answer to begin, and for each part of it.

        Raises:
            NothingCameError: The connection ended without a byte of an answer.
            OSError: It broke; TimeoutError when the server took too long.
            FormatError: The answer is not HTTP.
        """
        try:
            if timeout_s != self._timeout_s:
                self._timeout_s = timeout_s
                self._socket.settimeout(timeout_s)
            answer = self._exchange(parts)
        except BaseException:
            self.keeps_alive = False
            self._socket.close()
            raise
        self.answered += 1
        return answer

    def _exchange(self, parts: Sequence[bytes | memoryview]) -> Answer:
        reader = ResponseReader(self._scratch)
        try:
            self._send(parts)
        except ConnectionError:
            # A server that refuses a large request answers before it has read it all.
            self.keeps_alive = False
        self._receive(reader)
        self.keeps_alive = self.keeps_alive and reader.keeps_alive
        return reader.answer()

    def _receive(self, reader: ResponseReader) -> None:
        receive_into = self._socket.recv_into
        while True:
            try:
                count = receive_into(reader.buffer())
            except ConnectionError as exc:
                if reader.is_empty:
                    raise NothingCameError(*exc.args) from exc
                raise
            if count == 0:
                if reader.is_empty:
                    raise NothingCameError("the server closed the connection without an answer")
                reader.closed()
                return
            if reader.received(count):
                return

    def _send(self, parts: Sequence[bytes | memoryview]) -> None:
        if not hasattr(self._socket, "sendmsg"):  # Windows
            self._socket.sendall(b"".join(parts))
            return
        total = sum(map(len, parts))
        if len(parts) <= _PARTS_AT_ONCE:
            sent = self._socket.sendmsg(parts)
            if sent == total:
                return
        else:
            sent = 0
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self._socket.sendall(memoryview(part)[sent:])
                sent = 0


class Pool:
    """Connections to one server; for any number of threads.

    Args:
        host: Name or address.
        port: TCP port.
        connect_timeout_s: Seconds to wait for a connection.
    """

    def __init__(self, host: str, port: int, *, connect_timeout_s: float) -> None:
        self._address = host, port
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Close those that nobody uses; one in use is closed when it is done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def exchange(
        self, parts: Sequence[bytes | memoryview], timeout_s: float, *, may_repeat: bool
    ) -> Answer:
        """Send a request on a free connection and wait for its answer.

        Args:
            parts: Head and body, in order.
            timeout_s: As for ``Connection.exchange``.
            may_repeat: Whether to send again, once and on another connection, what a
                server did not answer at all that had closed a kept connection meanwhile.

        Raises:
            OSError, FormatError: As ``Connection.exchange``, and when there is none.
        """
        connection = self._take()
        try:
            answer = connection.exchange(parts, timeout_s)
        except NothingCameError:
            if not (may_repeat and connection.answered):
                raise
            connection = self.open()
            answer = connection.exchange(parts, timeout_s)
        self._give(connection)
        return answer

    def open(self) -> Connection:
        """A connection of its own, which the caller closes.

        Raises:
            OSError: There is none; NoConnectionInTimeError when it took too long.
        """
        return Connection(*self._address, timeout_s=self._connect_timeout_s)

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()  # the one used last is the least stale
            except IndexError:
                return self.open()
            if connection.is_fresh():
                return connection
            connection.close()

    def _give(self, connection: Connection) -> None:
        if connection.keeps_alive:
            with self._lock:
                if not self._is_closed and len(self._idle) < IDLE_KEPT:
                    self._idle.append(connection)
                    return
        connection.close()
