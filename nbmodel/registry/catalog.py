"""What every verb of the registry works on: the index, the blobs, and how to find things."""

from __future__ import annotations

import getpass
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from threading import Lock

from nbmodel.core.manifest import Manifest
from nbmodel.core.reference import Reference
from nbmodel.core.version import Model, Version
from nbmodel.errors import ModelNotFoundError, RefError, StorageError, VersionNotFoundError
from nbmodel.registry.database import Database
from nbmodel.registry.rows import Marks, ModelRow, VersionRow, model_rows, models_of, version_rows
from nbmodel.storage.layout import OciLayout
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.referrer_store import ReferrerStore

_CACHED = 256  # manifests kept in memory; they never change


class Catalog:
    """The index and the blobs of one registry.

    Args:
        root: Folder of both.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.db = Database(root / "registry.sqlite", on_missing=self.check_found)
        self.storage = OciLayout(root)
        #: What refers to its versions: signatures, first of all.
        self.referrers = ReferrerStore(root / "referrers")
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._lock = Lock()

    def check_found(self) -> None:
        """Raise where an index that is not there was lost: without it nothing has a name.

        Raises:
            StorageError: The layout lists versions.
        """
        listed = self.storage.listed()
        if listed:
            count = f"{len(listed)} version" + ("s" if len(listed) > 1 else "")
            raise StorageError(
                f"index {self.db.path} is gone, but index.json lists {count}",
                hint="nbmodel verify --rebuild",
            )

    def manifest(self, digest: str) -> Manifest:
        """The whole manifest of that digest, checked against it.

        Raises:
            BlobNotFoundError, DigestMismatchError: The storage is damaged.
            ManifestError: The blob is no manifest of a model.
        """
        with self._lock:
            if digest in self._manifests:
                self._manifests.move_to_end(digest)
                return self._manifests[digest]
        manifest = load_manifest(self.storage, digest)
        with self._lock:
            self._manifests[digest] = manifest
            if len(self._manifests) > _CACHED:
                self._manifests.popitem(last=False)
        return manifest

    def version(self, db: sqlite3.Connection, row: VersionRow) -> Version:
        """The version of a row, as the transaction sees it."""
        return Marks(db, row.model_id).version(row, self.manifest)


def local(ref: Reference | str) -> Reference:
    """The reference, which must be of this registry.

    Raises:
        RefError: It is malformed, or names another registry.
    """
    parsed = Reference.parse(ref) if isinstance(ref, str) else ref
    if parsed.registry is not None:
        raise RefError(
            f"{parsed} is in registry {parsed.registry!r}, expected a local reference",
            hint=f"leave out {parsed.registry}/ for the local one",
        )
    return parsed


def find_model(db: sqlite3.Connection, name: str) -> ModelRow:
    """The model of that name.

    Raises:
        ModelNotFoundError: There is none; the nearest names are the hint.
    """
    rows = model_rows(db, "WHERE name = ?", (name,))
    if not rows:
        raise ModelNotFoundError(f"no model {name!r} in the registry", hint=_near_models(db, name))
    return rows[0]


def model_of(db: sqlite3.Connection, model_id: int) -> Model:
    """The model of that id."""
    return models_of(db, model_rows(db, "WHERE id = ?", (model_id,)))[0]


def find_version(db: sqlite3.Connection, ref: Reference) -> VersionRow:
    """The version that a reference means.

    A bare name means the version the registry is pinned to, else ``latest``; ``latest`` is
    the newest version that is not archived.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is none; the nearest are the hint.
    """
    model = find_model(db, ref.name)
    if ref.is_model:
        pinned = version_rows(
            db,
            "WHERE v.id = (SELECT version FROM pins WHERE model = ? AND runtime = '')",
            (model.id,),
        )
        return pinned[0] if pinned else _latest(db, model)
    if ref.alias == "latest":
        return _latest(db, model)
    rows = _rows_of(db, model, ref)
    if not rows:
        raise version_not_found(db, model, ref)
    return rows[0]


def _rows_of(db: sqlite3.Connection, model: ModelRow, ref: Reference) -> list[VersionRow]:
    if ref.alias is not None:
        return version_rows(
            db,
            "WHERE v.id = (SELECT version FROM aliases WHERE model = ? AND name = ?)",
            (model.id, ref.alias),
        )
    column, value = (
        ("number", ref.number)
        if ref.number is not None
        else ("stamp", ref.stamp)
        if ref.stamp is not None
        else ("digest", ref.digest)
    )
    return version_rows(
        db,
        f"WHERE v.model = ? AND v.{column} = ? ORDER BY v.number DESC LIMIT 1",
        (model.id, value),
    )


def _latest(db: sqlite3.Connection, model: ModelRow) -> VersionRow:
    rows = version_rows(
        db,
        "WHERE v.model = ? AND v.archived = 0 ORDER BY v.number DESC LIMIT 1",
        (model.id,),
    )
    if not rows:
        raise VersionNotFoundError(
            f"model {model.name!r} has no version that is not archived",
            hint="restore one, or upload another",
        )
    return rows[0]


def _near_models(db: sqlite3.Connection, name: str) -> str:
    names = [known for (known,) in db.execute("SELECT name FROM models ORDER BY name")]
    if not names:
        return "the registry is empty: upload a model first"
    return _near(name, names, "models")


def version_not_found(
    db: sqlite3.Connection, model: ModelRow, ref: Reference
) -> VersionNotFoundError:
    """The error for a version that the model does not have."""
    if ref.alias is not None:
        aliases = [
            name for (name,) in db.execute("SELECT name FROM aliases WHERE model = ?", (model.id,))
        ]
        return VersionNotFoundError(
            f"no alias {ref.alias!r} on {model.name!r}",
            hint=_near(ref.alias, sorted([*aliases, "latest"]), "aliases"),
        )
    numbers = [
        str(number)
        for (number,) in db.execute(
            "SELECT number FROM versions WHERE model = ? ORDER BY number DESC LIMIT 8", (model.id,)
        )
    ]
    what = ref.tag or ref.digest
    return VersionNotFoundError(
        f"no version {what} of {model.name!r}",
        hint=f"newest versions: {', '.join(numbers)}" if numbers else "it has no versions",
    )


def _near(word: str, known: Iterable[str], kind: str) -> str:
    names = list(known)
    near = get_close_matches(word, names, n=3)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    more = ", …" if len(names) > 10 else ""
    return f"{kind}: {', '.join(names[:10])}{more}"


def login() -> str:
    """Who is working here; ``unknown`` where the system does not know."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no such user id, as in many containers
        return "unknown"
