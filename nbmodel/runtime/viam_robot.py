"""Viam's robot service, as far as a client needs it to find a runtime's services.

``RobotClient.at_address`` asks for the names of resources, and again every few seconds to
see whether the machine is still there; version and machine status are what people look
at. There are no operations, sessions or moving parts here.

Credentials travel as Viam's SDKs send them: the payload of an API key, or of a machine's
secret, is the runtime's token, and the id of the key is not looked at. The token is given
back as the access token, which then comes as a bearer token with every call.

Source: viamrobotics/api ``robot/v1/robot.proto``; viamrobotics/goutils ``rpc/v1/auth.proto``.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nbmodel.core import machine
from nbmodel.core.machine import MLMODEL_API, VISION_API, MachineConfig
from nbmodel.core.version import parse_time
from nbmodel.errors import AuthenticationError
from nbmodel.protocol.messages import message, parse
from nbmodel.runtime.grpc_calls import Call, Service
from nbmodel.runtime.viam_calls import encode

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime

NAME = "viam.robot.v1.RobotService"
AUTH_NAME = "proto.rpc.v1.AuthService"
AUTHENTICATE = "Authenticate"
PLATFORM = "nbmodel"
#: Of viamrobotics/api whose messages these are.
API_VERSION = "v0.1.601"
#: Given to clients that bring credentials to a runtime that wants none.
NO_TOKEN = "none"  # noqa: S105 # what there is instead of one
#: State of a service → ResourceStatus.State.
_STATES = {"ready": 3, "loading": 2, "failed": 5, "stopped": 4}
_INITIALIZING, _RUNNING = 1, 2


def services(runtime: EdgeRuntime, *, version: str, token: str | None) -> tuple[Service, ...]:
    """The robot service of a runtime, and the one that takes credentials.

    Args:
        runtime: What runs.
        version: nbmodel's.
        token: Of the runtime; None when it wants none.
    """
    calls = _Calls(runtime, version)
    empty = ("GetOperations", "GetSessions", "GetModelsFromModules", "StopAll")
    return (
        Service(
            NAME,
            {
                "ResourceNames": calls.resource_names,
                "GetMachineStatus": calls.machine_status,
                "GetVersion": calls.version,
                **dict.fromkeys(empty, _nothing),
            },
        ),
        # Open to those without a token: it is what they bring their token to.
        Service(AUTH_NAME, {AUTHENTICATE: Authentication(token)}, open=frozenset({AUTHENTICATE})),
    )


class _Calls:
    def __init__(self, runtime: EdgeRuntime, version: str) -> None:
        self._runtime = runtime
        self._version = version

    def resource_names(self, _data: bytes, _call: Call) -> bytes:
        """Every service that the config has, ready or not."""
        names = [_resource_name(service) for service in self._services()]
        return encode("viam.ResourceNamesResponse", resources=names)

    def machine_status(self, _data: bytes, _call: Call) -> bytes:
        """Every service with its state and error, and the config's etag as its revision."""
        status = self._runtime.status()
        told = {(MLMODEL_API, one["name"]): one for one in status["services"]}
        told |= {(VISION_API, one["name"]): one for one in status["vision"]}
        resources = [
            _resource_status(service, told.get((service.api, service.name), {}), status["config"])
            for service in self._services()
        ]
        return encode(
            "viam.GetMachineStatusResponse",
            resources=resources,
            config={"revision": status["config"], "last_updated": _timestamp(status["started"])},
            state=_RUNNING if self._runtime.ready else _INITIALIZING,
        )

    def version(self, _data: bytes, _call: Call) -> bytes:
        """What runs here, in whose words."""
        return encode(
            "viam.GetVersionResponse",
            platform=PLATFORM,
            version=self._version,
            api_version=API_VERSION,
        )

    def _services(self) -> Iterable[machine.Service]:
        document, _etag = self._runtime.config
        return (
            service
            for service in MachineConfig.from_json(document).services
            if service.is_served or service.is_vision
        )


class Authentication:
    """Credentials of Viam's SDKs against the token of a runtime.

    Args:
        token: Of the runtime; None when it wants none.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, data: bytes, _call: Call) -> bytes:
        """The access token for the right payload, whatever entity and type it comes with.

        Raises:
            AuthenticationError: The payload is not the runtime's token.
        """
        payload = parse("viam.AuthenticateRequest", data).credentials.payload
        token = self._token
        if token is not None and not hmac.compare_digest(payload.encode(), token.encode()):
            raise AuthenticationError(
                "the credentials are not the runtime's",
                hint="give the runtime's token as the API key; any UUID will do as its id",
            )
        access = NO_TOKEN if token is None else token
        return encode("viam.AuthenticateResponse", access_token=access)


def _nothing(_data: bytes, _call: Call) -> bytes:
    """The answer of a runtime that has none of what was asked for, and nothing that moves."""
    return b""


def _resource_name(service: machine.Service) -> Any:
    namespace, kind, subtype = service.api.split(":")
    return message("viam.ResourceName")(
        namespace=namespace, type=kind, subtype=subtype, name=service.name
    )


def _resource_status(service: machine.Service, told: Mapping[str, Any], revision: str) -> Any:
    error = told.get("error")
    # Viam promises that a resource with an error is unhealthy, and one without is not. A
    # service that runs on while a newer version was refused is ready, and says nothing.
    is_failed = told.get("state") == "failed"
    status = message("viam.ResourceStatus")(
        name=_resource_name(service),
        state=_STATES.get(str(told.get("state")), 1),
        revision=revision,
        error=str(error) if is_failed and error else "",
    )
    if told.get("since"):
        status.last_updated.CopyFrom(_timestamp(str(told["since"])))
    return status


def _timestamp(text: str) -> Any:
    stamp = message("google.protobuf.Timestamp")()
    stamp.FromDatetime(parse_time(text))
    return stamp
