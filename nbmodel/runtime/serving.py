"""The one path of a request through a runtime, whichever front end it came by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from nbmodel.errors import InputError, NbModelError
from nbmodel.protocol.inference import InferRequest, InferResponse, SharedTensor
from nbmodel.protocol.tensor import datatype_of
from nbmodel.runtime.scheduler import Pending, RetiredError
from nbmodel.runtime.services import LiveService
from nbmodel.runtime.shared_memory import SharedMemory


class Serving:
    """Requests to the models that are live; may be used by several threads at once.

    Args:
        live: From the name of a service to what it runs, or TargetError, UnavailableError.
        memory: Where requests may have their tensors.
    """

    def __init__(self, live: Callable[[str], LiveService], memory: SharedMemory) -> None:
        self._live = live
        self._memory = memory

    def infer(self, request: InferRequest, *, deadline: float | None = None) -> InferResponse:
        """Run a service's model once, in the calling thread where an instance is free.

        Args:
            request: Tensors by name, as the service's signature says.
            deadline: When nobody waits for the answer any more, ``time.monotonic()``
                seconds; None: the request's ``timeout`` alone says so.

        Raises:
            TargetError: There is no such service, or not in the version asked for.
            SignatureError: The tensors are not what the model takes.
            UnavailableError: The service is not ready, too many requests wait, or the
                deadline passed while this one waited.
            InferenceError: The engine failed.
        """
        until = _deadline(request, deadline)
        given = self._received(request)
        while True:
            try:
                response = self._live(request.model).infer(given, until)
            except RetiredError:
                continue  # there is a newer one
            return self._delivered(request, response)

    def submit(
        self,
        request: InferRequest,
        done: Callable[[InferResponse | NbModelError], None],
        *,
        deadline: float | None = None,
    ) -> Pending:
        """Run a service's model once, without blocking the calling thread for long.

        Args:
            request: As for ``infer``.
            done: Called exactly once with the answer, or the error that ``infer`` would
                have raised: in this thread before the return, or in another.
            deadline: As for ``infer``; that it passed is told when an instance is free.

        Returns:
            What can be cancelled while it waits.
        """
        try:
            until = _deadline(request, deadline) if request.parameters else deadline
            given, finished = request, done
            if request.outputs or request.shared_inputs:
                given = self._received(request)
                if any(output.region is not None for output in request.outputs):
                    finished = self._delivering(request, done)
            while True:
                try:
                    return self._live(request.model).submit(given, finished, until)
                except RetiredError:
                    continue  # there is a newer one
        except NbModelError as exc:
            refusal = exc
        done(refusal)
        return _DONE

    def _received(self, request: InferRequest) -> InferRequest:
        """The request with all its tensors at hand; regions it names are there."""
        for output in request.outputs:
            if output.region is not None:
                self._memory.check(output.region)
        if not request.shared_inputs:
            return request
        shared = {
            name: self._memory.read(name, tensor) for name, tensor in request.shared_inputs.items()
        }
        return replace(request, inputs={**request.inputs, **shared}, shared_inputs={})

    def _delivered(self, request: InferRequest, response: InferResponse) -> InferResponse:
        """The answer without what went to shared memory."""
        regions = {one.name: one.region for one in request.outputs if one.region is not None}
        if not regions:
            return response
        shared = {}
        for name, region in regions.items():
            array = response.outputs[name]
            self._memory.write(name, region, array)
            shared[name] = SharedTensor(datatype_of(array, what=name), array.shape, region)
        rest = {name: array for name, array in response.outputs.items() if name not in regions}
        return replace(response, outputs=rest, shared_outputs=shared)

    def _delivering(
        self, request: InferRequest, done: Callable[[InferResponse | NbModelError], None]
    ) -> Callable[[InferResponse | NbModelError], None]:
        def finished(result: InferResponse | NbModelError) -> None:
            try:
                if isinstance(result, InferResponse):
                    result = self._delivered(request, result)
            except NbModelError as exc:
                result = exc
            done(result)

        return finished


def _deadline(request: InferRequest, deadline: float | None) -> float | None:
    """When nobody waits for the answer any more: the earlier of two, or None."""
    timeout = request.parameters.get("timeout")
    if timeout is None or timeout == 0:
        return deadline
    if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 0:
        raise InputError(
            f"parameter 'timeout' must be a whole number of microseconds, found {timeout!r}"
        )
    until = time.monotonic() + timeout / 1e6
    return until if deadline is None else min(until, deadline)


class _Done:
    """A request that was refused before anybody could cancel it."""

    def cancel(self) -> None:
        """Do nothing."""


_DONE = _Done()
