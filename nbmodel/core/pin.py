"""Pins: a model's name held at one version until it is unpinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pin:
    """A name held at one version, for one runtime or for the whole registry.

    Attributes:
        model: The model's present name.
        number: The version it is held at.
        runtime: The runtime it is held for, or None for everything that follows the name.
        at: When it was set; UTC, ISO 8601.
        who: Login name of who set it.
        why: Free text, may be empty.
    """

    model: str
    number: int
    runtime: str | None
    at: str
    who: str
    why: str = ""

    @property
    def reference(self) -> str:
        """``digits:3``."""
        return f"{self.model}:{self.number}"

    @property
    def scope(self) -> str:
        """Who is held, for messages: ``runtime 'pi'`` or ``the registry``."""
        return "the registry" if self.runtime is None else f"runtime {self.runtime!r}"

    @property
    def holding(self) -> str:
        """``digits is held at 3 on pi since 2026-01-02 10:20:30 UTC (rolled back digits)``."""
        where = "" if self.runtime is None else f" on {self.runtime}"
        since = self.at[:19].replace("T", " ")
        why = f" ({self.why})" if self.why else ""
        return f"{self.model} is held at {self.number}{where} since {since} UTC{why}"

    @property
    def release(self) -> str:
        """The words of the command that lets go of it: ``unpin digits --on pi``."""
        return f"unpin {self.model}" + ("" if self.runtime is None else f" --on {self.runtime}")

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "model": self.model,
            "number": self.number,
            "runtime": self.runtime,
            "at": self.at,
            "who": self.who,
            "why": self.why,
        }
