"""The application that offers a registry: the gate, the API, and errors in the API's form."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nbmodel.registry.repositories import RegistryRepositories
from nbmodel.runtime.auth import Gate
from nbmodel.storage.base import Storage
from nbmodel.storage.distribution_server import error_response, repository_routes

#: What clients look for to know the API.
VERSION_HEADER = {"Docker-Distribution-Api-Version": "registry/2.0"}
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 405: "UNSUPPORTED"}


def registry_app(
    storage: Storage,
    repositories: RegistryRepositories,
    gate: Gate,
    *,
    max_blob: int,
    read_only: bool,
) -> ASGIApp:
    """The application that offers a registry.

    Args:
        storage: Its blobs.
        repositories: Its models.
        gate: Who may talk to it.
        max_blob: Largest blob that is taken, in bytes.
        read_only: Whether whatever would change something is refused.
    """
    routes = repository_routes(storage, repositories, max_blob=max_blob, read_only=read_only)
    app = Starlette(
        routes=[
            Route("/v2/", _base),
            Route("/v2", _base),
            *routes,
        ],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_crash},
    )
    app.router.redirect_slashes = False
    return _Guarded(gate, app)


class _Guarded:
    """Turns away what the gate refuses, and passes on the rest."""

    def __init__(self, gate: Gate, app: ASGIApp) -> None:
        self._gate = gate
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._gate.refusal(scope["method"], scope["path"], headers)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = error_response(
            refusal.status,
            _CODES.get(refusal.status, "DENIED"),
            f"{refusal.error}: {refusal.hint}",
            {**VERSION_HEADER, **refusal.headers},
        )
        await response(scope, receive, send)


async def _base(_request: Request) -> Response:
    return JSONResponse({}, headers=VERSION_HEADER)


def _on_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        message = f"no such path: {request.url.path[:200]}"
        return error_response(404, "NAME_UNKNOWN", message)
    code = _CODES.get(exc.status_code, "UNKNOWN")
    return error_response(exc.status_code, code, exc.detail, dict(exc.headers or {}))


def _on_crash(_request: Request, _exc: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs it.
    return error_response(500, "UNKNOWN", "internal error: the registry's log has the details")
