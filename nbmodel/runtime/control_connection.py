"""A connection that uvicorn serves: bounds of time and size that it has not itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from nbmodel.runtime.watch import Watch

_HEADER_COST = 4  # bytes of a header besides name and value: colon, space, line end


class ControlConnection(HttpToolsProtocol):
    """A connection that uvicorn serves, within our limits of time and size.

    uvicorn bounds what it keeps of a body, but neither a head nor what follows the last chunk.

    Args:
        watch: Watches over it and the others.
        config: uvicorn's.
        state: uvicorn's.
        app_state: uvicorn's.
        loop: The event loop.
    """

    def __init__(
        self,
        watch: Watch,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self._watch = watch
        self._head_since: float | None = None  # loop time at which a head began to come
        self._head_bytes = 0  # of what is kept of request line, headers and trailers
        self._unread = 0  # bytes since the parser last had something whole
        self._moved = loop.time()  # when bytes last came or went

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection was handed over."""
        super().connection_made(transport)
        self._watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._watch.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._moved = self.loop.time()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > self._watch.limits.max_head_bytes and not self.transport.is_closing():
            self.transport.abort()  # a name, value or extension without an end

    def pause_writing(self) -> None:
        """The client takes its answer slower than it comes."""
        self._moved = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        self._moved = self.loop.time()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """A head begins (httptools)."""
        self._head_since = self.loop.time()
        self._head_bytes = self._unread = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request line came (httptools)."""
        self._keep(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer is whole (httptools)."""
        self._keep(len(name) + len(value) + _HEADER_COST)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body came (httptools)."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole (httptools)."""
        self._unread = 0
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """A head is whole (httptools)."""
        self._head_since = None
        self._unread = 0
        if self.parser.should_upgrade():
            # Its body would be read as further requests.
            raise ValueError("protocol upgrades are not served")
        super().on_headers_complete()

    def check_time(self, now: float) -> None:
        """End the connection when it has taken too long; called every few seconds.

        Args:
            now: Loop time.
        """
        limits, still = self._watch.limits, now - self._moved
        cycle: RequestResponseCycle | None = self.cycle
        if self._head_since is not None:
            is_over = now - self._head_since > limits.head_timeout_s
        elif self.flow.write_paused:
            is_over = still > limits.body_timeout_s
        elif cycle is None or cycle.response_complete:
            is_over = still > limits.idle_timeout_s
        else:
            waits_for_body = cycle.more_body and not self.flow.read_paused
            is_over = waits_for_body and still > limits.body_timeout_s
        if is_over:
            self.transport.abort()

    def _keep(self, size: int) -> None:
        self._unread = 0
        self._head_bytes += size
        if self._head_bytes > self._watch.limits.max_head_bytes:
            raise ValueError("request line and headers are too large")  # uvicorn answers with 400
