"""The runtime's event log: what it did and why, for people who ask over the network.

The last events are kept in a file too, an object a line, so that a restart forgets nothing.
That file is told from, not relied on: a disk that refuses it keeps no model from running,
and a line that a power cut tore is passed over.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nbmodel.core.event import MAX_TEXT, NOTE, Event
from nbmodel.core.version import now
from nbmodel.errors import FormatError
from nbmodel.storage.atomic import write_atomically

EVENTS_FILE = "events.jsonl"  # in the home of a runtime
MAX_EVENTS = 2000  # kept; the file has up to twice as many before it is written anew
_MAX_FILE = 32 * 1024 * 1024  # bytes of it that are read at the start

logger = logging.getLogger("nbmodel.runtime")


class Journal:
    """What the runtime did and why, newest last. May be used from several threads.

    Lines go to the logger ``nbmodel.runtime`` too.

    Args:
        file: Where events are kept over restarts; None: nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        # Two, so that who reads, on the event loop, never waits for the disk.
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], object]] = []
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._last = 0
        self._lines = 0  # in the file
        self._is_whole = True  # whether the file has every event that it should
        if file is not None:
            self._read(file)

    @property
    def last(self) -> int:
        """Number of the newest event; 0 before the first."""
        return self._last

    def note(self, text: str, *, service: str | None = None, type: str = NOTE) -> None:  # noqa: A002 # as it is called in the event
        """Record something that went as it should."""
        self._add(logging.INFO, text, service, type)

    def warn(self, text: str, *, service: str | None = None, type: str = NOTE) -> None:  # noqa: A002 # as it is called in the event
        """Record something that did not."""
        self._add(logging.WARNING, text, service, type)

    def lines(self, count: int) -> list[str]:
        """The last ``count`` events as lines, each with its time in UTC."""
        with self._lock:
            return [event.line for event in list(self._events)[-count:]] if count > 0 else []

    def since(self, seq: int) -> list[Event]:
        """The events after the one of that number, as far as they are kept, oldest first."""
        with self._lock:
            return [event for event in self._events if event.seq > seq]

    @contextmanager
    def watched(self, wake: Callable[[], object]) -> Iterator[None]:
        """Inside, ``wake`` is called after each new event, from whichever thread it comes.

        Args:
            wake: Returns at once, and raises nothing.
        """
        with self._lock:
            self._watchers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(wake)

    def _add(self, level: int, text: str, service: str | None, kind: str) -> None:
        line = " ".join(text.split())[:MAX_TEXT]  # one entry, one line
        with self._writing:
            with self._lock:
                self._last += 1
                name = logging.getLevelName(level).lower()
                event = Event(self._last, now(), name, service, kind, line)
                self._events.append(event)
                watchers = list(self._watchers)
            self._keep(event)
        logger.log(level, "%s", line)
        for wake in watchers:
            wake()

    # The file

    def _read(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, 2) - _MAX_FILE))
                content = stream.read(_MAX_FILE)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._failed(exc)
            return
        for line in content.splitlines():
            self._lines += 1
            try:
                event = Event.from_json(json.loads(line))
            except (ValueError, RecursionError, FormatError):
                self._is_whole = False
                continue
            if event.seq > self._last:  # else it is not one of this log
                self._events.append(event)
                self._last = event.seq
        if not content.endswith(b"\n"):
            self._is_whole = False

    def _keep(self, event: Event) -> None:
        if self._file is None:
            return
        try:
            if self._is_whole and self._lines < 2 * MAX_EVENTS:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab", buffering=0) as stream:
                    stream.write(_encoded(event))
                self._lines += 1
            else:  # anew, with what is kept: small again, and of whole lines only
                write_atomically(self._file, b"".join(map(_encoded, self._events)), mode=0o600)
                self._lines, self._is_whole = len(self._events), True
        except OSError as exc:
            self._failed(exc)

    def _failed(self, exc: OSError) -> None:
        if self._is_whole:  # else it was said already
            logger.warning("the event log %s is not kept: %s", self._file, exc)
        self._is_whole = False


def _encoded(event: Event) -> bytes:
    return json.dumps(event.to_json(), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
