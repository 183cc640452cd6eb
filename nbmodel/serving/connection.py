"""A client's connection to a registry that is served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nbmodel.runtime.control_connection import ControlConnection

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from nbmodel.runtime.watch import Watch

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class RegistryConnection(ControlConnection):
    """A connection within the limits of time, size and number.

    Args:
        watch: Watches over it and the others.
        config: uvicorn's.
        state: uvicorn's.
        app_state: uvicorn's.
        loop: The event loop; None for the one that runs.
    """

    def __init__(
        self,
        watch: Watch,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        loop = loop or asyncio.get_running_loop()
        watch.attend(loop)
        super().__init__(watch, config, state, app_state, loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        if self._watch.is_full:
            transport.write(_FULL)
            transport.close()
