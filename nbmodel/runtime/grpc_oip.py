"""The Open Inference Protocol over gRPC, with Triton's extensions.

Statuses and texts are Triton's. CUDA shared memory is not served: there is none to list,
and registering it is refused.

Source: Open Inference Protocol v2 (gRPC); Triton's ``grpc_server.cc`` and
``stream_infer_handler.cc`` for checks and texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from nbmodel.errors import (
    FormatError,
    InputError,
    NbModelError,
    TargetError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.protocol.grpc_request import decode_request, request_id
from nbmodel.protocol.grpc_response import (
    encode_response,
    encode_stream_error,
    encode_stream_response,
)
from nbmodel.protocol.inference import InferResponse
from nbmodel.protocol.messages import message, parse
from nbmodel.runtime.grpc_calls import Call, Service
from nbmodel.runtime.grpc_status import details_of
from nbmodel.runtime.lookup import find, find_ready
from nbmodel.runtime.model_config import metadata, model_config, statistics
from nbmodel.runtime.oip_control import EXTENSIONS
from nbmodel.runtime.repository import LoadRequest
from nbmodel.runtime.server_settings import LOG_FORMATS
from nbmodel.runtime.services import ServiceView

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

NAME = "inference.GRPCInferenceService"
#: Metadata by which a client asks that an error ends its stream.
STREAM_ERRORS = "triton_grpc_error"
_FINAL = {"triton_final_response": True}
_MAX_VERSION = 2**63 - 1


def oip_service(runtime: EdgeRuntime, *, version: str) -> Service:
    """The service of one runtime.

    Args:
        runtime: What runs.
        version: nbmodel's, for the server's metadata.
    """
    inference = _Inference(runtime, version)
    control = _Control(runtime)
    return Service(
        NAME,
        {
            "ServerLive": inference.live,
            "ServerReady": inference.ready,
            "ServerMetadata": inference.server_metadata,
            "ModelReady": inference.model_ready,
            "ModelMetadata": inference.model_metadata,
            "ModelConfig": inference.model_config,
            "ModelStatistics": inference.model_statistics,
            "ModelInfer": inference.infer,
            "RepositoryIndex": control.index,
            "RepositoryModelLoad": control.load,
            "RepositoryModelUnload": control.unload,
            "SystemSharedMemoryStatus": control.memory_status,
            "SystemSharedMemoryRegister": control.register_memory,
            "SystemSharedMemoryUnregister": control.unregister_memory,
            "CudaSharedMemoryStatus": control.cuda_status,
            "CudaSharedMemoryRegister": control.register_cuda,
            "CudaSharedMemoryUnregister": control.unregister_cuda,
            "TraceSetting": control.trace,
            "LogSettings": control.log,
        },
        {"ModelStreamInfer": inference.stream},
        open=frozenset({"ServerLive", "ServerReady"}),
    )


class _Inference:
    """Health, metadata, and inference."""

    def __init__(self, runtime: EdgeRuntime, version: str) -> None:
        self._runtime = runtime
        self._version = version

    def live(self, _data: bytes, _call: Call) -> bytes:
        return _encoded("ServerLiveResponse", live=True)

    def ready(self, _data: bytes, _call: Call) -> bytes:
        return _encoded("ServerReadyResponse", ready=self._runtime.ready)

    def server_metadata(self, _data: bytes, _call: Call) -> bytes:
        return _encoded(
            "ServerMetadataResponse",
            name=self._runtime.server_name,
            version=self._version,
            extensions=EXTENSIONS,
        )

    def model_ready(self, data: bytes, _call: Call) -> bytes:
        request = _parse("ModelReadyRequest", data)
        try:
            is_ready = self._find(request.name, request.version).ready
        except TargetError:
            is_ready = False  # as Triton has it: a client asks, and gets no error
        return _encoded("ModelReadyResponse", ready=is_ready)

    def model_metadata(self, data: bytes, _call: Call) -> bytes:
        request = _parse("ModelMetadataRequest", data)
        told = metadata(self._loaded(request.name, request.version))
        return _encoded("ModelMetadataResponse", **told)

    def model_config(self, data: bytes, _call: Call) -> bytes:
        request = _parse("ModelConfigRequest", data)
        config = model_config(self._loaded(request.name, request.version))
        return _from_json("ModelConfigResponse", {"config": config})

    def model_statistics(self, data: bytes, _call: Call) -> bytes:
        request = _parse("ModelStatisticsRequest", data)
        _check_version(request.version)
        if not request.name:
            return _from_json("ModelStatisticsResponse", statistics(self._runtime.statistics()))
        try:
            self._loaded(request.name, request.version)
            told = self._runtime.statistics(request.name)
        except (TargetError, UnavailableError) as exc:
            version = f" version {request.version}" if request.version else ""
            raise InputError(f"requested model {request.name!r}{version} is not available") from exc
        return _from_json("ModelStatisticsResponse", statistics(told))

    def infer(self, data: bytes, call: Call) -> bytes:
        return encode_response(self._answer(data, call))

    def stream(self, requests: Iterator[bytes], call: Call) -> Iterator[bytes]:
        """Answers in the order of the requests; an error is one answer, not the end."""
        ends_on_error = call.metadata.get(STREAM_ERRORS) == "true"
        for data in requests:
            try:
                response = self._answer(data, call)
                answer = encode_stream_response(
                    replace(response, parameters={**response.parameters, **_FINAL})
                )
            except NbModelError as exc:
                if ends_on_error:
                    raise
                answer = encode_stream_error(details_of(exc), request_id(data))
            yield answer

    def _answer(self, data: bytes, call: Call) -> InferResponse:
        request = decode_request(data)
        if request.version:
            self._loaded(request.model, request.version)
        try:
            return call.infer(request)
        except NbModelError:
            self._loaded(request.model, request.version)  # that it is not there comes first
            raise

    def _find(self, name: str, version: str) -> ServiceView:
        _check_version(version)
        return find(self._runtime, name, version)

    def _loaded(self, name: str, version: str) -> ServiceView:
        _check_version(version)
        return find_ready(self._runtime, name, version)


class _Control:
    """Repository, shared memory, and settings."""

    def __init__(self, runtime: EdgeRuntime) -> None:
        self._runtime = runtime

    # Models

    def index(self, data: bytes, _call: Call) -> bytes:
        request = _parse("RepositoryIndexRequest", data)
        _check_repository(request)
        models = [
            {
                "name": service.name,
                "version": service.version,
                "state": "READY" if service.ready else "UNAVAILABLE",
                "reason": service.reason,
            }
            for service in self._runtime.services()
            if service.ready or not request.ready
        ]
        return _encoded("RepositoryIndexResponse", models=models)

    def load(self, data: bytes, _call: Call) -> bytes:
        request = _parse("RepositoryModelLoadRequest", data)
        _check_repository(request)
        parameters: dict[str, str | bytes] = {}
        for name, parameter in request.parameters.items():
            kind = parameter.WhichOneof("parameter_choice")
            expected = "bytes_param" if name.startswith("file:") else "string_param"
            if kind != expected:
                raise FormatError(
                    f"invalid value type for load parameter {name!r}, expected {expected}."
                )
            parameters[name] = getattr(parameter, kind)
        self._runtime.load(request.model_name, LoadRequest.from_parameters(parameters))
        return b""

    def unload(self, data: bytes, _call: Call) -> bytes:
        request = _parse("RepositoryModelUnloadRequest", data)
        _check_repository(request)
        # No service here depends on another, so both values ask for the same.
        for name, parameter in request.parameters.items():
            if (
                name == "unload_dependents"
                and parameter.WhichOneof("parameter_choice") != "bool_param"
            ):
                raise FormatError(
                    f"invalid value type for {name!r} parameter, expected bool_param."
                )
        self._runtime.unload(request.model_name)
        return b""

    # Shared memory

    def memory_status(self, data: bytes, _call: Call) -> bytes:
        request = _parse("SystemSharedMemoryStatusRequest", data)
        regions = {
            region.name: {
                "name": region.name,
                "key": region.key,
                "offset": region.offset,
                "byte_size": region.byte_size,
            }
            for region in self._runtime.shared_memory.status(request.name or None)
        }
        return _encoded("SystemSharedMemoryStatusResponse", regions=regions)

    def register_memory(self, data: bytes, _call: Call) -> bytes:
        request = _parse("SystemSharedMemoryRegisterRequest", data)
        memory = self._runtime.shared_memory
        memory.check_allowed()
        memory.register(
            request.name, request.key, offset=request.offset, byte_size=request.byte_size
        )
        return b""

    def unregister_memory(self, data: bytes, _call: Call) -> bytes:
        request = _parse("SystemSharedMemoryUnregisterRequest", data)
        self._runtime.shared_memory.unregister(request.name or None)
        return b""

    def cuda_status(self, data: bytes, _call: Call) -> bytes:
        request = _parse("CudaSharedMemoryStatusRequest", data)
        if request.name:
            raise TargetError(f"Unable to find cuda shared memory region: {request.name!r}")
        return b""

    def register_cuda(self, _data: bytes, _call: Call) -> bytes:
        self._runtime.shared_memory.check_allowed()
        raise UnsupportedError("CUDA shared memory is not served here: tensors are on the CPU")

    def unregister_cuda(self, _data: bytes, _call: Call) -> bytes:
        self._runtime.shared_memory.check_allowed()
        return b""  # there is none, which is what was asked for

    # Settings

    def trace(self, data: bytes, _call: Call) -> bytes:
        request = _parse("TraceSettingRequest", data)
        model = request.model_name
        if model and not self._is_ready(model):
            raise InputError(f"Request for unknown model : {model}")
        settings = self._runtime.trace_settings
        changes = {name: _trace_value(name, one.value) for name, one in request.settings.items()}
        trace = settings.update(changes, model) if changes else settings.get(model)
        told = {
            name: {"value": value if isinstance(value, list) else [str(value)]}
            for name, value in trace.to_json().items()
        }
        return _encoded("TraceSettingResponse", settings=told)

    def log(self, data: bytes, _call: Call) -> bytes:
        request = _parse("LogSettingsRequest", data)
        settings = self._runtime.log_settings
        changes = {name: _log_value(name, one) for name, one in request.settings.items()}
        told = settings.update(changes) if changes else settings.get()
        return _encoded(
            "LogSettingsResponse",
            settings={name: {_log_kind(value): value} for name, value in told.items()},
        )

    def _is_ready(self, model: str) -> bool:
        try:
            return self._runtime.service(model).ready
        except TargetError:
            return False


def _parse(name: str, data: bytes) -> Any:
    return parse(f"inference.{name}", data)


def _encoded(name: str, /, **fields: Any) -> bytes:
    encoded: bytes = message(f"inference.{name}")(**fields).SerializeToString()
    return encoded


def _from_json(name: str, data: Mapping[str, Any]) -> bytes:
    """A message from Triton's JSON; what our definition leaves out stays out."""
    answer = json_format.ParseDict(data, message(f"inference.{name}")(), ignore_unknown_fields=True)
    encoded: bytes = answer.SerializeToString()
    return encoded


@lru_cache(maxsize=256)
def _check_version(version: str) -> None:
    is_number = version.isascii() and version.isdecimal() and len(version) <= 19
    if version and not (is_number and 0 < int(version) <= _MAX_VERSION):
        raise FormatError(
            f"failed to get model version from specified version string {version!r}, version "
            "should be an integral value > 0"
        )


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise UnsupportedError("'repository_name' specification is not supported")


def _trace_value(name: str, values: Sequence[str]) -> Any:
    """A trace setting as JSON has it; none: the setting is taken back."""
    if not values:
        return None
    if name == "trace_level":
        return list(values)
    if len(values) > 1:
        raise FormatError(f"expect only 1 value for {name!r}")
    return values[0]


def _log_value(name: str, setting: Any) -> Any:
    kind = setting.WhichOneof("parameter_choice")
    if kind is None:
        raise FormatError(f"expect a value for {name!r}")
    value = getattr(setting, kind)
    if name == "log_format" and value not in LOG_FORMATS:  # another status than over HTTP
        raise FormatError(f"invalid argument for log_format, got: {value}")
    return value


def _log_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "uint32_param" if isinstance(value, int) else "string_param"
