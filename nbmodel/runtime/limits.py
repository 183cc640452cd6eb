"""How much a runtime takes from a network: one value, whose fields are settings.

Each field is an option of ``runtime start`` of the same name, ``max_request_bytes`` as
``--max-request-bytes``, with the help that stands beside its default.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, fields
from typing import Any

from nbmodel.errors import InputError

_MIB = 1024 * 1024
#: What is said of a request for which the budget has no room.
TOO_MUCH = "too many bytes in flight, try again later (--max-bytes-in-flight)"


def _limit(default: float, help_: str) -> Any:
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what clients of a runtime may use; all are greater than 0.

    The defaults suit an edge machine with 1 GiB of memory. HTTP keeps to all of them; gRPC,
    each with a count of its own, to the sizes of requests, to ``max_connections`` as a bound
    on its calls, and to ``drain_s``.

    Raises:
        InputError: A value is not a number of its kind, or not greater than 0.
    """

    max_request_bytes: int = _limit(
        64 * _MIB,
        "largest inference request, of HTTP and of gRPC; 1000000000000 is practically no limit",
    )
    max_bytes_in_flight: int = _limit(
        256 * _MIB,
        "bodies of all requests under way, together, and as much again of gRPC; one alone "
        "always fits",
    )
    max_connections: int = _limit(1000, "open connections over HTTP, and calls under way over gRPC")
    max_head_bytes: int = _limit(
        16 * 1024, "request line and headers of a request, together; HTTP only"
    )
    max_headers: int = _limit(100, "headers of a request; HTTP only")
    head_timeout_s: float = _limit(
        10.0, "seconds to send a request line and its headers; HTTP only"
    )
    body_timeout_s: float = _limit(
        20.0, "seconds to send a body or take an answer, before --min-rate counts; HTTP only"
    )
    min_rate: int = _limit(
        1000, "bytes a second at which a body must arrive, an answer be taken; HTTP only"
    )
    idle_timeout_s: float = _limit(
        75.0, "seconds that an unused connection is kept open; HTTP only"
    )
    drain_s: float = _limit(10.0, "seconds given to requests under way when the runtime is ended")

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, is_whole = getattr(self, limit.name), isinstance(limit.default, int)
            is_number = isinstance(value, int if is_whole else (int, float))
            if isinstance(value, bool) or not is_number or not 0 < value < math.inf:
                wanted = "a whole number" if is_whole else "a number"
                raise InputError(
                    f"{option_of(limit.name)} must be {wanted} greater than 0, found {value!r}"
                )


DEFAULT_LIMITS = Limits()


def option_of(name: str) -> str:
    """The command-line option of a limit."""
    return f"--{name.replace('_', '-')}"


class Budget:
    """Bytes that requests under way hold in memory, of all connections; one thread's.

    Args:
        most: How many they may be, together.
    """

    __slots__ = ("_most", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many they are."""
        return self._taken

    def take(self, size: int) -> bool:
        """Count further bytes, if there is room; a request that is alone always has it.

        Returns:
            Whether there was; nothing is counted if not.
        """
        total = self._taken + size
        if total > self._most and self._taken:
            return False
        self._taken = total
        return True

    def give_back(self, size: int) -> None:
        """Bytes that were taken are free again."""
        self._taken -= size


class SharedBudget(Budget):
    """A budget that threads use together.

    Args:
        most: How many bytes they may be, together.
    """

    __slots__ = ("_lock",)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Count further bytes, as ``Budget.take`` does."""
        with self._lock:
            return super().take(size)

    def give_back(self, size: int) -> None:
        """Bytes that were taken are free again."""
        with self._lock:
            super().give_back(size)
