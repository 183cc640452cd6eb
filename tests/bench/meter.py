"""Counts bytes on their way: a forwarder between a client and a server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 1024 * 1024


class Meter:
    """Forwards connections to a server, and counts what goes each way, heads and all.

    Args:
        url: ``http://host:port`` of the server.

    Attributes:
        url: Where to connect instead.
        up: Bytes to the server so far.
        down: Bytes from it so far.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname or "127.0.0.1", target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = self.down = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = {self._listener}
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            both = {near, far}
            for one in both:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= both
            self._threads.append(threading.Thread(target=self._carry, args=(near, far)))
            self._threads[-1].start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pass_on, args=(far, near, "down"), daemon=True)
        back.start()
        self._pass_on(near, far, "up")
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)
        with suppress(OSError):
            while count := source.recv_into(buffer):
                with self._lock:
                    setattr(self, way, getattr(self, way) + count)
                target.sendall(view[:count])
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR if one is source else socket.SHUT_WR)
