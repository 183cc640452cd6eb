"""What a runtime did at one moment, as it tells others. Rules only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.errors import FormatError

LEVELS = ("info", "warning", "error")
MAX_TEXT = 4000  # characters of one event; the rest is cut
NOTE = "Note"  # the type of an event that is of no other


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a runtime's event log.

    Attributes:
        seq: Its number, ≥ 1; each is one more than the one before, over restarts too.
        time: When, in UTC: ``2026-02-28T13:36:51.123Z``.
        level: One of ``LEVELS``.
        service: The service that it is about, or None.
        type: What kind of thing happened, in CamelCase: ``Committed``.
        text: One line for people.
    """

    seq: int
    time: str
    level: str
    service: str | None
    type: str
    text: str

    @property
    def line(self) -> str:
        """As a line of a log: ``2026-02-28T13:36:51.123Z WARNING text``."""
        return f"{self.time} {self.level.upper()} {self.text}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "seq": self.seq,
            "time": self.time,
            "level": self.level,
            "service": self.service,
            "type": self.type,
            "text": self.text,
        }

    @classmethod
    def from_json(cls, data: object) -> Event:
        """What ``to_json`` gave; keys that are not known are passed over.

        Raises:
            FormatError: It is not an event.
        """
        if not isinstance(data, Mapping):
            raise FormatError(f"an event must be an object, found {type(data).__name__}")
        seq, level, service = data.get("seq"), data.get("level"), data.get("service")
        texts = {key: data.get(key) for key in ("time", "type", "text")}
        wrong = [f"{key}={value!r}" for key, value in texts.items() if not isinstance(value, str)]
        if type(seq) is not int or seq < 1:
            wrong.append(f"seq={seq!r}")
        if level not in LEVELS:
            wrong.append(f"level={level!r}")
        if service is not None and not isinstance(service, str):
            wrong.append(f"service={service!r}")
        if wrong:
            raise FormatError(f"not an event, found {', '.join(wrong)[:200]}")
        return cls(
            seq=data["seq"],
            time=data["time"][:64],
            level=data["level"],
            service=service,
            type=data["type"][:64],
            text=data["text"][:MAX_TEXT],
        )
