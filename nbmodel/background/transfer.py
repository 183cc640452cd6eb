"""One verb that runs in the background of this process, and the handle on it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from importlib import import_module
from typing import Any

from nbmodel.core.job import Job
from nbmodel.display.base import Result
from nbmodel.display.card import Card, Facts
from nbmodel.display.printable import printable
from nbmodel.display.progress import NotebookSink

_INTERVAL_S = 0.25  # between two updates of what nobody looks at all the time


class Transfer(Result):
    """A push or upload under way: one display that follows it, and ways to wait for it.

    ::

        transfer = client.push("digits", background=True)
        transfer.progress            # 0.0 … 1.0, None while nobody knows
        card = await transfer        # or transfer.result()
        transfer.cancel()

    An interrupt of what waits for it is no end of it. It ends with its process; the next one
    finishes it by ``nbmodel transfers --resume``.

    Args:
        job: What is done.
        cancel: Has it end.
    """

    def __init__(self, job: Job, cancel: Callable[[], object]) -> None:
        self.id = job.id
        self.what = printable(job.what)
        self._cancel = cancel
        self._future: Future[Any] = Future()
        # Of waiting tasks, a cancelled one must not take the work with it.
        self._future.set_running_or_notify_cancel()
        self._lock = threading.Lock()
        self._share: float | None = None
        self._line = f"{self.what}: waiting"
        self._shown_at = 0.0
        self._shown = self._line
        self._display = _notebook_display()
        if self._display is not None:
            # Here and now: begun by the thread that works, it would be below whatever cell runs.
            self._display.show(self._line, None)

    @property
    def progress(self) -> float | None:
        """How much is done, 0..1; None while nobody knows."""
        return self._share

    @property
    def line(self) -> str:
        """How far it is, or how it ended, in one line."""
        return self._line

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self._future.done()

    def cancel(self) -> None:
        """Have it end soon. What is at the other side stays there for the next time."""
        self._cancel()

    def result(self, timeout_s: float | None = None) -> Any:
        """What the verb gives, waited for.

        Args:
            timeout_s: Seconds to wait at most; None: as long as it takes.

        Raises:
            concurrent.futures.TimeoutError: It is not there in time.
            concurrent.futures.CancelledError: It was cancelled.
            NbModelError: What the verb raises.
        """
        return self._future.result(timeout_s)

    def exception(self, timeout_s: float | None = None) -> BaseException | None:
        """What the verb raised, waited for; None when it did not."""
        return self._future.exception(timeout_s)

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._future).__await__()

    # What the work says

    def tell(self, line: str, share: float | None) -> None:
        """Show how far it is, where that is new and it is time to."""
        with self._lock:
            self._line, self._share = line, share
            if time.monotonic() - self._shown_at >= _INTERVAL_S:
                self._show()

    def say(self, line: str) -> None:
        """Show at once what it does now, where that is no number."""
        with self._lock:
            self._line = line
            self._show()

    def _show(self) -> None:
        if self._display is None or self._future.done() or self._shown == self._line:
            return
        self._shown, self._shown_at = self._line, time.monotonic()
        self._display.show(self._line, self._share)

    def end(self, line: str, *, result: Any = None, error: BaseException | None = None) -> None:
        """Leave the last line, and let those go on that wait."""
        with self._lock:
            self._line = line
            if error is None:
                self._share = 1.0
            if self._display is not None:
                self._display.close(line)
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)

    # How it shows itself

    def card(self) -> Card:
        """One line."""
        share = "" if self._share is None else f"{self._share:.0%}"
        return Card(self._line, blocks=[Facts([("id", self.id), ("done", share)])], kind="transfer")

    def to_json(self) -> dict[str, Any]:
        """Id, line and share."""
        return {"id": self.id, "what": self.what, "line": self._line, "share": self._share}

    def _ipython_display_(self) -> None:
        """Its display, once more: not twice below the cell that began it."""
        with self._lock:
            if self._display is None:
                print(self._line)  # noqa: T201 - a terminal's way to show a value
            else:
                self._display.again(self._line, None if self._future.done() else self._share)

    def __repr__(self) -> str:
        return f"<transfer {self.id}: {self._line}>"


class _Display(NotebookSink):
    """One display of a notebook that may be shown below several cells."""

    def __init__(self, display: Callable[..., Any], cell: Callable[[], object]) -> None:
        super().__init__(display)
        self._cell = cell
        self._cells = {cell()}

    def again(self, line: str, share: float | None) -> None:
        """Show it below this cell too, where it is not."""
        if self._cell() in self._cells:
            return
        self._cells.add(self._cell())
        self._is_shown = False
        if share is None:
            self.close(line)
        else:
            self.show(line, share)


def _notebook_display() -> _Display | None:
    """The notebook that this code runs in; None in a terminal, whose lines are others'."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return _Display(
        import_module("IPython.display").display, lambda: getattr(shell, "execution_count", None)
    )
