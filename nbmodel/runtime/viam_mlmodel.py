"""Viam's ML model service: a runtime's model services, called by any Viam SDK.

The proto has no ``DoCommand`` for model services, and the SDKs' clients refuse it before
anything is sent; here it is answered all the same, under this service and under the
generic one, so that ``GenericServiceClient(name, channel).do_command(…)`` reaches a model.

Source: viamrobotics/api ``service/mlmodel/v1/mlmodel.proto``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from numpy.typing import NDArray

from nbmodel.core.model_type import model_type_of
from nbmodel.errors import UnavailableError
from nbmodel.protocol.inference import InferRequest
from nbmodel.protocol.messages import message, parse
from nbmodel.protocol.viam import (
    check_carried,
    decode_infer_request,
    encode_infer_response,
    metadata,
    named_as_model,
)
from nbmodel.runtime.grpc_calls import Call, Service
from nbmodel.runtime.viam_calls import do_command, encode_result

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

NAME = "viam.service.mlmodel.v1.MLModelService"
GENERIC_NAME = "viam.service.generic.v1.GenericService"


def services(runtime: EdgeRuntime) -> tuple[Service, ...]:
    """The ML model service of a runtime, and the generic one over the same models."""
    calls = _Calls(runtime)
    return (
        Service(
            NAME,
            {
                "Infer": calls.infer,
                "Metadata": calls.metadata,
                "GetStatus": calls.status,
                "DoCommand": calls.do,
            },
        ),
        Service(GENERIC_NAME, {"DoCommand": calls.do, "GetStatus": calls.status}),
    )


def prepare(runtime: EdgeRuntime, name: str, inputs: Mapping[str, NDArray[Any]]) -> InferRequest:
    """A request for a model from tensors that came over Viam's API.

    A single input may have any name, see ``named_as_model``.

    Raises:
        TargetError: There is no such service.
        DatatypeError: The model has a tensor that flat tensors cannot carry; names it.
    """
    signature = runtime.service(name).signature
    check_carried(signature, model=name)
    return InferRequest(name, named_as_model(inputs, signature))


def describe_model(
    runtime: EdgeRuntime, name: str, *, labels: Callable[[Sequence[str]], str] | None = None
) -> dict[str, Any]:
    """A service's model as a ``Metadata`` message in JSON, see ``metadata``.

    Args:
        runtime: What runs.
        name: Of the service.
        labels: Makes a file of labels that are in the model's own file, and gives its path;
            None: those have no path.

    Raises:
        TargetError: There is no such service.
        UnavailableError: It is not ready.
    """
    view = runtime.service(name)
    if not view.ready:
        raise UnavailableError(f"service {name!r} is not ready: {view.reason}")
    path = view.label_path
    if not path and labels is not None and view.signature.labels:
        path = labels(view.signature.labels)
    return metadata(
        view.signature,
        name=name,
        model_type=view.model_type or model_type_of(view.signature),
        description=view.description,
        label_path=path or None,
    )


def describe_status(runtime: EdgeRuntime, name: str) -> dict[str, Any]:
    """How a service is: whether it is ready, its version, backend and model type.

    Raises:
        TargetError: There is no such service.
    """
    view = runtime.service(name)
    return {
        "name": view.name,
        "ready": view.ready,
        "reason": view.reason,
        "version": view.version if view.ready else "",
        "backend": view.backend,
        "model_type": view.model_type or "",
    }


class _Calls:
    def __init__(self, runtime: EdgeRuntime) -> None:
        self._runtime = runtime

    def infer(self, data: bytes, call: Call) -> bytes:
        """Run a model."""
        request = decode_infer_request(data)
        answer = call.infer(prepare(self._runtime, request.name, request.inputs))
        return encode_infer_response(answer.outputs)

    def metadata(self, data: bytes, _call: Call) -> bytes:
        """What a model takes and gives."""
        told = describe_model(self._runtime, parse("viam.MetadataRequest", data).name)
        answer = message("viam.MetadataResponse")()
        json_format.ParseDict(told, answer.metadata)
        return bytes(answer.SerializeToString())

    def status(self, data: bytes, _call: Call) -> bytes:
        """How a service is."""
        told = describe_status(self._runtime, parse("viam.GetStatusRequest", data).name)
        return encode_result("viam.GetStatusResponse", told)

    def do(self, data: bytes, _call: Call) -> bytes:
        """A free-form command, see ``EdgeRuntime.do``."""
        request = parse("viam.DoCommandRequest", data)
        return do_command(self._runtime, request.name, request.command)
