"""A gRPC service as a value, and what its methods know of the call they answer.

A method takes the bytes of a request and gives the bytes of an answer: which fields are
worth a message object is the method's decision. What it raises becomes the status.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from nbmodel.errors import NbModelError
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.scheduler import Pending


class Models(Protocol):
    """What a call asks of a runtime."""

    def submit(
        self,
        request: InferRequest,
        done: Callable[[InferResponse | NbModelError], None],
        *,
        deadline: float | None = None,
    ) -> Pending:
        """Run a service's model; ``done`` is called once, now or later."""


class Call:
    """One call under way.

    Args:
        context: grpcio's, of this call.
        models: What runs.
    """

    __slots__ = ("_context", "_is_watched", "_models", "_pending")

    def __init__(self, context: Any, models: Models) -> None:
        self._context = context
        self._models = models
        self._is_watched = False  # whether grpcio calls _cancel when the call is over
        self._pending: Pending | None = None  # what waits for its turn

    @property
    def is_active(self) -> bool:
        """Whether the client still waits for an answer."""
        active: bool = self._context.is_active()
        return active

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """What the client sent beside the request, by lower-case name."""
        return dict(self._context.invocation_metadata())

    @property
    def deadline(self) -> float | None:
        """When the client stops waiting, ``time.monotonic()`` seconds; None: never."""
        remaining = self._context.time_remaining()
        # A client that sets none has one at the end of time.
        has_end = remaining is not None and math.isfinite(remaining)
        return time.monotonic() + remaining if has_end else None

    def infer(self, request: InferRequest) -> InferResponse:
        """Run a model within the call's deadline, and drop that when the client goes away.

        Raises:
            NbModelError: As ``EdgeRuntime.infer``.
        """
        answers: SimpleQueue[InferResponse | NbModelError] = SimpleQueue()
        pending = self._models.submit(request, answers.put, deadline=self.deadline)
        try:
            answer = answers.get_nowait()
        except Empty:
            self._pending = pending
            if not self._watch():
                pending.cancel()
            answer = answers.get()
            self._pending = None
        if isinstance(answer, InferResponse):
            return answer
        raise answer

    def _watch(self) -> bool:
        """Have what waits dropped when the call is over; whether it is not already.

        Once a call: grpcio keeps every callback to the end, and a stream has many requests.
        """
        if self._is_watched:
            return self.is_active
        self._is_watched = bool(self._context.add_callback(self._cancel))
        return self._is_watched

    def _cancel(self) -> None:
        pending = self._pending
        if pending is not None:
            pending.cancel()


Method = Callable[[bytes, Call], bytes]
StreamMethod = Callable[[Iterator[bytes], Call], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Service:
    """What is served under one name.

    Attributes:
        name: With its package: ``inference.GRPCInferenceService``.
        methods: Name → from a request to its answer.
        streams: Name → from requests to answers, of any number each.
        open: Names of the methods that need no token.
    """

    name: str
    methods: Mapping[str, Method]
    streams: Mapping[str, StreamMethod] = field(default_factory=dict)
    open: frozenset[str] = frozenset()
