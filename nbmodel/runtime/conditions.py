"""How far a service is with what it should run: a phase and conditions with reasons.

Conditions are about the version that is wanted; another one may serve meanwhile. Rules
only: nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.probe import ProbeReport

Phase: TypeAlias = Literal[
    "waiting",
    "fetching",
    "unpacking",
    "probing",
    "loading",
    "provisional",
    "ready",
    "failed",
    "stopped",
]
#: What is being done for a service right now.
Activity: TypeAlias = Literal["unpacking", "probing", "loading"]
Status: TypeAlias = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Why:
    """A reason.

    Attributes:
        cause: In one word: ``OutsideWindow``.
        text: For people.
    """

    cause: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a service and of the version that it should run.

    Attributes:
        wanted: Label of the version; None for a file by path, or when there is none yet.
        is_path: Whether it runs a file by path, or what a client loaded.
        stopped: Whether it shall not run.
        missing: Why the version is not on the device; None when it is.
        fetch: How far fetching it is; None when nobody fetches.
        unpacked: Why its files are not laid out; None when they are.
        activity: What is being done right now.
        doing: How far that is, in words; may be empty.
        waits: What it waits for before it is tried, or None.
        probe: What came of its probe; None when it was not probed.
        refused: Why it must not run, or None.
        probed_well: Whether ``refused`` is about what came after the probe.
        serves: Label of the version that serves, or what to call it; None when none does.
        is_live: Whether that is the wanted one.
        remaining_s: How long it is still provisional; None when it is not.
        is_committed: Whether it has proven itself.
        committed_after: After how much that was; empty when nobody remembers.
    """

    wanted: str | None = None
    is_path: bool = False
    stopped: bool = False
    missing: Why | None = None
    fetch: FetchStatus | None = None
    unpacked: Why | None = None
    activity: Activity | None = None
    doing: str = ""
    waits: Why | None = None
    probe: ProbeReport | None = None
    refused: Why | None = None
    probed_well: bool = False
    serves: str | None = None
    is_live: bool = False
    remaining_s: float | None = None
    is_committed: bool = False
    committed_after: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing about a service that holds, or does not.

    Attributes:
        type: ``Fetched``, ``Unpacked``, ``Probed``, ``Live`` or ``Committed``.
        status: Whether it holds.
        reason: Why, in one word.
        message: Why, for people; may be empty.
        since: When ``status`` changed last; UTC.
    """

    type: str
    status: Status
    reason: str
    message: str
    since: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "since": self.since,
        }


def phase_of(facts: Facts) -> Phase:
    """What a service is at, in one word."""
    if facts.stopped:
        return "stopped"
    if facts.fetch is not None and facts.fetch.state == "fetching":
        return "fetching"
    if facts.activity is not None:
        return facts.activity
    if facts.refused is not None or facts.unpacked is not None:
        return "failed"
    if facts.waits is not None or facts.missing is not None:
        return "waiting"
    if not facts.is_live:
        return "loading"
    return "ready" if facts.remaining_s is None else "provisional"


def conditions_of(facts: Facts, at: str) -> tuple[Condition, ...]:
    """How far a service is, step by step; every ``since`` is ``at``."""
    if facts.fetch is not None and facts.fetch.state == "fetching":
        # What was wanted until now may serve; these are about the version that comes.
        facts = replace(
            facts,
            missing=facts.missing or Why("Fetching", ""),
            activity=None,
            waits=None,
            probe=None,
            refused=None,
            is_live=False,
            remaining_s=None,
            is_committed=False,
        )
    return tuple(
        Condition(kind, status, reason, message, at)
        for kind, (status, reason, message) in {
            "Fetched": _fetched(facts),
            "Unpacked": _unpacked(facts),
            "Probed": _probed(facts),
            "Live": _live(facts),
            "Committed": _committed(facts),
        }.items()
    )


def kept(before: Iterable[Condition], conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions, each since when its status is what it is.

    Args:
        before: As they were.
        conditions: As they are.
    """
    known = {one.type: one for one in before}
    return tuple(
        Condition(one.type, one.status, one.reason, one.message, known[one.type].since)
        if one.type in known and known[one.type].status == one.status
        else one
        for one in conditions
    )


_Told: TypeAlias = tuple[Status, str, str]


def _fetched(facts: Facts) -> _Told:
    fetch = facts.fetch
    if fetch is not None and fetch.state == "fetching":
        return "False", "Fetching", f"{fetch.percent:g} % of {fetch.total} bytes are here"
    if facts.missing is not None:
        if fetch is None or fetch.error is None:
            return "False", facts.missing.cause, facts.missing.text
        here = f"{fetch.percent:g} % of {fetch.total} bytes are here; " if fetch.total else ""
        return "False", "FetchFailed", f"{here}{fetch.error}"
    if fetch is not None and fetch.state == "failed":
        return "False", "FetchFailed", fetch.error or ""
    if facts.is_path and facts.wanted is None:
        return "True", "FileByPath", "it is on the machine"
    return "True", "OnDevice", ""


def _unpacked(facts: Facts) -> _Told:
    if facts.missing is not None:
        return "Unknown", "NotFetched", ""
    if facts.activity == "unpacking":
        return "False", "Unpacking", ""
    if facts.unpacked is not None:
        return "False", facts.unpacked.cause, facts.unpacked.text
    return "True", "FileByPath" if facts.is_path and facts.wanted is None else "LaidOut", ""


def _probed(facts: Facts) -> _Told:
    if facts.waits is not None:
        return "Unknown", facts.waits.cause, facts.waits.text
    if facts.probe is not None:
        note = f"; {facts.probe.note}" if facts.probe.note else ""
        return "True", "Passed", facts.probe.golden + note
    if facts.refused is not None and not facts.probed_well:
        return "False", facts.refused.cause, facts.refused.text
    if facts.activity == "probing":
        return "Unknown", "Probing", facts.doing
    if facts.refused is not None:  # it was given up before this process began
        return "True", "Passed", "it passed before it was given up"
    if facts.is_live:
        before = "it ran before, so it is not tried out again"
        return "True", "NotNeeded", before if facts.is_committed else ""
    return "Unknown", "Pending", "not begun yet"


def _live(facts: Facts) -> _Told:
    if facts.stopped:
        return "False", "Stopped", ""
    if facts.is_live:
        return "True", "Serving", ""
    if facts.serves is not None:
        return "False", "AnotherServes", f"{facts.serves} serves"
    return "False", "NothingServes", ""


def _committed(facts: Facts) -> _Told:
    if facts.is_live and facts.remaining_s is not None:
        return "False", "Provisional", f"{facts.remaining_s:.0f} s to go"
    if facts.is_live and facts.is_path:
        return "True", "NoTrial", "files by path and what clients load have none"
    if facts.is_committed:
        return "True", "Confirmed", facts.committed_after
    if facts.refused is not None:
        return "False", facts.refused.cause, facts.refused.text
    return "False", "NotLive", ""
