"""Pins: a name held at one version, for a runtime or for everything that follows it."""

from __future__ import annotations

import sqlite3

from nbmodel.core.pin import Pin
from nbmodel.core.reference import Reference
from nbmodel.core.version import Version, now
from nbmodel.errors import InputError, PinConflictError
from nbmodel.registry.aliases import refuse_archived
from nbmodel.registry.catalog import Catalog, find_model, find_version, local, login
from nbmodel.registry.rows import VersionRow, version_rows

_REGISTRY = ""  # how the index writes the pin of the whole registry
_PINS = (
    "SELECT m.name, v.number, p.runtime, p.at, p.who, p.why"
    " FROM pins p JOIN models m ON m.id = p.model JOIN versions v ON v.id = p.version "
)


def pin(catalog: Catalog, ref: Reference | str, *, runtime: str | None, why: str) -> Pin:
    """Hold a model at a version; a pin of the same scope moves.

    Raises:
        InputError: ``runtime`` is empty.
        RegistryError: The version is archived.
    """
    parsed = local(ref)
    scope = _scope(runtime)
    with catalog.db.write() as db:
        row = find_version(db, parsed)
        refuse_archived(row, "pin")
        made = Pin(row.model, row.number, runtime, now(), login(), why)
        db.execute(
            "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?, ?)",
            (row.model_id, scope, row.id, made.at, made.who, made.why),
        )
    return made


def unpin(catalog: Catalog, name: str, *, runtime: str | None) -> Pin:
    """Let go of a pin and give what it was.

    Raises:
        ModelNotFoundError: No model ``name``.
        PinConflictError: There is no such pin.
    """
    scope = _scope(runtime)
    with catalog.db.write() as db:
        model = find_model(db, name)
        every = pins_of(db, "WHERE p.model = ?", (model.id,))
        for held in every:
            if held.runtime == runtime:
                db.execute("DELETE FROM pins WHERE model = ? AND runtime = ?", (model.id, scope))
                return held
    where = "the registry" if runtime is None else f"runtime {runtime!r}"
    others = ", ".join(other.scope for other in every)
    raise PinConflictError(
        f"{name!r} is not pinned for {where}",
        hint=f"pinned for {others}" if others else "it has no pins",
    )


def list_pins(catalog: Catalog, name: str | None) -> list[Pin]:
    """Pins of one model, or of all: by name, the registry's before the runtimes'.

    Raises:
        ModelNotFoundError: No model ``name``.
    """
    with catalog.db.read() as db:
        if name is None:
            return pins_of(db, "ORDER BY m.name, p.runtime")
        model = find_model(db, name)
        return pins_of(db, "WHERE p.model = ? ORDER BY p.runtime", (model.id,))


def pins_of(db: sqlite3.Connection, rest: str, values: tuple[object, ...] = ()) -> list[Pin]:
    """The pins that the rest of the statement selects."""
    return [
        Pin(model, number, runtime or None, at, who, why)
        for model, number, runtime, at, who, why in db.execute(_PINS + rest, values)
    ]


def wanted(catalog: Catalog, name: str, runtime: str, selector: str) -> Version:
    """The version a runtime is to run: its own pin, the registry's, then the selector.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is none.
        RefError: ``selector`` is malformed.
    """
    with catalog.db.read() as db:
        return catalog.version(db, wanted_row(db, name, runtime, selector))


def wanted_row(db: sqlite3.Connection, name: str, runtime: str, selector: str) -> VersionRow:
    """As ``wanted``, in a transaction."""
    model = find_model(db, name)
    held = version_rows(
        db,
        "JOIN pins p ON p.version = v.id WHERE p.model = ? AND p.runtime IN (?, ?)"
        " ORDER BY p.runtime DESC LIMIT 1",  # '' sorts before every runtime
        (model.id, runtime, _REGISTRY),
    )
    return held[0] if held else find_version(db, local(f"{name}:{selector or 'latest'}"))


def _scope(runtime: str | None) -> str:
    if runtime == _REGISTRY:
        raise InputError("a runtime needs a name, found an empty one")
    return _REGISTRY if runtime is None else runtime
