"""The registry as the distribution API offers it: a model is a repository, its names are tags.

What names a version for good (its number, its timestamp id) and what moves by itself
(``latest``) is the registry's own to say: writing such a tag makes the version known here
and moves nothing. ``pinned`` is the registry's pin; every other tag is an alias.

Each version also has one claim of its number among its tags (``core.claim``), so that whoever
settles the claims finds the numbers that the versions have here. A claim that is written
makes the version known under the number that it claims, where that is still to be had; the
tags then tell which one it got.

Everything is read from the index when it is asked for: other processes may change it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from nbmodel.core.claim import MAX_NUMBER, Claim, claimant
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference, check_name, normal_stamp
from nbmodel.core.version import Version, parse_time
from nbmodel.errors import (
    BlobNotFoundError,
    ManifestError,
    ModelNotFoundError,
    PinConflictError,
    RefError,
    RegistryError,
    UnsupportedError,
    VersionNotFoundError,
)
from nbmodel.registry import aliases, pins, removal, versions
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.signatures import add_referrer
from nbmodel.storage.repositories import forget_referrer
from nbmodel.storage.tags import check_tag

PINNED = "pinned"
LATEST = "latest"
_MOST_CLAIMED = 100_000_000  # a greater number would leave too few for others
_SIMILAR = 64  # newest versions of a model, whose chunks are looked for
_WHY = "by the registry's distribution API"
#: Versions whose files are here.
_HERE = "v.id NOT IN (SELECT version FROM unfetched)"


class _Row(NamedTuple):
    """One version of a model; numbers are given above 0."""

    number: int
    stamp: str
    digest: str
    created: str
    archived: int

    @property
    def claim(self) -> Claim:
        """Of the number that it has; from when the version was made."""
        return Claim.of(self.number, self.digest, parse_time(self.created))


class RegistryRepositories:
    """The models of a registry, as repositories.

    Args:
        catalog: The registry.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._referrers = catalog.referrers

    def names(self) -> Sequence[str]:
        """Models that are not archived and have a version, sorted."""
        with self._catalog.db.read() as db:
            found = db.execute(
                "SELECT name FROM models m WHERE archived = 0 AND EXISTS"  # noqa: S608 - constants
                f" (SELECT 1 FROM versions v WHERE v.model = m.id AND {_HERE}) ORDER BY name"
            )
            return [name for (name,) in found]

    def tags(self, name: str) -> Mapping[str, str]:
        """Tag → manifest digest; empty for an unknown model."""
        check_name(name)
        found: dict[str, str] = {}
        with self._catalog.db.read() as db:
            for row in _rows(db, name):
                found[row.claim.tag] = found[str(row.number)] = found[row.stamp] = row.digest
                if not row.archived:
                    found[LATEST] = row.digest  # they come by number
            found.update(_moving(db, name))
        return found

    def get(self, name: str, tag: str) -> str | None:
        """The digest of the version that a tag is on, or None."""
        check_name(name)
        check_tag(tag)
        claim = Claim.parse(tag)
        with self._catalog.db.read() as db:
            if claim is not None:
                # By the claimant alone: whatever number it got.
                first = f"sha256:{claim.version}"
                return _digest(db, name, "v.digest >= ? AND v.digest < ?", first, f"{first}g")
            if tag == LATEST:
                return _digest(db, name, "v.archived = 0")
            if tag.isdigit():
                is_number = len(tag) < 10 and str(int(tag)) == tag
                return _digest(db, name, "v.number = ?", int(tag)) if is_number else None
            if normal_stamp(tag) == tag:
                return _digest(db, name, "v.stamp = ?", tag)
            return dict(_moving(db, name)).get(tag)

    def has(self, name: str, digest: str) -> bool:
        """Whether a model has the version, or nobody has it: then it may be a referrer.

        What was pushed by its digest is here until it is collected.
        """
        with self._catalog.db.read() as db:
            owners = db.execute(
                "SELECT m.name FROM versions v JOIN models m ON m.id = v.model"  # noqa: S608 - constants
                f" WHERE v.digest = ? AND {_HERE}",
                (digest,),
            ).fetchall()
        return (not owners or (name,) in owners) and self._catalog.storage.has(digest)

    def put(self, name: str, tag: str, digest: str) -> None:
        """Make a manifest a version, and put a tag on it.

        Raises:
            ManifestError: It is no model's, or the claim is of another version.
            BlobNotFoundError: It is gone.
            RegistryError: The number is another version's, or the model or version is
                archived.
        """
        claim = Claim.parse(tag)
        if claim is not None and claim.version != claimant(digest):
            raise ManifestError(f"tag {tag} claims a number for another version than {digest}")
        wanted = 0
        if tag.isdigit():
            wanted = _number(name, tag)
            self._check_number(name, wanted, digest)
        elif claim is not None and claim.number <= _MOST_CLAIMED:
            wanted = claim.number
        raw = self._catalog.storage.read(digest, limit=MAX_MANIFEST)
        version = versions.adopt(self._catalog, raw, name, number=wanted)
        if tag.isdigit() and version.number != wanted:
            raise _taken(f"{name}:{tag}", f"this one is {version.reference}")
        if tag == PINNED:
            pins.pin(self._catalog, _by_digest(version), runtime=None, why=_WHY)
        elif not (tag.isdigit() or claim or tag == LATEST or normal_stamp(tag) == tag):
            reference = _by_digest(version)
            aliases.set_alias(self._catalog, reference, tag, expect=aliases.UNSET, why=_WHY)

    def untag(self, name: str, tag: str) -> bool:
        """Take an alias or the pin away; whether it was there.

        Raises:
            UnsupportedError: The tag names a version for good, or moves by itself.
        """
        check_name(name)
        is_own = tag.isdigit() or normal_stamp(tag) == tag or Claim.parse(tag) is not None
        if tag == LATEST or is_own:
            raise UnsupportedError(
                f"tag {tag!r} stays as long as its version",
                hint="delete the version by its digest",
            )
        try:
            if tag == PINNED:
                pins.unpin(self._catalog, name, runtime=None)
            else:
                aliases.remove_alias(self._catalog, name, tag, why=_WHY)
        except (ModelNotFoundError, VersionNotFoundError, PinConflictError):
            return False
        return True

    def forget(self, name: str, digest: str) -> None:
        """Delete a version; or what refers to one, or a manifest that no version has.

        Raises:
            InUseError: Something uses the version; the message names every use.
        """
        try:
            removal.delete(self._catalog, Reference(name, digest=digest), force=False)
        except (ModelNotFoundError, VersionNotFoundError):
            forget_referrer(self._catalog.storage, self._referrers, digest)
        # Under the lock that a version is made under: nobody adopts it meanwhile.
        with self._catalog.db.write() as db:
            needed = db.execute(
                "SELECT 1 FROM versions WHERE digest = :digest UNION ALL"
                " SELECT 1 FROM blobs WHERE digest = :digest LIMIT 1",
                {"digest": digest},
            ).fetchone()
            if needed is None:
                with suppress(BlobNotFoundError):  # a collector was faster
                    self._catalog.storage.delete(digest)

    def similar(self, name: str) -> Iterable[str]:
        """Digests of the newest versions of a model."""
        with self._catalog.db.read() as db:
            rows = _rows(db, name)
        return dict.fromkeys(row.digest for row in reversed(rows[-_SIMILAR:]))

    def referrers(self, name: str, subject: str) -> Sequence[str]:
        """Digests of the manifests that refer to one, sorted."""
        check_name(name)
        return self._referrers.of(subject)

    def refer(self, name: str, subject: str, digest: str) -> None:
        """Note that a manifest refers to its subject, which need not be there (yet).

        Raises:
            ManifestError: It is no manifest, or refers to nothing.
            BlobNotFoundError: It or a blob of it is not here, or was collected meanwhile.
        """
        del subject  # the manifest says it
        check_name(name)
        add_referrer(self._catalog, digest)

    def _check_number(self, name: str, number: int, digest: str) -> None:
        """Refuse a number that is another version's, or once was."""
        with self._catalog.db.read() as db:
            found = db.execute(
                "SELECT v.digest FROM versions v JOIN models m ON m.id = v.model"
                " WHERE m.name = ? AND v.number = ?",
                (name, number),
            ).fetchone()
            is_free = versions.is_free(db, name, number)
        if found is None and not is_free:
            raise _taken(f"{name}:{number}", "it was a version that is deleted")
        if found is not None and found[0] != digest:
            raise _taken(f"{name}:{number}", "it is another version here")


def _number(name: str, tag: str) -> int:
    number = int(tag) if len(tag) < 10 else 0
    if number < 1 or str(number) != tag:
        raise RefError(f"{name}:{tag[:40]}: version numbers are 1 to {MAX_NUMBER}")
    return number


def _taken(what: str, why: str) -> RegistryError:
    return RegistryError(
        f"{what} cannot be given: {why}",
        hint="push it under an alias, or with `nbmodel push`, which finds a free number",
    )


def _rows(db: sqlite3.Connection, name: str) -> list[_Row]:
    """The versions of a model, by number."""
    found = db.execute(
        "SELECT v.number, v.stamp, v.digest, v.created, v.archived FROM versions v"  # noqa: S608 - constants
        f" JOIN models m ON m.id = v.model WHERE m.name = ? AND {_HERE} ORDER BY v.number",
        (name,),
    )
    return [_Row._make(row) for row in found]


def _moving(db: sqlite3.Connection, name: str) -> Iterable[tuple[str, str]]:
    """Aliases and the registry's pin, with the digests of what they are on."""
    yield from db.execute(
        "SELECT a.name, v.digest FROM aliases a JOIN versions v ON v.id = a.version"  # noqa: S608 - constants
        f" JOIN models m ON m.id = a.model WHERE m.name = ? AND {_HERE} ORDER BY a.name",
        (name,),
    )
    held = db.execute(
        "SELECT v.digest FROM pins p JOIN versions v ON v.id = p.version"  # noqa: S608 - constants
        f" JOIN models m ON m.id = p.model WHERE m.name = ? AND p.runtime = '' AND {_HERE}",
        (name,),
    )
    for (digest,) in held:
        yield PINNED, digest


def _digest(db: sqlite3.Connection, name: str, condition: str, *values: object) -> str | None:
    """The digest of the version with the largest number that a condition holds for."""
    found = db.execute(
        "SELECT v.digest FROM versions v JOIN models m ON m.id = v.model"  # noqa: S608 - constants
        f" WHERE m.name = ? AND {condition} AND {_HERE} ORDER BY v.number DESC LIMIT 1",
        (name, *values),
    ).fetchone()
    return None if found is None else str(found[0])


def _by_digest(version: Version) -> Reference:
    return Reference(version.model, digest=version.digest)
