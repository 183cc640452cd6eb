"""How the requests of one loaded model share its instances.

A request runs in the thread that brings it when an instance is free: nothing is handed over.
When none is, it waits, and whoever gives an instance back passes it on: to the first that
waits, if a thread stands behind it, else to a worker thread. Requests that waited run as one
batch where the model has a batch axis.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from numpy.typing import NDArray

from nbmodel.backends import Session
from nbmodel.errors import InferenceError, NbModelError, SignatureError, UnavailableError
from nbmodel.runtime.batching import merged, parted
from nbmodel.runtime.memory import give_back_memory
from nbmodel.runtime.statistics import Counters, ModelStatistics, Took

MAX_QUEUE_SIZE = 128  # requests that wait, where nothing else is said
MAX_BATCH_SIZE = 4  # rows, where the batch axis was found and not given: Triton's default
#: Nanoseconds of a run that an event loop may do itself: a hand-over costs a fifth of it, and
#: nobody sees that the loop was away.
CHEAP_NS = 300_000
_OUTLIER = 4  # times the mean: what is longer counts as this long
_MEAN_SHIFT = 3  # the moving mean moves by an eighth

logger = logging.getLogger(__name__)
_clock = time.perf_counter_ns


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
        is_limit: Whether a single request of more rows is refused: as Triton does, and only
            where somebody chose the size.
    """

    instances: int = 1
    max_batch_size: int = 0
    max_queue_delay_microseconds: int = 0
    max_queue_size: int = MAX_QUEUE_SIZE
    is_batching: bool = False
    is_limit: bool = False


class RetiredError(Exception):
    """The model was replaced between being found and being used: ask for it again."""


class Pending(Protocol):
    """A request that may still wait for its turn."""

    def cancel(self) -> None:
        """Drop it when it still waits; ``done`` is called with an UnavailableError then."""


class Job:
    """One checked request of a model, and what became of it: outputs or an error.

    Args:
        tensors: As ``Session.prepare`` gave them.
        wanted: As ``Session.prepare`` gave them.
        rows: Of the inputs; 1 where the model has no batch axis.
        arrived: When the request came, nanoseconds of ``time.perf_counter_ns``.
        deadline: When nobody waits for it any more, ``time.monotonic()`` seconds, or None.
        done: Called once with the job when it is finished, where no thread waits for it.
    """

    __slots__ = (
        "arrived",
        "checked",
        "deadline",
        "done",
        "error",
        "key",
        "nbytes",
        "outputs",
        "owner",
        "rows",
        "session",
        "signal",
        "tensors",
        "wanted",
    )

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        wanted: tuple[str, ...],
        rows: int,
        arrived: int,
        deadline: float | None,
        done: Callable[[Job], None] | None,
    ) -> None:
        self.tensors = tensors
        self.wanted = wanted
        self.rows = rows
        self.arrived = arrived
        self.deadline = deadline
        self.done = done
        self.nbytes = 0
        for tensor in tensors.values():
            self.nbytes += tensor.nbytes
        self.checked = _clock()
        self.outputs: Mapping[str, NDArray[Any]] = {}
        self.error: NbModelError | None = None
        self.key: object = None  # equal keys may share a batch; None may not
        self.signal: threading.Lock | None = None  # free when the thread behind it may go on
        self.session: Session | None = None  # passed on to the thread behind it
        self.owner: Scheduler | None = None  # with which it may wait while nobody stands behind it

    def cancel(self) -> None:
        """Drop it when it still waits."""
        if self.owner is not None:
            self.owner.cancel(self)


class Scheduler:
    """The instances of a loaded model, and the requests that wait for them.

    Args:
        sessions: One for each instance; the same one again where it runs calls together.
        scheduling: The policy.
    """

    def __init__(self, sessions: Sequence[Session], scheduling: Scheduling) -> None:
        self.scheduling = scheduling
        self._sessions = tuple(sessions)
        self._delay_s = scheduling.max_queue_delay_microseconds / 1e6 * scheduling.is_batching
        self._lock = threading.Lock()
        self._arrival = threading.Condition(self._lock)
        self._free = list(sessions)
        self._waiting: deque[Job] = deque()
        self._mean_ns: int | None = None
        self._mean_bytes = 0
        self._handed: SimpleQueue[Session | None] = SimpleQueue()
        self._working = 0  # sessions that workers have, or are about to
        self._workers = 0
        self._holders = 0
        self._retired = False
        self._counters = Counters()
        self._begun: dict[int, int] = {}  # of what runs: its id -> when it began, as _clock

    # Requests

    def run(self, job: Job) -> None:
        """Run a request that the calling thread waits for; ``job`` has what became of it.

        Raises:
            RetiredError: The model was replaced.
        """
        with self._lock:
            self._check_open()
            if self._free and not self._delay_s:
                session: Session | None = self._free.pop()
            else:
                if not self._wait_in_line(job):
                    return
                job.signal = threading.Lock()
                job.signal.acquire()
                session = None
        if session is not None:
            self._execute([job], session)
            self._pass_on(session)
            return
        session = self._turn(job)
        if session is not None:
            jobs, expired = self._batch(job)
            self._execute(jobs, session)
            self._pass_on(session)
            _finish((*jobs[1:], *expired))

    def start(self, job: Job) -> None:
        """Run a request here when it is cheap and can run at once, else in a worker thread.

        ``job.done`` is called exactly once, unless this raises.

        Raises:
            RetiredError: The model was replaced.
        """
        session: Session | None = None
        is_refused = False
        job.owner = self
        with self._lock:
            self._check_open()
            if self._free and not self._delay_s and self._is_cheap(job):
                session = self._free.pop()
            else:
                is_refused = not self._wait_in_line(job)
        if session is not None:
            self._execute([job], session)
            self._pass_on(session)
        if session is not None or is_refused:
            _finish((job,))

    def cancel(self, job: Job) -> None:
        """Drop a request that still waits; one that runs, or ran, is let be."""
        with self._lock:
            if not self._drop(job):
                return
            self._counters.count_cancel(_clock() - job.arrived)
        job.error = UnavailableError("the request was cancelled")
        _finish((job,))

    # The model

    @contextmanager
    def held(self) -> Iterator[Session]:
        """The model, for use beside the requests; it is not closed meanwhile.

        Raises:
            RetiredError: It was replaced.
        """
        with self._lock:
            self._check_open()
            self._holders += 1
        try:
            yield self._sessions[0]
        finally:
            with self._lock:
                self._holders -= 1
                is_over = self._is_over()
            if is_over:
                self._close()

    def retire(self) -> None:
        """Take no more requests; those under way or waiting finish, and the last one closes."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            self._arrival.notify_all()
            is_over = self._is_over()
        if is_over:
            self._close()

    def count_failure(self, ns: int) -> None:
        """Count a request that was refused before it came here, ``ns`` after it arrived."""
        with self._lock:
            self._counters.count_failure(ns)

    def statistics(self, name: str, version: str) -> ModelStatistics:
        """The counts, for a service of that name and version."""
        with self._lock:
            begun = tuple(self._begun.values())  # at once: who runs takes no lock for it
            under_way = _clock() - min(begun) if begun else 0
            return self._counters.snapshot(name, version, len(self._waiting), under_way)

    @property
    def session(self) -> Session:
        """The model, for what it says about itself."""
        return self._sessions[0]

    @property
    def counters(self) -> Counters:
        """The counts, for reading one of them."""
        return self._counters

    @property
    def busy(self) -> int:
        """How many instances are in use."""
        return len(self._sessions) - len(self._free)

    # Inside; what says so is called with the lock held

    def _check_open(self) -> None:
        """With the lock held."""
        if self._retired:
            raise RetiredError

    def _is_over(self) -> bool:
        """With the lock held: whether it is retired, and nobody uses it any more."""
        return (
            self._retired
            and not self._holders
            and not self._waiting
            and len(self._free) == len(self._sessions)
        )

    def _close(self) -> None:
        for session in set(self._sessions):
            try:
                session.close()
            except Exception:  # an engine may raise anything; nobody waits for this
                logger.exception("a model cannot be let go of")
        give_back_memory()
        for _ in range(self._workers):
            self._handed.put(None)

    def _is_cheap(self, job: Job) -> bool:
        """With the lock held: whether the run is expected to be over at once."""
        mean = self._mean_ns
        if mean is None or mean > CHEAP_NS:
            return False
        # Larger inputs take longer, in proportion at worst.
        return job.nbytes <= self._mean_bytes or mean * job.nbytes <= CHEAP_NS * self._mean_bytes

    def _wait_in_line(self, job: Job) -> bool:
        """With the lock held: let a request wait, or refuse it when too many do."""
        if len(self._waiting) >= self.scheduling.max_queue_size:
            self._counters.count_failure(_clock() - job.arrived)
            job.error = UnavailableError("Exceeds maximum queue size")
            return False
        if self.scheduling.is_batching and job.rows > 0:
            shapes = tuple(job.tensors[name].shape[1:] for name in sorted(job.tensors))
            job.key = (job.wanted, shapes)
        self._waiting.append(job)
        if self._delay_s:
            self._arrival.notify_all()
        if self._free:
            self._hand_over(self._free.pop())
        return True

    def _hand_over(self, session: Session) -> None:
        """With the lock held: let a worker thread go on."""
        self._working += 1
        if self._working > self._workers:
            self._workers += 1
            threading.Thread(target=self._work, name="nbmodel-worker", daemon=True).start()
        self._handed.put(session)

    def _work(self) -> None:
        """A worker thread: from the first request that waits to the last."""
        while (session := self._handed.get()) is not None:
            while (batch := self._next_batch(session)) is not None:
                jobs, expired = batch
                if jobs:
                    self._execute(jobs, session)
                _finish((*jobs, *expired))
                del batch, jobs, expired  # the last request's tensors, while this one waits

    def _next_batch(self, session: Session) -> tuple[list[Job], list[Job]] | None:
        """What a worker does next, and what is too late; None: it gave the session back."""
        with self._lock:
            self._gather()
            if self._waiting:
                return self._take([])
            self._working -= 1
            self._free.append(session)
            is_over = self._is_over()
        if is_over:
            self._close()
        return None

    def _gather(self) -> None:
        """With the lock held: wait for more requests, where a delay was asked for."""
        while self._delay_s and self._waiting and not self._retired:
            rows = sum(job.rows for job in self._waiting)
            rest = self._delay_s - (_clock() - self._waiting[0].checked) / 1e9
            if rest <= 0 or rows >= self.scheduling.max_batch_size:
                return
            self._arrival.wait(rest)

    def _batch(self, job: Job) -> tuple[list[Job], list[Job]]:
        with self._lock:
            return self._take([job])

    def _take(self, jobs: list[Job]) -> tuple[list[Job], list[Job]]:
        """With the lock held: take what waits and fits into one batch, and what is too late."""
        expired: list[Job] = []
        rows = sum(job.rows for job in jobs)
        while self._waiting:
            job = self._waiting[0]
            if job.deadline is not None and time.monotonic() >= job.deadline:
                self._expire(job)
                expired.append(self._waiting.popleft())
                continue
            if jobs and (
                job.key is None
                or job.key != jobs[0].key
                or rows + job.rows > self.scheduling.max_batch_size
            ):
                break
            rows += job.rows
            jobs.append(self._waiting.popleft())
        return jobs, expired

    def _expire(self, job: Job) -> None:
        """With the lock held."""
        self._counters.count_failure(_clock() - job.arrived)
        job.error = UnavailableError("Request timeout expired")

    def _drop(self, job: Job) -> bool:
        """With the lock held: take a request out of the line; False when it is not there."""
        try:
            self._waiting.remove(job)
        except ValueError:
            return False
        return True

    def _turn(self, job: Job) -> Session | None:
        """Wait: for a session to run the job with, or (None) until it is finished."""
        assert job.signal is not None
        rest = -1.0
        if job.deadline is not None:
            rest = min(max(0.0, job.deadline - time.monotonic()), threading.TIMEOUT_MAX)
        try:
            if not job.signal.acquire(timeout=rest):
                with self._lock:
                    if self._drop(job):
                        self._expire(job)
                        return None
                job.signal.acquire()  # it runs, or is about to
        except BaseException:  # an interrupt, where the main thread asked
            with self._lock:
                self._drop(job)
                session = job.session
            if session is not None:
                self._pass_on(session)
            raise
        return job.session

    def _pass_on(self, session: Session) -> None:
        """Give a session back: to who waits, or to nobody."""
        with self._lock:
            if self._waiting:
                first = self._waiting[0]
                if first.signal is None or self._delay_s:
                    self._hand_over(session)
                else:
                    self._waiting.popleft()
                    first.session = session
                    first.signal.release()
                return
            self._free.append(session)
            is_over = self._is_over()
        if is_over:
            self._close()

    # Running

    def _execute(self, jobs: list[Job], session: Session) -> None:
        """Run requests as one batch, or one by one where that fails; count them.

        One bad request never takes down its neighbours. Whatever is raised, the session is
        free again.
        """
        try:
            if len(jobs) == 1 or not self._execute_merged(jobs, session):
                for job in jobs:
                    self._execute_alone(job, session)
        except BaseException as exc:  # an interrupt: nobody else may wait for ever
            for job in jobs:
                job.error = InferenceError(f"the run was broken off: {type(exc).__name__}")
            self._pass_on(session)
            _finish(jobs)
            raise

    def _execute_alone(self, job: Job, session: Session) -> None:
        began = self._begun[id(job)] = _clock()
        try:
            job.outputs = session.run(job.tensors, job.wanted)
        except NbModelError as exc:
            job.error = exc
            with self._lock:
                self._count_failed_run(exc, _clock() - job.arrived)
            return
        finally:
            del self._begun[id(job)]
        ran = _clock()
        took = Took(job.rows, 0, ran - began, 0)
        with self._lock:
            self._learn(ran - began, job.nbytes)
            self._counters.count_execution(took)
            self._counters.count_success(
                ran - job.arrived, began - job.checked, job.checked - job.arrived, took
            )

    def _execute_merged(self, jobs: list[Job], session: Session) -> bool:
        """Run requests as one batch; False when that failed, with nothing counted."""
        rows = [job.rows for job in jobs]
        began = self._begun[id(jobs)] = _clock()
        try:
            tensors = merged([job.tensors for job in jobs])
            put_together = _clock()
            outputs = session.run(tensors, jobs[0].wanted)
            ran = _clock()
            parts = parted(outputs, rows)
        except (NbModelError, MemoryError, ValueError):
            return False
        finally:
            del self._begun[id(jobs)]
        over = _clock()
        took = Took(sum(rows), put_together - began, ran - put_together, over - ran)
        with self._lock:
            self._learn(ran - put_together, sum(job.nbytes for job in jobs))
            self._counters.count_execution(took)
            for job, part in zip(jobs, parts, strict=True):
                job.outputs = part
                self._counters.count_success(
                    over - job.arrived, began - job.checked, job.checked - job.arrived, took
                )
        return True

    def _count_failed_run(self, error: NbModelError, ns: int) -> None:
        """With the lock held: a client's mistakes say nothing about the model."""
        if isinstance(error, SignatureError | UnavailableError):
            self._counters.count_failure(ns)
        else:
            self._counters.count_engine_failure(ns)

    def _learn(self, ns: int, nbytes: int) -> None:
        """With the lock held: what a run costs."""
        if self._mean_ns is None:
            self._mean_ns, self._mean_bytes = ns, nbytes
        else:
            # A run that was interrupted says nothing about the next one.
            typical = min(ns, _OUTLIER * self._mean_ns)
            away = typical - self._mean_ns
            # Down faster than up: the first run of all is often the slowest.
            self._mean_ns += away >> (_MEAN_SHIFT if away > 0 else _MEAN_SHIFT - 1)
            self._mean_bytes += (nbytes - self._mean_bytes) >> _MEAN_SHIFT


def _finish(jobs: Sequence[Job]) -> None:
    """Tell those who wait for requests that they are finished."""
    for job in jobs:
        if job.signal is not None:
            job.signal.release()
        elif job.done is not None:
            try:
                job.done(job)
            except Exception:  # a front end's mistake must not stop a worker
                logger.exception("an answer could not be delivered")
