"""Verifying: read every byte that versions are made of, and say what is wrong with which."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    NbModelError,
    StorageUnavailableError,
)
from nbmodel.registry.catalog import Catalog, find_model, find_version, local
from nbmodel.registry.index import descriptors, is_behind
from nbmodel.registry.remote.seen import places_of
from nbmodel.registry.remote.sharing import place
from nbmodel.registry.rows import VersionRow, version_rows
from nbmodel.storage.copying import Progress
from nbmodel.storage.manifests import blobs_of


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        what: One sentence.
        digest: The blob it is about, or None.
        versions: References of the versions that suffer from it.
        paths: Files of theirs that suffer from it.
        hint: What to do about it; empty where there is nothing to say.
    """

    what: str
    digest: str | None = None
    versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        names = ", ".join(self.versions)
        files = f" ({', '.join(self.paths)})" if self.paths else ""
        return f"{names}{files}: {self.what}" if names else self.what

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "what": self.what,
            "digest": self.digest,
            "versions": list(self.versions),
            "paths": list(self.paths),
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification read and found.

    Attributes:
        versions: How many versions were looked at.
        blobs: How many blobs were read, each once.
        bytes: How many bytes that were.
        problems: Everything that is wrong; empty is clean.
        elsewhere: How many of the versions have their files on a remote alone, so that they were
            not read.
        rebuilt: How many versions the index was made anew of before; None: it was not.
    """

    versions: int
    blobs: int
    bytes: int
    problems: tuple[Problem, ...] = ()
    rebuilt: int | None = None
    elsewhere: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "versions": self.versions,
            "blobs": self.blobs,
            "bytes": self.bytes,
            "problems": [problem.to_json() for problem in self.problems],
            "rebuilt": self.rebuilt,
            "elsewhere": self.elsewhere,
        }


def verify(
    catalog: Catalog, ref: Reference | str | None, progress: Progress | None
) -> VerifyReport:
    """Check a version, a model or (None) everything.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such thing to check.
    """
    with catalog.db.read() as db:
        rows = _selected(db, ref)
        problems = [] if ref is not None else [*_index_problems(catalog, db)]
        needed = _Needed(db, rows)
        lost = _lost_track(catalog, db, rows)
    needed.leave(lost)
    count = total = 0
    for digest, size in needed.sizes.items():
        if digest in needed.elsewhere and not catalog.storage.has(digest):
            continue
        what = _blob_problem(catalog, digest, size, progress)
        count, total = count + 1, total + size
        if what is not None:
            problems.append(needed.problem(catalog, digest, what))
    problems = _with_hints(catalog, rows, problems)
    broken = {name for problem in problems for name in problem.versions}
    for row in rows:
        if row.reference not in broken:
            problems += _manifest_problems(catalog, row, needed.blobs[row.id])
    elsewhere = sum(row.id in needed.unfetched for row in rows)
    return VerifyReport(len(rows), count, total, tuple(problems), elsewhere=elsewhere)


def _with_hints(
    catalog: Catalog, rows: Iterable[VersionRow], problems: Iterable[Problem]
) -> list[Problem]:
    """The problems, those of a version's files with what brings them back."""
    digests = {row.reference: row.digest for row in rows}
    found = []
    with catalog.db.read() as db:
        for problem in problems:
            places = [
                f"{place(remote, model)}@{digests[name]}"
                for name in problem.versions
                for remote, model in places_of(db, digests[name])[:1]
            ]
            if places:
                hint = f"`pull {places[0]}` fetches it anew"
            elif problem.versions:
                hint = "no registry is known to have it: `sync` with one that may, or log it again"
            else:
                hint = problem.hint
            found.append(replace(problem, hint=hint))
    return found


class _Needed:
    """The blobs of versions: how large they are to be, and who needs them."""

    def __init__(self, db: sqlite3.Connection, rows: Iterable[VersionRow]) -> None:
        self.sizes: dict[str, int] = {}
        self.blobs: dict[int, dict[str, int]] = {}
        self._users: defaultdict[str, list[VersionRow]] = defaultdict(list)
        for row in rows:
            own = dict(db.execute("SELECT digest, size FROM blobs WHERE version = ?", (row.id,)))
            self.blobs[row.id] = own
            (size,) = db.execute(
                "SELECT manifest_size FROM versions WHERE id = ?", (row.id,)
            ).fetchone()
            for digest, length in {row.digest: size, **own}.items():
                self.sizes.setdefault(digest, length)
                self._users[digest].append(row)
        self.unfetched = {
            version
            for (version,) in db.execute(
                "SELECT u.version FROM unfetched u JOIN versions v ON v.id = u.version"
                " WHERE v.digest IN (SELECT digest FROM remote_tags)"
            )
        }
        #: Files that only versions need whose files are on a remote.
        self.elsewhere: set[str] = set()
        self.leave(set())

    def leave(self, versions: Collection[int]) -> None:
        """Count further versions as those whose files are on a remote."""
        self.unfetched |= set(versions)
        self.elsewhere = {
            digest
            for digest, users in self._users.items()
            if all(row.id in self.unfetched and row.digest != digest for row in users)
        }

    def problem(self, catalog: Catalog, digest: str, what: str) -> Problem:
        users = self._users[digest]
        paths = dict.fromkeys(path for row in users for path in _paths(catalog, row, digest))
        return Problem(what, digest, tuple(row.reference for row in users), tuple(paths))


def _lost_track(catalog: Catalog, db: sqlite3.Connection, rows: Iterable[VersionRow]) -> set[int]:
    """Versions without a file here, in an index that was made anew and knows of no remote yet.

    They were known without their files before, as far as anybody can tell.
    """
    if db.execute("SELECT 1 FROM remote_tags LIMIT 1").fetchone() is not None:
        return set()
    unfetched = {version for (version,) in db.execute("SELECT version FROM unfetched")}
    found = set()
    for row in rows:
        if row.id in unfetched:
            try:
                files = catalog.manifest(row.digest).files
            except NbModelError:
                continue  # a problem of its own
            if not any(catalog.storage.has(file.digest) for file in files):
                found.add(row.id)
    return found


def _selected(db: sqlite3.Connection, ref: Reference | str | None) -> list[VersionRow]:
    if ref is None:
        return version_rows(db, "ORDER BY m.name, v.number")
    parsed = local(ref)
    if parsed.is_model:
        model = find_model(db, parsed.name)
        return version_rows(db, "WHERE v.model = ? ORDER BY v.number", (model.id,))
    return [find_version(db, parsed)]


def _blob_problem(
    catalog: Catalog, digest: str, size: int, progress: Progress | None
) -> str | None:
    try:
        found = catalog.storage.size(digest)
        if found != size:
            return f"blob {digest} has {found} bytes, expected {size}"
        catalog.storage.check(digest, progress=progress)
    except BlobNotFoundError:
        return f"blob {digest} is missing"
    except DigestMismatchError as exc:
        return f"blob {digest} is damaged: its bytes have digest {exc.actual}"
    except StorageUnavailableError as exc:
        return f"blob {digest} cannot be read: {exc}"
    return None


def _manifest_problems(
    catalog: Catalog, row: VersionRow, blobs: dict[str, int]
) -> Iterator[Problem]:
    """What is wrong with a manifest whose blobs are all as they should be."""
    try:
        needed = blobs_of(catalog.storage.read(row.digest, limit=MAX_MANIFEST))
        catalog.manifest(row.digest)
    except NbModelError as exc:
        yield Problem(f"manifest cannot be used: {exc}", row.digest, (row.reference,))
        return
    if needed != blobs:
        yield Problem("the index lists other blobs than the manifest", row.digest, (row.reference,))


def _paths(catalog: Catalog, row: VersionRow, digest: str) -> list[str]:
    try:
        manifest = catalog.manifest(row.digest)
    except NbModelError:
        return []  # the manifest is damaged itself, which is another problem
    layers = (*manifest.files, *manifest.chunks.values())
    return [entry.path for entry in layers if entry.digest == digest]


def _index_problems(catalog: Catalog, db: sqlite3.Connection) -> Iterator[Problem]:
    (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        yield Problem(f"the index is damaged: {state}")
    (count,) = db.execute("SELECT count(*) FROM versions").fetchone()
    if count == 0 or is_behind(db):
        return  # a killed process left it behind; the next change writes it
    listed = catalog.storage.listed()
    if listed is None:
        yield Problem("index.json cannot be read: `nbmodel verify --rebuild` writes it anew")
    elif listed != json.loads(descriptors(db)):
        yield Problem("index.json does not list the versions of the registry")
