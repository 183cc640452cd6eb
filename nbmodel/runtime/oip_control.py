"""Routes of Triton's extensions that control a server: models, memory, settings, metrics.

Source: Triton's model repository, shared memory, logging and trace extensions;
``http_server.cc`` for the order of checks and the texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from nbmodel.errors import FormatError, InputError, TargetError, UnsupportedError
from nbmodel.runtime.answer import Answer, Call, empty_answer, json_answer, read_object
from nbmodel.runtime.metrics import CONTENT_TYPE, prometheus
from nbmodel.runtime.repository import LoadRequest
from nbmodel.runtime.server_settings import LogSettings, TraceSettings
from nbmodel.runtime.services import ServiceView
from nbmodel.runtime.shared_memory import SharedMemory
from nbmodel.runtime.statistics import ModelStatistics

_REPOSITORY = re.compile(r"/v2/repository(?:/([^/]+))?/(?:index|models/([^/]+)/(load|unload))")
_MEMORY = re.compile(
    r"/v2/(system|cuda)sharedmemory(?:/region/([^/]+))?/(status|register|unregister)"
)
_TRACE = re.compile(r"/v2/(?:models/([^/]+)/)?trace/setting")
_MAX_UINT64 = 2**64 - 1


EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
_SERVER = re.compile(r"/v2(/?)")


class Control(Protocol):
    """What these routes ask of a runtime."""

    @property
    def server_name(self) -> str:
        """What it is called in the server's metadata."""

    @property
    def shared_memory(self) -> SharedMemory:
        """The regions that clients registered."""

    @property
    def log_settings(self) -> LogSettings:
        """What is logged."""

    @property
    def trace_settings(self) -> TraceSettings:
        """What would be traced."""

    def service(self, name: str) -> ServiceView:
        """The service of that name, or TargetError."""

    def services(self) -> tuple[ServiceView, ...]:
        """All services, ready or not."""

    def statistics(self, name: str | None = None) -> tuple[ModelStatistics, ...]:
        """What a service, or all of them, did so far."""

    def load(self, name: str, request: LoadRequest) -> None:
        """Make a service run, and wait until it does."""

    def unload(self, name: str) -> None:
        """Make a service stop, and wait until it did."""


class ControlPlane:
    """Answers requests that control a server.

    Args:
        runtime: What is controlled.
        version: nbmodel's, for metadata and metrics.
    """

    def __init__(self, runtime: Control, *, version: str) -> None:
        self._runtime = runtime
        self._version = version

    def match(self, path: str) -> Call | None:
        """The route of a path, or None when it is none of these."""
        if found := _SERVER.fullmatch(path):
            # "/v2/" is also how a container tool asks whether this is a registry.
            registry = {"Docker-Distribution-API-Version": "registry/2.0"} if found[1] else {}
            return Call(("GET",), lambda *_: self._server(registry))
        if path == "/metrics":
            return Call(("GET",), lambda *_: self._metrics(), waits=True)
        if path == "/v2/logging":
            return Call(("GET", "POST"), self._logging)
        if found := _TRACE.fullmatch(path):
            model = unquote(found[1] or "")
            return Call(("GET", "POST"), lambda method, body: self._trace(model, method, body))
        if found := _REPOSITORY.fullmatch(path):
            return self._repository(found[1], found[2], found[3])
        if found := _MEMORY.fullmatch(path):
            region = unquote(found[2]) if found[2] else None
            return self._memory(found[1], region, found[3])
        return None

    def _server(self, headers: Mapping[str, str]) -> Answer:
        name = self._runtime.server_name
        data = {"name": name, "version": self._version, "extensions": list(EXTENSIONS)}
        return json_answer(data, headers=headers)

    # Models

    def _repository(self, repository: str | None, model: str | None, verb: str | None) -> Call:
        if model is None:
            return Call(("POST",), lambda _, body: self._index(body))
        name = unquote(model)

        def control(_method: str, body: bytes | bytearray) -> Answer:
            if repository is not None:
                raise UnsupportedError("'repository_name' specification is not supported")
            return self._load(name, body) if verb == "load" else self._unload(name, body)

        return Call(("POST",), control, waits=True, loads=True)

    def _index(self, body: bytes | bytearray) -> Answer:
        ready = read_object(body, "registry index").get("ready", False)
        if not isinstance(ready, bool):
            raise FormatError("Invalid value for 'ready': expected a boolean")
        return json_answer(
            [_state(one) for one in self._runtime.services() if one.ready or not ready]
        )

    def _load(self, name: str, body: bytes | bytearray) -> Answer:
        parameters = _parameters(read_object(body, "load model"))
        for key, value in parameters.items():
            if not isinstance(value, str):
                raise FormatError(f"parameter {key!r}: expected a string, found {value!r}")
        self._runtime.load(name, LoadRequest.from_parameters(parameters))
        return empty_answer()

    def _unload(self, name: str, body: bytes | bytearray) -> Answer:
        parameters = _parameters(read_object(body, "unload model"))
        # No service here depends on another, so both values ask for the same.
        if not isinstance(parameters.get("unload_dependents", False), bool):
            raise FormatError("Unable to parse 'unload_dependents': expected a boolean")
        self._runtime.unload(name)
        return empty_answer()

    # Shared memory

    def _memory(self, kind: str, region: str | None, verb: str) -> Call:
        answers: dict[tuple[str, str], Callable[[bytes | bytearray], Answer]] = {
            ("system", "status"): lambda _: self._memory_status(region),
            ("system", "register"): lambda body: self._register(region, body),
            ("system", "unregister"): lambda _: self._unregister(region),
            ("cuda", "status"): lambda _: self._cuda_status(region),
            ("cuda", "register"): lambda _: self._no_cuda(),
            ("cuda", "unregister"): lambda _: self._cuda_unregister(),
        }
        answer = answers[kind, verb]
        methods = ("GET",) if verb == "status" else ("POST",)
        return Call(methods, lambda _, body: answer(body))

    def _memory_status(self, region: str | None) -> Answer:
        return json_answer(
            [
                {
                    "name": one.name,
                    "key": one.key,
                    "offset": one.offset,
                    "byte_size": one.byte_size,
                }
                for one in self._runtime.shared_memory.status(region)
            ]
        )

    def _register(self, region: str | None, body: bytes | bytearray) -> Answer:
        memory = self._runtime.shared_memory
        memory.check_allowed()
        if region is None:
            raise InputError("'region name' is necessary to register system shared memory region")
        asked = read_object(body, "register")
        for name in ("key", "byte_size"):
            if name not in asked:
                raise FormatError(f"Shared memory register request has no {name!r} field")
        key = asked["key"]
        if not isinstance(key, str):
            raise FormatError(f"'key': expected a string, found {key!r}")
        memory.register(
            region,
            key,
            offset=_unsigned(asked, "offset"),
            byte_size=_unsigned(asked, "byte_size"),
        )
        return empty_answer()

    def _unregister(self, region: str | None) -> Answer:
        self._runtime.shared_memory.unregister(region)
        return empty_answer()

    def _cuda_status(self, region: str | None) -> Answer:
        if region is not None:
            raise TargetError(f"Unable to find cuda shared memory region: {region!r}")
        return json_answer([])

    def _no_cuda(self) -> Answer:
        self._runtime.shared_memory.check_allowed()
        raise UnsupportedError("CUDA shared memory is not served here: tensors are on the CPU")

    def _cuda_unregister(self) -> Answer:
        self._runtime.shared_memory.check_allowed()
        return empty_answer()  # there is none, which is what was asked for

    # Settings and metrics

    def _logging(self, method: str, body: bytes | bytearray) -> Answer:
        settings = self._runtime.log_settings
        if method == "GET":
            return json_answer(settings.get())
        return json_answer(settings.update(_object(body, "dynamic logging")))

    def _trace(self, model: str, method: str, body: bytes | bytearray) -> Answer:
        if model:
            try:
                is_ready = self._runtime.service(model).ready
            except TargetError:
                is_ready = False
            if not is_ready:
                raise InputError(f"Request for unknown model : {model}")
        settings = self._runtime.trace_settings
        if method == "GET":
            return json_answer(settings.get(model).to_json())
        return json_answer(settings.update(_object(body, "trace"), model).to_json())

    def _metrics(self) -> Answer:
        text = prometheus(self._runtime.statistics(), version=self._version)
        return Answer(200, (text.encode(),), {"Content-Type": CONTENT_TYPE})


def _state(service: ServiceView) -> dict[str, Any]:
    state = {
        "name": service.name,
        "version": service.version,
        "state": "READY" if service.ready else "UNAVAILABLE",
    }
    return {**state, "reason": service.reason} if service.reason else state


def _object(body: bytes | bytearray, what: str) -> Mapping[str, Any]:
    if not body:
        raise FormatError(f"failed to parse the {what} request JSON buffer: it is empty")
    return read_object(body, what)


def _parameters(data: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = data.get("parameters", {})
    if not isinstance(parameters, dict):
        raise FormatError(f"'parameters': expected an object, found {parameters!r}")
    return parameters


def _unsigned(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name, 0)
    if type(value) is int and 0 <= value <= _MAX_UINT64:
        return value
    raise FormatError(f"{name!r}: expected an unsigned integer, found {value!r}")
