from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter

import pytest

from nbmodel.benchmark import run_level
from nbmodel.errors import InferenceError, NbModelError, TargetUnreachableError

pytestmark = pytest.mark.unhurried


class Sleeper:
    """A job that takes a millisecond, and counts how many of it are at work."""

    at_work = most = opened = closed = 0
    lock = threading.Lock()

    def __init__(self) -> None:
        with self.lock:
            type(self).opened += 1

    def __call__(self) -> None:
        with self.lock:
            type(self).at_work += 1
            type(self).most = max(self.most, self.at_work)
        time.sleep(0.001)
        with self.lock:
            type(self).at_work -= 1

    def close(self) -> None:
        with self.lock:
            type(self).closed += 1


@pytest.mark.parametrize("concurrency", [1, 5])
def test_so_many_are_at_work_at_once(concurrency: int) -> None:
    class Job(Sleeper):
        pass

    level = run_level(Job, concurrency=concurrency, seconds=0.2)
    assert Job.most == Job.opened == Job.closed == level.concurrency == concurrency
    assert level.requests > 10 * concurrency
    assert level.errors == 0
    assert 0.19 < level.seconds < 2
    assert 1.0 <= level.p50_ms <= level.p90_ms <= level.p95_ms <= level.p99_ms <= level.max_ms
    # Each waits for its answer: no more than a thread's worth a millisecond.
    assert level.throughput <= concurrency * 1000


@pytest.mark.parametrize("count", [1, 7, 40])
def test_a_count_is_kept_to_exactly(count: int) -> None:
    assert run_level(Sleeper, concurrency=4, seconds=0.1, count=count).requests == count


def test_errors_are_counted_by_their_sentence_and_slow_down() -> None:
    class Refused(Sleeper):
        def __call__(self) -> None:
            raise InferenceError("queue full")

    problems: Counter[str] = Counter()
    level = run_level(Refused, concurrency=2, seconds=0.2, problems=problems)
    assert (level.requests, level.throughput) == (0, 0)
    assert problems == {"queue full": level.errors}
    assert 2 <= level.errors <= 60  # one every ten milliseconds and thread


def test_a_flood_of_different_errors_is_kept_short() -> None:
    class Refused(Sleeper):
        def __call__(self) -> None:
            raise InferenceError(f"at {time.perf_counter_ns()}")

    problems: Counter[str] = Counter()
    run_level(Refused, concurrency=8, seconds=0.2, problems=problems)
    assert len(problems) <= 21


def test_a_job_that_cannot_be_opened_ends_the_level() -> None:
    def refuse() -> Sleeper:
        raise TargetUnreachableError("nobody there")

    problems: Counter[str] = Counter()
    level = run_level(refuse, concurrency=3, seconds=5, problems=problems)
    assert level.requests == 0
    assert problems["nobody there"] == 3


@pytest.mark.parametrize("after", [0, 1500])
def test_a_mistake_in_a_job_ends_the_level_and_is_raised(after: int) -> None:
    calls = itertools.count()

    class Wrong(Sleeper):
        def __call__(self) -> None:
            super().__call__()
            if next(calls) == after:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_level(Wrong, concurrency=3, seconds=60 if after else 1)


def test_progress_is_told_while_it_lasts() -> None:
    told: list[tuple[float, int]] = []
    run_level(Sleeper, concurrency=1, seconds=0.5, on_tick=lambda *now: told.append(now))
    assert len(told) >= 2
    assert told == sorted(told)
    assert told[-1][1] > 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX timer")
def test_an_interrupt_ends_it_at_once_also_where_an_answer_is_awaited() -> None:
    class Stuck(Sleeper):
        def __init__(self) -> None:
            self.ended = threading.Event()

        def __call__(self) -> None:
            self.ended.wait(60)
            raise NbModelError("closed")

        def close(self) -> None:
            self.ended.set()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before, began = signal.signal(signal.SIGALRM, interrupt), time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            run_level(Stuck, concurrency=3, seconds=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    assert not [thread for thread in threading.enumerate() if thread.name == "nbmodel-bench"]
