"""The data plane: Open Inference Protocol v2 over HTTP, as routes and rules without a server.

What comes in is a method, a path, headers and a whole body; what goes out is a status,
headers and parts of a body. Sockets, size limits and threads are the front end's.

Statuses and messages are Triton's, with one exception: a malformed body is the client's
fault and answered with 400, where Triton says 500.

Source: Open Inference Protocol v2 (REST); ``http_server.cc`` of Triton for the routes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, NbModelError, TargetError
from nbmodel.protocol.http import (
    HEADER_LENGTH,
    decode_raw_request,
    decode_request,
    encode_response,
)
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.http_status import status_of

logger = logging.getLogger(__name__)

SERVER_NAME = "nbmodel"
EXTENSIONS = ("binary_tensor_data", "parameters")
_SERVER = re.compile(r"/v2(/?)")
_HEALTH = re.compile(r"/v2/health/(live|ready)")
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]+))?(?:/(infer|ready))?")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Service(Protocol):
    """What the data plane asks of one service of a runtime."""

    @property
    def ready(self) -> bool:
        """Whether it can infer."""

    @property
    def version(self) -> str:
        """The version it runs, digits."""

    @property
    def signature(self) -> Signature:
        """What its model takes and gives."""


class Models(Protocol):
    """What the data plane asks of a runtime."""

    @property
    def ready(self) -> bool:
        """Whether the runtime has brought up what its config wants, or given it up."""

    def service(self, name: str) -> Service:
        """The service of that name, or TargetError."""

    def infer(
        self, name: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None
    ) -> Mapping[str, NDArray[Any]]:
        """Run a service's model."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes:
        status: HTTP status.
        parts: The body, in order; parts may be views of arrays.
        headers: By name, without the length.
    """

    status: int
    parts: tuple[bytes | memoryview, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def join(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class Call:
    """A matched request line.

    Attributes:
        method: The only one that the route takes.
        waits: Whether answering takes long enough to belong into a thread.
        answer: From headers (by lower-case name) and body to the answer.
    """

    method: str
    waits: bool
    answer: Callable[[Mapping[str, str], bytearray], Answer]


class Pending(Protocol):
    """A request that may still wait for its turn."""

    def cancel(self) -> None:
        """Drop it when it still waits: nobody wants its answer any more."""


class DataPlane:
    """Answers the requests of the Open Inference Protocol.

    Args:
        models: What runs.
        version: nbmodel's, for the server's metadata.
    """

    def __init__(self, models: Models, *, version: str) -> None:
        self._models = models
        self._version = version
        self._decoders = ThreadPoolExecutor(4, thread_name_prefix="nbmodel-decode")

    def match(self, path: str) -> Call | None:
        """The route of a path, or None when it is not one of the protocol's.

        Args:
            path: As it was sent, percent-encoded, without the query.
        """
        if found := _SERVER.fullmatch(path):
            # "/v2/" is also how a container tool asks whether this is a registry.
            registry = {"Docker-Distribution-API-Version": "registry/2.0"} if found[1] else {}
            return Call("GET", waits=False, answer=lambda *_: self._server(registry))
        if found := _HEALTH.fullmatch(path):
            return Call(
                "GET", waits=False, answer=self._live if found[1] == "live" else self._ready
            )
        if found := _MODEL.fullmatch(path):
            name, version, verb = unquote(found[1]), found[2] or "", found[3]
            if verb == "infer":
                return Call("POST", True, lambda h, body: self._infer(name, version, h, body))
            if verb == "ready":
                return Call("GET", False, lambda *_: self._model_ready(name, version))
            return Call("GET", False, lambda *_: self._metadata(name, version))
        return None

    def answer(
        self, call: Call, method: str, headers: Mapping[str, str], body: bytearray
    ) -> Answer:
        """Answer a matched request; every error is an answer too.

        Args:
            call: From ``match``.
            method: In upper case.
            headers: By lower-case name.
            body: All of it; arrays are views of it, so it must stay as it is.
        """
        if method != call.method:
            return _error(405, "Method Not Allowed", {"Allow": call.method})
        try:
            return call.answer(headers, body)
        except NbModelError as exc:
            # The protocol has one string for both.
            return _error(status_of(exc), f"{exc} ({exc.hint})" if exc.hint else str(exc))
        except Exception:
            logger.exception("cannot answer a request")
            return _error(500, "internal error; the runtime's log has the details")

    def begin(
        self,
        call: Call,
        method: str,
        headers: Mapping[str, str],
        body: bytearray,
        done: Callable[[Answer], None],
    ) -> Pending | None:
        """Begin to answer a request for inference without blocking.

        Args:
            call: From ``match``.
            method: In upper case.
            headers: By lower-case name.
            body: All of it; arrays are views of it, so it must stay as it is.
            done: Called exactly once, in this thread before the return or in another.

        Returns:
            What can be cancelled, or None when the answer was given before the return.
        """
        self._decoders.submit(lambda: done(self.answer(call, method, headers, body)))
        return None

    def _server(self, headers: Mapping[str, str]) -> Answer:
        metadata = {"name": SERVER_NAME, "version": self._version, "extensions": list(EXTENSIONS)}
        return _json(200, metadata, headers)

    def _live(self, _headers: Mapping[str, str], _body: bytearray) -> Answer:
        return _health(True)

    def _ready(self, _headers: Mapping[str, str], _body: bytearray) -> Answer:
        return _health(self._models.ready)

    def _model_ready(self, name: str, version: str) -> Answer:
        if not self._find(name, version).ready:
            return _error(400, "Model version not ready")
        return _health(True)

    def _metadata(self, name: str, version: str) -> Answer:
        service = self._loaded(name, version)
        signature = service.signature
        return _json(
            200,
            {
                "name": name,
                "versions": [service.version],
                "platform": SERVER_NAME,
                "inputs": [_tensor(tensor) for tensor in signature.inputs],
                "outputs": [_tensor(tensor) for tensor in signature.outputs],
            },
        )

    def _infer(
        self, name: str, version: str, headers: Mapping[str, str], body: bytearray
    ) -> Answer:
        coding = headers.get("content-encoding", "identity")
        if coding != "identity":
            return _error(501, f"Unsupported compression type: {coding}")
        service = self._loaded(name, version)
        request = _request(headers, body, service, name)
        outputs = self._models.infer(name, request.inputs, request.output_names)
        response = InferResponse(name, service.version, outputs, id=request.id)
        encoded = encode_response(response, request)
        return Answer(200, encoded.parts, encoded.headers)

    def _find(self, name: str, version: str) -> Service:
        try:
            service = self._models.service(name)
        except TargetError as exc:
            raise TargetError(f"Request for unknown model: {name!r} is not found") from exc
        if version not in ("", service.version):
            raise TargetError(f"Request for unknown model: {name!r} version {version} is not found")
        return service

    def _loaded(self, name: str, version: str) -> Service:
        service = self._find(name, version)
        if not service.ready:
            raise TargetError(f"Request for unknown model: {name!r} has no available versions")
        return service


def _request(
    headers: Mapping[str, str], body: bytearray, service: Service, name: str
) -> InferRequest:
    text = headers.get(HEADER_LENGTH.lower())
    if text is None:
        return decode_request(body, None, model=name)
    if _NUMBER.fullmatch(text) is None:
        raise FormatError(f"inference header size should be a number, got: {text!r}")
    if int(text) == 0:
        return decode_raw_request(body, service.signature, model=name)
    return decode_request(body, int(text), model=name)


def _tensor(tensor: Tensor) -> dict[str, Any]:
    # The protocol has no word for an unknown rank.
    shape = [-1] if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def _health(is_well: bool) -> Answer:
    return Answer(200 if is_well else 400, headers={"Content-Type": "text/plain"})


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return _json(status, {"error": message}, headers or {})


def _json(status: int, data: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(data, separators=(",", ":")).encode()
    return Answer(status, (body,), {"Content-Type": "application/json", **(headers or {})})
