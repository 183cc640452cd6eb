"""What changes while one looks: one display of a notebook, or lines of a terminal.

In a notebook everything is in one display, which is updated by its id and leaves one line in
the end; no script runs in the page, so it reads the same everywhere and in a saved file. In
a terminal, what happens comes as lines, and the present state is one line below them that is
written over. A pipe gets the lines alone; the state goes to stderr when it changes.
"""

from __future__ import annotations

import html
import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, Protocol, TextIO
from uuid import uuid4

from nbmodel.core.event import Event
from nbmodel.display.base import Result
from nbmodel.display.printable import printable
from nbmodel.display.quantity import duration

_INTERVAL_S = 0.2  # between two updates of a page; the last one always comes


class View(Protocol):
    """Where something is seen that changes."""

    def show(self, result: Result, headline: str) -> None:
        """Show how it is now.

        Args:
            result: All of it.
            headline: The same in one line.
        """

    def tell(self, event: Event) -> None:
        """Tell of something that happened."""

    def close(self, line: str) -> None:
        """Leave a last line."""


class NotebookView:
    """One display of a notebook, updated by its id.

    Args:
        display: ``IPython.display.display``, or what takes the same arguments.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._id = uuid4().hex
        self._is_shown = False
        self._last: tuple[str, str] | None = None
        self._at = 0.0

    def show(self, result: Result, headline: str) -> None:
        """Draw it anew, where it is not what is there."""
        text = result.text()
        if self._last == (text, headline):
            return
        # A page that is drawn anew more often than one can read only flickers.
        pause = self._at + _INTERVAL_S - time.monotonic()
        if self._is_shown and pause > 0:
            time.sleep(pause)
        self._last, self._at = (text, headline), time.monotonic()
        line = printable(headline)
        self._publish(f"{line}\n\n{text}", _status(line) + result.html())

    def tell(self, event: Event) -> None:
        """Nothing: what is shown has the last events."""

    def close(self, line: str) -> None:
        """Leave the line alone; the result itself is shown by who asked for it."""
        self._publish(printable(line), _status(printable(line)))

    def _publish(self, text: str, page: str) -> None:
        bundle = {"text/plain": text, "text/html": page}
        # Before, for an interrupt may come in the midst of it: one display is never made twice.
        is_shown, self._is_shown = self._is_shown, True
        self._display(bundle, raw=True, display_id=self._id, update=is_shown)


def _status(line: str) -> str:
    # What a screen reader says by itself when it changes: one line, not the whole card.
    return f'<div role="status" aria-live="polite">{html.escape(line)}</div>'


class TerminalView:
    """Lines of a terminal, the last of which is written over.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""

    def show(self, result: Result, headline: str) -> None:
        """Write the headline over the one before."""
        del result
        line = printable(headline)[: shutil.get_terminal_size().columns - 1]
        self._write("\r" + line.ljust(len(self._line)))
        self._line = line

    def tell(self, event: Event) -> None:
        """A line above the headline."""
        line = printable(event.line)
        self._write("\r" + line.ljust(len(self._line)) + "\n" + self._line)

    def close(self, line: str) -> None:
        """The headline makes way for the last line."""
        self._write("\r" + printable(line).ljust(len(self._line)) + "\n")
        self._line = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class LinesView:
    """A file or pipe: what happens, a line each.

    Args:
        stream: Where to.
        headlines: Where a line goes when the headline changes; None: nowhere.
    """

    def __init__(self, stream: TextIO, headlines: TextIO | None = None) -> None:
        self._stream = stream
        self._headlines = headlines
        self._headline = ""

    def show(self, result: Result, headline: str) -> None:
        """Write the headline, where it changed; the result is shown by who asked for it."""
        del result
        if self._headlines is not None and headline != self._headline:
            self._headlines.write(printable(headline) + "\n")
            self._headlines.flush()
            self._headline = headline

    def tell(self, event: Event) -> None:
        """Write the line."""
        self._write(printable(event.line))

    def close(self, line: str) -> None:
        """Nothing."""

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class JsonView(LinesView):
    """For machines: a JSON object a line.

    Args:
        stream: Where to.
        what: What is written: each state that differs from the one before, each event, or
            nothing.
        headlines: Where a line goes when the headline changes; None: nowhere.
    """

    def __init__(
        self,
        stream: TextIO,
        what: Literal["states", "events", "nothing"],
        headlines: TextIO | None = None,
    ) -> None:
        super().__init__(stream, headlines)
        self._what = what
        self._last = ""

    def show(self, result: Result, headline: str) -> None:
        """Write the state, where it changed."""
        super().show(result, headline)
        line = json.dumps(result.to_json(), ensure_ascii=False)
        if self._what == "states" and line != self._last:
            self._write(line)
            self._last = line

    def tell(self, event: Event) -> None:
        """Write the event."""
        if self._what == "events":
            self._write(json.dumps(event.to_json(), ensure_ascii=False))


def view_here(*, headlines: bool = True) -> View:
    """The notebook that this code runs in, else the terminal, else lines to stdout.

    IPython is asked only where something else has imported it.

    Args:
        headlines: Whether lines go with the headline, on stderr, when it changes.
    """
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    if shell is not None and hasattr(shell, "kernel"):
        return NotebookView(import_module("IPython.display").display)
    if sys.stdout.isatty():
        return TerminalView(sys.stdout)
    return LinesView(sys.stdout, sys.stderr if headlines else None)


def followed(what: str, seconds: float, *, ending: str) -> str:
    """The last line: ``edge: settled after 3.2 s``."""
    return f"{what}: {ending} after {duration(seconds)}"
