"""One HTTP application of the gate, the data plane, the control plane and the registry.

The data plane and the distribution API share ``/v2``: a path that is a route of the
inference protocol is answered by it, everything else goes to the Starlette routes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nbmodel.errors import NbModelError
from nbmodel.runtime.answer import Answer, Call
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.control import control_routes, error_response
from nbmodel.runtime.http_head import TOO_LARGE_HINT, too_large
from nbmodel.runtime.limits import DEFAULT_LIMITS, TOO_MUCH, Budget
from nbmodel.runtime.oip import DataPlane
from nbmodel.runtime.oip_control import ControlPlane

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

INFERENCES = 40  # at once; further ones wait
_NO_ROOM = 507  # HTTP's "insufficient storage"
PATHS = (
    "there are GET /nbmodel/status, /nbmodel/services/NAME, /nbmodel/config, /nbmodel/logs, "
    "/nbmodel/version, /v2, /v2/health/ready, /v2/models/NAME and /metrics"
)


def make_app(
    runtime: EdgeRuntime,
    gate: Gate,
    *,
    plane: DataPlane | None = None,
    max_input: int = DEFAULT_LIMITS.max_request_bytes,
    budget: Budget | None = None,
    grpc: str | None = None,
    drain_s: float = DEFAULT_LIMITS.drain_s,
) -> ASGIApp:
    """The application that serves a runtime.

    Args:
        runtime: What is served.
        gate: Who may talk to it.
        plane: Its data plane; one of its own when not given.
        max_input: Largest inference request, bytes.
        budget: Counts the bytes of inference requests under way; no limit when not given.
        grpc: ``host:port`` of the gRPC front end, to be told to clients; None: there is none.
        drain_s: Seconds given to requests under way at the end, to be told to clients.
    """
    from nbmodel.storage.distribution_server import distribution_routes

    ours = version("nbmodel")
    routes: list[BaseRoute] = [
        *control_routes(runtime, version=ours, grpc=grpc, drain_s=drain_s),
        *distribution_routes(
            runtime.storage,
            runtime.tags,
            referrers=runtime.referrers,
            on_change=runtime.tags_changed,
        ),
    ]
    rest = guarded_routes(routes)
    plane = make_plane(runtime, max_input=max_input) if plane is None else plane
    watched = RoomApp(rest, runtime.lacks_room)
    return GateApp(gate, DataPlaneApp(plane, watched, max_input=max_input, budget=budget))


def make_plane(runtime: EdgeRuntime, *, max_input: int) -> DataPlane:
    """The data plane of a runtime.

    Args:
        runtime: What is served.
        max_input: Most bytes that a compressed body may hold.
    """
    ours = version("nbmodel")
    control = ControlPlane(runtime, version=ours)
    return DataPlane(runtime, control=control, version=ours, max_input=max_input)


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


class RoomApp:
    """Tells when the disk had no room for what a request brought, and passes on everything.

    Args:
        app: Answers.
        lacks_room: Called with each answer that says so; returns at once.
    """

    def __init__(self, app: ASGIApp, lacks_room: Callable[[], None]) -> None:
        self._app = app
        self._lacks_room = lacks_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == _NO_ROOM:
                self._lacks_room()
            await send(message)

        await self._app(scope, receive, tell)


class DataPlaneApp:
    """Answers the paths of the inference protocol, and passes on the rest."""

    def __init__(
        self, plane: DataPlane, app: ASGIApp, *, max_input: int, budget: Budget | None = None
    ) -> None:
        self._plane = plane
        self._app = app
        self._max_input = max_input
        self._budget = Budget(sys.maxsize) if budget is None else budget
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
        if method == "HEAD":
            method = "GET"  # uvicorn drops the body
        if method not in call.methods or not (call.waits or method == "POST"):
            return _response(self._plane.answer(call, method, headers, b""))
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_input:
            return self._too_large(int(length))
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                if len(body) + len(part) > self._max_input:
                    return self._too_large()
                if not self._budget.take(len(part)):
                    return JSONResponse({"error": TOO_MUCH}, 503)
                body += part
                if not message.get("more_body", False):
                    break
            # Threads of their own: however many inferences wait, the control plane does not.
            if self._threads is None:
                self._threads = CapacityLimiter(INFERENCES)
            answer = await to_thread.run_sync(
                self._plane.answer, call, method, headers, body, limiter=self._threads
            )
        finally:
            self._budget.give_back(len(body))
        return _response(answer)

    def _too_large(self, found: int | None = None) -> Response:
        error = too_large(self._max_input, found)
        return JSONResponse({"error": error, "hint": TOO_LARGE_HINT}, 413)


def _response(answer: Answer) -> Response:
    return Response(answer.join(), answer.status, headers=dict(answer.headers))


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _on_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, NbModelError)
    return error_response(exc)


def _on_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    content = {"error": exc.detail}
    if exc.status_code == 404:
        content["hint"] = f"no such path: {request.url.path}; {PATHS}"
    return JSONResponse(content, exc.status_code, headers=exc.headers)


def _on_crash(_request: Request, _exc: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs it.
    return JSONResponse(
        {"error": "internal error", "hint": "the runtime's log has the details"}, 500
    )
