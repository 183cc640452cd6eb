"""Making versions: store the files, then one transaction is the moment it exists."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from nbmodel.core.chunks import CHUNKS_TYPE
from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.reference import Reference, check_name
from nbmodel.core.version import Version, now, parse_time, stamp_of
from nbmodel.errors import BlobNotFoundError, RegistryError, StorageUnavailableError
from nbmodel.registry.catalog import Catalog, find_version, local
from nbmodel.registry.contents import Contents
from nbmodel.registry.index import touch_index, write_index
from nbmodel.registry.packing import pack_predecessor
from nbmodel.registry.rows import ModelRow, model_rows, version_rows
from nbmodel.registry.tables import CHUNKS_SUFFIX, add_with_table, known_table, table_of
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.manifests import blobs_of, parse_manifest

_ATTEMPTS = 5  # the last one stores under the lock that a collector needs
_SETTLED_NS = 50_000_000  # younger files may change again within one tick of their clock
_INT64 = 2**63 - 1  # SQLite's integers; device and inode may be larger


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file that was hashed, as ``stat`` told it; equal means unchanged."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> _Seen | None:
        """None when the file is not there."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(
            status.st_dev & _INT64,
            status.st_ino & _INT64,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """The files of a version, in the storage.

    Attributes:
        entries: One a file.
        seen: Files that may be recognised next time, with their digests.
        tables: Path → chunk table as bytes, of the files that have one.
    """

    entries: tuple[FileEntry, ...]
    seen: tuple[tuple[_Seen, str], ...]
    tables: Mapping[str, bytes]

    @property
    def chunks(self) -> dict[str, FileEntry]:
        """Path → the layer of its chunk table."""
        return {
            path: FileEntry(f"{path}{CHUNKS_SUFFIX}", len(table), digest_of(table), CHUNKS_TYPE)
            for path, table in self.tables.items()
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version whose manifest and config are stored, about to be made.

    Attributes:
        name: The model.
        raw: Bytes of the manifest.
        manifest: The same, read.
        adopted: Whether it came from elsewhere, where the same manifest means the same
            version.
        description: Free text.
        tags: Key → value words.
        seen: Files to recognise next time, with their digests.
    """

    name: str
    raw: bytes
    manifest: Manifest
    adopted: bool
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    seen: tuple[tuple[_Seen, str], ...] = ()


def add(catalog: Catalog, contents: Contents, progress: Progress | None = None) -> Version:
    """Make a version of files.

    Raises:
        InputError: A file cannot be read, or changed while it was.
        RegistryError: The model is archived.
        StorageUnavailableError: The folder takes nothing; nothing changed.
    """
    with catalog.db.read() as db:
        check_model(db, contents.name)
    for attempt in range(1, _ATTEMPTS + 1):
        stored = _store(catalog, contents, progress)
        progress = None  # what a collector makes us do again was told already
        manifest = contents.manifest(stored.entries, stored.chunks)
        config, raw = manifest.config_bytes(), manifest.manifest_bytes()
        made = (*stored.tables.values(), config, raw)
        for document in made:
            catalog.storage.add_bytes(document)
        candidate = Candidate(
            contents.name,
            raw,
            manifest,
            adopted=False,
            description=contents.description,
            tags=contents.tags,
            seen=stored.seen,
        )
        again = partial(_store_again, catalog.storage, contents, made)
        version = _commit(catalog, candidate, again if attempt == _ATTEMPTS else None)
        if version is not None:
            write_index(catalog)
            pack_predecessor(catalog, contents.name, version.number)
            return version
    raise _collected(contents.name)


def adopt(catalog: Catalog, manifest: bytes, name: str, *, number: int = 0) -> Version:
    """Make a version of a manifest whose blobs are in the storage, as a pull brings them.

    Bringing the same manifest again gives the version that it made.

    Args:
        catalog: The registry.
        manifest: Bytes of the manifest.
        name: The model.
        number: The one that it gets where that was never given, or was its own before it was
            deleted; else the next.

    Raises:
        ManifestError: It is not a manifest of a model.
        BlobNotFoundError: A blob is missing, or of another size than the manifest says.
        RegistryError: The model is archived.
    """
    check_name(name)
    parsed = parse_manifest(catalog.storage, manifest)
    candidate = Candidate(name, manifest, parsed, adopted=True)
    for _ in range(_ATTEMPTS):
        for digest, size in blobs_of(manifest).items():
            catalog.storage.keep(digest)
            if catalog.storage.size(digest) != size:
                raise BlobNotFoundError(
                    f"blob {digest} has {catalog.storage.size(digest)} bytes, expected {size}"
                )
        catalog.storage.add_bytes(manifest)
        version = _commit(catalog, candidate, number=number)
        if version is not None:
            write_index(catalog)
            pack_predecessor(catalog, name, version.number)
            return version
    raise _collected(name)


def resolve(catalog: Catalog, ref: Reference | str) -> Version:
    """The version that a reference means, its manifest read and checked.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is none.
        BlobNotFoundError, DigestMismatchError: Its manifest is damaged.
    """
    parsed = local(ref)
    with catalog.db.read() as db:
        version = catalog.version(db, find_version(db, parsed))
    assert version.manifest.files is not None  # reads it now rather than at first use
    return version


def _store(catalog: Catalog, contents: Contents, progress: Progress | None) -> _Stored:
    entries, seen, tables = [], [], {}
    for path, source in contents.files.items():
        state = None
        if isinstance(source, bytes):
            digest, size = catalog.storage.add_bytes(source), len(source)
            table = table_of(source)
            _tell(progress, size)
        else:
            digest, size, table, state = _store_file(catalog, source, progress)
        if state is not None:
            seen.append((state, digest))
        # A file that is called as the table would be goes before it.
        if table is not None and f"{path}{CHUNKS_SUFFIX}" not in contents.files:
            tables[path] = table
        entries.append(FileEntry(path, size, digest, contents.media_type(path)))
    return _Stored(tuple(entries), tuple(seen), tables)


def _store_file(
    catalog: Catalog, path: Path, progress: Progress | None
) -> tuple[str, int, bytes | None, _Seen | None]:
    """Digest, size, table, and what to remember the file by (None when it may still change)."""
    began_ns = time.time_ns()
    before = _Seen.of(path)
    known = None if before is None else _known_digest(catalog, before)
    if before is not None and known is not None and os.access(path, os.R_OK):
        _tell(progress, before.size)
        return known, before.size, known_table(catalog, known, before.size), None
    digest, size, table = add_with_table(
        catalog.storage, path, 0 if before is None else before.size, progress
    )
    settled = before is not None and began_ns - max(before.mtime_ns, before.ctime_ns)
    if before is None or before != _Seen.of(path) or settled < _SETTLED_NS:
        return digest, size, table, None
    return digest, size, table, before


def _store_again(storage: Storage, contents: Contents, made: Iterable[bytes]) -> None:
    for source in (*contents.files.values(), *made):
        if isinstance(source, bytes):
            storage.add_bytes(source)
        else:
            storage.add_file(source)


def _known_digest(catalog: Catalog, seen: _Seen) -> str | None:
    with catalog.db.read() as db:
        row = db.execute(
            "SELECT digest FROM seen WHERE device = ? AND inode = ? AND size = ?"
            " AND mtime_ns = ? AND ctime_ns = ?",
            (seen.device, seen.inode, seen.size, seen.mtime_ns, seen.ctime_ns),
        ).fetchone()
    if row is None or not catalog.storage.keep(row[0]):
        return None
    return str(row[0])


def _commit(
    catalog: Catalog,
    candidate: Candidate,
    again: Callable[[], None] | None = None,
    *,
    number: int = 0,
) -> Version | None:
    """Insert the version; None when it has to be stored again.

    Args:
        catalog: The registry.
        candidate: What to insert.
        again: Stores the blobs, under the lock; None to expect them there.
        number: The one to have, where that was never another's; 0: the next.
    """
    digest = digest_of(candidate.raw)
    blobs = blobs_of(candidate.raw)
    with catalog.db.write() as db:
        model = check_model(db, candidate.name)
        if model is not None:
            twin = version_rows(db, "WHERE v.model = ? AND v.digest = ?", (model.id, digest))
            if twin:
                if not candidate.adopted:
                    # Two uploads of one content in one microsecond: the next is later.
                    return None
                db.execute("DELETE FROM unfetched WHERE version = ?", (twin[0].id,))
                return catalog.version(db, twin[0])
        if again is not None:
            again()
        # A collector deletes under this lock, so what is there now stays.
        if not all(map(catalog.storage.has, (digest, *blobs))):
            return None
        model_id, last = (
            make_model(db, candidate.name) if model is None else (model.id, model.last_number)
        )
        if number < 1 or not (
            is_free(db, candidate.name, number) or _was(db, model_id, digest, number)
        ):
            number = last + 1
        version_id = insert(db, model_id, number, candidate)
        db.execute("UPDATE models SET last_number = ? WHERE id = ?", (max(last, number), model_id))
        (row,) = version_rows(db, "WHERE v.id = ?", (version_id,))
        return catalog.version(db, row)


def is_free(db: sqlite3.Connection, name: str, number: int) -> bool:
    """Whether a number never was that of a version of a model of that name."""
    taken = db.execute(
        "SELECT 1 FROM models m WHERE m.name = :name AND ("
        " EXISTS (SELECT 1 FROM versions v WHERE v.model = m.id AND v.number = :number)"
        " OR EXISTS (SELECT 1 FROM deleted d WHERE d.model = m.id AND d.number = :number))"
        " UNION ALL SELECT 1 FROM retired WHERE name = :name AND last_number >= :number",
        {"name": name, "number": number},
    ).fetchone()
    return taken is None


def _was(db: sqlite3.Connection, model_id: int, digest: str, number: int) -> bool:
    """Whether a version that was deleted had a number, which nobody has now."""
    found = db.execute(
        "SELECT 1 FROM dismissed d WHERE d.model = :model AND d.digest = :digest"
        " AND d.number = :number AND NOT EXISTS"
        " (SELECT 1 FROM versions v WHERE v.model = d.model AND v.number = d.number)",
        {"model": model_id, "digest": digest, "number": number},
    )
    return found.fetchone() is not None


def check_model(db: sqlite3.Connection, name: str) -> ModelRow | None:
    """The model that takes another version, None when it has to be made.

    Raises:
        RegistryError: It is archived.
    """
    rows = model_rows(db, "WHERE name = ?", (name,))
    if rows and rows[0].archived:
        raise RegistryError(
            f"model {name!r} is archived, expected one that takes versions",
            hint=f"restore {name}, or choose another name",
        )
    return rows[0] if rows else None


def make_model(db: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Make a model; its id, and the last number that was given under its name."""
    retired = db.execute("SELECT last_number FROM retired WHERE name = ?", (name,)).fetchone()
    last = 0 if retired is None else int(retired[0])
    made = db.execute(
        "INSERT INTO models (name, created, last_number) VALUES (?, ?, ?)", (name, now(), last)
    )
    assert made.lastrowid is not None
    return made.lastrowid, last


def insert(db: sqlite3.Connection, model_id: int, number: int, candidate: Candidate) -> int:
    """Make the rows of a version that the model does not have yet; the id of the version.

    Args:
        db: A transaction that writes.
        model_id: The model.
        number: The version's; which one was the last is not noted here.
        candidate: The version.
    """
    manifest = candidate.manifest
    row = {
        "model": model_id,
        "number": number,
        "stamp": _free_stamp(db, model_id, manifest.created or now()),
        "digest": digest_of(candidate.raw),
        "manifest_size": len(candidate.raw),
        "created": manifest.created,
        "framework": manifest.framework,
        "model_type": manifest.model_type,
        "size": manifest.size,
        "metrics": _text(manifest.metrics),
        "metadata": _text(manifest.metadata),
        "description": candidate.description,
        "tags": _text(candidate.tags),
    }
    made = db.execute(
        "INSERT INTO versions (model, number, stamp, digest, manifest_size, created, framework,"
        " model_type, size, metrics, metadata, description, tags) VALUES (:model, :number,"
        " :stamp, :digest, :manifest_size, :created, :framework, :model_type, :size, :metrics,"
        " :metadata, :description, :tags)",
        row,
    )
    version_id = made.lastrowid
    assert version_id is not None
    db.executemany(
        "INSERT INTO blobs VALUES (?, ?, ?)",
        [(version_id, blob, size) for blob, size in blobs_of(candidate.raw).items()],
    )
    db.executemany(
        "INSERT INTO parents VALUES (?, ?, ?)",
        [(version_id, at, parent) for at, parent in enumerate(manifest.lineage.parents)],
    )
    db.executemany(
        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?)",
        [(*astuple(state), digest) for state, digest in candidate.seen],
    )
    touch_index(db)
    return version_id


def _free_stamp(db: sqlite3.Connection, model_id: int, created: str) -> str:
    """The timestamp id of ``created``, or the next second that is free in the model."""
    time_of = parse_time(created)
    stamp = stamp_of(time_of)
    taken = db.execute(
        "SELECT stamp FROM versions WHERE model = ? AND stamp >= ? ORDER BY stamp",
        (model_id, stamp),
    )
    for (other,) in taken:
        if other != stamp:
            break
        time_of += timedelta(seconds=1)
        stamp = stamp_of(time_of)
    return stamp


def _text(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"))


def _tell(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)


def _collected(name: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"files of {name!r} were removed {_ATTEMPTS} times while they were stored",
        hint="something empties the registry's folder: run gc with a grace period",
    )
