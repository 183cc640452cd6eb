"""Verbs in the background: begun here, written down, finished by this process or the next.

One thread of a process does the jobs of one host one after the other: a job is several transfers
at a time by itself, and two of them would only share the line. Hosts do not wait for each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar

from nbmodel.background.queue import JobQueue
from nbmodel.background.transfer import Transfer
from nbmodel.core.job import CANCELLED, DONE, FAILED, INTERRUPTED, WAITING, Job
from nbmodel.display.progress import Sink, progress_to, sink_here
from nbmodel.display.quantity import duration
from nbmodel.errors import InputError, TargetUnreachableError
from nbmodel.storage.patience import Patience

__all__ = ["Did", "Transfer", "Transfers"]

FOLDER = "transfers"  # below the home
#: Seconds in which the other side is tried again: when it never answered, an address may be
#: wrong; a network that broke in the midst comes back.
UNREACHED_S, BROKEN_S = 60.0, 600.0
#: How long the pauses between the tries are; the seconds above end them.
PATIENCE = Patience(tries=100, first_s=2.0, longest_s=60.0)
_WRITE_S = 1.0  # between two times that a job's progress is written down
_LOOK_S = 0.1  # between two looks whether a job that waits was cancelled

_T = TypeVar("_T")
_Lane: TypeAlias = "SimpleQueue[tuple[Job, Transfer, ExitStack] | None]"  # None: its end


@dataclass(frozen=True, slots=True)
class Did:
    """What a job gave.

    Attributes:
        result: What the verb gives.
        line: What it did, in a few words: ``24.1 MB sent, 3 MB there already``.
    """

    result: Any
    line: str


class Verb(Protocol):
    """Does a job."""

    def __call__(self, job: Job, *, cancelled: Callable[[], bool]) -> Did:
        """Do it in this thread.

        Args:
            job: What to do.
            cancelled: Whether nobody wants it any more; raise CancelledError then.
        """


class Transfers:
    """The jobs of one person, as one process sees them.

    Args:
        home: The folder that holds everything; the jobs are below it.
        registry: Folder of the registry that jobs begun here are of.
        do: Does a job.
    """

    def __init__(self, home: Path, registry: Path, do: Verb) -> None:
        self.queue = JobQueue(home / FOLDER)
        self._registry = str(registry)
        self._do = do
        self._lock = threading.Lock()
        self._mine: dict[str, Transfer] = {}
        self._lanes: dict[str, _Lane] = {}

    def begin(self, verb: str, given: Mapping[str, Any]) -> Transfer:
        """Do something in the background.

        What is under way in this process already, or was interrupted, is not begun twice:
        running a cell again goes on with it.

        Args:
            verb: What to do.
            given: The verb's arguments by name, JSON values; paths are absolute.

        Raises:
            InputError: An argument is no JSON value.
            StorageUnavailableError: The disk does not take it.
        """
        with self._lock:
            job = self.queue.make(verb, given, self._registry)
            for other in self.queue.jobs():
                if other.is_open and other.is_same(job):
                    known = self._mine.get(other.id) or self._begun(other.id)
                    if known is not None:
                        return known
            self.queue.add(job)
            return self._required(self._begun(job.id), job.id)

    def resume(self, id_: str | None = None) -> tuple[Transfer, ...]:
        """Go on in the background with what was interrupted.

        Args:
            id_: One job; None for all of them.

        Raises:
            InputError: There is no such job, it has ended, or another process works on it.
        """
        with self._lock:
            if id_ is None:
                jobs: Sequence[Job] = [job for job in self.queue.jobs() if job.is_open]
                begun = [self._mine.get(job.id) or self._begun(job.id) for job in jobs]
                return tuple(transfer for transfer in begun if transfer is not None)
            self._open(id_)
            return (self._required(self._mine.get(id_) or self._begun(id_), id_),)

    def finish(self, id_: str | None = None) -> tuple[Any, ...]:
        """Go on with what was interrupted, and wait for it; what each of them gives.

        Of those that go to a host that does not answer, the first is given up and the others
        stay.

        Args:
            id_: One job; None for all of them.

        Raises:
            InputError: There is no such job, it has ended, or another process works on it.
            NbModelError: What a verb raises, the first of them after all were tried.
        """
        jobs = (
            [job for job in self.queue.jobs() if job.is_open] if id_ is None else [self._open(id_)]
        )
        results: list[Any] = []
        errors: list[Exception] = []
        away: set[str] = set()
        # One that was given up comes after those that were not tried since.
        for listed in sorted(jobs, key=lambda one: self.queue.touched(one.id)):
            if listed.lane in away:
                continue
            with ExitStack() as stack:
                job = self._taken(listed.id, stack)
                if id_ is not None:
                    job = self._required(job, id_)
                if job is not None:
                    ended = self._finish(job, None)
                    if ended.error is None:
                        results.append(ended.result)
                    elif isinstance(ended.error, Exception):
                        errors.append(ended.error)
                        if isinstance(ended.error, TargetUnreachableError) and job.lane:
                            away.add(job.lane)
                    else:
                        raise ended.error
        if errors:
            raise errors[0]
        return tuple(results)

    def cancel(self, id_: str) -> Job:
        """Have a job end; at the latest when it next has something to say.

        Raises:
            InputError: There is none of that id.
            StorageUnavailableError: The disk does not take it.
        """
        return self.queue.cancel(id_)

    def close(self) -> None:
        """End the threads when they are through with what was begun; nobody waits for that."""
        with self._lock:
            lanes, self._lanes = self._lanes, {}
            for lane in lanes.values():
                lane.put(None)

    def _open(self, id_: str) -> Job:
        job = self.queue.get(id_)
        if not job.is_open:
            raise InputError(f"transfer {id_} has ended: {job.line or job.state}")
        return job

    def _required(self, found: _T | None, id_: str) -> _T:
        """What was taken of a job, which somebody named; an error says why it was not."""
        if found is None:
            self._open(id_)
            raise InputError(f"transfer {id_} is worked on by another process")
        return found

    def _taken(self, id_: str, stack: ExitStack) -> Job | None:
        """A job that is held as long as the stack is open, as it is then.

        Returns:
            None when another process works on it, or it has ended since somebody looked.
        """
        if not stack.enter_context(self.queue.hold(id_)):
            return None
        with suppress(InputError):
            job = self._open(id_)
            if not self.queue.is_cancelled(id_):
                return job
            # Whoever was to end it has ended before.
            self.queue.update(job, state=CANCELLED, line="cancelled")
        return None

    def _begun(self, id_: str) -> Transfer | None:
        """A job that this process does next; None when it is not there to be done."""
        stack = ExitStack()
        job = self._taken(id_, stack)
        if job is None:
            stack.close()
            return None
        transfer = Transfer(job, lambda: self.queue.cancel(job.id))
        self._mine[job.id] = transfer
        self.queue.update(job, line=f"{job.what}: {WAITING}", share=None)
        lane = self._lanes.get(job.lane)
        if lane is None:
            lane = self._lanes[job.lane] = SimpleQueue()
            # It ends with the process, which must not wait for it: the job is written down.
            threading.Thread(
                target=self._work, args=(lane,), name="nbmodel-transfers", daemon=True
            ).start()
        lane.put((job, transfer, stack))
        return transfer

    def _work(self, lane: _Lane) -> None:
        while (waiting := lane.get()) is not None:
            job, transfer, stack = waiting
            with stack:
                ended = self._finish(job, transfer)
            # Whoever waited may begin it again at once: it is nobody's by then.
            with self._lock:
                self._mine.pop(job.id, None)
            transfer.end(ended.line, result=ended.result, error=ended.error)

    def _finish(self, job: Job, transfer: Transfer | None) -> _Ended:
        """Do a job that is held, and write down how it ended."""
        began = time.monotonic()
        job = self.queue.update(job, line=f"{job.what}: under way", share=None)
        watch = _Watch(self.queue, job, transfer)
        if transfer is not None:
            transfer.say(f"{job.what}: under way")
        try:
            with watch.shown():
                did = self._patiently(job, watch)
        except TargetUnreachableError as exc:
            # What is there already is not sent again: it stays to be gone on with.
            tried = f"tried for {duration(time.monotonic() - began)}"
            next_step = f"`transfers --resume {job.id}` goes on with it"
            line = f"{job.what}: {INTERRUPTED}, {exc}, {tried}; {next_step}"
            self.queue.update(job, line=line, share=watch.share)
            doubt = "" if watch.furthest else "is the address right? "
            error = TargetUnreachableError(
                f"{exc}, {tried}", hint=f"{doubt}it stays in the queue: {next_step}"
            )
            error.__cause__ = exc
            return _Ended(line, error=error)
        except CancelledError as exc:
            return self._over(job, watch, began, CANCELLED, "cancelled", exc)
        except Exception as exc:  # noqa: BLE001 - raised again by who waits for it
            return self._over(job, watch, began, FAILED, f"failed: {exc}", exc)
        except BaseException as exc:  # noqa: BLE001 - as above; an interrupted job is gone on with
            return _Ended(f"{job.what}: {INTERRUPTED}", error=exc)
        line = f"{job.what}: done, {did.line}, {duration(time.monotonic() - began)}"
        self.queue.update(job, state=DONE, line=line, share=1.0)
        return _Ended(line, result=did.result)

    def _over(
        self, job: Job, watch: _Watch, began: float, state: str, words: str, error: Exception
    ) -> _Ended:
        line = f"{job.what}: {words} after {duration(time.monotonic() - began)}"
        self.queue.update(job, state=state, line=line, share=watch.share)
        return _Ended(line, error=error)

    def _patiently(self, job: Job, watch: _Watch) -> Did:
        """Do a job, and again while the other side is away, as long as that makes sense."""
        failures, since, before = 0, time.monotonic(), 0.0
        while True:
            watch.check()
            try:
                return self._do(job, cancelled=watch.is_cancelled)
            except TargetUnreachableError as exc:
                if watch.furthest > before:
                    failures, since, before = 0, time.monotonic(), watch.furthest
                failures += 1
                pause = PATIENCE.pause_s(failures)
                left = since + (BROKEN_S if watch.furthest else UNREACHED_S) - time.monotonic()
                if pause is None or pause > left:
                    raise
                watch.wait(pause, f"{job.what}: {exc}")


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a job ended."""

    line: str
    result: Any = None
    error: BaseException | None = None


class _Watch(Sink):
    """What is told of a job while it runs; and whether somebody wants it to end."""

    def __init__(self, queue: JobQueue, job: Job, transfer: Transfer | None) -> None:
        self.share: float | None = None
        self.furthest = 0.0
        self._queue, self._job, self._transfer = queue, job, transfer
        self._written = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, progress comes here; without a handle it is seen where it would be, too."""
        if self._transfer is None:
            yield
            return
        with progress_to(self):
            yield

    def show(self, line: str, share: float | None) -> None:
        """Pass it on; ends what tells it when the job was cancelled."""
        self.check()
        self.share, self.furthest = share, max(self.furthest, share or 0.0)
        if self._transfer is not None:
            self._transfer.tell(line, share)
        if time.monotonic() - self._written >= _WRITE_S:
            self._written = time.monotonic()
            self._queue.update(self._job, line=line, share=share)

    def close(self, line: str) -> None:
        """Nothing: a verb's last line is not the job's."""

    def is_cancelled(self) -> bool:
        """Whether somebody wants it to end."""
        return self._queue.is_cancelled(self._job.id)

    def check(self) -> None:
        """Raise CancelledError when somebody does."""
        if self.is_cancelled():
            raise CancelledError

    def wait(self, seconds: float, why: str) -> None:
        """Wait, unless somebody does.

        Args:
            seconds: How long.
            why: What is shown meanwhile, with the time at which it is over.
        """
        until = time.monotonic() + seconds
        at = datetime.now().astimezone() + timedelta(seconds=seconds)
        line = f"{why}; next try at {at:%H:%M:%S}"
        if self._transfer is None:
            sink_here().close(line)
        else:
            self._transfer.say(line)
        self._queue.update(self._job, line=line, share=self.share)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            self.check()
