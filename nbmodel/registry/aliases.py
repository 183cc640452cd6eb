"""Aliases: movable names on versions, with every move they made."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Final

from nbmodel.core.reference import Reference, check_alias
from nbmodel.core.version import AliasMove, now
from nbmodel.errors import AliasConflictError, RegistryError
from nbmodel.registry.catalog import (
    Catalog,
    find_model,
    find_version,
    local,
    login,
    version_not_found,
)
from nbmodel.registry.rows import VersionRow


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "not given"


UNSET: Final = Unset.UNSET  # not given, where None means something


def set_alias(
    catalog: Catalog, ref: Reference | str, alias: str, *, expect: int | Unset | None, why: str
) -> AliasMove:
    """Put an alias on a version; what is on it already stays and makes no history.

    Raises:
        RefError: ``alias`` cannot be one.
        AliasConflictError: It is not on version ``expect`` (None: it exists).
        RegistryError: The version is archived.
    """
    parsed = local(ref)
    check_alias(alias)
    with catalog.db.write() as db:
        row = find_version(db, parsed)
        refuse_archived(row, f"alias {alias!r}")
        old = _number(db, row.model_id, alias)
        if not isinstance(expect, Unset) and old != expect:
            raise AliasConflictError(
                f"alias {alias!r} of {row.model!r} is on {_place(old)}, "
                f"expected it on {_place(expect)}",
                hint="somebody moved it: look at its history and decide again",
            )
        move = AliasMove(alias, now(), login(), old, row.number, why)
        if old != row.number:
            db.execute(
                "INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (row.model_id, alias, row.id)
            )
            record_move(db, row.model_id, move)
    return move


def remove_alias(catalog: Catalog, name: str, alias: str, *, why: str) -> AliasMove:
    """Take an alias away; its history stays.

    Raises:
        ModelNotFoundError: No model ``name``.
        VersionNotFoundError: It has no such alias.
        RefError: ``alias`` is reserved.
    """
    check_alias(alias)
    with catalog.db.write() as db:
        model = find_model(db, name)
        old = _number(db, model.id, alias)
        if old is None:
            raise version_not_found(db, model, Reference(name, alias=alias))
        move = AliasMove(alias, now(), login(), old, None, why)
        db.execute("DELETE FROM aliases WHERE model = ? AND name = ?", (model.id, alias))
        record_move(db, model.id, move)
    return move


def alias_history(catalog: Catalog, name: str, alias: str | None) -> list[AliasMove]:
    """Every move of a model's aliases, or of one of them, newest first.

    Raises:
        ModelNotFoundError: No model ``name``.
    """
    with catalog.db.read() as db:
        model = find_model(db, name)
        moves = db.execute(
            "SELECT alias, at, who, old, new, why FROM alias_moves"
            " WHERE model = ? AND (? IS NULL OR alias = ?) ORDER BY id DESC",
            (model.id, alias, alias),
        )
        return [AliasMove(*move) for move in moves]


def record_move(db: sqlite3.Connection, model_id: int, move: AliasMove) -> None:
    """Add a move to the history."""
    db.execute(
        "INSERT INTO alias_moves (model, alias, at, who, old, new, why)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (model_id, move.alias, move.at, move.who, move.old, move.new, move.why),
    )


def refuse_archived(row: VersionRow, what: str) -> None:
    """Raise unless the version is one that lists show.

    Raises:
        RegistryError: It is archived.
    """
    if row.archived:
        raise RegistryError(
            f"{row.reference} is archived: it takes no {what}",
            hint=f"restore {row.reference} first",
        )


def _number(db: sqlite3.Connection, model_id: int, alias: str) -> int | None:
    row = db.execute(
        "SELECT v.number FROM aliases a JOIN versions v ON v.id = a.version"
        " WHERE a.model = ? AND a.name = ?",
        (model_id, alias),
    ).fetchone()
    return None if row is None else int(row[0])


def _place(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
