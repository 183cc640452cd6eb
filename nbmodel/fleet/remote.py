"""A runtime at the other end of an address: its verbs as methods, its refusals as errors.

How it is reached, and inference itself, are those of ``nbmodel.inference``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from numpy.typing import NDArray

from nbmodel.core.event import Event
from nbmodel.core.signature import Signature
from nbmodel.errors import ConfigError, DeployError, InferenceError, TargetError
from nbmodel.inference.channel import Channel
from nbmodel.inference.http1 import Answer
from nbmodel.inference.infer import Inferrer, Wish
from nbmodel.inference.known import KnownModel
from nbmodel.inference.server import ANSWER_TIMEOUT_S, Server, check_url
from nbmodel.storage.distribution_client import Distribution

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, slots=True)
class Served:
    """What a service of a runtime runs.

    Attributes:
        version: The version's number, as text.
        signature: What its model takes and gives, labels included.
        model_type: What it is for, or None when nobody said.
    """

    version: str
    signature: Signature
    model_type: str | None


class RemoteRuntime:
    """A runtime, by its address. May be used by several threads at once.

    Every method raises TargetUnreachableError when the runtime does not answer,
    AuthenticationError when it wants another token, and otherwise the error that the
    runtime met, as it met it.

    Args:
        url: ``http://host:port``.
        token: What it wants to be shown, or None.
        name: What it is called here; its address when not given.
        timeout_s: Seconds to wait for an answer.

    Attributes:
        url: The address in full.
        name: What it is called here.
        inferrer: Runs its services' models.

    Raises:
        InputError: ``url`` is not the address of a runtime.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        name: str | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.url = check_url(url, "runtime")
        self.name = urlsplit(self.url).netloc if name is None else name
        self._token = token
        server = Server(
            self.url,
            token,
            label=f"runtime {self.name!r} at {self.url}",
            if_away="is it running? `runtime list` shows all that are known, "
            "`runtime start NAME` starts one here",
            if_refused=f"`runtime add {self.name} {self.url} --token TOKEN` with the token that "
            "the runtime showed at its first start",
        )
        self._channel = Channel(server, timeout_s=timeout_s)
        self.inferrer = Inferrer(self._channel, self._learn)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()
        if "distribution" in self.__dict__:
            self.distribution.close()

    @cached_property
    def distribution(self) -> Distribution:
        """The runtime as a registry, for pushing versions. For one thread at a time."""
        return Distribution(self.url, token=self._token)

    # ── what it is and does ───────────────────────────────────────────────────────

    def version(self) -> dict[str, Any]:
        """Name, pid and versions of its process."""
        return self._object("GET", "/nbmodel/version")

    def status(self) -> dict[str, Any]:
        """Its services and packages, and what is wrong with them."""
        return self._object("GET", "/nbmodel/status")

    def server(self) -> str:
        """What it calls itself in the Open Inference Protocol; empty where it does not say."""
        return str(self._object("GET", "/v2").get("name", ""))

    def logs(self, lines: int = 100) -> list[str]:
        """The last lines of its log, oldest first."""
        return list(self._object("GET", "/nbmodel/logs", params={"lines": lines})["lines"])

    def events(self, since: int = 0, *, wait_s: float = 0.0) -> tuple[list[Event], int]:
        """What happened after an event, oldest first, and the number to ask with next time.

        Args:
            since: Number of the last event that is known; 0: of none.
            wait_s: Seconds to wait for one, 0..30.

        Returns:
            The events, and the number of the newest. That is below ``since`` when its log
            began anew.

        Raises:
            TargetError: It is a runtime of an older version, which keeps no events.
        """
        data = self._object(
            "GET", "/nbmodel/events", params={"since": since, "wait_s": f"{wait_s:g}"}
        )
        events, last = data.get("events"), data.get("last")
        if not isinstance(events, list) or type(last) is not int:
            raise DeployError(f"{self.url} does not answer with events")
        return [Event.from_json(event) for event in events], last

    def config(self) -> tuple[dict[str, Any], str]:
        """Its machine config, and the ETag to replace it with."""
        answer = self._request("GET", "/nbmodel/config")
        return self._json(answer, "/nbmodel/config"), answer.headers.get("etag", "").strip('"')

    def put_config(
        self, config: Mapping[str, Any], *, if_match: str | None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Replace its machine config, and give what changes by that.

        Args:
            config: The whole of it.
            if_match: ETag of the config to be replaced; None for whichever it is.
            dry_run: Change nothing.

        Raises:
            ConfigError: It cannot be used; ``problems`` lists everything wrong with it.
            ConfigConflictError: The config is not the one of that ETag any more.
        """
        try:
            content = json.dumps(dict(config), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise ConfigError(f"the machine config cannot be written as JSON: {exc}") from exc
        return self._object(
            "PUT",
            "/nbmodel/config",
            params={"dry_run": "true"} if dry_run else {},
            headers={
                "Content-Type": "application/json",
                "If-Match": "*" if if_match is None else f'"{if_match}"',
            },
            content=content,
        )

    def reconcile(self, *, retry: bool = True) -> None:
        """Have it look again at what it should run.

        Args:
            retry: Whether it tries again what failed before and has not changed since.
        """
        self._request("POST", "/nbmodel/reconcile", params={} if retry else {"retry": "false"})

    def rollback(self, service: str) -> dict[str, Any]:
        """Take a service back to the version it ran before, and hold it there.

        Returns:
            ``service``, ``package``, and the versions ``from`` and ``to``.

        Raises:
            TargetError: It has no such service.
            DeployError: There is nothing to go back to.
        """
        return self._object("POST", f"/nbmodel/services/{quote(service, safe='')}/rollback")

    def do(self, service: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send a free-form command to a service, and give its answer.

        Raises:
            TargetError: It has no such service.
        """
        path = f"/nbmodel/services/{quote(service, safe='')}/do"
        return self._object("POST", path, json=dict(command))

    # ── inference ─────────────────────────────────────────────────────────────────

    def sees(self, service: str) -> str | None:
        """What a vision service finds in pictures: ``detections`` or ``classifications``.

        None for a service that is none.

        Raises:
            TargetError: The runtime has no such service.
            InferenceError: The vision service is not ready.
        """
        data = self._object("GET", f"/nbmodel/services/{quote(service, safe='')}")
        if data.get("kind") != "vision":
            return None
        able = data.get("properties")
        if not isinstance(able, dict):
            why = data.get("error") or "it is still being set up"
            raise InferenceError(
                f"vision service {service!r} of runtime {self.name!r} is not ready: {why}",
                hint=f"see `status {self.name}`",
            )
        return "detections" if able.get("detections_supported") else "classifications"

    def look(self, service: str, picture: bytes, what: str) -> list[dict[str, Any]]:
        """What a vision service finds in a picture.

        Args:
            service: Its name.
            picture: The bytes of a JPEG or PNG file.
            what: As ``sees`` gives it.

        Raises:
            TargetError: The runtime has no such service.
            InputError: The picture cannot be read.
            UnavailableError, InferenceError: Its model runs nothing, or failed.
        """
        path = f"/nbmodel/services/{quote(service, safe='')}/{what}"
        return list(self._object("POST", path, content=picture)[what])

    def served(self, service: str) -> Served:
        """What a service runs at this moment.

        Raises:
            TargetError: The runtime has no such service.
            InferenceError: The service has no model it could run.
        """
        data = self._object("GET", f"/nbmodel/services/{quote(service, safe='')}")
        if data.get("kind") == "vision":
            model = data.get("mlmodel_name")
            raise TargetError(
                f"{service!r} is a vision service over {model!r}, which takes pictures alone",
                hint=f"use {model}@{self.name}, or `infer {service}@{self.name} PICTURE`",
            )
        if data.get("signature") is None:
            why = data.get("error") or "its model is still being loaded"
            raise InferenceError(
                f"service {service!r} of runtime {self.name!r} is not ready: {why}",
                hint=f"see `status {self.name}`",
            )
        return Served(
            version=str(data["version"]),
            signature=Signature.from_json(data["signature"]),
            model_type=data.get("model_type"),
        )

    def metadata(self, service: str) -> Signature:
        """What a service takes and gives; raises as ``served`` does."""
        return self.served(service).signature

    def infer(
        self,
        service: str,
        inputs: object,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a service's model once.

        Inputs may be what a notebook has, as ``InferenceClient.infer`` takes it: arrays of
        another datatype and plain lists are cast where ``protocol.coerce`` calls that safe,
        so float64 goes to an FP32 model, rounded; integers where all fit; text as UTF-8. A
        single array will do for a model with one input.

        Args:
            service: Name of the service.
            inputs: Input name → array, or the only input.
            outputs: Names of the outputs wanted; None for all.

        Returns:
            Name → array, which belongs to the caller and may be written to; BYTES are
            object arrays of ``bytes``.

        Raises:
            TargetError: The runtime has no such service.
            TensorNameError, DatatypeError, ShapeError: The inputs are not what the model
                takes.
            InferenceError: The service is not ready, or its engine failed.
        """
        return dict(self.inferrer.infer(Wish(service, inputs, outputs)).outputs)

    # ── inside ────────────────────────────────────────────────────────────────────

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return self._json(self._request(method, path, **options), path)

    def _request(self, method: str, path: str, **options: Any) -> Answer:
        return self._channel.request(method, path, **options)

    def _json(self, answer: Answer, path: str) -> dict[str, Any]:
        try:
            data = json.loads(bytes(answer.body))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise DeployError(
                f"{self.url} is not an nbmodel runtime: {path} does not answer with a JSON object",
                hint="is the address right?",
            )
        return data

    def _learn(self, service: str, version: str) -> KnownModel:
        served = self.served(service)
        return KnownModel(service, version, served.signature, answering=served.version)
