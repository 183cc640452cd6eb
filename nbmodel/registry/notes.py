"""What people say about models and versions: descriptions, tags, status, names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from nbmodel.core.reference import Reference, check_name
from nbmodel.core.version import Model, Version
from nbmodel.errors import (
    InputError,
    InUseError,
    ModelExistsError,
    PinConflictError,
    PublishedError,
)
from nbmodel.registry.catalog import Catalog, find_model, find_version, local, model_of
from nbmodel.registry.contents import check_tags
from nbmodel.registry.deployments import deployments_of, deployments_on
from nbmodel.registry.index import touch_index, write_index
from nbmodel.registry.pins import pins_of
from nbmodel.registry.rows import ModelRow, VersionRow, version_rows


def tag(
    catalog: Catalog, ref: Reference | str, tags: Mapping[str, str], remove: Sequence[str]
) -> Version:
    """Set tags of a version and remove others; a tag that is not there is gone already.

    Raises:
        PublishedError: The version is published.
        InputError: A tag is malformed, or is to be both set and removed.
    """
    parsed = local(ref)
    check_tags(tags)
    both = sorted(set(tags) & set(remove))
    if both:
        raise InputError(f"tag {both[0]!r} is to be both set and removed")
    with catalog.db.write() as db:
        row = find_version(db, parsed)
        _refuse_published(row, "tags")
        left = {**json.loads(row.tags), **tags}
        for key in remove:
            left.pop(key, None)
        text = json.dumps(left, ensure_ascii=False, separators=(",", ":"))
        return _update_version(catalog, db, row, "tags", text)


def describe(catalog: Catalog, ref: Reference | str, text: str) -> Version | Model:
    """Give a model or version its description.

    Raises:
        PublishedError: The version is published.
    """
    parsed = local(ref)
    with catalog.db.write() as db:
        if parsed.is_model:
            return _update_model(db, find_model(db, parsed.name), "description", text)
        row = find_version(db, parsed)
        _refuse_published(row, "description")
        return _update_version(catalog, db, row, "description", text)


def rename(catalog: Catalog, old: str, new: str) -> Model:
    """Give a model another name; numbers, aliases, pins and history stay with it.

    Raises:
        RefError: ``new`` cannot name a model.
        ModelExistsError: Another model has it.
    """
    check_name(new)
    with catalog.db.write() as db:
        model = find_model(db, old)
        if new != old:
            if db.execute("SELECT 1 FROM models WHERE name = ?", (new,)).fetchone():
                raise ModelExistsError(f"a model {new!r} exists, expected a free name")
            retire_name(db, model)
            db.execute("UPDATE models SET name = ? WHERE id = ?", (new, model.id))
            touch_index(db)
        renamed = model_of(db, model.id)
    write_index(catalog)
    return renamed


def retire_name(db: sqlite3.Connection, model: ModelRow) -> None:
    """Note which numbers a name had: ``digits:3`` shall never mean something else."""
    db.execute("INSERT OR REPLACE INTO retired VALUES (?, ?)", (model.name, model.last_number))


def publish(catalog: Catalog, ref: Reference | str) -> Version:
    """Make a version read-only: description and tags stay, deleting needs force."""
    parsed = local(ref)
    with catalog.db.write() as db:
        return _update_version(catalog, db, find_version(db, parsed), "published", 1)


def deprecate(catalog: Catalog, ref: Reference | str, message: str | None) -> Version | Model:
    """Say why nobody should use a model or version; None takes it back.

    Raises:
        InputError: The message is empty.
    """
    parsed = local(ref)
    if message is not None and not message.strip():
        raise InputError("a deprecation needs a message, found an empty one")
    with catalog.db.write() as db:
        if parsed.is_model:
            return _update_model(db, find_model(db, parsed.name), "deprecated", message)
        return _update_version(catalog, db, find_version(db, parsed), "deprecated", message)


def archive(catalog: Catalog, ref: Reference | str) -> Version | Model:
    """Leave a model or version out of lists, and a version out of ``latest``.

    Raises:
        InUseError: An alias or a deployment names the version, or the model is deployed.
        PinConflictError: A pin holds it.
    """
    parsed = local(ref)
    with catalog.db.write() as db:
        if parsed.is_model:
            model = find_model(db, parsed.name)
            _refuse_pinned(db, model.name, "p.model = ?", model.id)
            services = deployments_of(db, "WHERE d.model = ?", (model.id,))
            _refuse_used(model.name, [f"{service.target} runs it" for service in services])
            return _update_model(db, model, "archived", 1)
        row = find_version(db, parsed)
        _refuse_pinned(db, row.reference, "p.version = ?", row.id)
        names = db.execute("SELECT name FROM aliases WHERE version = ? ORDER BY name", (row.id,))
        uses = [f"alias {name!r} is on it" for (name,) in names]
        uses += [
            f"{service.target} runs it"
            for service in deployments_on(db, row)
            if service.selector not in ("", "latest")  # latest moves on
        ]
        _refuse_used(row.reference, uses)
        return _update_version(catalog, db, row, "archived", 1)


def restore(catalog: Catalog, ref: Reference | str) -> Version | Model:
    """Take a model or version out of the archive."""
    parsed = local(ref)
    with catalog.db.write() as db:
        if parsed.is_model:
            return _update_model(db, find_model(db, parsed.name), "archived", 0)
        return _update_version(catalog, db, find_version(db, parsed), "archived", 0)


def _update_version(
    catalog: Catalog, db: sqlite3.Connection, row: VersionRow, column: str, value: object
) -> Version:
    db.execute(f"UPDATE versions SET {column} = ? WHERE id = ?", (value, row.id))  # noqa: S608 - ours
    (changed,) = version_rows(db, "WHERE v.id = ?", (row.id,))
    return catalog.version(db, changed)


def _update_model(db: sqlite3.Connection, row: ModelRow, column: str, value: object) -> Model:
    db.execute(f"UPDATE models SET {column} = ? WHERE id = ?", (value, row.id))  # noqa: S608 - ours
    return model_of(db, row.id)


def _refuse_published(row: VersionRow, what: str) -> None:
    if row.published:
        raise PublishedError(
            f"{row.reference} is published: it takes no {what}",
            hint="upload another version, or deprecate this one",
        )


def _refuse_pinned(db: sqlite3.Connection, what: str, condition: str, value: int) -> None:
    held = pins_of(db, f"WHERE {condition} ORDER BY p.runtime", (value,))
    if held:
        scopes = ", ".join(f"{pin.scope} (at version {pin.number})" for pin in held)
        raise PinConflictError(f"{what} is pinned for {scopes}", hint="unpin it first")


def _refuse_used(what: str, uses: Sequence[str]) -> None:
    if uses:
        raise InUseError(
            f"{what} is in use: {'; '.join(uses)}", hint="move or remove what uses it first"
        )
