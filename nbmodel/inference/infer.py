"""Inference over a channel: the model's signature is asked for once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbmodel.errors import FormatError, NbModelError, SignatureError, TensorNameError
from nbmodel.inference import refusal
from nbmodel.inference.channel import Channel, Repeat
from nbmodel.inference.known import (
    KnownModel,
    KnownModels,
    may_repeat,
)
from nbmodel.inference.questions import infer_path
from nbmodel.protocol.http import Body
from nbmodel.protocol.inference import InferResponse, RequestedOutput


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller of ``infer`` wants, before a signature says what it means.

    Attributes:
        model: Name of the model.
        inputs: As ``KnownModel.request`` takes them.
        outputs: What is wanted; None for all.
        version: Of the model; empty: the server's choice.
        id: Given back with the answer.
        parameters: Further ones of the protocol.
        headers: Further ones of HTTP.
        timeout_s: Seconds to wait for the answer; None: as long as the client does.
    """

    model: str
    inputs: object
    outputs: Sequence[str | RequestedOutput] | None = None
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    timeout_s: float | None = None

    def body(self, known: KnownModel) -> Body:
        """The body of the request, checked by what is known of the model."""
        return known.body(self.inputs, self.outputs, id=self.id, parameters=self.parameters or {})

    @property
    def path(self) -> str:
        """Where it is sent."""
        return infer_path(self.model, self.version)

    @property
    def may_repeat(self) -> bool:
        """Whether sending the request twice does no harm."""
        return self.parameters is None or may_repeat(self.parameters)


class Inferrer:
    """Runs models over a channel. May be used by several threads at once.

    Args:
        channel: To the server.
        learn: Asks the server about a model, by name and version.
        ask_optional: Asks the server which inputs of a model may be left out.
    """

    def __init__(
        self,
        channel: Channel,
        learn: Callable[[str, str], KnownModel],
        ask_optional: Callable[[KnownModel], frozenset[str]] = lambda _: frozenset(),
    ) -> None:
        self._channel = channel
        self._learn = learn
        self._ask_optional = ask_optional
        self._models = KnownModels()

    def infer(self, wish: Wish) -> InferResponse:
        """Run a model once.

        Raises:
            SignatureError: The inputs are not what the model takes.
            TargetError: The server has no such model.
            InferenceError: The model failed, or the answer cannot be read.
        """
        known, body = self._prepared(wish)
        try:
            answer = self._channel.post(
                wish.path,
                body,
                headers=wish.headers or {},
                timeout_s=wish.timeout_s,
                may_repeat=wish.may_repeat,
            )
        except NbModelError:
            self._models.forget(known)
            raise
        try:
            response = known.read(answer)
        except FormatError as exc:
            raise refusal.unreadable(self._channel.server, exc) from exc
        self._models.answered(known, response.version)
        return response

    def repeat(self, wish: Wish) -> Repeat:
        """A request that is written once, to be sent many times.

        Raises:
            SignatureError: The inputs are not what the model takes.
            TargetError: The server has no such model.
        """
        _, body = self._prepared(wish)
        return self._channel.repeat(wish.path, body, headers=wish.headers or {})

    def learned(self, model: str, version: str) -> KnownModel:
        """What the server says of a model at this moment."""
        return self._models.keep(self._learn(model, version))

    def _prepared(self, wish: Wish) -> tuple[KnownModel, Body]:
        known = self._models.get(wish.model, wish.version)
        if known is not None:
            try:
                return known, wish.body(known)
            except SignatureError:
                pass  # another version, with other inputs, may run by now
        known = self.learned(wish.model, wish.version)
        try:
            return known, wish.body(known)
        except TensorNameError:
            missing = known.missing(wish.inputs)
            optional = self._ask_optional(known) if missing else frozenset()
            if not optional:
                raise
        known = self._models.keep(replace(known, optional=optional))
        return known, wish.body(known)
