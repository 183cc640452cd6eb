"""The control plane: what a runtime should do, does, and has done; JSON over HTTP.

::

    GET  /nbmodel/version                    name, pid, versions, gRPC address, time to end
    GET  /nbmodel/status                     services, packages, what is wrong with them
    GET  /nbmodel/config                     the machine config, with an ETag
    PUT  /nbmodel/config                     another one; If-Match is required
    PUT  /nbmodel/config?dry_run=true        what that would change
    GET  /nbmodel/services/{name}            version and signature of a service, or what ails it;
                                             of a vision service, what it can do
    POST /nbmodel/services/{name}/do         a free-form command (Viam's DoCommand)
    POST /nbmodel/services/{name}/rollback   back to the version it ran before
    POST /nbmodel/services/{name}/detections             objects in the picture of the body
    POST /nbmodel/services/{name}/classifications?count=N    its best classes
    POST /nbmodel/reconcile?retry=false      look again at what should run; unless told not to,
                                             try again what failed before, too
    GET  /nbmodel/logs?lines=N               the last lines of the log
    GET  /nbmodel/events?since=N&wait_s=S    what happened after event N; waits for it

A config is only replaced by somebody who says which one he replaces: ``If-Match`` with
the ETag he read, or ``*`` for whichever it is; without it the answer is 428. A dry run
needs none.

Events are ``{"events": [{"seq", "time", "level", "service", "type", "text"}, …], "last": N}``,
oldest first; ``last`` is the number to ask with next time. While there is none after
``since``, the answer waits at most ``wait_s`` seconds (0..30) for one. A ``last`` below
``since`` says that the log began anew.

A picture is the body as it is: the bytes of a JPEG or PNG file, or of another format of
``vision.viam.picture.FORMATS``. ``{"detections": […]}`` has pixels of that picture, their
normalised values, confidence and class; without ``count`` all classes come, unsorted.

Every error is ``{"error": …, "hint": …, "type": …}``, without ``hint`` where there is
nothing to say; ``type`` is the class in ``nbmodel.errors``, so that a client can raise the
same; a refused config also has ``problems``, all of them.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nbmodel.errors import ConfigError, InputError, NbModelError
from nbmodel.runtime.http_status import status_of
from nbmodel.runtime.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

MAX_BODY = 4 * 1024 * 1024  # bytes of a config or a command
MAX_PICTURE = 32 * 1024 * 1024  # bytes of a picture's file
PICTURES = 4  # looked at at once; further ones wait
MAX_LINES = 10_000  # of the log in one answer
MAX_WAIT_S = 30.0  # below what proxies and clients wait for an answer
_FORM = "application/x-www-form-urlencoded"
_CURL = "send the file as the body: curl --data-binary @FILE"
_ETAG = re.compile(r'"([^"]*)"')


def control_routes(
    runtime: EdgeRuntime,
    *,
    version: str,
    grpc: str | None = None,
    drain_s: float = DEFAULT_LIMITS.drain_s,
) -> list[Route]:
    """The routes of the control plane.

    Args:
        runtime: What they control.
        version: nbmodel's.
        grpc: ``host:port`` of the gRPC front end; None: there is none.
        drain_s: Seconds given to requests under way when the process is ended.
    """
    control = _Control(runtime, version, grpc, drain_s)
    return [
        Route("/nbmodel/version", control.version, methods=["GET"]),
        Route("/nbmodel/status", control.status, methods=["GET"]),
        Route("/nbmodel/config", control.config, methods=["GET"]),
        Route("/nbmodel/config", control.put_config, methods=["PUT"]),
        Route("/nbmodel/services/{name}", control.service, methods=["GET"]),
        Route("/nbmodel/services/{name}/do", control.do, methods=["POST"]),
        Route("/nbmodel/services/{name}/rollback", control.rollback, methods=["POST"]),
        Route("/nbmodel/services/{name}/detections", control.detections, methods=["POST"]),
        Route(
            "/nbmodel/services/{name}/classifications", control.classifications, methods=["POST"]
        ),
        Route("/nbmodel/reconcile", control.reconcile, methods=["POST"]),
        Route("/nbmodel/logs", control.logs, methods=["GET"]),
        Route("/nbmodel/events", control.events, methods=["GET"]),
    ]


def error_response(error: NbModelError) -> JSONResponse:
    """The answer that tells of an error."""
    content: dict[str, Any] = {"error": str(error), "type": type(error).__name__}
    if error.hint is not None:
        content["hint"] = error.hint
    if isinstance(error, ConfigError):
        content["problems"] = list(error.problems)
    return JSONResponse(content, status_of(error))


class _Control:
    """The endpoints. Starlette runs the plain ones in a thread, so they may block."""

    def __init__(
        self, runtime: EdgeRuntime, version: str, grpc: str | None, drain_s: float
    ) -> None:
        self._runtime = runtime
        self._version = version
        self._grpc = grpc
        self._drain_s = drain_s
        self._pictures: CapacityLimiter | None = None  # made on the event loop it belongs to

    def version(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "name": self._runtime.name,
                "pid": os.getpid(),
                "nbmodel": self._version,
                "python": platform.python_version(),
                "machine": platform.machine(),
                "grpc": self._grpc,
                "drain_s": self._drain_s,
            }
        )

    def status(self, _request: Request) -> Response:
        return JSONResponse(self._runtime.status())

    def config(self, request: Request) -> Response:
        config, etag = self._runtime.config
        headers = {"ETag": f'"{etag}"'}
        if etag in _ETAG.findall(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return JSONResponse(config, headers=headers)

    async def put_config(self, request: Request) -> Response:
        _check_parameters(request, "dry_run")
        is_dry = _flag(request, "dry_run")
        header = request.headers.get("if-match")
        if header is None and not is_dry:
            return JSONResponse(
                {
                    "error": "the machine config is only replaced with an If-Match header",
                    "hint": "send the ETag of the config that was read, or * for any",
                    "type": InputError.__name__,
                },
                status_code=428,
            )
        data = await _read_json(request)
        plan = await run_in_threadpool(
            self._runtime.set_config, data, if_match=_expected(header), dry_run=is_dry
        )
        _, etag = self._runtime.config
        return JSONResponse(plan.to_json(), headers={"ETag": f'"{etag}"'})

    def service(self, request: Request) -> Response:
        name = request.path_params["name"]
        vision = self._runtime.vision_status(name)
        if vision is not None:
            return JSONResponse(_told_of_vision(vision))
        service = self._runtime.service(name)
        entries = self._runtime.status()["services"]
        errors = [entry["error"] for entry in entries if entry["name"] == name]
        return JSONResponse(
            {
                "name": name,
                "kind": "model",
                "ready": service.ready,
                "version": service.version,
                "signature": service.signature.to_json() if service.ready else None,
                "model_type": service.model_type,
                "error": next(iter(errors), None),
            }
        )

    async def do(self, request: Request) -> Response:
        command = await _read_json(request)
        name = request.path_params["name"]
        return JSONResponse(dict(await run_in_threadpool(self._runtime.do, name, command)))

    def rollback(self, request: Request) -> Response:
        return JSONResponse(self._runtime.rollback(request.path_params["name"]))

    async def detections(self, request: Request) -> Response:
        def look(picture: bytearray) -> dict[str, Any]:
            from nbmodel.vision.viam.picture import read_picture

            found = vision.detections(read_picture(picture))
            return {"detections": [asdict(one) for one in found]}

        _check_parameters(request)
        vision = self._runtime.vision(request.path_params["name"])
        return await self._looked(request, look)

    async def classifications(self, request: Request) -> Response:
        def look(picture: bytearray) -> dict[str, Any]:
            from nbmodel.vision.viam.picture import read_picture

            found = vision.classifications(read_picture(picture), count)
            return {"classifications": [asdict(one) for one in found]}

        _check_parameters(request, "count")
        count = _number(request, "count", "0")
        if not count and "count" in request.query_params:
            raise InputError("count must be 1 or more", hint="without it, all classes come")
        vision = self._runtime.vision(request.path_params["name"])
        return await self._looked(request, look)

    async def _looked(
        self, request: Request, look: Callable[[bytearray], dict[str, Any]]
    ) -> Response:
        """What is in the picture of the body; looked at in a thread of the pictures' own."""
        if self._pictures is None:
            self._pictures = CapacityLimiter(PICTURES)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("multipart/"):
            raise InputError(f"the body must be a picture, found a form of type {kind}", hint=_CURL)
        picture = await _read_body(request, MAX_PICTURE)
        if not picture:
            raise InputError("the body is empty, expected a picture", hint=_CURL)
        try:
            found = await to_thread.run_sync(look, picture, limiter=self._pictures)
        except InputError as exc:
            if kind != _FORM:
                raise
            # What curl says of any body; with -d it also takes the line ends out of a file.
            raise InputError(str(exc), hint=_CURL) from exc
        return JSONResponse(found)

    def reconcile(self, request: Request) -> Response:
        _check_parameters(request, "retry")
        if _flag(request, "retry", default=True):
            self._runtime.reconcile()
        else:
            self._runtime.catch_up()
        return JSONResponse({}, status_code=202)

    def logs(self, request: Request) -> Response:
        _check_parameters(request, "lines")
        lines = min(_number(request, "lines", "100"), MAX_LINES)
        return JSONResponse({"lines": list(self._runtime.logs(lines))})

    async def events(self, request: Request) -> Response:
        _check_parameters(request, "since", "wait_s")
        since, wait_s = _number(request, "since", "0"), _seconds(request, "wait_s", MAX_WAIT_S)
        journal = self._runtime.journal
        # On the event loop: however many wait, they hold no thread that others need.
        loop, happened = asyncio.get_running_loop(), asyncio.Event()
        with journal.watched(lambda: loop.call_soon_threadsafe(happened.set)):
            if journal.last == since and wait_s:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(happened.wait(), wait_s)
        events = journal.since(since)
        return JSONResponse(
            {
                "events": [event.to_json() for event in events],
                "last": events[-1].seq if events else journal.last,
            }
        )


def _expected(header: str | None) -> str | None:
    """The ETag that an ``If-Match`` names; None for ``*`` and for no header."""
    if header is None or header.strip() == "*":
        return None
    etags: list[str] = _ETAG.findall(header)
    if len(etags) != 1:
        raise InputError(
            f"If-Match must be one ETag in double quotes, or *, found {header!r}",
            hint="send the ETag header of GET /nbmodel/config as it came",
        )
    return etags[0]


def _told_of_vision(status: Mapping[str, Any]) -> dict[str, Any]:
    """A vision service, from what the runtime's status says of it."""
    is_ready = status["state"] == "ready"
    return {
        "name": status["name"],
        "kind": "vision",
        "ready": is_ready,
        "state": status["state"],
        "mlmodel_name": status["mlmodel_name"],
        "properties": {
            "classifications_supported": status["classifications"],
            "detections_supported": status["detections"],
        }
        if is_ready
        else None,
        "error": status["error"],
    }


def _check_parameters(request: Request, *known: str) -> None:
    """Refuse what is not known: a word that is mistyped would do nothing."""
    for name in request.query_params:
        if name not in known:
            raise InputError(
                f"unknown parameter {name!r} of {request.url.path}",
                hint=f"it takes {', '.join(known)}" if known else "it takes none",
            )


def _number(request: Request, name: str, default: str) -> int:
    text = request.query_params.get(name, default)
    if not (text.isascii() and text.isdecimal()) or not 0 < len(text) < 10:
        raise InputError(f"{name} must be a number, found {text!r}")
    return int(text)


def _seconds(request: Request, name: str, most: float) -> float:
    text = request.query_params.get(name, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= most:
        raise InputError(f"{name} must be a number of seconds, 0 to {most:g}, found {text!r}")
    return seconds


def _flag(request: Request, name: str, *, default: bool = False) -> bool:
    value = request.query_params.get(name, str(default)).lower()
    if value not in ("true", "false"):
        raise InputError(f"{name} must be true or false, found {value!r}")
    return value == "true"


async def _read_body(request: Request, most: int) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise InputError(f"the body is larger than {most} bytes")
    return body


async def _read_json(request: Request) -> Mapping[str, Any]:
    body = await _read_body(request, MAX_BODY)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"the body is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise InputError("the body must be a JSON object")
    return data
