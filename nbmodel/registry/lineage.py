"""Lineage: parents and children of a version, as far as this registry knows them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from nbmodel.core.graph import LineageGraph, Node
from nbmodel.core.reference import Reference
from nbmodel.errors import ManifestError, StorageError
from nbmodel.registry.catalog import Catalog, find_version, local
from nbmodel.registry.deployments import deployments_on
from nbmodel.registry.rows import Marks, VersionRow, version_rows

_Step: TypeAlias = Callable[[sqlite3.Connection, str], list[tuple[str, str]]]


def lineage(catalog: Catalog, ref: Reference | str) -> LineageGraph:
    """Everything a version descends from, and everything that descends from it.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
    """
    parsed = local(ref)
    with catalog.db.read() as db:
        root = find_version(db, parsed)
        above = list(_walk(db, root.digest, _parents))
        edges = [*above, *_walk(db, root.digest, _children)]
        sources = {root.digest, *(parent for parent, _ in above)}
        digests = dict.fromkeys([root.digest, *(end for edge in edges for end in edge)])
        marks = Marks(db)
        nodes = [
            _node(db, marks, digest, root if digest == root.digest else _row(db, digest))
            for digest in digests
        ]
        nodes = [_told(catalog, node) if node.digest in sources else node for node in nodes]
    return LineageGraph(root.digest, tuple(nodes), tuple(dict.fromkeys(edges)))


def _told(catalog: Catalog, node: Node) -> Node:
    """A node with where it was made, as far as the storage still tells."""
    if node.reference is None:
        return node
    try:
        manifest = catalog.manifest(node.digest)
    except (StorageError, ManifestError):  # damaged: verify says so, the graph is known still
        return node
    return replace(node, lineage=manifest.lineage, conversion=manifest.conversion)


def _walk(db: sqlite3.Connection, start: str, step: _Step) -> Iterator[tuple[str, str]]:
    """Edges in the order of their distance from ``start``."""
    reached, front = {start}, [start]
    while front:
        following = []
        for digest in front:
            for edge in step(db, digest):
                yield edge
                for end in edge:
                    if end not in reached:
                        reached.add(end)
                        following.append(end)
        front = following


def _parents(db: sqlite3.Connection, digest: str) -> list[tuple[str, str]]:
    found = db.execute(
        "SELECT DISTINCT p.digest FROM parents p JOIN versions v ON v.id = p.child"
        " WHERE v.digest = ? ORDER BY p.position",
        (digest,),
    )
    return [(parent, digest) for (parent,) in found]


def _children(db: sqlite3.Connection, digest: str) -> list[tuple[str, str]]:
    found = db.execute(
        "SELECT DISTINCT v.digest FROM parents p JOIN versions v ON v.id = p.child"
        " WHERE p.digest = ? ORDER BY v.id",
        (digest,),
    )
    return [(digest, child) for (child,) in found]


def _row(db: sqlite3.Connection, digest: str) -> VersionRow | None:
    rows = version_rows(db, "WHERE v.digest = ? ORDER BY v.id LIMIT 1", (digest,))
    return rows[0] if rows else None


def _node(db: sqlite3.Connection, marks: Marks, digest: str, row: VersionRow | None) -> Node:
    if row is None:
        return Node(digest, None)
    return Node(
        digest,
        row.reference,
        aliases=marks.aliases(row),
        created=row.created,
        deployments=tuple(deployments_on(db, row)),
    )
