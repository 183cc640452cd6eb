"""From a server's refusal, or its silence, to an error of nbmodel."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nbmodel import errors
from nbmodel.errors import (
    AuthenticationError,
    ConfigConflictError,
    ConfigError,
    DeployError,
    FormatError,
    InferenceError,
    InputError,
    NbModelError,
    TargetError,
    TargetUnreachableError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.inference.server import CONNECT_TIMEOUT_S, Server

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_SENTENCE = 2000  # characters of a refusal that are shown
_PROBLEMS = 1000  # of a config that are shown
#: Status → class of an error whose answer does not say its class.
_BY_STATUS: Mapping[int, type[NbModelError]] = {
    400: InputError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: TargetError,
    405: UnsupportedError,
    408: UnavailableError,
    412: ConfigConflictError,
    413: InputError,
    429: UnavailableError,
    431: InputError,
    500: InferenceError,
    501: UnsupportedError,
    502: TargetUnreachableError,
    503: UnavailableError,
    504: TargetUnreachableError,
}


def refusal(server: Server, status: int, reason: str, body: bytes | memoryview) -> NbModelError:
    """What a server says by an answer other than 200.

    A runtime of nbmodel names the class of its error and says what to do; others give one
    sentence.

    Args:
        server: Which one.
        status: Of the answer.
        reason: The words beside the status; may be empty.
        body: Of the answer.
    """
    said = _said(body)
    message = str(said.get("error") or f"{status} {reason}".rstrip())[:_SENTENCE]
    given = said.get("hint")
    hint = given[:_SENTENCE] if isinstance(given, str) else None
    if status == 401:
        return AuthenticationError(f"{server.label}: {message}", hint=server.if_refused or hint)
    if said.get("type") == ConfigError.__name__:
        problems = said.get("problems")
        return ConfigError(
            message,
            problems=[str(one)[:_SENTENCE] for one in problems[:_PROBLEMS]]
            if isinstance(problems, list)
            else (),
            hint=hint,
        )
    kind = error_class(said.get("type"))
    if kind is not None:
        return kind(message, hint=hint)
    by_status = _BY_STATUS.get(status, DeployError)
    return by_status(f"{server.label}: {message}", hint=hint)


def unreachable(server: Server, reason: str) -> TargetUnreachableError:
    """The error for a server that did not answer, for a reason in words."""
    reason = _ERRNO.sub("", reason)
    return TargetUnreachableError(
        f"cannot reach {server.label}: {reason[:1].lower()}{reason[1:]}", hint=server.if_away
    )


def no_http(server: Server, reason: str) -> TargetUnreachableError:
    """The error for a server whose answer is not HTTP, or that hung up."""
    error = unreachable(server, reason)
    is_other = "illegal" in reason.lower()
    hint = "is this a gRPC port? HTTP is spoken here" if is_other else error.hint
    return TargetUnreachableError(str(error), hint=hint)


def closed(server: Server) -> InputError:
    """The error for a client that is used after its end."""
    return InputError(f"the client of {server.label} is closed", hint="make another one")


def no_connection_in_time(server: Server) -> TargetUnreachableError:
    """The error for a server that does not take a connection."""
    return unreachable(server, f"no connection within {CONNECT_TIMEOUT_S:g} s")


def no_answer_in_time(server: Server, timeout_s: float) -> TargetUnreachableError:
    """The error for a server that took a request and is silent."""
    return unreachable(server, f"no answer within {timeout_s:g} s")


def unreadable(server: Server, exc: Exception) -> InferenceError:
    """The error for an answer that is not the protocol's."""
    return InferenceError(
        f"{server.label} gave an answer that cannot be read: {exc}",
        hint="is the address right?",
    )


def too_long(server: Server, most: int) -> InferenceError:
    """The error for an answer of more than the ``most`` bytes that are read."""
    return unreadable(server, FormatError(f"it is longer than {most} bytes"))


def error_class(name: object) -> type[NbModelError] | None:
    """The class that an answer names, if it is one that is made from a message alone."""
    kind = getattr(errors, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, NbModelError):
        return None
    return None if issubclass(kind, errors.DigestMismatchError) else kind


def _said(body: bytes | memoryview) -> dict[str, Any]:
    try:
        data = json.loads(bytes(body))
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
