"""The client of any server of the inference protocol, for event loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from nbmodel.errors import (
    FormatError,
    NbModelError,
    SignatureError,
    TargetError,
    TensorNameError,
)
from nbmodel.inference import questions, refusal
from nbmodel.inference.aio_channel import AsyncChannel
from nbmodel.inference.infer import Wish
from nbmodel.inference.known import (
    KnownModel,
    KnownModels,
    model_of,
    optional_inputs,
)
from nbmodel.inference.questions import (
    ModelMetadata,
    Question,
    RepositoryModel,
    ServerMetadata,
)
from nbmodel.inference.server import ANSWER_TIMEOUT_S, Server
from nbmodel.protocol.http import Body
from nbmodel.protocol.inference import InferResponse, RequestedOutput

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")


class AsyncInferenceClient:
    """``InferenceClient`` for coroutines: the same methods, to be awaited.

    For the tasks of one event loop: asyncio's or another of its kind, such as uvloop or
    the one that runs in a notebook. A task that is cancelled takes its request back by
    closing the connection.

    ::

        async with AsyncInferenceClient("http://localhost:8000") as client:
            answers = await asyncio.gather(*(client.infer("digits", row) for row in X_test))

    Reading files and preparing pictures happen on the loop; large ones are better given
    as arrays.

    Args:
        url: ``http[s]://host[:port][/path]``.
        token: Bearer token that the server wants to be shown, or None.
        timeout_s: Seconds to wait for an answer.

    Raises:
        InputError: ``url`` is not the address of a server.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self._channel = AsyncChannel(Server(url, token), timeout_s=timeout_s)
        self._models = KnownModels()

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return self._channel.server.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._channel.close()

    # ── the server ────────────────────────────────────────────────────────────────

    async def is_live(self) -> bool:
        """Whether the server says that it runs."""
        return await self._ask(questions.is_live())

    async def is_ready(self) -> bool:
        """Whether the server says that it can infer."""
        return await self._ask(questions.is_ready())

    async def server_metadata(self) -> ServerMetadata:
        """Which software it is, and which extensions it has."""
        return await self._ask(questions.server_metadata())

    # ── its models ────────────────────────────────────────────────────────────────

    async def is_model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model can infer; one that the server does not have cannot."""
        return await self._ask(questions.is_model_ready(model, version))

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Versions of a model, and its signature: what it takes and gives."""
        return await self._ask(questions.model_metadata(model, version))

    async def model_config(self, model: str, version: str = "") -> dict[str, Any]:
        """How a model is configured, in Triton's words."""
        return await self._ask(questions.model_config(model, version))

    async def statistics(self, model: str = "", version: str = "") -> list[dict[str, Any]]:
        """Counts and times of a model, or of all, in Triton's words."""
        return await self._ask(questions.statistics(model, version))

    # ── its repository ────────────────────────────────────────────────────────────

    async def repository_index(self, *, ready: bool = False) -> tuple[RepositoryModel, ...]:
        """All models that the server could load, or those that are ready."""
        return await self._ask(questions.repository_index(ready=ready))

    async def load_model(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Load a model, or load it again.

        Args:
            model: Its name.
            config: In place of the one that the server has for it.
            files: In place of the model's files: path within it → contents; needs
                ``config``.
        """
        await self._ask(questions.load_model(model, config, files))

    async def unload_model(self, model: str, *, unload_dependents: bool = False) -> None:
        """Unload a model, and with ``unload_dependents`` those it is made of."""
        await self._ask(questions.unload_model(model, unload_dependents=unload_dependents))

    # ── inference ─────────────────────────────────────────────────────────────────

    async def infer(
        self,
        model: str,
        inputs: object,
        outputs: Sequence[str | RequestedOutput] | None = None,
        *,
        version: str = "",
        id: str = "",  # noqa: A002 - the protocol's word
        parameters: Mapping[str, str | float | bool] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> InferResponse:
        """Run a model once; as ``InferenceClient.infer``."""
        wish = Wish(model, inputs, outputs, version, id, parameters, headers, timeout_s)
        known, body = await self._prepared(wish)
        try:
            answer = await self._channel.post(
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

    # ── inside ────────────────────────────────────────────────────────────────────

    async def _ask(self, question: Question[_T]) -> _T:
        answer = await self._channel.request(
            question.method,
            question.path,
            content=question.content,
            is_claim=question.is_claim,
        )
        try:
            return question.read(answer.status, bytes(answer.body))
        except FormatError as exc:
            raise refusal.unreadable(self._channel.server, exc) from exc

    async def _prepared(self, wish: Wish) -> tuple[KnownModel, Body]:
        known = self._models.get(wish.model, wish.version)
        if known is not None:
            try:
                return known, wish.body(known)
            except SignatureError:
                pass  # another version, with other inputs, may run by now
        try:
            metadata = await self.model_metadata(wish.model, wish.version)
        except TargetError as exc:
            if exc.hint is None:
                raise TargetError(str(exc), hint=await self._models_there()) from exc
            raise
        known = self._models.keep(model_of(wish.model, wish.version, metadata.signature))
        try:
            return known, wish.body(known)
        except TensorNameError:
            missing = known.missing(wish.inputs)
            optional = await self._ask_optional(known) if missing else frozenset()
            if not optional:
                raise
        known = self._models.keep(replace(known, optional=optional))
        return known, wish.body(known)

    async def _models_there(self) -> str | None:
        try:
            return questions.models_in_words(await self.repository_index())
        except NbModelError:
            return None

    async def _ask_optional(self, known: KnownModel) -> frozenset[str]:
        try:
            return optional_inputs(await self.model_config(known.name, known.version))
        except NbModelError:
            return frozenset()  # a server without configs has no optional inputs
