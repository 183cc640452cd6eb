"""The gRPC front end: one port, every service that the runtime speaks.

A request is answered by a thread of its own from its arrival to its answer; models that
are quick are run by that thread too. Bytes go in and out of grpcio as they are.

A message is in memory as a whole before its bytes can be counted as in flight: each thread
may hold one that is not counted yet, of at most the largest size.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc

from nbmodel.errors import InputError, NbModelError, UnavailableError
from nbmodel.runtime import viam_mlmodel, viam_robot, viam_vision
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.grpc_calls import Call, Method, Service, StreamMethod
from nbmodel.runtime.grpc_health import health_service
from nbmodel.runtime.grpc_oip import oip_service
from nbmodel.runtime.grpc_pool import CallPool
from nbmodel.runtime.grpc_status import details_of, status_of
from nbmodel.runtime.limits import DEFAULT_LIMITS, TOO_MUCH, Budget, Limits, SharedBudget
from nbmodel.runtime.listener import listen

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime
    from nbmodel.runtime.server import Address

logger = logging.getLogger(__name__)

THREADS = 64
#: Of a message, above the largest request: names, shapes and parameters of its tensors.
MESSAGE_SLACK = 1024 * 1024
_LARGEST_MESSAGE = 2**31 - 1  # that gRPC can be told of
_NO_LIMIT = -1
_KEEPALIVE_MS = 60_000  # after so long without a sign of life, a client is asked for one
_KEEPALIVE_TIMEOUT_MS = 20_000
_INTERNAL = "internal error; the runtime's log has the details"
_HANDSHAKE_MS = 20_000  # given to a new connection until it speaks HTTP/2


class GrpcServer:
    """All gRPC services of a runtime on one port.

    Args:
        runtime: What runs.
        gate: Whose token every call must carry as metadata ``authorization``, but for
            open methods.
        address: Where to listen, without encryption.
        version: nbmodel's, for metadata.
        limits: What clients may use. A message above ``max_request_bytes`` and
            ``MESSAGE_SLACK``, and a call above ``max_connections``, is refused with
            RESOURCE_EXHAUSTED; a message for which ``max_bytes_in_flight`` has no room with
            UNAVAILABLE. Answers have no limit.
        threads: How many calls are answered at the same time, ≥ 2; at most half of them
            may be streams.
    """

    def __init__(
        self,
        runtime: EdgeRuntime,
        gate: Gate,
        address: Address,
        *,
        version: str,
        limits: Limits = DEFAULT_LIMITS,
        threads: int = THREADS,
    ) -> None:
        self._runtime = runtime
        self._address = address
        self._draining = threading.Event()
        self._pool = CallPool(threads)
        budget = SharedBudget(limits.max_bytes_in_flight)
        services = self._services(version, gate.token)
        self._server = grpc.server(
            self._pool,
            handlers=[_Handlers(services, runtime, gate, budget, threads // 2)],
            options=_options(limits.max_request_bytes + MESSAGE_SLACK),
            maximum_concurrent_rpcs=limits.max_connections,
        )

    def start(self) -> str:
        """Listen and take calls.

        Returns:
            ``host:port`` with the port that it really is.

        Raises:
            InputError: The address cannot be listened on; the message says why.
        """
        # gRPC itself does not tell why.
        listen(self._address.host, self._address.port, purpose="gRPC").close()
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._address.port}")
        except RuntimeError as exc:
            raise InputError(
                f"cannot listen on {host}:{self._address.port} for gRPC: {exc}"
            ) from exc
        self._server.start()
        return f"{host}:{port}"

    def stop(self, grace_s: float) -> None:
        """Take no more calls, and wait for those under way.

        Args:
            grace_s: How long they may take before they are broken off.
        """
        self._draining.set()
        self._server.stop(grace_s).wait()
        self._pool.shutdown()

    def _services(self, version: str, token: str | None) -> list[Service]:
        """Every service; one line each."""
        services = [
            oip_service(self._runtime, version=version),
            *viam_mlmodel.services(self._runtime),
            viam_vision.service(self._runtime),
            *viam_robot.services(self._runtime, version=version, token=token),
        ]
        return [*services, health_service(self._is_serving, [one.name for one in services])]

    def _is_serving(self) -> bool:
        return self._runtime.ready and not self._draining.is_set()


def _options(max_message: int) -> list[tuple[str, int]]:
    return [
        (
            "grpc.max_receive_message_length",
            max_message if max_message <= _LARGEST_MESSAGE else _NO_LIMIT,
        ),
        ("grpc.max_send_message_length", _NO_LIMIT),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        # Two runtimes on one port would each get a part of the calls.
        ("grpc.so_reuseport", 0),
    ]


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Finds the handler of a method, for callers that may use it."""

    def __init__(
        self, services: list[Service], models: Any, gate: Gate, budget: Budget, max_streams: int
    ) -> None:
        self._gate = gate
        self._usual = f"Bearer {gate.token}".encode()
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._open: set[str] = set()
        streams = threading.BoundedSemaphore(max_streams)
        for service in services:
            for name, method in service.methods.items():
                handler = grpc.unary_unary_rpc_method_handler(_unary(method, models, budget))
                self._handlers[f"/{service.name}/{name}"] = handler
            for name, stream in service.streams.items():
                handler = grpc.stream_stream_rpc_method_handler(
                    _stream(stream, models, budget, streams)
                )
                self._handlers[f"/{service.name}/{name}"] = handler
            self._open.update(f"/{service.name}/{name}" for name in service.open)

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None or self._gate.token is None or method in self._open:
            return handler
        given = None
        for key, value in handler_call_details.invocation_metadata:
            if key == "authorization":
                given = value
        if given is not None and hmac.compare_digest(given.encode(), self._usual):
            return handler  # as every client writes it, which is quickly seen
        refusal = self._gate.token_refusal(given)
        if refusal is None:
            return handler
        details = f"{refusal.error} ({refusal.hint})"

        def refuse(_requests: Any, context: Any) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, details)
            yield b""  # never reached: this is an iterator, as grpcio wants it

        # A stream, so that nothing of the request is waited for.
        return grpc.stream_stream_rpc_method_handler(refuse)


def _unary(method: Method, models: Any, budget: Budget) -> Callable[[bytes, Any], bytes]:
    def answer(data: bytes, context: Any) -> bytes:
        try:
            _take(budget, data)
            try:
                return method(data, Call(context, models))
            finally:
                budget.give_back(len(data))
        except NbModelError as exc:
            context.abort(status_of(exc), details_of(exc))
        except Exception:
            logger.exception("cannot answer a call")
            context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
        raise AssertionError("abort raises")

    return answer


def _take(budget: Budget, data: bytes) -> None:
    if not budget.take(len(data)):
        raise UnavailableError(TOO_MUCH)


def _counting(requests: Iterator[bytes], budget: Budget) -> Generator[bytes, None, None]:
    """The messages of a stream, each counted as in flight until the next is asked for."""
    for data in requests:
        _take(budget, data)
        try:
            yield data
        finally:
            budget.give_back(len(data))


def _stream(
    method: StreamMethod, models: Any, budget: Budget, streams: threading.BoundedSemaphore
) -> Callable[[Iterator[bytes], Any], Iterator[bytes]]:
    def answers(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        if not streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams are open")
        try:
            with closing(_counting(requests, budget)) as counted:
                yield from method(counted, Call(context, models))
        except NbModelError as exc:
            context.abort(status_of(exc), details_of(exc))
        except grpc.RpcError:  # the client went away while its next request was awaited
            raise
        except Exception:
            logger.exception("cannot answer a stream")
            context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
        finally:
            streams.release()

    return answers
