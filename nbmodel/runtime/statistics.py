"""What a loaded model has done, counted as Triton counts it.

Source: Triton's statistics extension.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

MAX_BATCH_SIZES = 256  # that are counted each on its own: clients choose them


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something happened, and how long it took altogether.

    Attributes:
        count: Times, ≥ 0.
        ns: Nanoseconds of all of them, ≥ 0.
    """

    count: int = 0
    ns: int = 0

    def __add__(self, other: Duration) -> Duration:
        """Both together."""
        return Duration(self.count + other.count, self.ns + other.ns)


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """What executions of one batch size took; every ``count`` is of executions.

    Attributes:
        batch_size: Rows of one execution.
        compute_input: Putting the inputs together.
        compute_infer: The engine's work.
        compute_output: Taking the outputs apart.
    """

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration

    def __add__(self, other: BatchStatistics) -> BatchStatistics:
        """Both together, of one batch size."""
        return BatchStatistics(
            self.batch_size,
            self.compute_input + other.compute_input,
            self.compute_infer + other.compute_infer,
            self.compute_output + other.compute_output,
        )


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Counts of one loaded model since it was loaded; durations count requests.

    A request that shared its execution with others counts that execution's whole time.

    Attributes:
        name: Of the service.
        version: The version, digits.
        last_inference: When the last execution ended, Unix milliseconds; 0: never.
        inference_count: Rows answered; 1 a request for a model without a batch axis.
        execution_count: Executions that succeeded.
        success: Requests answered, from their arrival on.
        fail: Requests refused or failed.
        queue: Waiting for an instance, of requests answered.
        compute_input: Checking and putting together the inputs, of requests answered.
        compute_infer: The engine's work, of requests answered.
        compute_output: Taking apart the outputs, of requests answered.
        cancel: Requests dropped because their client went away.
        batch_stats: By batch size, ascending; of the first 256 sizes seen.
        pending: Requests that wait for an instance right now.
        engine_failures: Requests among ``fail`` that failed in the engine: no mistake of a
            client, and not for want of time or room.
        under_way_ns: How long the execution that is under way for longest has been; 0:
            there is none.
    """

    name: str
    version: str
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = Duration()
    fail: Duration = Duration()
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()
    cancel: Duration = Duration()
    batch_stats: tuple[BatchStatistics, ...] = ()
    pending: int = 0
    engine_failures: int = 0
    under_way_ns: int = 0

    def __add__(self, other: ModelStatistics) -> ModelStatistics:
        """Both together, where several processes serve one model; this one's name and version."""
        summed = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        batches: dict[int, BatchStatistics] = {one.batch_size: one for one in self.batch_stats}
        for one in other.batch_stats:
            mine = batches.get(one.batch_size)
            batches[one.batch_size] = one if mine is None else mine + one
        return replace(
            self,
            last_inference=max(self.last_inference, other.last_inference),
            under_way_ns=max(self.under_way_ns, other.under_way_ns),
            batch_stats=tuple(batches[size] for size in sorted(batches)),
            **summed,
        )


_SUMMED = (
    "inference_count",
    "execution_count",
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cancel",
    "pending",
    "engine_failures",
)


@dataclass(slots=True)
class Took:
    """What one execution took, in nanoseconds.

    Attributes:
        rows: Of the batch.
        compute_input: Putting the inputs together.
        compute_infer: The engine's work.
        compute_output: Taking the outputs apart.
    """

    rows: int
    compute_input: int
    compute_infer: int
    compute_output: int


class Counters:
    """The counts of a loaded model; its users take turns."""

    __slots__ = (
        "_batches",
        "_cancel",
        "_compute",
        "_engine_failures",
        "_executions",
        "_fail",
        "_inferences",
        "_last_ns",
        "_queue",
        "_success",
    )

    def __init__(self) -> None:
        self._inferences = self._executions = self._last_ns = self._queue = 0
        self._engine_failures = 0
        self._success = [0, 0]
        self._fail = [0, 0]
        self._cancel = [0, 0]
        self._compute = [0, 0, 0]
        self._batches: dict[int, list[int]] = {}

    @property
    def succeeded(self) -> int:
        """How many requests were answered."""
        return self._success[0]

    @property
    def failed(self) -> int:
        """How many requests were refused or failed."""
        return self._fail[0]

    @property
    def infer_ns(self) -> int:
        """The engine's work, of requests answered."""
        return self._compute[1]

    def count_execution(self, took: Took) -> None:
        """An execution that succeeded."""
        self._executions += 1
        self._inferences += took.rows
        self._last_ns = time.time_ns()
        batch = self._batches.get(took.rows)
        if batch is None:
            if len(self._batches) >= MAX_BATCH_SIZES:
                return
            batch = self._batches[took.rows] = [0, 0, 0, 0]
        batch[0] += 1
        batch[1] += took.compute_input
        batch[2] += took.compute_infer
        batch[3] += took.compute_output

    def count_success(self, total_ns: int, queue_ns: int, prepare_ns: int, took: Took) -> None:
        """A request that was answered.

        Args:
            total_ns: From its arrival on.
            queue_ns: How long it waited for an instance.
            prepare_ns: Checking its inputs.
            took: The execution that it was part of.
        """
        self._success[0] += 1
        self._success[1] += total_ns
        self._queue += queue_ns
        compute = self._compute
        compute[0] += prepare_ns + took.compute_input
        compute[1] += took.compute_infer
        compute[2] += took.compute_output

    def count_failure(self, total_ns: int) -> None:
        """A request that was refused or failed."""
        self._fail[0] += 1
        self._fail[1] += total_ns

    def count_engine_failure(self, total_ns: int) -> None:
        """A request that failed in the engine."""
        self._engine_failures += 1
        self.count_failure(total_ns)

    def count_cancel(self, total_ns: int) -> None:
        """A request that was dropped."""
        self._cancel[0] += 1
        self._cancel[1] += total_ns

    def snapshot(
        self, name: str, version: str, pending: int, under_way_ns: int = 0
    ) -> ModelStatistics:
        """The counts as a value.

        Args:
            name: Of the service.
            version: Digits.
            pending: Requests that wait.
            under_way_ns: Of the execution that is under way for longest.
        """
        count = self._success[0]
        return ModelStatistics(
            name=name,
            version=version,
            last_inference=self._last_ns // 1_000_000,
            inference_count=self._inferences,
            execution_count=self._executions,
            success=Duration(count, self._success[1]),
            fail=Duration(*self._fail),
            queue=Duration(count, self._queue),
            compute_input=Duration(count, self._compute[0]),
            compute_infer=Duration(count, self._compute[1]),
            compute_output=Duration(count, self._compute[2]),
            cancel=Duration(*self._cancel),
            batch_stats=tuple(
                BatchStatistics(rows, *(Duration(times, ns) for ns in (first, second, third)))
                for rows, (times, first, second, third) in sorted(self._batches.items())
            ),
            pending=pending,
            engine_failures=self._engine_failures,
            under_way_ns=under_way_ns,
        )
