"""A closed loop: a number of threads that each ask, wait for the answer, and ask again.

Threads rather than an event loop, because a thread that waits for its socket costs
nothing and holds nothing up, and models that run right here need them. What the threads
cost is part of what is measured: the machine that measures should not be the one that is
measured when figures matter.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import count as counted
from typing import Protocol

from nbmodel.core.benchmark import Level
from nbmodel.errors import NbModelError

WARM_S = 0.3  # seconds before a level during which nothing counts
_PAUSE_S = 0.01  # after an error: a server that refuses all is not to be flooded
_TICK_S = 0.1  # how often progress is told
_MAX_PROBLEMS = 20  # different sentences that are kept


class Job(Protocol):
    """What one thread does over and over."""

    def __call__(self) -> object:
        """Ask once and wait for the answer; raises NbModelError when there is none."""

    def close(self) -> None:
        """End; may come from another thread while the job is waiting."""


def run_level(
    open_job: Callable[[], Job],
    *,
    concurrency: int,
    seconds: float,
    count: int | None = None,
    on_tick: Callable[[float, int], None] = lambda *_: None,
    problems: Counter[str] | None = None,
) -> Level:
    """Measure with one number of requests at once.

    A KeyboardInterrupt ends it at once, and is raised; so is whatever a job raises that is
    no NbModelError: it is a mistake of the program.

    Args:
        open_job: Makes the job of one thread; called in that thread.
        concurrency: How many threads, ≥ 1.
        seconds: How long to measure, > 0.
        count: Measure that many requests instead, ≥ 1.
        on_tick: Told, from time to time, of the seconds passed and requests answered.
        problems: Where the sentences of errors are counted.
    """
    level = _Level(open_job, concurrency, seconds, count)
    try:
        level.start()
        while level.is_running(_TICK_S):
            on_tick(level.passed_s, level.answered)
    finally:
        level.stop()
    if level.crash is not None:
        raise level.crash
    if problems is not None:
        problems.update(level.problems)
    return level.result()


class _Level:
    """The threads of one level.

    Attributes:
        problems: Sentences of errors → how often each was met.
        crash: What a job raised that it must not raise.
    """

    def __init__(
        self, open_job: Callable[[], Job], concurrency: int, seconds: float, count: int | None
    ) -> None:
        self._open_job = open_job
        self._concurrency = concurrency
        self._seconds = seconds
        self._count = count
        self._tickets = counted()
        self._warm_s = min(WARM_S, seconds / 4)
        self._stopped = threading.Event()
        self._done = threading.Event()
        self._working = concurrency
        self._barrier = threading.Barrier(concurrency, action=self._begin)
        self._began = self._ended = 0.0
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._latencies = [array("q") for _ in range(concurrency)]
        self.problems: Counter[str] = Counter()
        self.crash: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(latencies,), name="nbmodel-bench")
            for latencies in self._latencies
        ]

    @property
    def passed_s(self) -> float:
        """Seconds since the measuring began; 0 before."""
        return time.perf_counter() - self._began if self._began else 0.0

    @property
    def answered(self) -> int:
        """How many requests were answered so far."""
        return sum(map(len, self._latencies))

    def start(self) -> None:
        """Let the threads go."""
        for thread in self._threads:
            thread.start()

    def is_running(self, wait_s: float) -> bool:
        """Whether a thread still works, after at most ``wait_s`` seconds."""
        # Not Thread.join: an interrupt in it can leave a thread marked as ended that runs.
        return not self._done.wait(wait_s)

    def stop(self) -> None:
        """End every thread, also one that waits for an answer."""
        self._stopped.set()
        self._barrier.abort()
        with self._lock:
            for job in self._jobs:
                job.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def result(self) -> Level:
        """What was measured."""
        latencies = [one for part in self._latencies for one in part]
        return Level.of(
            self._concurrency, self._ended - self._began, latencies, self.problems.total()
        )

    def _begin(self) -> None:
        self._began = self._ended = time.perf_counter()

    def _work(self, latencies: array[int]) -> None:
        try:
            self._ask(latencies)
        except BaseException as exc:  # noqa: BLE001 - raised where the level was asked for
            self.crash = exc
            self._stopped.set()
            self._barrier.abort()  # the others would wait there for ever
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._done.set()

    def _ask(self, latencies: array[int]) -> None:
        job = self._open()
        if job is None:
            return
        self._warm_up(job)
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            return
        deadline = self._began + self._seconds
        while not self._stopped.is_set():
            if self._count is None:
                if time.perf_counter() >= deadline:
                    break
            elif next(self._tickets) >= self._count:
                break
            self._measure(job, latencies)
        with self._lock:
            self._ended = max(self._ended, time.perf_counter())

    def _open(self) -> Job | None:
        try:
            job = self._open_job()
        except NbModelError as exc:
            self._failed(exc)
            self._barrier.abort()
            return None
        with self._lock:
            self._jobs.append(job)
        return job

    def _warm_up(self, job: Job) -> None:
        deadline = time.perf_counter() + self._warm_s
        while time.perf_counter() < deadline and not self._stopped.is_set():
            try:
                job()
            except NbModelError:
                time.sleep(_PAUSE_S)  # told when it is met again while it counts

    def _measure(self, job: Job, latencies: array[int]) -> None:
        began = time.perf_counter_ns()
        try:
            job()
        except NbModelError as exc:
            if not self._stopped.is_set():
                self._failed(exc)
                time.sleep(_PAUSE_S)
        else:
            latencies.append(time.perf_counter_ns() - began)

    def _failed(self, exc: NbModelError) -> None:
        sentence = str(exc)
        with self._lock:
            if sentence not in self.problems and len(self.problems) >= _MAX_PROBLEMS:
                sentence = "other errors"
            self.problems[sentence] += 1
