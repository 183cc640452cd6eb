"""Aliases as tags of a remote: who may move one, and which way it travels.

A registry compares nothing when it sets a tag. So who pushes an alias reads first where the
tag is, and moves it only when it is where it was last seen; and reads it again afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from nbmodel.core.claim import Claim, claimant
from nbmodel.core.digest import short_digest
from nbmodel.core.version import AliasMove, now
from nbmodel.errors import (
    AliasConflictError,
    StorageError,
    StorageUnavailableError,
    UnsupportedError,
)
from nbmodel.registry.aliases import record_move
from nbmodel.registry.catalog import login
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.registry.remote.survey import Survey
from nbmodel.registry.rows import VersionRow


class Way(Enum):
    """What is to be done about an alias that is here, there, or on both sides."""

    NOTHING = auto()
    TAKE = auto()
    LEAVE = auto()
    BOTH_MOVED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class AliasTaken:
    """An alias that moved here because it moved on a remote.

    Attributes:
        alias: Its name.
        old: Number of the version that it left, or None when it was new.
        new: Number of the version that it is on.
    """

    alias: str
    old: int | None
    new: int

    def __str__(self) -> str:
        return f"{self.alias} → {self.new}" + ("" if self.old is None else f" (was {self.old})")

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {"alias": self.alias, "old": self.old, "new": self.new}


def way_of(here: str | None, seen: str | None, there: str | None) -> Way:
    """Which way an alias travels when a remote is synchronised with.

    Args:
        here: Digest of the version that it is on here; None: there is none.
        seen: The one that it was last seen on there.
        there: The one that it is on there now.

    Returns:
        ``TAKE`` when it moved there alone, ``LEAVE`` when it moved here alone,
        ``BOTH_MOVED`` to different versions, ``GONE`` when it was taken away there.
    """
    if here == there:
        return Way.NOTHING
    if there is None:
        return Way.GONE if seen is not None and here is not None else Way.NOTHING
    if there == seen:
        return Way.LEAVE
    return Way.TAKE if here == seen else Way.BOTH_MOVED


def may_move(mine: str, seen: str | None, there: str | None) -> bool:
    """Whether a push may put an alias on a version: nobody moved it since it was last seen."""
    return there in (None, mine, seen)


def push_alias(
    peer: Peer,
    repository: str,
    row: VersionRow,
    alias: str,
    raw: bytes,
    found: Survey,
    seen: Mapping[str, str],
    *,
    force: bool,
) -> bool:
    """Put an alias on a version at a remote; whether that changed anything.

    Args:
        peer: The remote.
        repository: Where the model is there.
        row: The version, which is there.
        alias: The alias.
        raw: The version's manifest.
        found: What the remote has; the alias is among what was looked at.
        seen: Tag → digest, as it was last seen there.
        force: Move it from wherever it is.

    Raises:
        AliasConflictError: Somebody moved it since it was last seen, or meanwhile.
    """
    there = found.aliases.get(alias)
    if there == row.digest:
        return False
    if not (force or may_move(row.digest, seen.get(alias), there)):
        raise _conflict(peer, row, alias, there, found)
    moved = steadily(lambda: peer.registry.move_tag(repository, alias, raw, expected=there))
    after = steadily(lambda: peer.registry.digest(repository, alias))
    if not moved or after != row.digest:  # somebody came between
        raise _conflict(peer, row, alias, after, found)
    return True


def take_away(
    peer: Peer,
    repository: str,
    model: str,
    alias: str,
    found: Survey,
    seen: Mapping[str, str],
    *,
    force: bool,
) -> bool:
    """Take an alias away at a remote; whether it was there.

    Args:
        peer: The remote.
        repository: Where the model is there.
        model: The model, for messages.
        alias: The alias, which is not here.
        found: What the remote has; the alias is among what was looked at.
        seen: Tag → digest, as it was last seen there.
        force: From wherever it is.

    Raises:
        AliasConflictError: Somebody moved it since it was last seen, or the remote takes no
            tag away.
    """
    there = found.aliases.get(alias)
    if there is None:
        return False
    host = peer.remote.host
    if not force and there != seen.get(alias):
        raise AliasConflictError(
            f"alias {alias!r} of {model!r} was removed here, and moved to "
            f"{_place(model, there, found)} on {host} since it was last seen there",
            hint=f"`pull` {model}:{alias} from there, or `push --force` to take it away there",
        )
    try:
        return peer.registry.delete_tag(repository, alias)
    except StorageUnavailableError:
        raise
    except (StorageError, UnsupportedError) as exc:
        raise AliasConflictError(
            f"alias {alias!r} of {model!r} stays on {host}, which takes no tag away: {exc}",
            hint="remove the tag by the registry's own means, or move it to another version",
        ) from exc


def removed_aliases(db: sqlite3.Connection, model: str) -> set[str]:
    """The aliases of a model that somebody removed here, and nobody put on a version again."""
    found = db.execute(
        "SELECT a.alias FROM alias_moves a JOIN models m ON m.id = a.model WHERE m.name = ?"
        " AND a.new IS NULL AND a.id = (SELECT max(id) FROM alias_moves b"
        " WHERE b.model = a.model AND b.alias = a.alias)",
        (model,),
    )
    return {alias for (alias,) in found}


def take_alias(db: sqlite3.Connection, row: VersionRow, alias: str, host: str) -> AliasTaken:
    """Put an alias on a version here, because it is on it there.

    Args:
        db: A transaction that writes.
        row: The version.
        alias: The alias.
        host: Of the remote, for the history.
    """
    before = db.execute(
        "SELECT v.number FROM aliases a JOIN versions v ON v.id = a.version"
        " WHERE a.model = ? AND a.name = ?",
        (row.model_id, alias),
    ).fetchone()
    old = None if before is None else int(before[0])
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (row.model_id, alias, row.id))
    record_move(
        db, row.model_id, AliasMove(alias, now(), login(), old, row.number, f"as on {host}")
    )
    return AliasTaken(alias, old, row.number)


def _conflict(
    peer: Peer, row: VersionRow, alias: str, there: str | None, found: Survey
) -> AliasConflictError:
    place = "no version" if there is None else _place(row.model, there, found)
    return AliasConflictError(
        f"alias {alias!r} of {row.model!r} on {peer.remote.host} is on {place}, "
        f"expected it where it was last seen: somebody moved it",
        hint=f"`sync {row.model}` and decide again, or `push --force` to move it to "
        f"{row.reference}",
    )


def _place(model: str, digest: str, found: Survey) -> str:
    number = found.numbers.get(digest)
    name = f"{model}:{number}" if number is not None else short_digest(digest)
    called = claimant(digest)
    times = [
        claim.time for claim in map(Claim.parse, found.tags) if claim and claim.version == called
    ]
    if not times:
        return name
    at = min(times)
    return f"{name} (pushed {at[:4]}-{at[4:6]}-{at[6:8]} {at[9:11]}:{at[11:13]} UTC)"
