"""What a method knows of its call, where no gRPC is needed to see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from nbmodel.errors import NbModelError, UnavailableError
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.grpc_calls import Call

REQUEST = InferRequest("m", {})
RESPONSE = InferResponse("m", "1", {})

Done = Callable[[InferResponse | NbModelError], None]


class Context:
    """A call as grpcio has it: what is to be called at its end is kept until then."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.is_over = False

    def is_active(self) -> bool:
        return not self.is_over

    def time_remaining(self) -> None:
        return None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return not self.is_over

    def end(self) -> None:
        self.is_over = True
        for callback in self.callbacks:
            callback()


class Waiting:
    """A request that waits; and the models that have it wait until it is cancelled."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._done: Done | None = None

    def submit(
        self, _request: InferRequest, done: Done, *, deadline: float | None = None
    ) -> Waiting:
        assert deadline is None
        self._done = done
        self.asked.release()
        return self

    def answer(self) -> None:
        assert self._done is not None
        self._done(RESPONSE)

    def cancel(self) -> None:
        assert self._done is not None
        self._done(UnavailableError("the request was cancelled"))


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def models() -> Waiting:
    return Waiting()


def later(models: Waiting, action: Callable[[], Any]) -> threading.Thread:
    def act() -> None:
        assert models.asked.acquire(timeout=10)
        action()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_a_call_of_many_requests_is_watched_once(context: Context, models: Waiting) -> None:
    call = Call(context, models)
    for _ in range(5):
        thread = later(models, models.answer)
        assert call.infer(REQUEST) is RESPONSE
        thread.join()
    assert len(context.callbacks) <= 1


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_what_waits_is_dropped_when_the_client_goes(
    context: Context, models: Waiting, answered: int
) -> None:
    call = Call(context, models)
    for _ in range(answered):
        thread = later(models, models.answer)
        call.infer(REQUEST)
        thread.join()
    thread = later(models, context.end)
    with pytest.raises(UnavailableError, match="cancelled"):
        call.infer(REQUEST)
    thread.join()


def test_a_request_of_a_client_that_is_gone_is_dropped(context: Context, models: Waiting) -> None:
    context.end()
    with pytest.raises(UnavailableError, match="cancelled"):
        Call(context, models).infer(REQUEST)
