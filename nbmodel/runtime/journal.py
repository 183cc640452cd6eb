"""The runtime's own log: the last lines, for people who ask it over the network."""

from __future__ import annotations

import logging
import threading
from collections import deque

from nbmodel.core.version import now

MAX_LINES = 2000

logger = logging.getLogger("nbmodel.runtime")


class Journal:
    """What the runtime did and why, newest last. May be used from several threads.

    Lines go to the logger ``nbmodel.runtime`` too.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Record something that went as it should."""
        self._add(logging.INFO, text)

    def warn(self, text: str) -> None:
        """Record something that did not."""
        self._add(logging.WARNING, text)

    def lines(self, count: int) -> list[str]:
        """The last ``count`` lines, each with its time in UTC."""
        with self._lock:
            return list(self._lines)[-count:] if count > 0 else []

    def _add(self, level: int, text: str) -> None:
        line = " ".join(text.split())  # one entry, one line
        with self._lock:
            self._lines.append(f"{now()} {logging.getLevelName(level)} {line}")
        logger.log(level, "%s", line)
