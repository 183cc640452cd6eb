"""What the data plane answers with, before any server sends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.document import MAX_DEPTH, is_too_deep, unique_keys
from nbmodel.errors import FormatError, NbModelError
from nbmodel.runtime.http_status import status_of

JSON = "application/json"
TEXT = "text/plain"


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
    """A matched path.

    Attributes:
        methods: Those that the route takes.
        answer: From method and body to the answer; for inference the plane's own.
        waits: Whether answering takes long enough to belong into a thread.
        loads: Whether it brings up or ends models: such calls wait for one another, and nothing
            else for them.
        model: Name and version (may be empty) of the model to infer with; None when this
            is no inference.
    """

    methods: tuple[str, ...]
    answer: Callable[[str, bytes | bytearray], Answer]
    waits: bool = False
    loads: bool = False
    model: tuple[str, str] | None = None


def json_answer(
    data: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """A JSON document."""
    body = json.dumps(data, separators=(",", ":")).encode()
    return Answer(status, (body,), {"Content-Type": JSON, **(headers or {})})


def empty_answer(status: int = 200, content_type: str = JSON) -> Answer:
    """A status that says everything."""
    return Answer(status, headers={"Content-Type": content_type})


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in the protocol's form."""
    return json_answer({"error": message}, status=status, headers=headers)


def failure(exc: NbModelError) -> Answer:
    """The answer that an error is."""
    # The protocol has one string for both.
    return refusal(status_of(exc), f"{exc} ({exc.hint})" if exc.hint else str(exc))


def read_object(body: bytes | bytearray, what: str) -> dict[str, Any]:
    """The JSON object that a body is; an empty body is an empty one.

    Args:
        body: All of it.
        what: For the message.

    Raises:
        FormatError: It is no JSON object, or nests deeper than ``MAX_DEPTH``.
    """
    if not body:
        return {}
    prefix = f"failed to parse the {what} request JSON buffer"
    try:
        data = json.loads(body, object_pairs_hook=unique_keys)
    except RecursionError as exc:
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise FormatError(f"{prefix}: {exc}") from exc
    if not isinstance(data, dict):
        raise FormatError(f"{prefix}: expected an object")
    if is_too_deep(data):
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels")
    return data
