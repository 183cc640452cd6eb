"""A verb that runs in the background, as it is written down. Rules only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.errors import FormatError

JOB_ID = re.compile(r"[0-9a-f]{8}")
OPEN = "open"  # it is still to be done
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
STATES = (OPEN, DONE, FAILED, CANCELLED)
#: How a line goes on after what is done, of a job that waits for others, or was given up.
WAITING, INTERRUPTED = "waiting", "interrupted"
LINEAGE = "lineage"  # the argument that says where a job was asked for
MAX_LINE = 1000  # characters of what is told of one; the rest is cut


@dataclass(frozen=True, slots=True)
class Job:
    """One verb with what it is given, and how far it is.

    Attributes:
        id: Eight hexadecimal digits.
        verb: ``push`` or ``upload``.
        given: Its arguments by name, JSON values.
        registry: Folder of the registry that it is of.
        created: When it was asked for, UTC: ``2026-02-28T13:36:51.250000Z``.
        state: One of ``STATES``. An open one that no process works on was interrupted.
        line: How far it is, or how it ended.
        share: How much is done, 0..1; None when nobody knows.

    Raises:
        FormatError: A field is none of its kind.
    """

    id: str
    verb: str
    given: Mapping[str, Any] = field(compare=False)
    registry: str
    created: str
    state: str = OPEN
    line: str = ""
    share: float | None = None

    def __post_init__(self) -> None:
        words = (self.id, self.verb, self.registry, self.created, self.state, self.line)
        if not all(isinstance(word, str) for word in words):
            raise FormatError("transfer: a field is no text")
        if JOB_ID.fullmatch(self.id) is None:
            raise FormatError(f"transfer {self.id[:20]!r}: expected eight hexadecimal digits")
        if self.state not in STATES or not isinstance(self.given, Mapping):
            raise FormatError(f"transfer {self.id}: its state or arguments are none")
        share: object = self.share
        if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
            raise FormatError(f"transfer {self.id}: its share is not in 0..1")

    @property
    def what(self) -> str:
        """It in a few words: ``push digits``."""
        subject = self.given.get("name") or self.given.get("reference")
        return f"{self.verb} {subject}" if isinstance(subject, str) else self.verb

    @property
    def to(self) -> str:
        """The remote that it is to go to, as it was asked for; empty for none."""
        remote = self.given.get("remote")
        return remote if isinstance(remote, str) else ""

    @property
    def lane(self) -> str:
        """The host that it is to go to: jobs of one would only share its line; empty for none."""
        return self.to.rpartition("://")[2].partition("/")[0].lower()

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return self.state == OPEN

    @property
    def is_waiting(self) -> bool:
        """Whether it was last heard of while it waited for others of its host."""
        return self.line == f"{self.what}: {WAITING}"

    @property
    def why(self) -> str:
        """Why it was given up; empty where the process ended amid it, so that nobody said."""
        return self.line if self.line.startswith(f"{self.what}: {INTERRUPTED}") else ""

    def is_same(self, other: Job) -> bool:
        """Whether it does what another one does, wherever that was asked for."""
        mine, others = ({**job.given, LINEAGE: None} for job in (self, other))
        return (self.verb, self.registry, mine) == (other.verb, other.registry, others)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "id": self.id,
            "verb": self.verb,
            "given": dict(self.given),
            "registry": self.registry,
            "created": self.created,
            "state": self.state,
            "line": self.line,
            "share": self.share,
        }

    @classmethod
    def from_json(cls, data: object) -> Job:
        """What ``to_json`` gave; keys that are not known are passed over.

        Raises:
            FormatError: It is not one.
        """
        if not isinstance(data, Mapping):
            raise FormatError(f"a transfer must be an object, found {type(data).__name__}")
        try:
            return cls(**{name: data[name] for name in cls.__slots__})
        except KeyError as exc:
            raise FormatError(f"transfer without {exc.args[0]!r}") from exc
