"""Pushing: blobs, manifest, claim of a number, then the names that people use.

Of eight that push at once each has its version there under a tag of its own, whatever
becomes of the integers; see ``core.claim``. A push that was cut is simply made again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from nbmodel.core.claim import MAX_NUMBER, Claim, next_number
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference
from nbmodel.errors import AliasConflictError
from nbmodel.registry.catalog import Catalog, find_model, find_version, local, version_not_found
from nbmodel.registry.index import write_index
from nbmodel.registry.remote.alias_tags import push_alias
from nbmodel.registry.remote.bring import adjust
from nbmodel.registry.remote.fetch import fetch_row
from nbmodel.registry.remote.numbering import Renumbered
from nbmodel.registry.remote.peer import Peer
from nbmodel.registry.remote.seen import note_tags, remote_id, seen_tags
from nbmodel.registry.remote.signature_copies import push_signatures
from nbmodel.registry.remote.survey import Survey, judge, survey
from nbmodel.registry.rows import VersionRow, model_rows, version_rows
from nbmodel.storage.manifests import blobs_of

_ATTEMPTS = 5  # to get a number that nobody claimed before; the law gives one in any case


@dataclass(frozen=True, slots=True)
class PushedVersion:
    """A version that is at the remote.

    Attributes:
        reference: What it is called here, after its number was settled.
        digest: Of its manifest.
        number: Its number there.
        was_there: Whether it was there before.
        sent: Bytes of blobs that went over the network.
        present: Bytes of blobs that were there already.
        saved: Bytes of others that were not sent, because parts of them were there.
    """

    reference: str
    digest: str
    number: int
    was_there: bool
    sent: int = 0
    present: int = 0
    saved: int = 0


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        remote: Where to.
        versions: By model and number.
        aliases: Those that were put on a version there: ``digits:champion → 3``.
        renumbered: Versions that have another number here now.
        doubts: What else there is to know, a sentence each.
        seconds: How long it took.
    """

    remote: str
    versions: tuple[PushedVersion, ...]
    aliases: tuple[str, ...] = ()
    renumbered: tuple[Renumbered, ...] = ()
    doubts: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Bytes of blobs that went over the network."""
        return sum(version.sent for version in self.versions)

    @property
    def present(self) -> int:
        """Bytes of blobs that were there already."""
        return sum(version.present for version in self.versions)

    @property
    def saved(self) -> int:
        """Bytes that were not sent, because parts of the blobs were there."""
        return sum(version.saved for version in self.versions)

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "remote": self.remote,
            "versions": [
                {
                    "reference": one.reference,
                    "digest": one.digest,
                    "number": one.number,
                    "was_there": one.was_there,
                    "sent": one.sent,
                    "present": one.present,
                    "saved": one.saved,
                }
                for one in self.versions
            ],
            "aliases": list(self.aliases),
            "renumbered": [one.to_json() for one in self.renumbered],
            "notes": list(self.doubts),
            "sent": self.sent,
            "present": self.present,
            "saved": self.saved,
            "seconds": self.seconds,
        }


def push(
    catalog: Catalog,
    peer: Peer,
    ref: Reference | str | None,
    *,
    aliases: Sequence[str] | None = None,
    force: bool = False,
) -> PushReport:
    """Push a version, all versions of a model, or (None) all of all models.

    What is there already is not sent again. Every version is there before the first alias
    moves, and an alias that somebody else moved is told after the others were pushed.

    Args:
        catalog: The registry.
        peer: Where to.
        ref: A version; a bare name is the model with all its versions.
        aliases: The aliases to push; None: all that are on the versions.
        force: Move aliases wherever they are.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such thing to push.
        AliasConflictError: Somebody moved an alias since it was last seen there.
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        CancelledError: Nobody wants to go on.
    """
    began = time.monotonic()
    with catalog.db.read() as db:
        chosen = _chosen(db, ref, aliases)
        peer.expect(_bytes(db, chosen))
    report, conflicts = PushReport(str(peer.remote), ()), []
    for rows in chosen:
        part, conflict = _push_model(catalog, peer, rows, aliases, force=force)
        report = replace(
            report,
            versions=report.versions + part.versions,
            aliases=report.aliases + part.aliases,
            renumbered=report.renumbered + part.renumbered,
            doubts=report.doubts + part.doubts,
        )
        conflicts += conflict
    if conflicts:
        raise conflicts[0]
    return replace(report, seconds=time.monotonic() - began)


def _chosen(
    db: sqlite3.Connection, ref: Reference | str | None, aliases: Sequence[str] | None
) -> list[list[VersionRow]]:
    """The versions, by model."""
    if ref is None:
        names = [row.name for row in model_rows(db, "WHERE archived = 0 ORDER BY name")]
    else:
        parsed = local(ref)
        if not parsed.is_model:
            return [[find_version(db, parsed)]]
        names = [find_model(db, parsed.name).name]
    chosen = [
        version_rows(db, "WHERE m.name = ? AND v.archived = 0 ORDER BY v.number", (name,))
        for name in names
    ]
    if aliases is not None and len(names) == 1:
        model = find_model(db, names[0])
        known = {
            alias
            for (alias,) in db.execute("SELECT name FROM aliases WHERE model = ?", (model.id,))
        }
        for alias in aliases:
            if alias not in known:
                raise version_not_found(db, model, Reference(model.name, alias=alias))
    return [rows for rows in chosen if rows]


def _bytes(db: sqlite3.Connection, chosen: list[list[VersionRow]]) -> int:
    """Of all blobs that these versions need, counted once for each."""
    sizes = dict(db.execute("SELECT version, total(size) FROM blobs GROUP BY version").fetchall())
    return int(sum(sizes.get(row.id, 0) for rows in chosen for row in rows))


def _push_model(
    catalog: Catalog,
    peer: Peer,
    rows: list[VersionRow],
    aliases: Sequence[str] | None,
    *,
    force: bool,
) -> tuple[PushReport, list[AliasConflictError]]:
    model, model_id = rows[0].model, rows[0].model_id
    with catalog.db.read() as db:
        seen = seen_tags(db, peer.remote, model)
        wanted = [
            (row, alias)
            for row in rows
            for (alias,) in db.execute(
                "SELECT name FROM aliases WHERE version = ? ORDER BY name", (row.id,)
            )
            if aliases is None or alias in aliases
        ]
    found = survey(peer, model, seen, aliases=[alias for _, alias in wanted])
    pushed = []
    for row in rows:
        one, found = _push_version(catalog, peer, row, found)
        pushed.append(one)
    moved, conflicts = [], []
    for row, alias in wanted:
        raw = catalog.storage.read(row.digest, limit=MAX_MANIFEST)
        try:
            if push_alias(peer, row, alias, raw, found, seen, force=force):
                moved.append((row, alias))
        except AliasConflictError as exc:
            conflicts.append(exc)
    failed = {alias for _, alias in wanted} - {alias for _, alias in moved}
    known = {tag: digest for tag, digest in found.digests.items() if tag not in failed}
    with catalog.db.write() as db:
        place = remote_id(db, peer.remote)
        note_tags(
            db,
            place,
            model,
            known | {alias: row.digest for row, alias in moved},
            [row.digest for row in rows],
        )
        renumbered = adjust(db, model_id, place, found.numbers, peer)
        now = {row.id: row for row in version_rows(db, "WHERE v.model = ?", (model_id,))}
    write_index(catalog)
    report = PushReport(
        str(peer.remote),
        tuple(
            replace(one, reference=now[row.id].reference)
            for one, row in zip(pushed, rows, strict=True)
        ),
        tuple(f"{row.model}:{alias} → {found.numbers[row.digest]}" for row, alias in moved),
        renumbered,
        found.doubts,
    )
    return report, conflicts


def _push_version(
    catalog: Catalog, peer: Peer, row: VersionRow, found: Survey
) -> tuple[PushedVersion, Survey]:
    """Push one version unless its claim is there; what the remote has then."""
    peer.check()
    claimed = {found.digests[tag] for tag in found.tags if tag in found.digests and _claims(tag)}
    if row.digest in claimed:
        peer.advance(sum(blobs_of(catalog.storage.read(row.digest, limit=MAX_MANIFEST)).values()))
        repository = peer.remote.repository(row.model)
        push_signatures(catalog, peer.registry, repository, row.digest)
        return (
            PushedVersion(row.reference, row.digest, found.numbers[row.digest], was_there=True),
            found,
        )
    fetch_row(catalog, row, peer.connect, cancelled=peer.cancelled)
    repository = peer.remote.repository(row.model)
    moved = peer.registry.push(
        repository, catalog.storage, row.digest, tags=(), progress=peer.advance
    )
    raw = catalog.storage.read(row.digest, limit=MAX_MANIFEST)
    push_signatures(catalog, peer.registry, repository, row.digest)
    found = _claim(peer, row, raw, found)
    number = found.numbers[row.digest]
    for tag in _own_tags(peer, row, number, found):
        peer.registry.push_manifest(repository, tag, raw)
    pushed = PushedVersion(
        row.reference,
        row.digest,
        number,
        was_there=False,
        sent=moved.sent,
        present=moved.present,
        saved=moved.saved,
    )
    return pushed, found


def _claim(peer: Peer, row: VersionRow, raw: bytes, found: Survey) -> Survey:
    """Claim a number until it is the version's, a few times; what the remote has then."""
    repository = peer.remote.repository(row.model)
    aliases = found.aliases
    found = survey(peer, row.model, found.digests, aliases=())
    taken = set(found.numbers.values())
    number = row.number if row.number not in taken else next_number(taken)
    for _ in range(_ATTEMPTS):
        tag = Claim.of(number, row.digest, datetime.now(timezone.utc)).tag
        peer.registry.push_manifest(repository, tag, raw)
        found = survey(peer, row.model, {**found.digests, tag: row.digest}, aliases=())
        if row.digest not in found.numbers:  # a list that comes late: the claim is there
            found = judge((*found.tags, tag), {**found.digests, tag: row.digest}, peer.remote.host)
        settled = found.numbers[row.digest]
        if settled == number or settled > MAX_NUMBER:
            break
        number = settled
    return replace(found, digests={**found.digests, **aliases})


def _own_tags(peer: Peer, row: VersionRow, number: int, found: Survey) -> list[str]:
    """The tags that other tools find a version by."""
    tags = [str(number)] if number <= MAX_NUMBER else []
    there = row.digest
    if row.stamp in found.tags:  # another version of the same second keeps it
        there = peer.registry.digest(peer.remote.repository(row.model), row.stamp) or row.digest
    if there == row.digest:
        tags.append(row.stamp)
    return [*tags, "latest"] if number == max(found.numbers.values()) else tags


def _claims(tag: str) -> bool:
    return Claim.parse(tag) is not None
