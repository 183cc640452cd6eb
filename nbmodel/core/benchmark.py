"""What a benchmark found: latencies and throughput at several numbers of requests at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CONCURRENCIES = (1, 2, 4, 8, 16)
SECONDS = 2.0  # a level; with its warm-up the whole takes about twelve


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured while a number of requests were under way at once.

    Attributes:
        concurrency: How many; each was followed by the next when its answer came.
        seconds: How long it was measured.
        requests: How many were answered.
        errors: How many were refused, or not answered.
        p50_ms: Median latency of those answered, in milliseconds; NaN without any.
        p90_ms: As ``p50_ms``: nine of ten were faster.
        p95_ms: As ``p50_ms``.
        p99_ms: As ``p50_ms``.
        max_ms: The slowest.
    """

    concurrency: int
    seconds: float
    requests: int
    errors: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(
        cls, concurrency: int, seconds: float, latencies_ns: Sequence[int], errors: int
    ) -> Level:
        """The level that latencies, in nanoseconds and any order, make."""
        ordered = sorted(latencies_ns)
        return cls(
            concurrency,
            seconds,
            requests=len(ordered),
            errors=errors,
            p50_ms=percentile(ordered, 50) / 1e6,
            p90_ms=percentile(ordered, 90) / 1e6,
            p95_ms=percentile(ordered, 95) / 1e6,
            p99_ms=percentile(ordered, 99) / 1e6,
            max_ms=percentile(ordered, 100) / 1e6,
        )

    @property
    def throughput(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """JSON values; latencies that nobody measured are null."""
        data = {**asdict(self), "throughput": self.throughput}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in data.items()
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a benchmark found.

    Attributes:
        target: What was measured: ``digits@edge``, ``digits:3``, or an address.
        version: The version that answered, when the target does not say; may be empty.
        inputs: Each input as ``name DATATYPE[shape]``.
        are_generated: Whether the inputs were made up from the signature.
        request_bytes: Size of a request's body; None where nothing was sent.
        answer_bytes: Size of an answer's body; None where nothing was sent.
        levels: One for each number of requests at once, in the order measured.
        problems: Sentences of errors → how often each was met.
        is_whole: Whether every level was measured; not when it was interrupted.
    """

    target: str
    version: str
    inputs: tuple[str, ...]
    are_generated: bool
    request_bytes: int | None
    answer_bytes: int | None
    levels: tuple[Level, ...]
    problems: Mapping[str, int] = field(default_factory=dict)
    is_whole: bool = True

    @property
    def errors(self) -> int:
        """How many requests were refused, or not answered."""
        return sum(level.errors for level in self.levels)

    @property
    def best(self) -> Level | None:
        """The level of the highest throughput; None when nothing was answered."""
        answered = [level for level in self.levels if level.requests]
        return max(answered, key=lambda level: level.throughput, default=None)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "target": self.target,
            "version": self.version,
            "inputs": list(self.inputs),
            "are_generated": self.are_generated,
            "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes,
            "levels": [level.to_json() for level in self.levels],
            "problems": dict(self.problems),
            "is_whole": self.is_whole,
        }


def percentile(ordered: Sequence[int], share: float) -> float:
    """The smallest value that ``share`` percent of all are at most; NaN of none.

    Args:
        ordered: In ascending order.
        share: Above 0, at most 100.

    Source: the "nearest rank" definition: always a value that was measured.
    """
    if not ordered:
        return math.nan
    return float(ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)])
