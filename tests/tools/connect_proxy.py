"""A proxy that tunnels, on a free port of loopback, and a front that adds TLS to a server.

Source: RFC 9110 §9.3.6 (CONNECT), §11.7 (Proxy-Authorization).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.tools.certificate import Certificate

_MAX_HEAD = 64 * 1024


@dataclass(slots=True)
class ConnectProxy:
    """A running proxy.

    Attributes:
        port: Where it listens.
        heads: What it was asked, each as the text of a request's head.
    """

    port: int
    heads: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """``host:port`` of every tunnel that was asked for."""
        return [head.split(" ")[1] for head in self.heads]


@contextmanager
def connect_proxy(
    hosts: Mapping[str, int], *, credential: str | None = None, refuse: str | None = None
) -> Iterator[ConnectProxy]:
    """Run one.

    Args:
        hosts: ``host:port`` as clients name it → the port of loopback that it is at.
        credential: ``Basic …`` that it wants; None: it wants none.
        refuse: A status line that it answers to everybody; None: it tunnels.
    """

    def serve(client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < _MAX_HEAD:
            piece = client.recv(1)
            if not piece:
                return
            head += piece
        text = head.decode("latin-1")
        proxy.heads.append(text)
        method, target = text.split(" ")[:2]
        shown = [
            line.partition(": ")[2]
            for line in text.split("\r\n")
            if line.lower().startswith("proxy-authorization:")
        ]
        if refuse is not None:
            client.sendall(f"HTTP/1.1 {refuse}\r\nContent-Length: 0\r\n\r\n".encode())
        elif credential is not None and shown != [credential]:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
            client.sendall(b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
        elif method != "CONNECT" or target not in hosts:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        else:
            with socket.create_connection(("127.0.0.1", hosts[target])) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _join(client, server)

    with _listening(serve) as port:
        proxy = ConnectProxy(port)
        yield proxy


@contextmanager
def tls_front(port: int, certificate: Certificate) -> Iterator[int]:
    """Speak TLS before a server of loopback; the port where that is.

    Args:
        port: Of the server.
        certificate: To show.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)

    def serve(client: socket.socket) -> None:
        with (
            context.wrap_socket(client, server_side=True) as secured,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            _join(secured, server)

    with _listening(serve) as own:
        yield own


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Give every connection to ``serve``, in a thread of its own."""
    open_now: set[socket.socket] = set()
    threads: list[threading.Thread] = []

    def one(client: socket.socket) -> None:
        with suppress(OSError), client:
            serve(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            open_now.add(client)
            threads.append(threading.Thread(target=one, args=(client,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for client in open_now:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(256 * 1024):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join(10)
