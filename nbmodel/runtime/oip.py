"""The data plane: Open Inference Protocol v2 over HTTP, as routes and rules without a server.

What comes in is a method, a path, headers and a whole body; what goes out is a status,
headers and parts of a body. Sockets, size limits and threads are the front end's.

Statuses and messages are Triton's, with one exception: a malformed body is the client's
fault and answered with 400, where Triton says 500.

Source: Open Inference Protocol v2 (REST); ``http_server.cc`` of Triton for the routes and
the order of checks.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar
from urllib.parse import unquote

from nbmodel.errors import (
    FormatError,
    InputError,
    NbModelError,
    TargetError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.protocol.compression import CODINGS, accepted, check_coding, compress, decompress
from nbmodel.protocol.http import (
    HEADER_LENGTH,
    decode_raw_request,
    decode_request,
    encode_response,
)
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.answer import TEXT, Answer, Call, empty_answer, failure, json_answer, refusal
from nbmodel.runtime.limits import Budget
from nbmodel.runtime.lookup import find, find_ready
from nbmodel.runtime.model_config import metadata, model_config, statistics
from nbmodel.runtime.oip_control import ControlPlane
from nbmodel.runtime.scheduler import Pending
from nbmodel.runtime.services import ServiceView
from nbmodel.runtime.statistics import ModelStatistics

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_INPUT = 64 * 1024 * 1024  # bytes of a request's body, decompressed; Triton's default
LIGHT = 64 * 1024  # bytes of JSON, or elements: about a millisecond of an event loop
THREADS = 8  # that decode and encode what is not light
_INFLATED = 4  # times the largest body: bytes of decompressed ones under way, together
_MAX_MATCHES = 4096
_MAX_REMEMBERED = 256  # bytes of a path whose route is remembered
_CODINGS = ", ".join(CODINGS)
_LENGTH_KEY = HEADER_LENGTH.lower()
_HEALTH = re.compile(r"/v2/health/(live|ready)")
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]+))?(?:/(infer|ready|config|stats))?")
_MAX_DIGITS = 18  # of a number that every server reads
_NUMBER = re.compile(rf"-?[0-9]{{1,{_MAX_DIGITS}}}")


class Models(Protocol):
    """What the data plane asks of the models that are served."""

    @property
    def ready(self) -> bool:
        """Whether the runtime has brought up what its config wants, or given it up."""

    def service(self, name: str) -> ServiceView:
        """The service of that name, or TargetError."""

    def statistics(self, name: str | None = None) -> tuple[ModelStatistics, ...]:
        """What a service, or all of them, did so far."""

    def infer(self, request: InferRequest) -> InferResponse:
        """Run a service's model, waiting for it."""

    def submit(
        self, request: InferRequest, done: Callable[[InferResponse | NbModelError], None]
    ) -> Pending:
        """Run a service's model; ``done`` is called once, now or later."""


class DataPlane:
    """Answers the requests of the Open Inference Protocol.

    Args:
        models: What runs.
        control: Answers what controls the server; None: nothing here does.
        version: nbmodel's, for the server's metadata.
        max_input: Most bytes that a compressed body may hold; those under way hold at most
            four times as many.
    """

    def __init__(
        self,
        models: Models,
        *,
        control: ControlPlane | None,
        version: str,
        max_input: int = MAX_INPUT,
    ) -> None:
        self._models = models
        self._version = version
        self._max_input = max_input
        self._inflated = Budget(_INFLATED * max_input)
        self._inflated_lock = threading.Lock()
        self._control = control
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="nbmodel-oip")
        # Of its own: loads take as long as they take, one after the other.
        self._loads = ThreadPoolExecutor(1, thread_name_prefix="nbmodel-load")
        self._matches: dict[str, Call | None] = {}

    def close(self) -> None:
        """Let go of the threads; inferences under way are answered, loads are not waited for."""
        self._loads.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown()

    def match(self, path: str) -> Call | None:
        """The route of a path, or None when it is not one of the protocol's.

        Args:
            path: As it was sent, percent-encoded, without the query.
        """
        try:
            return self._matches[path]
        except KeyError:
            call = self._match(path)
            if len(path) <= _MAX_REMEMBERED:
                if len(self._matches) >= _MAX_MATCHES:  # the paths of a scanner, not of clients
                    self._matches.clear()
                self._matches[path] = call
            return call

    def answer(
        self, call: Call, method: str, headers: Mapping[str, str], body: bytes | bytearray
    ) -> Answer:
        """Answer a matched request, waiting for it; every error is an answer too.

        Args:
            call: From ``match``.
            method: In upper case.
            headers: By lower-case name.
            body: All of it; arrays are views of it, so it must stay as it is.
        """
        if method not in call.methods:
            return refusal(405, "Method Not Allowed", {"Allow": ", ".join(call.methods)})
        if call.model is None:
            return self._guarded(call, lambda: call.answer(method, body))
        name, version = call.model

        def infer() -> Answer:
            plain = self._plain(headers, body)
            try:
                request = self._decode(name, version, headers, plain)
                return _encode(self._models.infer(request), request, headers)
            finally:
                self._let_go(plain, body)

        return self._guarded(call, infer)

    def begin(
        self,
        call: Call,
        method: str,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        done: Callable[[Answer], None],
    ) -> Pending | None:
        """Begin to answer a request without blocking.

        Args:
            call: From ``match``.
            method: In upper case.
            headers: By lower-case name.
            body: All of it; arrays are views of it, so it must stay as it is.
            done: Called exactly once: in this thread before the return, or in another.

        Returns:
            What can be cancelled, or None when there is nothing to wait for.
        """
        if method not in call.methods or not call.waits:
            done(self.answer(call, method, headers, body))
            return None
        if call.model is None:
            threads = self._loads if call.loads else self._threads
            threads.submit(lambda: done(self.answer(call, method, headers, body)))
            return None
        if _is_light(headers, body):
            return self._start(call, headers, body, done)
        deferred = _Deferred()
        self._threads.submit(
            lambda: deferred.follow(lambda: self._start(call, headers, body, done))
        )
        return deferred

    # Inference

    def _start(
        self,
        call: Call,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        done: Callable[[Answer], None],
    ) -> Pending | None:
        assert call.model is not None
        plain = body
        try:
            plain = self._plain(headers, body)
            request = self._decode(*call.model, headers, plain)
        except Exception as exc:  # noqa: BLE001 # somebody waits, and it is logged
            self._let_go(plain, body)
            done(self._refused(exc, call))
            return None

        def finish(result: InferResponse | NbModelError) -> None:
            self._let_go(plain, body)
            if not isinstance(result, InferResponse):
                done(self._failed(result, call))
            elif _is_heavy(result, request, headers):
                self._threads.submit(lambda: done(self._encoded(result, request, call, headers)))
            else:
                done(self._encoded(result, request, call, headers))

        return self._models.submit(request, finish)

    def _encoded(
        self,
        response: InferResponse,
        request: InferRequest,
        call: Call,
        headers: Mapping[str, str],
    ) -> Answer:
        try:
            return _encode(response, request, headers)
        except Exception as exc:  # noqa: BLE001 # somebody waits, and it is logged
            return self._refused(exc, call)

    def _decode(
        self, name: str, version: str, headers: Mapping[str, str], body: bytes | bytearray
    ) -> InferRequest:
        if version:
            self._loaded(name, version)
        text = headers.get(_LENGTH_KEY)
        if text is None:
            return decode_request(body, None, model=name, version=version)
        length = _length(text)
        if length == 0:
            signature = self._loaded(name, version).signature
            return decode_raw_request(body, signature, model=name, version=version)
        return decode_request(body, length, model=name, version=version)

    def _plain(self, headers: Mapping[str, str], body: bytes | bytearray) -> bytes | bytearray:
        """A body as it was before it was compressed; counted until ``_let_go``."""
        coding = headers.get("content-encoding")
        if coding is None or check_coding(coding) is None:
            return body
        plain = decompress(body, limit=self._max_input)
        with self._inflated_lock:
            if not self._inflated.take(len(plain)):
                raise UnavailableError(
                    "too many decompressed bytes in flight, try again later (--max-request-bytes)"
                )
        return plain

    def _let_go(self, plain: bytes | bytearray, body: bytes | bytearray) -> None:
        if plain is not body:
            with self._inflated_lock:
                self._inflated.give_back(len(plain))

    def _guarded(self, call: Call, action: Callable[[], _T]) -> _T | Answer:
        """What an action gives, or the answer that its error is."""
        try:
            return action()
        except Exception as exc:  # noqa: BLE001 # somebody waits, and it is logged
            return self._refused(exc, call)

    def _refused(self, exc: Exception, call: Call) -> Answer:
        if isinstance(exc, NbModelError):
            return self._failed(exc, call)
        logger.error("cannot answer a request", exc_info=exc)
        return refusal(500, "internal error; the runtime's log has the details")

    def _failed(self, exc: NbModelError, call: Call) -> Answer:
        """The answer to what went wrong; that the model is not there comes first."""
        if call.model is None:
            return failure(exc)
        try:
            self._loaded(*call.model)
        except (TargetError, InputError, UnavailableError) as missing:
            return failure(missing)
        answer = failure(exc)
        if isinstance(exc, UnsupportedError):  # an unknown coding, mostly: these would do
            return replace(answer, headers={**answer.headers, "Accept-Encoding": _CODINGS})
        return answer

    # Routes

    def _match(self, path: str) -> Call | None:
        if found := _HEALTH.fullmatch(path):
            is_live = found[1] == "live"
            return Call(("GET",), lambda *_: _health(is_live or self._models.ready))
        if path == "/v2/models/stats":
            return Call(("GET",), lambda *_: self._statistics(), waits=True)
        if found := _MODEL.fullmatch(path):
            return self._model(unquote(found[1]), found[2] or "", found[3])
        return None if self._control is None else self._control.match(path)

    def _model(self, name: str, version: str, verb: str | None) -> Call:
        if verb == "infer":
            return Call(("POST",), _no_answer, waits=True, model=(name, version))
        if verb == "ready":
            return Call(("GET",), lambda *_: self._model_ready(name, version))
        if verb == "stats":
            return Call(("GET",), lambda *_: self._model_statistics(name, version), waits=True)
        describe = model_config if verb == "config" else metadata
        return Call(("GET",), lambda *_: json_answer(describe(self._loaded(name, version))))

    def _model_ready(self, name: str, version: str) -> Answer:
        try:
            is_ready = self._find(name, version).ready
        except TargetError:
            is_ready = False
        return _health(True) if is_ready else refusal(400, "Model version not ready")

    def _statistics(self) -> Answer:
        return json_answer(statistics(self._models.statistics()))

    def _model_statistics(self, name: str, version: str) -> Answer:
        try:
            self._loaded(name, version)
        except (TargetError, UnavailableError):
            which = f" version {version}" if version else ""
            return refusal(400, f"requested model {name!r}{which} is not available")
        return json_answer(statistics(self._models.statistics(name)))

    def _find(self, name: str, version: str) -> ServiceView:
        _check_version(version)
        return find(self._models, name, version)

    def _loaded(self, name: str, version: str) -> ServiceView:
        _check_version(version)
        return find_ready(self._models, name, version)


class _Deferred:
    """The handle of a request that is decoded in another thread before it can wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._pending: Pending | None = None

    def cancel(self) -> None:
        """Drop the request when it still waits."""
        with self._lock:
            self._is_cancelled = True
            pending = self._pending
        if pending is not None:
            pending.cancel()

    def follow(self, start: Callable[[], Pending | None]) -> None:
        """Start the request, and cancel it when that was asked for meanwhile."""
        pending = start()
        with self._lock:
            self._pending = pending
            is_cancelled = self._is_cancelled
        if is_cancelled and pending is not None:
            pending.cancel()


def _check_version(digits: str) -> None:
    if len(digits) > _MAX_DIGITS:
        raise InputError(
            f"failed to get model version from specified version string '{digits[:50]}', "
            "version should be an integral value > 0"
        )


def _length(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise FormatError(f"Unable to parse {HEADER_LENGTH}, got: {text}")
    return int(text)


def _is_light(headers: Mapping[str, str], body: bytes | bytearray) -> bool:
    """Whether a body is decoded in no time: its tensors are binary numbers, or few."""
    if headers.get("content-encoding", "identity") != "identity":
        return False
    if len(body) <= LIGHT:
        return True
    text = headers.get(_LENGTH_KEY)
    if text is None or _NUMBER.fullmatch(text) is None or int(text) > LIGHT:
        return False
    # An element of BYTES is read on its own, and there may be millions. JSON can write the
    # word with escapes.
    head = int(text)
    return body.find(b"BYTES", 0, head) < 0 and body.find(b"\\", 0, head) < 0


def _is_heavy(response: InferResponse, request: InferRequest, headers: Mapping[str, str]) -> bool:
    """Whether an answer takes long to write: much of it as text, or compressed."""
    if _coding(headers) is not None:
        return True
    if request.binary_outputs and not request.outputs:
        return False
    return any(
        array.size > LIGHT and not request.wants_binary(name)
        for name, array in response.outputs.items()
    )


def _coding(headers: Mapping[str, str]) -> str | None:
    """What the answer is compressed with, or None."""
    accepts = headers.get("accept-encoding")
    return None if accepts is None else accepted(accepts)


def _encode(response: InferResponse, request: InferRequest, headers: Mapping[str, str]) -> Answer:
    body = encode_response(response, request)
    coding = _coding(headers)
    if coding is None:
        return Answer(200, body.parts, body.headers)
    # The header counts bytes before compression, as everything in the body does.
    return Answer(200, compress(body.parts, coding), {**body.headers, "Content-Encoding": coding})


def _no_answer(_method: str, _body: bytes | bytearray) -> Answer:
    raise AssertionError("inference is answered by the plane itself")


def _health(is_well: bool) -> Answer:
    return empty_answer(200 if is_well else 400, TEXT)
