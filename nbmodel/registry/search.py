"""Lists of models and versions, with or without a query."""

from __future__ import annotations

from nbmodel.core.query import Facts, Query
from nbmodel.core.version import Model, Version
from nbmodel.registry.catalog import Catalog, find_model
from nbmodel.registry.rows import Marks, ModelRow, model_rows, models_of, version_rows

_NEWEST_FIRST = " ORDER BY v.id DESC"
_BY_NUMBER = " ORDER BY v.number DESC"  # of one model: what came from a remote came in any order


def list_models(catalog: Catalog, query: str, *, archived: bool) -> list[Model]:
    """Models by name: those that a query holds for in any version."""
    parsed = Query.parse(query)
    with catalog.db.read() as db:
        rows = model_rows(db, ("" if archived else "WHERE archived = 0") + " ORDER BY name")
        if not query.strip():
            return models_of(db, rows)
        marks = Marks(db)
        found = {
            row.model_id
            for row in version_rows(db, "" if archived else "WHERE v.archived = 0")
            if parsed.matches(marks.facts(row))
        }
        empty = {
            model
            for (model,) in db.execute(
                "SELECT id FROM models WHERE id NOT IN (SELECT model FROM versions)"
            )
        }
        matching = [
            row
            for row in rows
            if row.id in found or (row.id in empty and parsed.matches(_facts(row)))
        ]
        return models_of(db, matching)


def list_versions(
    catalog: Catalog, name: str | None, query: str, *, archived: bool
) -> list[Version]:
    """Versions of one model, or of all, newest first.

    Raises:
        ModelNotFoundError: No model ``name``.
    """
    parsed = Query.parse(query)
    conditions = [] if archived else ["v.archived = 0"]
    with catalog.db.read() as db:
        model_id = None if name is None else find_model(db, name).id
        if model_id is not None:
            conditions.append("v.model = ?")
        elif not archived:
            # In this form it does not tempt SQLite to go by models and to sort afterwards.
            conditions.append("v.model NOT IN (SELECT id FROM models WHERE archived = 1)")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        if model_id is None:
            rows = version_rows(db, where + _NEWEST_FIRST)
        else:
            rows = version_rows(db, where + _BY_NUMBER, (model_id,))
        marks = Marks(db, model_id)
    if query.strip():
        rows = [row for row in rows if parsed.matches(marks.facts(row))]
    return [marks.version(row, catalog.manifest) for row in rows]


def _facts(row: ModelRow) -> Facts:
    """What a query can ask about a model without versions."""
    return Facts(
        name=row.name,
        created=row.created,
        description=row.description,
        archived=bool(row.archived),
        deprecated=row.deprecated is not None,
    )
