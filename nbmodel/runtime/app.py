"""One HTTP application of the gate, the data plane, the control plane and the registry.

The data plane and the distribution API share ``/v2``: a path that is a route of the
inference protocol is answered by it, everything else goes to the Starlette routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from nbmodel.errors import NbModelError
from nbmodel.runtime.answer import Call
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.control import control_routes, error_response
from nbmodel.runtime.oip import DataPlane

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

MAX_INPUT = 64 * 1024 * 1024  # bytes of an inference request; Triton's default
INFERENCES = 40  # at once; further ones wait


def make_app(runtime: EdgeRuntime, gate: Gate, *, max_input: int = MAX_INPUT) -> ASGIApp:
    """The application that serves a runtime.

    Args:
        runtime: What is served.
        gate: Who may talk to it.
        max_input: Largest inference request, bytes.
    """
    from nbmodel.storage.distribution_server import distribution_routes

    ours = version("nbmodel")
    routes: list[BaseRoute] = [
        *control_routes(runtime, version=ours),
        *distribution_routes(runtime.storage, runtime.tags, on_change=runtime.tags_changed),
    ]
    rest = guarded_routes(routes)
    plane = DataPlaneApp(DataPlane(runtime, version=ours), rest, max_input=max_input)
    return GateApp(gate, plane)


def guarded_routes(routes: Sequence[BaseRoute]) -> Starlette:
    """Starlette over routes, with every error as JSON."""
    app = Starlette(
        routes=routes,
        exception_handlers={
            NbModelError: _on_error,
            HTTPException: _on_http_error,
            Exception: _on_crash,
        },
    )
    app.router.redirect_slashes = False
    return app


class GateApp:
    """Turns away what the gate refuses, and passes on the rest."""

    def __init__(self, gate: Gate, app: ASGIApp) -> None:
        self._gate = gate
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        refusal = self._gate.refusal(scope["method"], scope["path"], _headers(scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = JSONResponse(
            {"error": refusal.error, "hint": refusal.hint},
            refusal.status,
            headers=dict(refusal.headers),
        )
        await response(scope, receive, send)


class DataPlaneApp:
    """Answers the paths of the inference protocol, and passes on the rest."""

    def __init__(self, plane: DataPlane, app: ASGIApp, *, max_input: int) -> None:
        self._plane = plane
        self._app = app
        self._max_input = max_input
        self._threads: CapacityLimiter | None = None  # made on the event loop it belongs to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        call = self._plane.match(scope["raw_path"].decode("latin-1"))
        if call is None:
            await self._app(scope, receive, send)
            return
        response = await self._respond(call, scope, receive)
        if response is not None:
            await response(scope, receive, send)

    async def _respond(self, call: Call, scope: Scope, receive: Receive) -> Response | None:
        headers, method = _headers(scope), scope["method"]
        body = bytearray()
        if method == "POST" and method in call.methods:
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length) > self._max_input:
                return self._too_large()
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > self._max_input:
                    return self._too_large()
                if not message.get("more_body", False):
                    break
            # Threads of their own: however many inferences wait, the control plane does not.
            if self._threads is None:
                self._threads = CapacityLimiter(INFERENCES)
            answer = await to_thread.run_sync(
                self._plane.answer, call, method, headers, body, limiter=self._threads
            )
        else:
            answer = self._plane.answer(call, method, headers, body)
        return Response(answer.join(), answer.status, headers=dict(answer.headers))

    def _too_large(self) -> Response:
        message = f"request body is larger than {self._max_input} bytes"
        return JSONResponse({"error": message}, 413)


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _on_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, NbModelError)
    return error_response(exc)


def _on_http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"error": exc.detail, "hint": None}, exc.status_code, headers=exc.headers)


def _on_crash(_request: Request, _exc: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs it.
    return JSONResponse(
        {"error": "internal error", "hint": "the runtime's log has the details"}, 500
    )
