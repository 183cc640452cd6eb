"""The standard health service, which load balancers and orchestrators ask.

Source: grpc/grpc ``doc/health-checking.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from nbmodel.errors import TargetError
from nbmodel.protocol.messages import message, parse
from nbmodel.runtime.grpc_calls import Call, Service

NAME = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
POLL_S = 0.5  # how late a watcher may be told


def health_service(is_serving: Callable[[], bool], services: Sequence[str]) -> Service:
    """The service; it needs no token.

    Args:
        is_serving: Whether requests would be answered now.
        services: Names of the services beside this one; all of them are as well as the
            server, whose own name is empty.
    """
    known = frozenset(["", NAME, *services])

    def status_of(service: str) -> int:
        if service not in known:
            return SERVICE_UNKNOWN
        return SERVING if is_serving() else NOT_SERVING

    def check(data: bytes, _call: Call) -> bytes:
        service = _asked(data)
        if service not in known:
            raise TargetError(f"unknown service {service!r}")
        return _encoded(status_of(service))

    def list_(data: bytes, _call: Call) -> bytes:
        parse("grpc.health.v1.HealthListRequest", data)
        statuses = {name: {"status": status_of(name)} for name in sorted(known)}
        answer = message("grpc.health.v1.HealthListResponse")(statuses=statuses)
        encoded: bytes = answer.SerializeToString()
        return encoded

    def watch(requests: Iterator[bytes], call: Call) -> Iterator[bytes]:
        service = _asked(next(requests, b""))
        told = None
        while call.is_active:
            status = status_of(service)
            if status != told:
                told = status
                yield _encoded(status)
            time.sleep(POLL_S)

    return Service(
        NAME,
        {"Check": check, "List": list_},
        {"Watch": watch},
        open=frozenset({"Check", "List", "Watch"}),
    )


def _asked(data: bytes) -> str:
    service: str = parse("grpc.health.v1.HealthCheckRequest", data).service
    return service


def _encoded(status: int) -> bytes:
    answer: bytes = message("grpc.health.v1.HealthCheckResponse")(status=status).SerializeToString()
    return answer
