"""The protocol's questions besides inference: path, body, and how the answer is read.

Both clients ask them; the one waits, the other awaits.

Source: Open Inference Protocol v2 (REST), and Triton's extensions "model repository",
"statistics" and "model configuration".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, InputError, NbModelError

T_co = TypeVar("T_co", covariant=True)

_LISTED = 20  # models in a hint


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a server says of itself.

    Attributes:
        name: Of the software.
        version: Of the software.
        extensions: Names of the protocol's extensions that it has.
    """

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a server says of a model.

    Attributes:
        name: Of the model.
        versions: Those it can run; empty when it does not say.
        platform: What runs it, in the server's words.
        signature: Names, datatypes and shapes of its tensors.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """One version of a model in a server's repository.

    Attributes:
        name: Of the model.
        version: Empty when the server does not say.
        state: ``READY``, ``UNAVAILABLE`` …; empty when the server does not say.
        reason: Why it is in that state; may be empty.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question(Generic[T_co]):
    """One request to a server, and what its answer means.

    Attributes:
        method: In upper case.
        path: From ``/v2`` on.
        read: From status and body to what was asked; it raises FormatError for a body
            that is not the protocol's.
        content: JSON to send, or None.
        is_claim: Whether a refusal is an answer too: "no".
    """

    method: str
    path: str
    read: Callable[[int, bytes], T_co]
    content: bytes | None = None
    is_claim: bool = False


def is_live() -> Question[bool]:
    """Whether the server runs."""
    return _claim("/v2/health/live")


def is_ready() -> Question[bool]:
    """Whether the server can infer."""
    return _claim("/v2/health/ready")


def is_model_ready(model: str, version: str = "") -> Question[bool]:
    """Whether a model can infer; an unknown one cannot."""
    return _claim(f"{model_path(model, version)}/ready")


def server_metadata() -> Question[ServerMetadata]:
    """Which software it is."""
    return Question("GET", "/v2", _read_server)


def model_metadata(model: str, version: str = "") -> Question[ModelMetadata]:
    """What a model takes and gives."""
    return Question("GET", model_path(model, version), _read_model)


def model_config(model: str, version: str = "") -> Question[dict[str, Any]]:
    """How a model is configured, in Triton's words."""
    return Question("GET", f"{model_path(model, version)}/config", _read_object)


def statistics(model: str = "", version: str = "") -> Question[list[dict[str, Any]]]:
    """What each model was asked and how long it took, in Triton's words."""
    path = f"{model_path(model, version)}/stats" if model else "/v2/models/stats"
    return Question("GET", path, _read_statistics)


def repository_index(*, ready: bool = False) -> Question[tuple[RepositoryModel, ...]]:
    """All models of the repository, or those that are ready."""
    content = json.dumps({"ready": ready}).encode()
    return Question("POST", "/v2/repository/index", _read_index, content)


def load_model(
    model: str,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Question[None]:
    """Load a model, or load it again.

    Raises:
        InputError: There are files without a config, the config is no JSON, or the name is
            none.
    """
    parameters: dict[str, str] = {}
    if files and config is None:
        raise InputError(
            f"files for model {model!r} need a config beside them",
            hint="config={...} as `model_config` gives it",
        )
    if config is not None:
        try:
            parameters["config"] = json.dumps(dict(config), allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InputError(f"the config of {model!r} cannot be written as JSON: {exc}") from exc
    for path, content in (files or {}).items():
        parameters[f"file:{path}"] = base64.b64encode(content).decode("ascii")
    return _change(model, "load", parameters)


def unload_model(model: str, *, unload_dependents: bool = False) -> Question[None]:
    """Unload a model.

    Raises:
        InputError: The name is none.
    """
    return _change(model, "unload", {"unload_dependents": unload_dependents})


def model_path(model: str, version: str = "") -> str:
    """The path of a model, or of one of its versions.

    Raises:
        InputError: There is no such path: the name is empty, or the version no number.
    """
    name = _quoted(model)
    if version and not (version.isascii() and version.isdecimal()):
        raise InputError(
            f"version {version!r} of model {model!r}: expected a number", hint="such as '1'"
        )
    path = f"/v2/models/{name}"
    return f"{path}/versions/{version}" if version else path


@lru_cache(maxsize=256)
def infer_path(model: str, version: str = "") -> str:
    """Where requests for inference are sent; raises as ``model_path``."""
    return f"{model_path(model, version)}/infer"


def models_in_words(index: Sequence[RepositoryModel]) -> str | None:
    """A hint that lists the models of a repository; None of an empty one."""
    names = list(dict.fromkeys(model.name for model in index if model.name))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"models there: {', '.join(names[:_LISTED])}{more}" if names else None


def _claim(path: str) -> Question[bool]:
    return Question("GET", path, lambda status, _: status == 200, is_claim=True)


def _change(model: str, verb: str, parameters: Mapping[str, Any]) -> Question[None]:
    content = json.dumps({"parameters": parameters} if parameters else {}).encode()
    path = f"/v2/repository/models/{_quoted(model)}/{verb}"
    return Question("POST", path, lambda *_: None, content)


def _quoted(model: str) -> str:
    """The name of a model as one segment of a path."""
    if not model or model in (".", ".."):
        raise InputError(f"not the name of a model: {model!r}")
    return quote(model, safe="")


def _read_server(_status: int, body: bytes) -> ServerMetadata:
    data = _read_object(_status, body)
    return ServerMetadata(
        name=str(data.get("name", "")),
        version=str(data.get("version", "")),
        extensions=tuple(str(name) for name in _list(data, "extensions")),
    )


def _read_model(_status: int, body: bytes) -> ModelMetadata:
    data = _read_object(_status, body)
    try:
        signature = Signature.from_json(data)
    except NbModelError as exc:
        raise FormatError(f"its metadata of a model: {exc}") from exc
    return ModelMetadata(
        name=str(data.get("name", "")),
        versions=tuple(str(version) for version in _list(data, "versions")),
        platform=str(data.get("platform", "")),
        signature=signature,
    )


def _read_statistics(_status: int, body: bytes) -> list[dict[str, Any]]:
    return _objects(_list(_read_object(_status, body), "model_stats"))


def _read_index(_status: int, body: bytes) -> tuple[RepositoryModel, ...]:
    data = _json(body)
    if not isinstance(data, list):
        raise FormatError("its index is not an array")
    return tuple(
        RepositoryModel(
            name=str(entry.get("name", "")),
            version=str(entry.get("version", "")),
            state=str(entry.get("state", "")),
            reason=str(entry.get("reason", "")),
        )
        for entry in _objects(data)
    )


def _read_object(_status: int, body: bytes) -> dict[str, Any]:
    data = _json(body)
    if not isinstance(data, dict):
        raise FormatError("expected a JSON object")
    return data


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"expected JSON: {exc}") from exc


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key) or []
    if not isinstance(value, list):
        raise FormatError(f"expected an array in {key!r}")
    return value


def _objects(values: list[Any]) -> list[dict[str, Any]]:
    if not all(isinstance(value, dict) for value in values):
        raise FormatError("expected an array of objects")
    return values
