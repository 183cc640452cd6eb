"""Making a lost or damaged index anew of the layout: its list of versions, else its blobs.

What only the index has is not in the layout and is lost with it: aliases, pins, tags,
descriptions, who deployed what. Names, numbers and everything in manifests come back.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.digest import is_digest
from nbmodel.core.manifest import MAX_MANIFEST, Manifest
from nbmodel.core.reference import Reference
from nbmodel.core.version import now
from nbmodel.errors import NbModelError, RefError, StorageError, StorageUnavailableError
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.database import Database
from nbmodel.registry.index import touch_index, write_index
from nbmodel.registry.versions import Candidate, check_model, insert, make_model
from nbmodel.storage.atomic import TEMPORARY, sync_folder
from nbmodel.storage.base import translated
from nbmodel.storage.manifests import blobs_of, parse_manifest


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What an index was made of.

    Attributes:
        versions: How many versions are in it; None: it was sound and is as it was.
        left_out: What the layout lists and nothing could be made of, one sentence each.
        aside: Where the damaged index is now; None when there was none.
    """

    versions: int | None
    left_out: tuple[str, ...] = ()
    aside: Path | None = None


def rebuild_index(catalog: Catalog) -> Rebuilt:
    """Make the index anew where it is lost or damaged, and ``index.json`` in any case.

    Raises:
        StorageUnavailableError: The folder takes nothing; nothing changed.
        StorageError: The index is of another version of nbmodel.
    """
    path = catalog.db.path
    if _is_sound(catalog):
        with catalog.db.write() as db:
            touch_index(db)
        write_index(catalog)
        return Rebuilt(None)
    left_out: list[str] = []
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}.sqlite")
    # Without a log, so that it is one file.
    made = Database(temporary, network=True)
    try:
        with made.write() as db:
            count = sum(_enter(catalog, db, one) for one in _found(catalog, left_out))
        made.close()
        with translated("keep the index"):
            aside = _aside(path)
            with suppress(FileExistsError):  # somebody else made one meanwhile
                _link(temporary, path)
            sync_folder(path.parent)
    finally:
        made.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            temporary.with_name(temporary.name + "-journal").unlink(missing_ok=True)
    write_index(catalog)
    return Rebuilt(count, tuple(left_out), aside)


@dataclass(frozen=True, slots=True)
class _Found:
    """A version in the layout."""

    name: str
    number: int
    raw: bytes
    manifest: Manifest


def _is_sound(catalog: Catalog) -> bool:
    try:
        if catalog.db.path.stat().st_size == 0:
            return False
        with catalog.db.read() as db:
            (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
            return bool(state == "ok")
    except FileNotFoundError:
        return False
    except StorageUnavailableError:
        raise
    except StorageError as exc:
        if isinstance(exc.__cause__, sqlite3.DatabaseError):
            return False
        raise


def _found(catalog: Catalog, left_out: list[str]) -> Iterator[_Found]:
    """The versions that the layout has, by its list, or without one by its blobs."""
    listed = catalog.storage.listed()
    if listed is None:
        yield from _by_blobs(catalog)
        return
    seen = set()
    for entry in listed:
        label, digest = _labelled(entry)
        try:
            ref = Reference.parse(label)
            if ref.number is None or ref.registry is not None or not is_digest(digest):
                raise RefError(f"{label[:80]!r} is no version")
            raw = catalog.storage.read(digest, limit=MAX_MANIFEST)
            found = _Found(ref.name, ref.number, raw, parse_manifest(catalog.storage, raw))
        except NbModelError as exc:
            left_out.append(f"{label[:80] or 'a manifest without a name'}: {exc}")
            continue
        if (found.name, found.number) not in seen:
            seen.add((found.name, found.number))
            yield found


def _by_blobs(catalog: Catalog) -> Iterator[_Found]:
    """Every manifest of a model among the blobs, numbered in the order they were made."""
    models = defaultdict(list)
    for digest, size, _ in catalog.storage.digests():
        if size > MAX_MANIFEST:
            continue
        with suppress(NbModelError):
            with catalog.storage.open(digest) as file:
                if file.read(1) != b"{":
                    continue
            raw = catalog.storage.read(digest, limit=MAX_MANIFEST)
            manifest = parse_manifest(catalog.storage, raw)
            if "subject" not in json.loads(raw):  # a signature or its like
                models[manifest.name].append((manifest.created or "", digest, raw, manifest))
    for name, made in sorted(models.items()):
        made.sort(key=lambda one: one[:2])
        for number, (_, _, raw, manifest) in enumerate(made, 1):
            yield _Found(name, number, raw, manifest)


def _enter(catalog: Catalog, db: sqlite3.Connection, found: _Found) -> int:
    model = check_model(db, found.name)
    model_id = make_model(db, found.name)[0] if model is None else model.id
    candidate = Candidate(found.name, found.raw, found.manifest, adopted=True)
    version_id = insert(db, model_id, found.number, candidate)
    if not all(map(catalog.storage.has, blobs_of(found.raw))):
        # On a remote, if a synchronisation says so; until then verify says what is missing.
        db.execute("INSERT INTO unfetched VALUES (?)", (version_id,))
    db.execute(
        "UPDATE models SET last_number = max(last_number, ?) WHERE id = ?",
        (found.number, model_id),
    )
    return 1


def _labelled(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), dict):
        return "", ""
    return (
        str(entry["annotations"].get("org.opencontainers.image.ref.name", "")),
        str(entry.get("digest", "")),
    )


def _aside(path: Path) -> Path | None:
    """Put a damaged index out of the way, with its log; nothing to do when it is gone."""
    if not path.exists():
        _log(path).unlink(missing_ok=True)  # of the index that is gone
        return None
    aside = path.with_name(f"{path.name}.damaged-{now()[:19].replace(':', '-')}")
    path.replace(aside)
    with suppress(FileNotFoundError):
        _log(path).replace(_log(aside))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.replace(path)
