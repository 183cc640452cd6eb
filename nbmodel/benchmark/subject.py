"""What can be measured: a model that a server runs, or one that runs right here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from nbmodel.benchmark.load import Job
from nbmodel.core.signature import Signature
from nbmodel.inference.infer import Inferrer, Wish


class Subject(Protocol):
    """A model to be measured.

    Attributes:
        label: What it is called: ``digits@edge``.
        signature: What it takes and gives.
    """

    label: str
    signature: Signature

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Answer a request once, and be ready to do so again.

        Raises:
            NbModelError: It cannot.
        """


class Prepared:
    """A request that was answered once, and can be made by many threads.

    Attributes:
        version: The version that answered; empty when nobody says.
        request_bytes: Size of its body; None where nothing is sent.
        answer_bytes: Size of the answer's body; None where nothing is sent.
        open_job: Makes the job of one thread.
    """

    def __init__(
        self,
        open_job: Callable[[], Job],
        *,
        version: str = "",
        request_bytes: int | None = None,
        answer_bytes: int | None = None,
    ) -> None:
        self.open_job = open_job
        self.version = version
        self.request_bytes = request_bytes
        self.answer_bytes = answer_bytes


class ServedSubject:
    """A model of a server.

    The request is written once; answers are received, but their tensors not looked at, so
    that what is measured is the server and the way to it.

    Args:
        label: What it is called.
        inferrer: Runs models of the server.
        model: Its name there.
        version: Of the model; empty: the server's choice.
    """

    def __init__(self, label: str, inferrer: Inferrer, model: str, version: str = "") -> None:
        self.label = label
        self.signature = inferrer.learned(model, version).signature
        self._inferrer = inferrer
        self._wish = Wish(model, {}, version=version)

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Send the request once."""
        wish = Wish(self._wish.model, dict(tensors), version=self._wish.version)
        response = self._inferrer.infer(wish)
        with self._inferrer.repeat(wish) as repeat:
            answered = repeat()
            return Prepared(
                lambda: self._inferrer.repeat(wish),
                version=response.version,
                request_bytes=repeat.size,
                answer_bytes=answered,
            )


class LocalSubject:
    """A model that runs in this process.

    Args:
        label: What it is called.
        signature: What it takes and gives.
        run: Runs it on named arrays; may be called by several threads at once.
    """

    def __init__(
        self,
        label: str,
        signature: Signature,
        run: Callable[[Mapping[str, NDArray[Any]]], object],
    ) -> None:
        self.label = label
        self.signature = signature
        self._run = run

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Run it once."""
        self._run(tensors)
        return Prepared(lambda: _Call(self._run, tensors))


class _Call:
    """One call of a function, over and over."""

    def __init__(
        self,
        run: Callable[[Mapping[str, NDArray[Any]]], object],
        tensors: Mapping[str, NDArray[Any]],
    ) -> None:
        self._run = run
        self._tensors = tensors

    def __call__(self) -> object:
        return self._run(self._tensors)

    def close(self) -> None:
        """Nothing is held."""
