"""Deployments: which service of which runtime follows which model."""

from __future__ import annotations

import sqlite3

from nbmodel.core.deployment import Deployment
from nbmodel.errors import RefError, VersionNotFoundError
from nbmodel.registry.catalog import Catalog, find_model
from nbmodel.registry.pins import wanted_row
from nbmodel.registry.rows import VersionRow

_DEPLOYMENTS = (
    "SELECT d.runtime, d.service, m.name, d.selector, d.package, d.at, f.registry"
    " FROM deployments d JOIN models m ON m.id = d.model"
    " LEFT JOIN fetched_from f ON f.runtime = d.runtime AND f.service = d.service "
)


def record_deployment(catalog: Catalog, deployment: Deployment) -> None:
    """Remember a deployment; one of the same service and runtime is replaced.

    Raises:
        ModelNotFoundError: The registry has no such model.
    """
    with catalog.db.write() as db:
        model = find_model(db, deployment.model)
        db.execute(
            "INSERT OR REPLACE INTO deployments VALUES (?, ?, ?, ?, ?, ?)",
            (
                deployment.runtime,
                deployment.service,
                model.id,
                deployment.selector,
                deployment.package,
                deployment.at,
            ),
        )
        db.execute(
            "DELETE FROM fetched_from WHERE runtime = ? AND service = ?",
            (deployment.runtime, deployment.service),
        )
        if deployment.registry is not None:
            db.execute(
                "INSERT INTO fetched_from VALUES (?, ?, ?)",
                (deployment.runtime, deployment.service, deployment.registry),
            )


def remove_deployment(catalog: Catalog, runtime: str, service: str) -> None:
    """Forget a deployment; nothing to do when there is none."""
    with catalog.db.write() as db:
        db.execute("DELETE FROM deployments WHERE runtime = ? AND service = ?", (runtime, service))


def list_deployments(catalog: Catalog, model: str | None, runtime: str | None) -> list[Deployment]:
    """Deployments by runtime and service, of one model or runtime when it is given.

    Raises:
        ModelNotFoundError: No such model.
    """
    with catalog.db.read() as db:
        model_id = None if model is None else find_model(db, model).id
        return deployments_of(
            db,
            "WHERE (? IS NULL OR d.model = ?) AND (? IS NULL OR d.runtime = ?)"
            " ORDER BY d.runtime, d.service",
            (model_id, model_id, runtime, runtime),
        )


def deployments_of(
    db: sqlite3.Connection, rest: str, values: tuple[object, ...] = ()
) -> list[Deployment]:
    """The deployments that the rest of the statement selects."""
    return [Deployment(*row) for row in db.execute(_DEPLOYMENTS + rest, values)]


def deployments_on(db: sqlite3.Connection, row: VersionRow) -> list[Deployment]:
    """The deployments that run a version, as far as pins and selectors tell."""
    following = deployments_of(
        db, "WHERE d.model = ? ORDER BY d.runtime, d.service", (row.model_id,)
    )
    return [deployment for deployment in following if _runs(db, deployment, row)]


def _runs(db: sqlite3.Connection, deployment: Deployment, row: VersionRow) -> bool:
    try:
        wanted = wanted_row(db, deployment.model, deployment.runtime, deployment.selector)
    except (VersionNotFoundError, RefError):
        return False  # it follows an alias that is gone
    return wanted.id == row.id
