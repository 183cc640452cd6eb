"""Rows of the index, and the values that are made of them."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from nbmodel.core.manifest import Manifest
from nbmodel.core.query import Facts
from nbmodel.core.remote import Remote
from nbmodel.core.version import Model, Version

Load = Callable[[str], Manifest]


class VersionRow(NamedTuple):
    """One version in the index, with its model."""

    id: int
    model_id: int
    model: str
    number: int
    stamp: str
    digest: str
    description: str
    tags: str
    published: int
    archived: int
    deprecated: str | None
    model_deprecated: str | None
    model_description: str
    model_archived: int
    created: str
    framework: str
    model_type: str
    size: int
    metrics: str
    metadata: str

    @property
    def reference(self) -> str:
        """``digits:3``."""
        return f"{self.model}:{self.number}"


class ModelRow(NamedTuple):
    """One model in the index."""

    id: int
    name: str
    created: str
    description: str
    last_number: int
    archived: int
    deprecated: str | None


_VERSIONS = """
SELECT v.id, v.model, m.name, v.number, v.stamp, v.digest, v.description, v.tags,
    v.published, v.archived, v.deprecated, m.deprecated, m.description, m.archived,
    v.created, v.framework, v.model_type, v.size, v.metrics, v.metadata
FROM versions v JOIN models m ON m.id = v.model
"""
_MODELS = "SELECT id, name, created, description, last_number, archived, deprecated FROM models "
_ALIASES = "SELECT version, name FROM aliases WHERE true"
_LATEST = "SELECT model, max(number) FROM versions WHERE archived = 0"
_PINNED = "SELECT version FROM pins WHERE runtime = ''"
_UNFETCHED = (
    "SELECT u.version, r.url, r.namespace FROM unfetched u JOIN versions v ON v.id = u.version"
    " LEFT JOIN remote_tags t ON t.digest = v.digest LEFT JOIN remotes r ON r.id = t.remote"
    " WHERE true"
)


def version_rows(
    db: sqlite3.Connection, rest: str, values: Sequence[object] = ()
) -> list[VersionRow]:
    """The versions that the rest of the statement (``WHERE v.… = ?``) selects."""
    return [VersionRow._make(row) for row in db.execute(_VERSIONS + rest, values)]


def model_rows(db: sqlite3.Connection, rest: str, values: Sequence[object] = ()) -> list[ModelRow]:
    """The models that the rest of the statement selects."""
    return [ModelRow._make(row) for row in db.execute(_MODELS + rest, values)]


class StoredManifest(Manifest):
    """The manifest of a stored version; fields that the index lacks are read when asked for.

    A list of ten thousand versions thus reads no manifest. Asking may raise what reading a
    blob does: BlobNotFoundError, DigestMismatchError.
    """

    __slots__ = ("_load", "_row")
    _load: Load
    _row: VersionRow

    @classmethod
    def of(cls, row: VersionRow, load: Load) -> StoredManifest:
        """The manifest of a version in the index.

        Args:
            row: The version.
            load: Gives the whole manifest of a digest.
        """
        manifest = cls.__new__(cls)
        object.__setattr__(manifest, "_row", row)
        object.__setattr__(manifest, "_load", load)
        return manifest

    def __getattr__(self, name: str) -> Any:
        """A field that was not asked for before."""
        if name not in _MANIFEST_FIELDS:
            raise AttributeError(name)
        if name in ("created", "framework", "model_type"):
            value = getattr(self._row, name)
        elif name in ("metrics", "metadata"):
            value = json.loads(getattr(self._row, name))
        else:
            value = getattr(self._load(self._row.digest), name)
        object.__setattr__(self, name, value)
        return value

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        try:
            return self._row.size
        except AttributeError:  # made by the constructor, as ``dataclasses.replace`` does
            return sum(entry.size for entry in self.files)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _MANIFEST_FIELDS)

    __hash__ = None  # type: ignore[assignment] # like every manifest: it holds dictionaries


_MANIFEST_FIELDS = tuple(field.name for field in fields(Manifest))


class StoredVersion(Version):
    """A version in the index; its fields are worked out when one is asked for.

    That makes a list of ten thousand cost what reading the rows costs.
    """

    _source: tuple[VersionRow, Marks, Load]

    @classmethod
    def of(cls, row: VersionRow, marks: Marks, load: Load) -> StoredVersion:
        """The version of a row.

        Args:
            row: The version.
            marks: What is on it, as of the same transaction.
            load: Gives the whole manifest of a digest.
        """
        version = cls.__new__(cls)
        object.__setattr__(version, "_source", (row, marks, load))
        return version

    def __getattr__(self, name: str) -> Any:
        """A field, when none was asked for before."""
        if name not in _VERSION_FIELDS:
            raise AttributeError(name)
        row, marks, load = self._source
        self.__dict__.update(marks.fields(row, load))
        return self.__dict__[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _VERSION_FIELDS)

    __hash__ = None  # type: ignore[assignment] # like every version: its manifest has none

    def __reduce__(self) -> tuple[type[Version], tuple[Any, ...]]:
        """Copied and pickled as the plain version: another process has another index."""
        return Version, tuple(getattr(self, name) for name in _VERSION_FIELDS)


_VERSION_FIELDS = tuple(field.name for field in fields(Version))


class Marks:
    """What is on versions from outside: aliases, ``latest``, the registry's pins.

    Args:
        db: A transaction of the index.
        model_id: One model, or None for all of them.
    """

    def __init__(self, db: sqlite3.Connection, model_id: int | None = None) -> None:
        only = "" if model_id is None else " AND model = ?"
        values = () if model_id is None else (model_id,)
        self._aliases: defaultdict[int, list[str]] = defaultdict(list)
        for version, name in db.execute(_ALIASES + only, values):
            self._aliases[version].append(name)
        self._latest: dict[int, int] = dict(db.execute(_LATEST + only + " GROUP BY model", values))
        self._pinned = {version for (version,) in db.execute(_PINNED + only, values)}
        of_model = "" if model_id is None else " AND v.model = ?"
        self._files_on = {
            version: Remote(url, namespace).host if url else "nobody"
            for version, url, namespace in db.execute(_UNFETCHED + of_model, values)
        }

    def aliases(self, row: VersionRow) -> tuple[str, ...]:
        """Names on a version, ``latest`` included, sorted."""
        names = self._aliases.get(row.id, ())
        if self._latest.get(row.model_id) == row.number:
            names = [*names, "latest"]
        return tuple(sorted(names))

    def version(self, row: VersionRow, load: Load) -> Version:
        """The version of a row; its manifest is read when asked for."""
        return StoredVersion.of(row, self, load)

    def fields(self, row: VersionRow, load: Load) -> dict[str, Any]:
        """The fields of the version of a row."""
        return {
            "model": row.model,
            "number": row.number,
            "stamp": row.stamp,
            "digest": row.digest,
            "manifest": StoredManifest.of(row, load),
            "description": row.description,
            "tags": json.loads(row.tags),
            "aliases": self.aliases(row),
            "pinned": row.id in self._pinned,
            "published": bool(row.published),
            "archived": bool(row.archived),
            "deprecated": row.deprecated if row.deprecated is not None else row.model_deprecated,
            "files_on": self._files_on.get(row.id),
        }

    def facts(self, row: VersionRow) -> Facts:
        """What a query can ask about a row."""
        return Facts(
            name=row.model,
            number=row.number,
            stamp=row.stamp,
            digest=row.digest,
            created=row.created,
            framework=row.framework,
            model_type=row.model_type,
            size=row.size,
            description=f"{row.description}\n{row.model_description}",
            aliases=self.aliases(row),
            tags_json=row.tags,
            metrics_json=row.metrics,
            metadata_json=row.metadata,
            published=bool(row.published),
            archived=bool(row.archived or row.model_archived),
            deprecated=row.deprecated is not None or row.model_deprecated is not None,
            pinned=row.id in self._pinned,
        )


def models_of(db: sqlite3.Connection, rows: Iterable[ModelRow]) -> list[Model]:
    """The models of rows, in their order."""
    counts: dict[int, tuple[int, int | None]] = {
        model: (count, latest)
        for model, count, latest in db.execute(
            "SELECT model, count(*), max(CASE WHEN archived = 0 THEN number END)"
            " FROM versions GROUP BY model"
        )
    }
    aliases: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for model, name, number in db.execute(
        "SELECT a.model, a.name, v.number FROM aliases a JOIN versions v ON v.id = a.version"
        " ORDER BY a.name"
    ):
        aliases[model][name] = number
    pins: dict[int, int] = dict(
        db.execute(
            "SELECT p.model, v.number FROM pins p JOIN versions v ON v.id = p.version"
            " WHERE p.runtime = ''"
        )
    )
    # A model that was renamed into a name brought numbers of its own: nothing is missing there.
    retired: dict[str, int] = dict(
        db.execute(
            "SELECT r.name, r.last_number FROM retired r JOIN models m ON m.name = r.name"
            " WHERE r.last_number > 0 AND NOT EXISTS"
            " (SELECT 1 FROM versions v WHERE v.model = m.id AND v.number <= r.last_number)"
        )
    )
    return [
        replace(
            _model(row, counts.get(row.id, (0, None)), aliases[row.id], pins),
            retired=retired.get(row.name, 0),
        )
        for row in rows
    ]


def _model(
    row: ModelRow, count: tuple[int, int | None], aliases: dict[str, int], pins: dict[int, int]
) -> Model:
    versions, latest = count
    return Model(
        name=row.name,
        description=row.description,
        created=row.created,
        versions=versions,
        latest=latest,
        aliases=aliases if latest is None else {**aliases, "latest": latest},
        pin=pins.get(row.id),
        archived=bool(row.archived),
        deprecated=row.deprecated,
    )
