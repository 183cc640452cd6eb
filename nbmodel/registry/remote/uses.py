"""The remotes that were used: when, for how many models, and which is meant where none is named."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from nbmodel.core.remote import Remote
from nbmodel.core.version import now
from nbmodel.errors import InputError, InUseError
from nbmodel.registry.remote.seen import find_remote, known_remotes, places_of, remote_id
from nbmodel.registry.rows import version_rows

_MAX_TOLD = 5  # versions that an error names


@dataclass(frozen=True, slots=True)
class RemoteUse:
    """A remote that is known here.

    Attributes:
        remote: Which one.
        models: How many models here are on it.
        used: When it was used last, UTC, ISO 8601; empty when nobody knows.
        is_default: Whether it is meant where none is named.
    """

    remote: Remote
    models: int
    used: str
    is_default: bool

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "remote": str(self.remote),
            "models": self.models,
            "used": self.used,
            "is_default": self.is_default,
        }


def remote_uses(db: sqlite3.Connection) -> list[RemoteUse]:
    """The remotes that are known here, the oldest first."""
    times: dict[int, str] = dict(db.execute("SELECT remote, at FROM remote_uses").fetchall())
    shared = db.execute("SELECT url, repository, model FROM shared WHERE model IS NOT NULL")
    places = shared.fetchall()
    default = default_remote(db)
    uses = []
    for remote in known_remotes(db):
        models = {
            model
            for url, repository, model in places
            if url == remote.base_url and remote.model(repository) is not None
        }
        used = times.get(find_remote(db, remote) or 0, "")
        uses.append(RemoteUse(remote, len(models), used, remote == default))
    return uses


def default_remote(db: sqlite3.Connection) -> Remote | None:
    """The remote that is meant where none is named: the one chosen, else the first one used."""
    chosen = chosen_remote(db)
    return chosen or next(iter(known_remotes(db)), None)


def chosen_remote(db: sqlite3.Connection) -> Remote | None:
    """The remote that somebody chose as the default, or None."""
    row = db.execute(
        "SELECT r.url, r.namespace FROM remotes r JOIN remote_uses u ON u.remote = r.id"
        " WHERE u.is_default"
    ).fetchone()
    return None if row is None else Remote(*row)


def choose_remote(db: sqlite3.Connection, remote: Remote) -> None:
    """Make a remote the default, whether or not it was used before.

    Args:
        db: A transaction that writes.
        remote: The remote.
    """
    own = remote_id(db, remote)
    db.execute("UPDATE remote_uses SET is_default = 0")
    db.execute("INSERT OR IGNORE INTO remote_uses (remote) VALUES (?)", (own,))
    db.execute("UPDATE remote_uses SET is_default = 1 WHERE remote = ?", (own,))


def note_use(db: sqlite3.Connection, remote: Remote) -> None:
    """Note that a remote was used now, where anything was seen there.

    Args:
        db: A transaction that writes.
        remote: The remote.
    """
    own = find_remote(db, remote)
    if own is not None:
        db.execute("INSERT OR IGNORE INTO remote_uses (remote) VALUES (?)", (own,))
        db.execute("UPDATE remote_uses SET at = ? WHERE remote = ?", (now(), own))


def forget_remote(db: sqlite3.Connection, remote: Remote, *, force: bool) -> None:
    """Forget a remote, and what was seen there; nothing changes there.

    Args:
        db: A transaction that writes.
        remote: The remote.
        force: Also when it alone has the files of versions.

    Raises:
        InputError: It is not known.
        InUseError: It alone has the files of versions, and there is no force.
    """
    own = find_remote(db, remote)
    if own is None:
        known = ", ".join(map(str, known_remotes(db)))
        raise InputError(
            f"{remote} was never used", hint=f"known: {known}" if known else "no remote is known"
        )
    only = [
        row.reference
        for row in version_rows(db, "JOIN unfetched u ON u.version = v.id ORDER BY m.name, number")
        if {place for place, _ in places_of(db, row.digest)} == {remote}
    ]
    if only and not force:
        more = f" and {len(only) - _MAX_TOLD} more" if len(only) > _MAX_TOLD else ""
        raise InUseError(
            f"{remote} alone has the files of {', '.join(only[:_MAX_TOLD])}{more}",
            hint="pull or delete them first, or give force: they cannot be fetched then",
        )
    db.execute("DELETE FROM remotes WHERE id = ?", (own,))
    left = [one for one in known_remotes(db) if one.base_url == remote.base_url]
    for (repository,) in db.execute(
        "SELECT repository FROM shared WHERE url = ?", (remote.base_url,)
    ).fetchall():
        if all(one.model(repository) is None for one in left):
            db.execute(
                "DELETE FROM shared WHERE url = ? AND repository = ?",
                (remote.base_url, repository),
            )
