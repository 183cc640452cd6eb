"""Further processes that answer on the runtime's port, so that all cores are used.

The kernel shares connections between the processes that listen on one port
(``SO_REUSEPORT``). A worker has the models that are live, and answers requests about them;
everything else that comes to it (the control plane, pushes, settings, statistics) it
passes on to the runtime's own process, connection and all. So a worker decides nothing: it
is told what is live after each pass of the reconciler, and a worker that dies is started
again and told the same.
"""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbmodel.errors import InputError
from nbmodel.runtime.channel import (
    lines,
    send_line,
    source_to_json,
    statistics_from_json,
    take_connection,
)
from nbmodel.runtime.limits import Limits
from nbmodel.runtime.services import Source
from nbmodel.runtime.statistics import ModelStatistics
from nbmodel.runtime.tally import Tally

FOLLOW_TIMEOUT_S = 60.0  # a worker loads a big model as long as the runtime did
ASK_TIMEOUT_S = 2.0
_SLOWEST_RESTART_S = 30.0
_STABLE_S = 60.0  # a worker that ran so long is started again at once

logger = logging.getLogger(__name__)

Adopt = Callable[[socket.socket, bytes], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker must know to serve beside its runtime.

    Attributes:
        home: The runtime's.
        host: Address to listen on.
        port: Of it; the runtime listens there already.
        token: What every request must carry, or None.
        hosts: Names the runtime may be called by; None: any.
        limits: What clients may use, of each process.
    """

    home: Path
    host: str
    port: int
    token: str | None
    hosts: frozenset[str] | None
    limits: Limits

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives it back."""
        return {
            "home": str(self.home),
            "host": self.host,
            "port": self.port,
            "token": self.token,
            "hosts": None if self.hosts is None else sorted(self.hosts),
            "limits": asdict(self.limits),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setup:
        """The setup that ``to_json`` wrote."""
        hosts = data["hosts"]
        return cls(
            Path(data["home"]),
            data["host"],
            data["port"],
            data["token"],
            None if hosts is None else frozenset(hosts),
            Limits(**data["limits"]),
        )


def check_workers(count: int) -> None:
    """Whether this machine can share a port among ``count`` processes.

    Raises:
        InputError: It cannot, or the count is no count.
    """
    if count < 1:
        raise InputError(f"--workers must be 1 or more, found {count}")
    if count > 1 and sys.platform != "linux":
        raise InputError(
            f"--workers {count}: only Linux shares a port between processes",
            hint="leave it out: one process serves, and engines use further cores with instances",
        )


class Workers:
    """The worker processes of a runtime.

    Args:
        count: How many, besides the runtime's own process.
        setup: What they must know.
        adopt: Called in a thread of its own with each connection that is not theirs.
    """

    def __init__(self, count: int, setup: Setup, adopt: Adopt) -> None:
        self._workers = [_Worker(number, setup, adopt) for number in range(1, count + 1)]

    def follow(self, sources: Mapping[str, Source]) -> None:
        """Have all workers serve exactly these, and wait until they do.

        Args:
            sources: Name of a service → what it is loaded from.
        """
        table = {name: source_to_json(source) for name, source in sources.items()}
        waited = [worker.follow(table) for worker in self._workers]
        wait(waited, FOLLOW_TIMEOUT_S)
        for number, future in enumerate(waited, 1):
            if not future.done():
                logger.warning("worker %d is not up to date after %g s", number, FOLLOW_TIMEOUT_S)

    def statistics(self, name: str | None = None) -> tuple[tuple[str, ModelStatistics], ...]:
        """What a service, or all of them, did in the workers since it was loaded.

        A worker that does not answer within ``ASK_TIMEOUT_S``, or has died, counts with what
        it told last.

        Returns:
            One pair for each service and worker: the key of the source that the service's
            model was loaded from, and its counts.
        """
        asked = [worker.ask("statistics", {"service": name}) for worker in self._workers]
        wait(asked, ASK_TIMEOUT_S)
        return tuple(
            (key, counts)
            for worker in self._workers
            for key, counts in worker.counts()
            if name in (None, counts.name)
        )

    @property
    def deaths(self) -> int:
        """How many processes ended that nobody told to."""
        return sum(worker.deaths for worker in self._workers)

    def end(self) -> None:
        """Tell the workers to answer what is under way and end; does not wait."""
        for worker in self._workers:
            worker.end()

    def join(self, timeout_s: float) -> None:
        """Wait until the workers have ended; those that do not in time are killed."""
        until = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))


class _Worker:
    """One worker: its process, started again whenever it ends too early."""

    def __init__(self, number: int, setup: Setup, adopt: Adopt) -> None:
        self._number = number
        self._setup = setup
        self._adopt = adopt
        self._lock = threading.Lock()
        self._table: Mapping[str, Any] | None = None
        self._tally = Tally()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._ending = threading.Event()
        self.deaths = 0
        self._thread = threading.Thread(
            target=self._supervise, name=f"nbmodel-worker-{number}", daemon=True
        )
        self._thread.start()

    def follow(self, table: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Have it serve what the table says; a process that starts later does too."""
        with self._lock:
            self._table = table
            self._tally.follow({name: source["key"] for name, source in table.items()})
        return self.ask("follow", {"services": table})

    def ask(self, verb: str, data: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Send a question; the future has the answer, an empty one when the worker is gone."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            channel, number = self._channel, next(self._ids)
            if channel is not None:
                self._asked[number] = future
                try:
                    send_line(channel, {"id": number, "verb": verb, **data})
                except OSError:
                    del self._asked[number]
                else:
                    return future
        future.set_result({})
        return future

    def counts(self) -> tuple[tuple[str, ModelStatistics], ...]:
        """What it did, as far as it told: a model's key and its counts."""
        with self._lock:
            return self._tally.counts()

    def end(self) -> None:
        self._ending.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        process = self._process
        if self._thread.is_alive() and process is not None:
            logger.warning("worker %d did not end, and is killed", self._number)
            process.kill()
            self._thread.join()

    def _supervise(self) -> None:
        pause = 1.0
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                code = self._run()
            except OSError as exc:  # no memory or descriptors for another process
                code = f"cannot start: {exc}"
            if self._ending.is_set():
                return
            self.deaths += 1
            pause = (
                1.0 if time.monotonic() - began > _STABLE_S else min(2 * pause, _SLOWEST_RESTART_S)
            )
            logger.warning("worker %d ended (%s), started again in %g s", self._number, code, pause)
            self._ending.wait(pause)

    def _run(self) -> object:
        """Start the process, listen to it until it ends, and give its exit code."""
        ours, theirs = socket.socketpair()
        passed, passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, passed:
            with theirs, passing:
                ends = (theirs.fileno(), passing.fileno())
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "nbmodel.runtime.worker", *map(str, ends)],
                    pass_fds=ends,
                    stdin=subprocess.DEVNULL,
                )
            with process:
                threading.Thread(
                    target=self._take_connections, args=(passed,), name="nbmodel-adopt", daemon=True
                ).start()
                if self._ending.is_set():  # between the last look and the start
                    process.send_signal(signal.SIGTERM)
                send_line(ours, self._setup.to_json())
                with self._lock:
                    self._channel = ours
                    if self._table is not None:
                        send_line(ours, {"id": 0, "verb": "follow", "services": self._table})
                try:
                    self._listen(ours)
                finally:
                    with self._lock:
                        self._channel = None
                        self._tally.end()
                        left, self._asked = self._asked, {}
                    for future in left.values():
                        future.set_result({})
                return process.wait()

    def _listen(self, channel: socket.socket) -> None:
        for line in lines(channel):
            if "log" in line:
                origin = logging.getLogger(line["name"])
                origin.log(line["level"], "worker %d: %s", self._number, line["log"])
                continue
            with self._lock:
                for key, counts in line["statistics"]:
                    self._tally.tell(key, statistics_from_json(counts))
                future = self._asked.pop(line["id"], None)
            if future is not None:
                future.set_result(line)

    def _take_connections(self, passed: socket.socket) -> None:
        while (given := take_connection(passed)) is not None:
            self._adopt(*given)
