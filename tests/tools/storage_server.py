"""A device's storage and tags behind a real connection, without the runtime around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nbmodel.core.chunks import CHUNKS_TYPE
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.registry.tables import table_of
from nbmodel.storage import OciLayout, Storage
from nbmodel.storage.distribution_server import distribution_routes
from nbmodel.storage.tags import TagStore


class Server:
    """One server for all tests, with the application of the one that runs."""

    def __init__(self) -> None:
        self.app = Starlette()
        config = uvicorn.Config(
            self._serve, port=0, log_level="warning", lifespan="off", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


class Flaky(httpx.HTTPTransport):
    """A network that loses chosen requests, or their answers."""

    def __init__(self, lose: Callable[[httpx.Request, int], str | None]) -> None:
        super().__init__()
        self._lose = lose
        self._count: dict[str, int] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        number = self._count[request.method] = self._count.get(request.method, 0) + 1
        lost = self._lose(request, number)
        if lost == "request":
            raise httpx.ConnectError("connection refused")
        answer = super().handle_request(request)
        if lost == "answer":
            answer.read()
            raise httpx.ReadError("connection reset")
        return answer


class Device:
    """A device's storage and tags, served."""

    def __init__(self, root: Path, server: Server, *, max_blob: int) -> None:
        self.storage = OciLayout(root / "blobs")
        self.tags = TagStore(root / "tags")
        self.changed: list[str] = []
        self.url = server.url
        self._server = server
        self._max_blob = max_blob
        self.start()

    def start(self, middleware: Sequence[Middleware] = ()) -> None:
        """Serve, with nothing remembered of a former time."""
        routes = distribution_routes(
            self.storage, self.tags, max_blob=self._max_blob, on_change=self.changed.append
        )
        routes.append(Route("/v2/", lambda _: Response()))  # the application's to answer
        self._server.app = Starlette(routes=routes, middleware=middleware)


def add_version(storage: Storage, files: dict[str, bytes], created: str = "2026-01-01") -> str:
    """A version in a storage, with chunk tables of large files; the digest of its manifest."""
    tables = {path: table for path, data in files.items() if (table := table_of(data))}
    manifest = Manifest(
        name="digits",
        created=created,
        files=tuple(
            FileEntry(path, len(data), storage.add_bytes(data)) for path, data in files.items()
        ),
        framework="onnx",
        model_type="other",
        signature=Signature(),
        chunks={
            path: FileEntry(f"{path}.chunks", len(table), storage.add_bytes(table), CHUNKS_TYPE)
            for path, table in tables.items()
        },
    )
    storage.add_bytes(manifest.config_bytes())
    return storage.add_bytes(manifest.manifest_bytes())
