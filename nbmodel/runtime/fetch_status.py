"""How far fetching a package's version is, as a value."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

#: ``waiting`` for its registry's first answer or for the next attempt; ``done``: the
#: version that the registry names is on the device; ``failed``: why is in ``error``.
FetchState: TypeAlias = Literal["waiting", "fetching", "done", "failed"]


@dataclass(frozen=True, slots=True)
class FetchStatus:
    """How far fetching a package's version is.

    Attributes:
        state: What it does.
        version: What the version is called: its timestamp id, else its number, else a
            piece of its digest; None before the registry told.
        bytes: How many of the version's bytes are on the device.
        total: How many it has; 0 before the registry told.
        reused: How many of ``bytes`` did not go over the network.
        attempt: How often it was tried, this time included; 0 before the first.
        retry_at: When it is tried again, by the monotonic clock; None: not by itself.
        error: Why it failed the last time, or None.
        hint: What to do about it, or None.
        terminal: Whether trying again is useless until something changes: the wish, the
            version, or the free space.
    """

    state: FetchState = "waiting"
    version: str | None = None
    bytes: int = 0
    total: int = 0
    reused: int = 0
    attempt: int = 0
    retry_at: float | None = None
    error: str | None = None
    hint: str | None = None
    terminal: bool = False

    @property
    def percent(self) -> float:
        """How much of the version is on the device, 0 to 100."""
        if self.total == 0:
            return 100.0 if self.state == "done" else 0.0
        return math.floor(1000 * self.bytes / self.total) / 10

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until it is tried again, or None."""
        return None if self.retry_at is None else max(0.0, self.retry_at - time.monotonic())

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        retry_in_s = self.retry_in_s
        return {
            "state": self.state,
            "version": self.version,
            "bytes": self.bytes,
            "total": self.total,
            "percent": self.percent,
            "reused": self.reused,
            "attempt": self.attempt,
            "retry_in_s": None if retry_in_s is None else round(retry_in_s, 1),
            "error": self.error,
            "hint": self.hint,
            "terminal": self.terminal,
        }
