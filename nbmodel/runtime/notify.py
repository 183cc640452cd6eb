"""Telling the service manager how the process is: ready, alive, ending.

Datagrams to the socket that systemd names in ``NOTIFY_SOCKET``. Without one, nothing is
told to nobody. What is logged goes to its journal by standard error.

Source: systemd ``sd_notify(3)``, ``sd_watchdog_enabled(3)``.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping

logger = logging.getLogger(__name__)

#: Level of a log → priority of the service manager's journal.
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_TIMEOUT_S = 1.0  # for what is said once; a sign of life follows another


class Notifier:
    """What the service manager is told. May be used from several threads.

    A manager that does not listen is no error: the process goes on without it.

    Args:
        address: Path of the manager's socket, or ``@`` and an abstract name; None: there
            is no manager.
        watchdog_s: Within how many seconds it wants a sign of life each time; None: it
            wants none.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._status = ""
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """What this process was given; children shall not take it for theirs.

        Args:
            environment: The variables are taken out of it.
        """
        given = {name: environment.pop(name, "") for name in _VARIABLES}
        address = given["NOTIFY_SOCKET"]
        if not address.startswith(("/", "@")):
            return cls()  # none, or one that is not of this machine
        is_ours = given["WATCHDOG_PID"] in ("", str(os.getpid()))
        text = given["WATCHDOG_USEC"]
        microseconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
        return cls(address, microseconds / 1e6 if is_ours and microseconds else None)

    @property
    def is_listened_to(self) -> bool:
        """Whether there is a manager."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """It takes requests."""
        self._tell("READY=1", *self._changed(status), timeout_s=_TIMEOUT_S)

    def status(self, status: str) -> None:
        """What it does now, one line for people; told when it changed."""
        changed = self._changed(status)
        if changed:
            self._tell(*changed)

    def alive(self) -> None:
        """A sign of life, for the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It is about to end."""
        self._tell("STOPPING=1", *self._changed("ending"), timeout_s=_TIMEOUT_S)

    def _changed(self, status: str) -> list[str]:
        line = " ".join(status.split())[:500]
        if not line or line == self._status:
            return []
        self._status = line
        return [f"STATUS={line}"]

    def _tell(self, *assignments: str, timeout_s: float = 0.0) -> None:
        if self._address is None:
            return
        address = self._address
        path = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(timeout_s)  # a manager that is busy must not hold us up
                sender.sendto("\n".join(assignments).encode(), path)
        except OSError as exc:
            logger.debug("cannot tell %s %s: %s", address, assignments, exc)


class JournalFormatter(logging.Formatter):
    """Lines for standard error where the service manager keeps it: priority, then text.

    Source: systemd ``sd-daemon(3)``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record; the journal adds the time."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def is_kept_by_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the service manager keeps what this process writes to standard error."""
    return bool(environment.get("JOURNAL_STREAM"))
