"""A line between a client and a server that counts what goes over it, and is cut when wanted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 64 * 1024  # bytes forwarded in one go, and so how closely a line is cut


class Relay:
    """Forwards connections to a server, which may change, until they are cut.

    Args:
        url: ``http://host:port`` of the server.

    Attributes:
        url: Where to connect instead.
        up: Bytes that clients sent so far, heads and all.
        down: Bytes that went back to them.
        cut_up: The line is cut, once, as soon as ``up`` reaches this; None: never.
        cut_down: The same for ``down``.
        cut_before: The line is cut, once, where a request would begin with these bytes, and
            this was called with how many did before says yes.
        on_cut: Called when it is cut, in the thread that carried the last byte.
    """

    def __init__(self, url: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lead_to(url)
        self.up = self.down = 0
        self.cut_up: int | None = None
        self.cut_down: int | None = None
        self.cut_before: tuple[bytes, Callable[[int], bool]] | None = None
        self.on_cut: Callable[[], object] = lambda: None
        self._seen = 0  # requests that begin with those bytes
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lead_to(self, url: str) -> None:
        """Forward further connections to that server."""
        target = urlsplit(url)
        self._target = (target.hostname or "127.0.0.1", target.port or 80)

    def cut(self) -> None:
        """End all connections; further ones are taken."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in list(self._threads):
            if thread is not threading.current_thread():
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
            try:
                far = socket.create_connection(self._target)
            except OSError:  # the server is away
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
            self._threads.append(threading.Thread(target=self._carry, args=(near, far)))
            self._threads[-1].start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._back, args=(far, near), daemon=True)
        back.start()
        self._forth(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _forth(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            for piece in _pieces(near):
                if self._is_cut_before(piece):
                    break
                with self._lock:
                    self.up += len(piece)
                    is_cut = self.cut_up is not None and self.up >= self.cut_up
                    self.cut_up = None if is_cut else self.cut_up
                far.sendall(piece)
                if is_cut:
                    self._cut()
        _end(near, far)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            for piece in _pieces(far):
                with self._lock:
                    self.down += len(piece)
                    is_cut = self.cut_down is not None and self.down >= self.cut_down
                    self.cut_down = None if is_cut else self.cut_down
                near.sendall(piece)
                if is_cut:
                    self._cut()
        _end(far, near)

    def _is_cut_before(self, piece: memoryview) -> bool:
        if self.cut_before is None:
            return False
        begin = self.cut_before[0]
        if piece[: len(begin)] != begin:
            return False
        self._seen += 1
        if not self.cut_before[1](self._seen - 1):
            return False
        self.cut_before = None
        self._cut()
        return True

    def _cut(self) -> None:
        self.on_cut()
        self.cut()


def _pieces(source: socket.socket) -> Iterator[memoryview]:
    """What comes, each piece in the place of the one before."""
    buffer = bytearray(_PIECE)
    while count := source.recv_into(buffer):
        yield memoryview(buffer)[:count]


def _end(source: socket.socket, target: socket.socket) -> None:
    """Nothing more comes from the one; what is on its way back still arrives."""
    for one, how in ((source, socket.SHUT_RDWR), (target, socket.SHUT_WR)):
        with suppress(OSError):
            one.shutdown(how)
