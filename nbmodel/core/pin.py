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
