"""How far a long job has come: one line, in place, that stays when the job is done.

In a notebook it is one display with text and HTML, updated by its id, so it works from
any thread and leaves one small output in the saved file. In a terminal it is one line
that is written over; where nobody watches, only the last line is printed. A job that
ends within a moment shows nothing at all.
"""

from __future__ import annotations

import html
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO
from uuid import uuid4

from nbmodel.display.printable import printable
from nbmodel.display.quantity import duration, file_size

if TYPE_CHECKING:
    from typing_extensions import Self

_INTERVAL_S = 0.1  # ten updates a second are as many as an eye follows
_DELAY_S = 0.4  # shorter jobs need no progress
_given = threading.local()


class Sink(Protocol):
    """Where progress is seen."""

    def show(self, line: str, share: float | None) -> None:
        """Show a line in place of the last.

        Args:
            line: Without control characters.
            share: How much is done, 0..1, or None when nobody knows.
        """

    def close(self, line: str) -> None:
        """Leave a last line."""


class Progress:
    """Counts bytes or steps, from any thread, and shows how far they are.

    As a context manager it leaves a last line: what was done and how long it took, or
    that it was cancelled. ``progress.advance`` is the callback that storages take.

    ::

        with Progress("upload digits", total=24_100_000) as progress:
            storage.add_file(path, progress=progress.advance)

    Args:
        what: Names the job.
        total: How much there is to do; None when nobody knows.
        unit: What is counted: ``bytes``, or the plural of anything else.
        sink: Where it is seen; None: the notebook, the terminal, or stderr.
    """

    def __init__(
        self, what: str, *, total: int | None = None, unit: str = "bytes", sink: Sink | None = None
    ) -> None:
        self.what = printable(what)
        self.total = total
        self.done = 0
        self._unit = unit
        self._sink = sink_here() if sink is None else sink
        self._note = ""
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._last = self._began + _DELAY_S - _INTERVAL_S
        self._is_seen = False

    def advance(self, amount: int) -> None:
        """Count ``amount`` more; draws when it is time to."""
        with self._lock:
            self.done += amount
            self._draw()

    __call__ = advance

    def expect(self, total: int) -> None:
        """Say how much there is to do, now that it is known."""
        with self._lock:
            self.total = total

    def note(self, text: str) -> None:
        """Say what is happening, beside the count."""
        with self._lock:
            self._note = printable(text)
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        ending = "done"
        if kind is not None:
            ending = "cancelled" if issubclass(kind, KeyboardInterrupt) else "failed"
        with self._lock:
            self._close(ending)
        return False

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._last < _INTERVAL_S:
            return
        self._last = now
        self._is_seen = True
        share = min(self.done / self.total, 1.0) if self.total else None
        self._sink.show(self._line(now, share), share)

    def _close(self, ending: str) -> None:
        took = time.monotonic() - self._began
        if not self._is_seen and took < _DELAY_S:
            return
        # Seconds that were to be spent say nothing beside those it took.
        counted = f"{self._amount(self.done)}, " if self.done and self._unit != "s" else ""
        self._sink.close(f"{self.what}: {ending}, {counted}{duration(took)}")

    def _line(self, now: float, share: float | None) -> str:
        parts = [self.what]
        if share is not None:
            parts.append(f"{share:4.0%}")
        if self.total:
            parts.append(f"{self._amount(self.done)} of {self._amount(self.total)}")
        elif self.done:
            parts.append(self._amount(self.done))
        took = now - self._began
        if self._unit == "bytes" and self.done and took > 0:
            parts.append(f"{file_size(int(self.done / took))}/s")
        if self._note:
            parts.append(self._note)
        return "  ".join(parts)

    def _amount(self, amount: int) -> str:
        return file_size(amount) if self._unit == "bytes" else f"{amount:,} {self._unit}"


class NotebookSink:
    """One display of a notebook, updated by its id.

    Args:
        display: ``IPython.display.display``, or what takes the same arguments.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._id = uuid4().hex
        self._is_shown = False

    def show(self, line: str, share: float | None) -> None:
        """Draw the bar."""
        value = "" if share is None else f' value="{share:.3f}" max="1"'
        label = html.escape(line.partition("  ")[0], quote=True)
        bar = (
            f'<progress aria-label="{label}"{value} '
            'style="width:220px;vertical-align:middle"></progress> '
        )
        self._publish(line, f"{bar}{html.escape(line)}")

    def close(self, line: str) -> None:
        """Leave the line without the bar."""
        self._publish(line, html.escape(line))

    def _publish(self, text: str, inner: str) -> None:
        bundle = {"text/plain": text, "text/html": f'<div role="status">{inner}</div>'}
        self._display(bundle, raw=True, display_id=self._id, update=self._is_shown)
        self._is_shown = True


class TerminalSink:
    """One line of a terminal, written over.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def show(self, line: str, share: float | None) -> None:
        """Write over the line."""
        del share
        self._write(line[: shutil.get_terminal_size().columns - 1])

    def close(self, line: str) -> None:
        """Leave the line and go to the next."""
        self._write(line)
        self._stream.write("\n")
        self._stream.flush()

    def _write(self, line: str) -> None:
        # Blanks over what was longer: every terminal knows them, not every one an escape.
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)


class StreamSink:
    """A file or pipe: only what stays is written.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, line: str, share: float | None) -> None:
        """Write nothing."""

    def close(self, line: str) -> None:
        """Write the last line."""
        self._stream.write(line + "\n")
        self._stream.flush()


class SilentSink:
    """Nowhere."""

    def show(self, line: str, share: float | None) -> None:
        """Do nothing."""

    def close(self, line: str) -> None:
        """Do nothing."""


@contextmanager
def progress_to(sink: Sink) -> Iterator[None]:
    """Inside, whatever this thread begins is seen there and nowhere else."""
    before = getattr(_given, "sink", None)
    _given.sink = sink
    try:
        yield
    finally:
        _given.sink = before


def sink_here() -> Sink:
    """What this thread was given, else the notebook that it runs in, the terminal, or stderr.

    IPython is asked only where something else has imported it.
    """
    given: Sink | None = getattr(_given, "sink", None)
    if given is not None:
        return given
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    if shell is not None and hasattr(shell, "kernel"):
        # Named only here: a runtime, which never has IPython, imports this module too.
        return NotebookSink(import_module("IPython.display").display)
    stream: TextIO | None = sys.stderr
    if stream is None:  # a program without a console
        return SilentSink()
    return TerminalSink(stream) if stream.isatty() else StreamSink(stream)
