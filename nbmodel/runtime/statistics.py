"""What a loaded model has done, counted as Triton counts it.

Source: Triton's statistics extension.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something happened, and how long it took altogether.

    Attributes:
        count: Times, ≥ 0.
        ns: Nanoseconds of all of them, ≥ 0.
    """

    count: int = 0
    ns: int = 0


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
        batch_stats: By batch size, ascending.
        pending: Requests that wait for an instance right now.
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
