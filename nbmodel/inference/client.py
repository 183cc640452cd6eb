"""The client of any server of the inference protocol, for code that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbmodel.errors import FormatError, NbModelError, TargetError
from nbmodel.inference import questions, refusal
from nbmodel.inference.channel import Channel
from nbmodel.inference.infer import Inferrer, Wish
from nbmodel.inference.known import KnownModel, model_of, optional_inputs
from nbmodel.inference.questions import (
    ModelMetadata,
    Question,
    RepositoryModel,
    ServerMetadata,
)
from nbmodel.inference.server import ANSWER_TIMEOUT_S, Server
from nbmodel.protocol.inference import InferResponse, RequestedOutput

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")


class InferenceClient:
    """A server of the Open Inference Protocol: an nbmodel runtime, Triton, or another.

    May be used by several threads at once, and in a notebook as it is: it has nothing to
    do with event loops. Tensors travel as binary.

    ::

        with InferenceClient("http://localhost:8000") as client:
            answer = client.infer("digits", X_test[:4])
            answer.outputs["probabilities"]

    Every method raises TargetUnreachableError when the server does not answer,
    AuthenticationError when it wants another token, TargetError for a model that it does
    not have, and otherwise the error that its answer means.

    Args:
        url: ``http[s]://host[:port][/path]``.
        token: Bearer token that the server wants to be shown, or None.
        timeout_s: Seconds to wait for an answer.

    Attributes:
        inferrer: Runs its models; for what is built on the client.

    Raises:
        InputError: ``url`` is not the address of a server.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self._channel = Channel(Server(url, token), timeout_s=timeout_s)
        self.inferrer = Inferrer(self._channel, self._learn, self._ask_optional)

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return self._channel.server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    # ── the server ────────────────────────────────────────────────────────────────

    def is_live(self) -> bool:
        """Whether the server says that it runs."""
        return self._ask(questions.is_live())

    def is_ready(self) -> bool:
        """Whether the server says that it can infer."""
        return self._ask(questions.is_ready())

    def server_metadata(self) -> ServerMetadata:
        """Which software it is, and which extensions it has."""
        return self._ask(questions.server_metadata())

    # ── its models ────────────────────────────────────────────────────────────────

    def is_model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model can infer; one that the server does not have cannot."""
        return self._ask(questions.is_model_ready(model, version))

    def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Versions of a model, and its signature: what it takes and gives."""
        return self._ask(questions.model_metadata(model, version))

    def model_config(self, model: str, version: str = "") -> dict[str, Any]:
        """How a model is configured, in Triton's words."""
        return self._ask(questions.model_config(model, version))

    def statistics(self, model: str = "", version: str = "") -> list[dict[str, Any]]:
        """Counts and times of a model, or of all, in Triton's words."""
        return self._ask(questions.statistics(model, version))

    # ── its repository ────────────────────────────────────────────────────────────

    def repository_index(self, *, ready: bool = False) -> tuple[RepositoryModel, ...]:
        """All models that the server could load, or those that are ready."""
        return self._ask(questions.repository_index(ready=ready))

    def load_model(
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
        self._ask(questions.load_model(model, config, files))

    def unload_model(self, model: str, *, unload_dependents: bool = False) -> None:
        """Unload a model, and with ``unload_dependents`` those it is made of."""
        self._ask(questions.unload_model(model, unload_dependents=unload_dependents))

    # ── inference ─────────────────────────────────────────────────────────────────

    def infer(
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
        """Run a model once.

        Inputs are what a person has at hand: arrays and lists, pictures, data frames,
        paths of pictures and of ``.npy``, ``.npz``, ``.csv`` and ``.json`` files, or a
        mapping of those by input name. Several pictures in a list are a batch. They are
        cast to the model's datatypes where no value is lost by that, and checked before
        anything is sent.

        Args:
            model: Its name.
            inputs: A mapping by input name, or the only input.
            outputs: Those wanted: names, or ``RequestedOutput`` with what else is wished
                of one, such as its best classes; None for all.
            version: Of the model; empty: the server's choice.
            id: Given back with the answer.
            parameters: Further ones of the protocol, such as ``priority`` or, in
                microseconds, ``timeout``.
            headers: Further ones of HTTP.
            timeout_s: Seconds to wait for this answer; None: the client's.

        Returns:
            The answer; its arrays belong to the caller and may be written to, BYTES are
            object arrays of ``bytes``.

        Raises:
            InputError: A file cannot be read, or the server refuses the request.
            TensorNameError, DatatypeError, ShapeError: The inputs are not what the model
                takes; names the tensor, what was expected and what was found.
            UnavailableError: The model's queue is full, or it waited there too long.
            InferenceError: The model failed, or the answer cannot be read.
        """
        return self.inferrer.infer(
            Wish(model, inputs, outputs, version, id, parameters, headers, timeout_s)
        )

    # ── inside ────────────────────────────────────────────────────────────────────

    def _ask(self, question: Question[_T]) -> _T:
        answer = self._channel.request(
            question.method,
            question.path,
            content=question.content,
            is_claim=question.is_claim,
        )
        try:
            return question.read(answer.status, bytes(answer.body))
        except FormatError as exc:
            raise refusal.unreadable(self._channel.server, exc) from exc

    def _learn(self, model: str, version: str) -> KnownModel:
        try:
            metadata = self.model_metadata(model, version)
        except TargetError as exc:
            if exc.hint is None:
                raise TargetError(str(exc), hint=self._models_there()) from exc
            raise
        return model_of(model, version, metadata.signature)

    def _models_there(self) -> str | None:
        """The models that the server has, in words; None when it does not tell."""
        try:
            return questions.models_in_words(self.repository_index())
        except NbModelError:
            return None

    def _ask_optional(self, known: KnownModel) -> frozenset[str]:
        try:
            return optional_inputs(self.model_config(known.name, known.version))
        except NbModelError:
            return frozenset()  # a server without configs has no optional inputs
