from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nbmodel.backends import Session
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError, NbModelError, ShapeError, TargetError, UnavailableError
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput
from nbmodel.runtime.scheduler import CHEAP_NS, RetiredError, Scheduler, Scheduling
from nbmodel.runtime.services import LiveService, Source

WAIT_S = 10.0
SIGNATURE = Signature((Tensor("x", "FP32", (-1, -1)),), (Tensor("y", "FP32", (-1, -1)),))
BATCHING = Scheduling(max_batch_size=8, is_batching=True)


class Doubling(Session):
    """``y = 2x``; refuses negative numbers; can be made to wait before it answers."""

    runs_together = True

    def __init__(self) -> None:
        super().__init__(SIGNATURE, name="doubling")
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.threads: list[int] = []
        self.closed = 0

    def _run(self, inputs: Any, outputs: Any) -> dict[str, NDArray[Any]]:
        assert not self.closed
        self.threads.append(threading.get_ident())
        self.batches.append(len(inputs["x"]))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if (inputs["x"] < 0).any():
            raise ValueError("a negative number")
        return {"y": 2 * inputs["x"]} if outputs else {}

    def _close(self) -> None:
        self.closed += 1


class Mute(Doubling):
    """Leaves out what it promised to give."""

    def _run(self, inputs: Any, outputs: Any) -> dict[str, NDArray[Any]]:
        super()._run(inputs, outputs)
        return {}


class Inbox:
    """What ``done`` was called with, in order."""

    def __init__(self) -> None:
        self.results: list[InferResponse | NbModelError] = []
        self.threads: list[int] = []
        self._arrived = threading.Condition()

    def __call__(self, result: InferResponse | NbModelError) -> None:
        with self._arrived:
            self.results.append(result)
            self.threads.append(threading.get_ident())
            self._arrived.notify_all()

    def wait(self, count: int) -> list[InferResponse | NbModelError]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.results) >= count, WAIT_S)
            return list(self.results)


@pytest.fixture
def session() -> Iterator[Doubling]:
    session = Doubling()
    yield session
    session.gate.set()


Make = Callable[..., LiveService]


@pytest.fixture
def make(session: Doubling) -> Iterator[Make]:
    made: list[LiveService] = []

    def live(scheduling: Scheduling = BATCHING) -> LiveService:
        scheduler = Scheduler([session] * scheduling.instances, scheduling)
        made.append(LiveService(scheduler, Source("", {}, "key")))
        return made[-1]

    yield live
    session.gate.set()
    for one in made:
        one.retire()
    deadline = time.monotonic() + WAIT_S
    while made and session.closed < len(made):
        assert time.monotonic() < deadline, "a retired model was not closed"
        time.sleep(0.001)


def ask(value: float, rows: int = 1, columns: int = 2, **fields: Any) -> InferRequest:
    return InferRequest("m", {"x": np.full((rows, columns), value, np.float32)}, **fields)


def occupy(live: LiveService, session: Doubling, inbox: Inbox) -> None:
    """Let a request that does not finish take the instance."""
    session.gate.clear()
    live.submit(ask(0), inbox)
    assert session.entered.acquire(timeout=WAIT_S)


def value_of(result: InferResponse | NbModelError) -> float:
    assert isinstance(result, InferResponse)
    values = np.unique(result.outputs["y"])
    assert len(values) == 1
    return float(values[0])


def run_in_threads(*actions: Callable[[], Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    return threads


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def pending(live: LiveService) -> int:
    return live.statistics("m").pending


# Where a request runs


def test_a_thread_that_asks_runs_the_model_itself(make: Make, session: Doubling) -> None:
    assert value_of(make().infer(ask(3))) == 6
    assert session.threads == [threading.get_ident()]


def test_a_cheap_model_runs_in_the_loop_once_that_is_known(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    live.submit(ask(1), inbox)
    inbox.wait(1)
    assert session.threads[0] != threading.get_ident()
    for _ in range(100):  # a first run may have been interrupted, and then looks dear
        live.infer(ask(1))
    live.submit(ask(2), inbox)
    assert [value_of(result) for result in inbox.results] == [2, 4]  # before it returned
    assert session.threads[-1] == inbox.threads[1] == threading.get_ident()


def test_larger_inputs_than_seen_are_not_taken_for_cheap(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    live.submit(ask(1), inbox)
    inbox.wait(1)
    live.submit(ask(2, rows=2_000, columns=200), inbox)
    inbox.wait(2)
    assert threading.get_ident() not in session.threads


def test_a_model_that_takes_long_runs_in_a_worker(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    time.sleep(2 * CHEAP_NS / 1e9)
    session.gate.set()
    inbox.wait(1)
    live.submit(ask(2), inbox)
    inbox.wait(2)
    assert threading.get_ident() not in session.threads


def test_instances_run_at_the_same_time(make: Make, session: Doubling) -> None:
    live, inbox = make(Scheduling(instances=3)), Inbox()
    session.gate.clear()
    for number in range(4):
        live.submit(ask(number), inbox)
    for _ in range(3):
        assert session.entered.acquire(timeout=WAIT_S)
    assert not session.entered.acquire(timeout=0.02)
    assert pending(live) == 1
    session.gate.set()
    assert sorted(map(value_of, inbox.wait(4))) == [0, 2, 4, 6]


# Batches


def test_what_waited_runs_as_one_batch(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    for number, rows in enumerate((1, 2, 3)):
        live.submit(ask(number, rows), inbox)
    session.gate.set()
    results = inbox.wait(4)[1:]
    assert session.batches == [1, 6]
    assert [value_of(result) for result in results] == [0, 2, 4]
    assert [len(r.outputs["y"]) for r in results if isinstance(r, InferResponse)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("requests", "batches"),
    [
        pytest.param([ask(1, 5), ask(2, 3), ask(3, 1)], [8, 1], id="no more rows than allowed"),
        pytest.param([ask(1, 20), ask(2)], [20, 1], id="a large request runs alone"),
        pytest.param(
            [ask(1), ask(2, columns=3), ask(3, columns=3)], [1, 2], id="other shapes do not mix"
        ),
        pytest.param(
            [ask(1), ask(2), InferRequest("m", {"x": np.zeros((0, 2), np.float32)}), ask(4)],
            [2, 0, 1],
            id="no rows are nothing to merge",
        ),
    ],
)
def test_only_what_fits_is_merged(
    make: Make, session: Doubling, requests: list[InferRequest], batches: list[int]
) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    for request in requests:
        live.submit(request, inbox)
    session.gate.set()
    inbox.wait(len(requests) + 1)
    assert session.batches == [1, *batches]


def test_a_model_without_a_batch_axis_takes_one_after_another(
    make: Make, session: Doubling
) -> None:
    live, inbox = make(Scheduling()), Inbox()
    occupy(live, session, inbox)
    for number in range(3):
        live.submit(ask(number), inbox)
    session.gate.set()
    assert [value_of(result) for result in inbox.wait(4)[1:]] == [0, 2, 4]
    assert session.batches == [1, 1, 1, 1]


def test_a_bad_request_does_not_take_down_its_neighbours(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    for value in (1, -1, 3):
        live.submit(ask(value), inbox)
    session.gate.set()
    first, bad, last = inbox.wait(4)[1:]
    assert (value_of(first), value_of(last)) == (2, 6)
    assert isinstance(bad, InferenceError)
    assert "a negative number" in str(bad)
    counts = live.statistics("m")
    assert (counts.success.count, counts.fail.count) == (3, 1)


def test_threads_and_the_loop_share_batches(make: Make, session: Doubling) -> None:
    live, inbox, answers = make(), Inbox(), []
    occupy(live, session, inbox)
    threads = []
    for number in range(1, 4):
        threads += run_in_threads(lambda n=number: answers.append(value_of(live.infer(ask(n)))))
        until(lambda n=number: pending(live) == 2 * n - 1)  # type: ignore[misc]
        live.submit(ask(10 * number), inbox)
    session.gate.set()
    results = inbox.wait(4)
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(answers) == [2, 4, 6]
    assert [value_of(result) for result in results] == [0, 20, 40, 60]
    assert session.batches == [1, 6]


def test_a_request_waits_for_company_where_a_delay_is_asked_for(
    make: Make, session: Doubling
) -> None:
    scheduling = Scheduling(
        max_batch_size=3, is_batching=True, max_queue_delay_microseconds=5_000_000
    )
    live, inbox = make(scheduling), Inbox()
    for number in range(3):
        live.submit(ask(number), inbox)
    assert [value_of(result) for result in inbox.wait(3)] == [0, 2, 4]
    assert session.batches == [3]


def test_a_delay_ends(make: Make, session: Doubling) -> None:
    scheduling = Scheduling(max_batch_size=3, is_batching=True, max_queue_delay_microseconds=20_000)
    began = time.monotonic()
    assert value_of(make(scheduling).infer(ask(4))) == 8
    assert time.monotonic() - began >= 0.02
    assert session.batches == [1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(
        st.tuples(st.integers(-3, 30), st.integers(0, 9), st.integers(1, 3), st.booleans()),
        max_size=12,
    ),
    size=st.integers(0, 9),
    instances=st.integers(1, 3),
)
def test_batching_never_changes_an_answer(
    requests: list[tuple[int, int, int, bool]], size: int, instances: int
) -> None:
    session = Doubling()
    scheduling = Scheduling(instances=instances, max_batch_size=size, is_batching=size > 0)
    live = LiveService(Scheduler([session] * instances, scheduling), Source("", {}, "key"))
    session.gate.clear()
    inboxes = []
    for value, rows, columns, names_output in requests:
        asked = ask(value, rows, columns)
        if names_output:
            asked = InferRequest("m", asked.inputs, outputs=(RequestedOutput("y"),))
        inboxes.append(Inbox())
        live.submit(asked, inboxes[-1])
    session.gate.set()
    for (value, rows, columns, _), inbox in zip(requests, inboxes, strict=True):
        (result,) = inbox.wait(1)
        if value < 0 and rows:
            assert isinstance(result, InferenceError)
        else:
            assert isinstance(result, InferResponse)
            expected = np.full((rows, columns), 2 * value, np.float32)
            np.testing.assert_array_equal(result.outputs["y"], expected)
    live.retire()
    until(lambda: session.closed == 1)


def test_every_thread_gets_its_own_answer(make: Make) -> None:
    live = make(Scheduling(instances=2, max_batch_size=8, is_batching=True, max_queue_size=1000))
    wrong: list[Any] = []

    def threads_ask(seed: int) -> None:
        for number in range(150):
            value = seed * 1000 + number
            try:
                if value_of(live.infer(ask(value, 1 + number % 3))) != 2 * value:
                    wrong.append(value)
            except Exception as exc:
                wrong.append(exc)

    def loop_asks(seed: int) -> None:
        inboxes = []
        for number in range(150):
            inboxes.append(Inbox())
            live.submit(ask(seed * 1000 + number), inboxes[-1])
        for number, inbox in enumerate(inboxes):
            (result,) = inbox.wait(1)
            if value_of(result) != 2 * (seed * 1000 + number):
                wrong.append(result)

    actions = [lambda n=n: threads_ask(n) for n in range(6)]
    actions += [lambda n=n: loop_asks(n) for n in range(6, 8)]
    for thread in run_in_threads(*actions):
        thread.join(6 * WAIT_S)
    assert wrong == []
    assert live.statistics("m").success.count == 8 * 150


# Limits


def test_one_request_too_many_is_refused(make: Make, session: Doubling) -> None:
    live, inbox = make(Scheduling(max_queue_size=2)), Inbox()
    occupy(live, session, inbox)
    for number in range(3):
        live.submit(ask(number), inbox)
    (refused,) = inbox.results
    assert isinstance(refused, UnavailableError)
    assert str(refused) == "Exceeds maximum queue size"
    with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
        live.infer(ask(1))
    session.gate.set()
    assert [value_of(result) for result in inbox.wait(4)[1:]] == [0, 0, 2]
    counts = live.statistics("m")
    assert (counts.fail.count, counts.engine_failures) == (2, 0), "the model is not to blame"


def test_a_thread_waits_no_longer_than_its_deadline(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="Request timeout expired"):
        live.infer(ask(1), began + 0.03)
    assert 0.03 <= time.monotonic() - began < WAIT_S
    assert pending(live) == 0
    session.gate.set()
    inbox.wait(1)
    assert session.batches == [1]  # nobody ran it


def test_what_waited_past_its_deadline_is_not_run(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    occupy(live, session, inbox)
    live.submit(ask(1), inbox, time.monotonic() + 0.01)
    live.submit(ask(2), inbox, time.monotonic() + WAIT_S)
    time.sleep(0.02)
    session.gate.set()
    results = inbox.wait(3)
    (late,) = [result for result in results if isinstance(result, NbModelError)]
    assert isinstance(late, UnavailableError)
    assert str(late) == "Request timeout expired"
    assert session.batches == [1, 1]
    assert live.statistics("m").fail.count == 1


def test_a_deadline_that_passed_is_told_at_once(make: Make, session: Doubling) -> None:
    with pytest.raises(UnavailableError, match="Request timeout expired"):
        make().infer(ask(1), time.monotonic())
    assert session.batches == []


def test_what_waits_can_be_cancelled(make: Make, session: Doubling) -> None:
    live, inbox, dropped = make(), Inbox(), Inbox()
    occupy(live, session, inbox)
    waiting = live.submit(ask(1), dropped)
    waiting.cancel()
    waiting.cancel()
    (result,) = dropped.results
    assert isinstance(result, UnavailableError)
    session.gate.set()
    inbox.wait(1)
    assert session.batches == [1]
    assert live.statistics("m").cancel.count == 1


def test_what_runs_or_ran_is_not_cancelled(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    session.gate.clear()
    running = live.submit(ask(1), inbox)
    assert session.entered.acquire(timeout=WAIT_S)
    running.cancel()
    session.gate.set()
    assert value_of(inbox.wait(1)[0]) == 2
    running.cancel()
    assert len(inbox.results) == 1
    assert live.statistics("m").cancel.count == 0


def test_larger_batches_than_somebody_chose_are_refused(make: Make) -> None:
    live = make(Scheduling(max_batch_size=2, is_batching=True, is_limit=True))
    assert value_of(live.infer(ask(1, rows=2))) == 2
    with pytest.raises(ShapeError, match="inference request batch-size must be <= 2 for 'm'"):
        live.infer(ask(1, rows=3))


def test_another_version_than_asked_for_does_not_answer(make: Make) -> None:
    live = make()
    assert live.infer(ask(1, version="1")).version == "1"
    with pytest.raises(TargetError, match="unknown model: 'm' version 2 is not found"):
        live.infer(ask(1, version="2"))


# An end


def test_a_retired_model_finishes_what_waits(make: Make, session: Doubling) -> None:
    live, inbox, answers = make(Scheduling()), Inbox(), []
    occupy(live, session, inbox)
    live.submit(ask(1), inbox)
    (thread,) = run_in_threads(lambda: answers.append(value_of(live.infer(ask(2)))))
    until(lambda: pending(live) == 2)
    live.retire()
    with pytest.raises(RetiredError):
        live.infer(ask(3))
    with pytest.raises(RetiredError):
        live.submit(ask(3), inbox)
    assert not session.closed
    session.gate.set()
    thread.join(WAIT_S)
    assert [value_of(result) for result in inbox.wait(2)] == [0, 2]
    assert answers == [4]
    until(lambda: session.closed == 1)


def test_worker_threads_end_with_their_model(make: Make, session: Doubling) -> None:
    others = set(threading.enumerate())

    def workers() -> int:
        mine = set(threading.enumerate()) - others
        return sum(thread.name == "nbmodel-worker" for thread in mine)

    live, inbox = make(Scheduling(instances=3)), Inbox()
    session.gate.clear()
    for number in range(3):
        live.submit(ask(number), inbox)
    assert workers() == 3
    session.gate.set()
    inbox.wait(3)
    live.retire()
    until(lambda: workers() == 0)


def test_an_answer_that_nobody_can_take_stops_no_worker(
    make: Make, session: Doubling, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_result: object) -> None:
        raise RuntimeError("the front end fell over")

    live, inbox = make(), Inbox()
    session.gate.clear()
    live.submit(ask(1), broken)
    live.submit(ask(2), inbox)
    session.gate.set()
    assert value_of(inbox.wait(1)[0]) == 4
    assert "the front end fell over" in caplog.text


# What is counted


def test_requests_executions_and_rows_are_counted(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    assert live.statistics("m").last_inference == 0
    before_ms = time.time_ns() // 1_000_000
    occupy(live, session, inbox)
    for number, rows in enumerate((1, 2, 3)):
        live.submit(ask(number, rows), inbox)
    time.sleep(0.01)
    session.gate.set()
    inbox.wait(4)
    with pytest.raises(ShapeError):
        live.infer(InferRequest("m", {"x": np.zeros(3, np.float32)}))
    counts = live.statistics("m")
    assert (counts.name, counts.version, counts.pending) == ("m", "1", 0)
    assert (counts.inference_count, counts.execution_count) == (7, 2)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in counts.batch_stats] == [
        (1, 1),
        (6, 1),
    ]
    for duration in (counts.success, counts.queue, counts.compute_input, counts.compute_infer):
        assert duration.count == 4
    assert (counts.fail.count, counts.engine_failures) == (1, 0)
    assert counts.queue.ns >= 3 * 10_000_000  # three waited while the first was held up
    assert counts.compute_infer.ns >= 10_000_000
    assert counts.success.ns >= counts.queue.ns + counts.compute_infer.ns
    assert before_ms <= counts.last_inference <= time.time_ns() // 1_000_000 + 1


def test_an_engine_that_leaves_out_an_output_fails_its_request_alone() -> None:
    session = Mute()
    live = LiveService(Scheduler([session], BATCHING), Source("", {}, "key"))
    inbox = Inbox()
    live.submit(ask(1), inbox)
    (result,) = inbox.wait(1)
    assert isinstance(result, InferenceError)
    with pytest.raises(InferenceError, match="doubling cannot be run"):
        live.infer(ask(1))
    counts = live.statistics("m")
    assert (counts.fail.count, counts.engine_failures) == (2, 2)
    live.retire()
    assert session.closed == 1


def test_a_run_that_is_not_over_is_told_with_its_time(make: Make, session: Doubling) -> None:
    live, inbox = make(), Inbox()
    assert live.statistics("m").under_way_ns == 0
    occupy(live, session, inbox)
    first = live.statistics("m").under_way_ns
    assert 0 < first < live.statistics("m").under_way_ns
    session.gate.set()
    inbox.wait(1)
    live.infer(ask(1))
    with pytest.raises(InferenceError):
        live.infer(ask(-1))
    assert live.statistics("m").under_way_ns == 0
