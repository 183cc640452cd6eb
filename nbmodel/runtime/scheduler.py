"""How the requests of one loaded model share its instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MAX_QUEUE_SIZE = 128  # requests that wait, where nothing else is said
MAX_BATCH_SIZE = 4  # rows, where the batch axis was found and not given: Triton's default


@dataclass(frozen=True, slots=True)
class Scheduling:
    """How the requests of a model are scheduled.

    Attributes:
        instances: How many requests, or batches of them, run at the same time, ≥ 1.
        max_batch_size: Rows of the largest batch that waiting requests are merged into;
            0: the model has no batch axis.
        max_queue_delay_microseconds: How long a request waits for others to share its
            batch although an instance is free.
        max_queue_size: How many requests may wait, ≥ 1.
        is_batching: Whether the model has a batch axis: the first of every tensor.
    """

    instances: int = 1
    max_batch_size: int = 0
    max_queue_delay_microseconds: int = 0
    max_queue_size: int = MAX_QUEUE_SIZE
    is_batching: bool = False


class Pending(Protocol):
    """A request that may still wait for its turn."""

    def cancel(self) -> None:
        """Drop it when it still waits; ``done`` is called with an UnavailableError then."""
