"""Threads for gRPC calls: as many as were ever busy together, and little ado for each call.

``ThreadPoolExecutor`` makes a future with a condition for every task, and starts a thread
for a task that an idle one could have had. grpcio wants to hear of the end, and no more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

logger = logging.getLogger(__name__)


class Task:
    """Something to run in a thread; as much of a future as grpcio uses."""

    __slots__ = ("_args", "_callback", "_function", "_is_done", "_lock")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._lock = threading.Lock()
        self._is_done = False
        self._callback: Callable[[Task], object] | None = None

    def add_done_callback(self, callback: Callable[[Task], object]) -> None:
        """Have ``callback`` called once, when this was run; at once when it was already."""
        with self._lock:
            if not self._is_done:
                self._callback = callback
                return
        callback(self)

    def run(self) -> None:
        """Run it; what it raises is logged."""
        try:
            self._function(*self._args)
        except Exception:
            logger.exception("a call failed")
        with self._lock:
            self._is_done = True
        if self._callback is not None:
            self._callback(self)


class CallPool:
    """A pool of threads, which grpcio takes for an executor.

    Args:
        threads: Most that run at the same time; further tasks wait for one.
    """

    def __init__(self, threads: int) -> None:
        self._max = threads
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._open = 0  # tasks that were submitted and are not finished
        self._threads = 0

    def submit(self, function: Callable[..., object], /, *args: Any) -> Task:
        """Run a function in a thread."""
        task = Task(function, args)
        with self._lock:
            self._open += 1
            is_short = self._open > self._threads and self._threads < self._max
            if is_short:
                self._threads += 1
                name = f"nbmodel-grpc-{self._threads}"
        if is_short:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._tasks.put(task)
        return task

    def shutdown(self) -> None:
        """Let the threads end when all that was submitted has been run."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
            with self._lock:
                self._open -= 1
            del task  # a request's tensors, while this thread waits
