"""Deleting models and versions; ``gc`` frees their bytes later."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbmodel.core.reference import Reference
from nbmodel.core.version import AliasMove, now
from nbmodel.errors import InUseError
from nbmodel.registry.aliases import record_move
from nbmodel.registry.catalog import Catalog, find_model, find_version, local, login
from nbmodel.registry.deployments import deployments_on
from nbmodel.registry.index import touch_index, write_index
from nbmodel.registry.notes import retire_name
from nbmodel.registry.pins import pins_of
from nbmodel.registry.remote.seen import numbers_seen, places_of
from nbmodel.registry.remote.sharing import place, shared_places
from nbmodel.registry.rows import VersionRow, version_rows


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete took away.

    Attributes:
        model: The model.
        numbers: The versions, ascending.
        whole: Whether the model itself is gone.
        aliases: Aliases that went with them, sorted.
        pins: Scopes of the pins that went with them: ``the registry``, ``runtime 'pi'``.
        freeable: Bytes that no other version needs, which ``gc`` will free.
        left_on: Repositories that have them nevertheless, ``registry.example/team/digits``.
        returns: What a pull of brings them back: of one version with the number it has there.
    """

    model: str
    numbers: tuple[int, ...]
    whole: bool
    aliases: tuple[str, ...]
    pins: tuple[str, ...]
    freeable: int
    left_on: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "model": self.model,
            "numbers": list(self.numbers),
            "whole": self.whole,
            "aliases": list(self.aliases),
            "pins": list(self.pins),
            "freeable": self.freeable,
            "left_on": list(self.left_on),
            "returns": list(self.returns),
        }


def delete(catalog: Catalog, ref: Reference | str, *, force: bool) -> Deleted:
    """Delete a version, or a model with all of its versions.

    Numbers are never given again. What a remote has stays there, and no synchronisation brings it
    back: a pull of the version does; a model that was deleted whole comes back with a
    synchronisation by its name, too. With force, aliases and pins go too, and deployments of a
    deleted model are forgotten.

    Raises:
        InUseError: Something uses it, or it is published, and there is no force; the
            message names every use.
    """
    parsed = local(ref)
    with catalog.db.write() as db:
        if parsed.is_model:
            model = find_model(db, parsed.name)
            rows = version_rows(db, "WHERE v.model = ? ORDER BY v.number", (model.id,))
        else:
            rows = [find_version(db, parsed)]
        uses = [use for row in rows for use in _uses(db, row, rows)]
        if uses and not force:
            what = parsed.name if parsed.is_model else rows[0].reference
            raise InUseError(
                f"{what} is in use: {'; '.join(uses)}",
                hint=f"take these away first, or give force: delete {what} --force",
            )
        deleted = _account(catalog, db, parsed.name, rows, whole=parsed.is_model)
        if parsed.is_model:
            retire_name(db, model)
            db.execute("DELETE FROM models WHERE id = ?", (model.id,))
        else:
            _drop_aliases(db, rows[0])
            db.execute(
                "INSERT OR IGNORE INTO deleted VALUES (?, ?)", (rows[0].model_id, rows[0].number)
            )
            db.execute(
                "INSERT OR REPLACE INTO dismissed VALUES (?, ?, ?)",
                (rows[0].model_id, rows[0].digest, rows[0].number),
            )
            db.execute("DELETE FROM versions WHERE id = ?", (rows[0].id,))
        touch_index(db)
    write_index(catalog)
    return deleted


def _uses(db: sqlite3.Connection, row: VersionRow, going: Sequence[VersionRow]) -> list[str]:
    """What uses a version, apart from the versions that go with it; each a clause."""
    what = row.reference
    uses = [f"{what} has alias {name!r}" for name in _aliases(db, row)]
    uses += [f"{what} is pinned for {pin.scope}" for pin in _pins(db, row)]
    uses += [f"{what} runs in {service.target}" for service in deployments_on(db, row)]
    together = {other.id for other in going}
    children = version_rows(
        db, "JOIN parents p ON p.child = v.id WHERE p.digest = ? ORDER BY v.id", (row.digest,)
    )
    uses += [
        f"{what} is a parent of {child.reference}" for child in children if child.id not in together
    ]
    if row.published:
        uses.append(f"{what} is published")
    return uses


def _account(
    catalog: Catalog, db: sqlite3.Connection, model: str, rows: Sequence[VersionRow], *, whole: bool
) -> Deleted:
    aliases = sorted(name for row in rows for name in _aliases(db, row))
    pins = [pin.scope for row in rows for pin in _pins(db, row)]
    ids = {row.id for row in rows}
    blobs: dict[str, int] = {}
    for row in rows:
        for digest, size in db.execute(
            "SELECT digest, size FROM blobs WHERE version = ?", (row.id,)
        ):
            users = db.execute("SELECT version FROM blobs WHERE digest = ?", (digest,))
            if all(user in ids for (user,) in users) and catalog.storage.has(digest):
                blobs[digest] = size
    left_on = _left_on(db, model, rows, whole=whole)
    return Deleted(
        model=model,
        numbers=tuple(row.number for row in rows),
        whole=whole,
        aliases=tuple(aliases),
        pins=tuple(pins),
        freeable=sum(blobs.values()),
        left_on=tuple(left_on),
        returns=tuple(left_on.values()),
    )


def _left_on(
    db: sqlite3.Connection, model: str, rows: Sequence[VersionRow], *, whole: bool
) -> dict[str, str]:
    """Repositories that have versions → what a pull of brings them back."""
    found = {}
    for row in rows:
        for remote, there in places_of(db, row.digest):
            back = where = place(remote, there)
            if not whole:
                number = numbers_seen(db, remote, there).get(row.digest)
                back += f"@{row.digest}" if number is None else f":{number}"
            found[where] = back
    return {one: found[one] for one in shared_places(db, model) if one in found}


def _aliases(db: sqlite3.Connection, row: VersionRow) -> list[str]:
    names = db.execute("SELECT name FROM aliases WHERE version = ? ORDER BY name", (row.id,))
    return [name for (name,) in names]


def _pins(db: sqlite3.Connection, row: VersionRow) -> list[Any]:
    return pins_of(db, "WHERE p.version = ? ORDER BY p.runtime", (row.id,))


def _drop_aliases(db: sqlite3.Connection, row: VersionRow) -> None:
    for name in _aliases(db, row):
        move = AliasMove(name, now(), login(), row.number, None, f"{row.reference} was deleted")
        record_move(db, row.model_id, move)
