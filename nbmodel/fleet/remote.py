"""A runtime at the other end of an address: its verbs as methods, its refusals as errors.

Tensors travel as binary, in the form of ``nbmodel.protocol.http``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
from numpy.typing import ArrayLike, NDArray

from nbmodel import errors
from nbmodel.core.address import is_loopback
from nbmodel.core.signature import Signature, check_inputs
from nbmodel.errors import (
    AuthenticationError,
    ConfigConflictError,
    ConfigError,
    DeployError,
    InferenceError,
    InputError,
    NbModelError,
    SignatureError,
    TargetError,
    TargetUnreachableError,
)
from nbmodel.fleet.known import check_url
from nbmodel.protocol.coerce import coerce
from nbmodel.protocol.http import HEADER_LENGTH, decode_response, encode_request
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput
from nbmodel.protocol.tensor import datatype_of
from nbmodel.storage.distribution_client import Distribution

if TYPE_CHECKING:
    from typing_extensions import Self

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 60.0  # a slow model on a slow card
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
#: Status → class of an error whose answer does not say its class.
_BY_STATUS: Mapping[int, type[NbModelError]] = {
    400: InputError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: TargetError,
    412: ConfigConflictError,
    413: InputError,
    500: InferenceError,
    501: InferenceError,
    502: TargetUnreachableError,
    503: InferenceError,
    504: TargetUnreachableError,
}


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
        self.url = check_url(url)
        self.name = urlsplit(self.url).netloc if name is None else name
        self._token = token
        self._timeout_s = timeout_s
        self._served: dict[str, Served] = {}
        self._client = httpx.Client(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            # A proxy cannot reach this machine's own loopback.
            trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
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

    def logs(self, lines: int = 100) -> list[str]:
        """The last lines of its log, oldest first."""
        return list(self._object("GET", "/nbmodel/logs", params={"lines": lines})["lines"])

    def config(self) -> tuple[dict[str, Any], str]:
        """Its machine config, and the ETag to replace it with."""
        answer = self._request("GET", "/nbmodel/config")
        return self._json(answer), answer.headers.get("etag", "").strip('"')

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

    def reconcile(self) -> None:
        """Have it look again at what it should run."""
        self._request("POST", "/nbmodel/reconcile")

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

    def served(self, service: str) -> Served:
        """What a service runs at this moment.

        Raises:
            TargetError: The runtime has no such service.
            InferenceError: The service has no model it could run.
        """
        data = self._object("GET", f"/nbmodel/services/{quote(service, safe='')}")
        if data.get("signature") is None:
            why = data.get("error") or "its model is still being loaded"
            raise InferenceError(
                f"service {service!r} of runtime {self.name!r} is not ready: {why}",
                hint=f"nbmodel status {self.name}",
            )
        served = Served(
            version=str(data["version"]),
            signature=Signature.from_json(data["signature"]),
            model_type=data.get("model_type"),
        )
        self._served[service] = served
        return served

    def metadata(self, service: str) -> Signature:
        """What a service takes and gives; raises as ``served`` does."""
        return self.served(service).signature

    def infer(
        self,
        service: str,
        inputs: Mapping[str, ArrayLike] | ArrayLike,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a service's model once.

        Inputs may be what a notebook has: arrays of another datatype and plain lists are
        cast where ``protocol.coerce`` calls that safe, so float64 goes to an FP32 model,
        rounded; integers where all fit; text as UTF-8. A single array will do for a
        model with one input.

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
        served = self._served.get(service)
        if served is not None:
            try:
                tensors = _tensors(served.signature, inputs)
            except SignatureError:
                served = None  # another version, with other inputs, may run by now
        if served is None:
            served = self.served(service)
            tensors = _tensors(served.signature, inputs)
        return self._infer(service, served, tensors, outputs)

    def _infer(
        self,
        service: str,
        served: Served,
        tensors: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None,
    ) -> dict[str, NDArray[Any]]:
        _check(served.signature, tensors)
        request = InferRequest(
            service,
            tensors,
            outputs=tuple(RequestedOutput(name) for name in outputs or ()),
            binary_outputs=True,
        )
        try:
            response = self._exchange(request)
        except NbModelError:
            self._served.pop(service, None)
            raise
        if response.version != served.version:
            self._served.pop(service, None)
        return dict(response.outputs)

    def _exchange(self, request: InferRequest) -> InferResponse:
        body = encode_request(request)
        path = f"/v2/models/{quote(request.model, safe='')}/infer"
        received = bytearray()  # so that the arrays which view it can be written to
        try:
            with self._client.stream(
                "POST", path, content=body.join(), headers=body.headers
            ) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise self._refused(answer)
                for piece in answer.iter_bytes():
                    received += piece
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        try:
            length = answer.headers.get(HEADER_LENGTH)
            return decode_response(received, None if length is None else int(length))
        except (NbModelError, ValueError) as exc:
            raise InferenceError(
                f"runtime {self.name!r} at {self.url} gave an answer that cannot be read: {exc}"
            ) from exc

    # ── inside ────────────────────────────────────────────────────────────────────

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return self._json(self._request(method, path, **options))

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        if not answer.is_success:
            raise self._refused(answer)
        return answer

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            data = answer.json()
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise DeployError(
                f"{self.url} is not an nbmodel runtime: {answer.request.url.path} "
                "does not answer with a JSON object",
                hint="is the address right?",
            )
        return data

    def _unreachable(self, exc: httpx.TransportError) -> TargetUnreachableError:
        if isinstance(exc, httpx.ConnectTimeout):
            reason = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        elif isinstance(exc, httpx.TimeoutException):
            reason = f"no answer within {self._timeout_s:g} s"
        else:
            reason = _ERRNO.sub("", str(exc)) or type(exc).__name__
            reason = reason[0].lower() + reason[1:]
        return TargetUnreachableError(
            f"cannot reach runtime {self.name!r} at {self.url}: {reason}",
            hint="is it running? `runtime list` shows all that are known, "
            "`runtime start NAME` starts one here",
        )

    def _refused(self, answer: httpx.Response) -> NbModelError:
        said = _said(answer)
        message = str(said.get("error") or f"{answer.status_code} {answer.reason_phrase}")
        hint = said.get("hint")
        if answer.status_code == 401:
            return AuthenticationError(
                f"runtime {self.name!r} at {self.url}: {message}",
                hint=f"`runtime add {self.name} {self.url} --token TOKEN` with the token that "
                "the runtime showed at its first start",
            )
        if said.get("type") == ConfigError.__name__:
            problems = said.get("problems")
            return ConfigError(
                message, problems=problems if isinstance(problems, list) else (), hint=hint
            )
        kind = _error_class(said.get("type"))
        if kind is not None:
            return kind(message, hint=hint)
        by_status = _BY_STATUS.get(answer.status_code, DeployError)
        return by_status(f"runtime {self.name!r} at {self.url}: {message}", hint=hint)


def _tensors(
    signature: Signature, inputs: Mapping[str, ArrayLike] | ArrayLike
) -> dict[str, NDArray[Any]]:
    """The inputs by name, cast and checked."""
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            names = ", ".join(tensor.name for tensor in signature.inputs)
            raise errors.TensorNameError(
                f"one unnamed input given, the model takes {len(signature.inputs)}",
                hint=f"give a mapping with {names}",
            )
        inputs = {signature.inputs[0].name: inputs}
    tensors = coerce(signature, inputs)
    _check(signature, tensors)
    return tensors


def _check(signature: Signature, tensors: Mapping[str, NDArray[Any]]) -> None:
    given = {
        name: (datatype_of(tensor, what=f"input {name!r}"), tensor.shape)
        for name, tensor in tensors.items()
    }
    check_inputs(signature, given)


def _error_class(name: object) -> type[NbModelError] | None:
    """The class that an answer names, if it is one that is made from a message alone."""
    kind = getattr(errors, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, NbModelError):
        return None
    return None if issubclass(kind, errors.DigestMismatchError) else kind


def _said(answer: httpx.Response) -> dict[str, Any]:
    try:
        data = json.loads(answer.content)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
