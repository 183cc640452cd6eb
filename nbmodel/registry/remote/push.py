"""Pushing: blobs, manifest, claim of a number, then the names that people use.

Of eight that push at once each has its version there under a tag of its own, whatever
becomes of the integers; see ``core.claim``. A push that was cut is simply made again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from nbmodel.core.claim import MAX_NUMBER, Claim, next_number
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference
from nbmodel.errors import (
    AliasConflictError,
    ModelExistsError,
    NbModelError,
    StorageUnavailableError,
    VersionNotFoundError,
)
from nbmodel.registry.catalog import Catalog, find_model, find_version, local, version_not_found
from nbmodel.registry.index import write_index
from nbmodel.registry.remote.alias_tags import push_alias, removed_aliases, take_away
from nbmodel.registry.remote.bring import adjust
from nbmodel.registry.remote.fetch import fetch_row
from nbmodel.registry.remote.numbering import Renumbered, differing
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.registry.remote.seen import forget_tags, note_tags, seen_tags
from nbmodel.registry.remote.sharing import check_own, check_related, name_there, place, share
from nbmodel.registry.remote.signature_copies import push_signatures
from nbmodel.registry.remote.survey import Survey, gone_from, is_alias, judge, survey
from nbmodel.registry.rows import VersionRow, model_rows, version_rows

_ATTEMPTS = 5  # to get a number that nobody claimed before; the law gives one in any case
_MAX_TOLD = 5  # things of a kind that an error names


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
        signatures: How many of its signatures were sent.
    """

    reference: str
    digest: str
    number: int
    was_there: bool
    sent: int = 0
    present: int = 0
    saved: int = 0
    signatures: int = 0


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
        conflicts: Aliases that somebody moved there, an error each; they were left there.
        failure: What ended it after some models, CancelledError for one; the rest is not there.
        removed: Aliases that were taken away there: ``digits:champion``.
    """

    remote: str
    versions: tuple[PushedVersion, ...]
    aliases: tuple[str, ...] = ()
    renumbered: tuple[Renumbered, ...] = ()
    doubts: tuple[str, ...] = ()
    seconds: float = 0.0
    conflicts: tuple[AliasConflictError, ...] = ()
    failure: Exception | None = None
    removed: tuple[str, ...] = ()

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

    @property
    def signatures(self) -> int:
        """How many signatures were sent."""
        return sum(version.signatures for version in self.versions)

    def check(self, notes: Iterable[str] = ()) -> None:
        """Raise what was left undone, in one error that tells what was done, too.

        Args:
            notes: What else happened here because of it.

        Raises:
            AliasConflictError: Somebody moved aliases; all of them are named.
            NbModelError, CancelledError: What ended it.
        """
        left = _some(map(str, self.conflicts))
        new = sum(not version.was_there for version in self.versions)
        done = [f"{new} version{'s' if new > 1 else ''} pushed"] if new else []
        done += _some(map(str, self.renumbered))
        done += _some(notes)
        if self.failure is not None:
            if isinstance(self.failure, NbModelError):
                # The same error, for whoever tells a network that is away from other things.
                self.failure.args = ("; ".join([str(self.failure), *left, *done]),)
            raise self.failure
        if self.conflicts:
            hint = self.conflicts[0].hint
            if len(self.conflicts) > 1:
                hint = "`sync` and decide again, or `push --force` to move them"
            raise AliasConflictError("; ".join([*left, *done]), hint=hint)

    def to_json(self) -> dict[str, Any]:
        """What was done, as a JSON object."""
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
                    "signatures": one.signatures,
                }
                for one in self.versions
            ],
            "aliases": list(self.aliases),
            "removed": list(self.removed),
            "renumbered": [one.to_json() for one in self.renumbered],
            "notes": list(self.doubts),
            "sent": self.sent,
            "present": self.present,
            "saved": self.saved,
            "signatures": self.signatures,
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
    moves, and an alias that somebody else moved stays there while the others are pushed. A
    model goes to the repository where it is on that remote already, whatever it is called here.
    What was deleted there since it was seen there is left out, unless it is named.

    Args:
        catalog: The registry.
        peer: Where to.
        ref: A version; a bare name is the model with all its versions.
        aliases: The aliases to push; None: all that are on the versions. One that was there
            and was removed here is taken away there when it is named.
        force: Move aliases wherever they are; push what was deleted there; and push to a
            repository that has only versions of others.

    Returns:
        What was done, and what was not: see ``PushReport.check``.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such thing to push.
        ModelExistsError: The repository is another model here, or has only versions that are not
            of this one. Of all models such a one is left out, and told.
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own, before
            a model was through.
        CancelledError: Nobody wants to go on, likewise.
    """
    began = time.monotonic()
    with catalog.db.read() as db:
        chosen = _chosen(db, ref, aliases)
        peer.expect(sum(_sizes(db, (row for rows in chosen for row in rows)).values()))
    report = PushReport(str(peer.remote), ())
    for rows in chosen:
        try:
            part = _push_model(catalog, peer, rows, aliases, named=_is_version(ref), force=force)
        except ModelExistsError as exc:
            if ref is not None:
                raise
            doubt = f"{rows[0].model} was left out: {exc}"
            part = PushReport(str(peer.remote), (), doubts=(doubt,))
        except (NbModelError, CancelledError) as exc:
            if not report.versions:
                raise
            report = replace(report, failure=exc)
            break
        report = replace(
            report,
            versions=report.versions + part.versions,
            aliases=report.aliases + part.aliases,
            removed=report.removed + part.removed,
            renumbered=report.renumbered + part.renumbered,
            doubts=report.doubts + part.doubts,
            conflicts=report.conflicts + part.conflicts,
        )
    return replace(report, seconds=time.monotonic() - began)


def push_size(
    catalog: Catalog, ref: Reference | str | None, *, aliases: Sequence[str] | None = None
) -> int:
    """Bytes of the blobs of what ``push`` would push, those that are there already included.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such thing to push.
    """
    with catalog.db.read() as db:
        chosen = _chosen(db, ref, aliases)
        return sum(_sizes(db, (row for rows in chosen for row in rows)).values())


def _is_version(ref: Reference | str | None) -> bool:
    """Whether one version is meant rather than a model or all."""
    return ref is not None and not local(ref).is_model


def _some(things: Iterable[str]) -> list[str]:
    """Things to tell of, the first few."""
    told = list(things)
    left_out = len(told) - _MAX_TOLD
    return told if left_out <= 0 else [*told[:_MAX_TOLD], f"and {left_out} more"]


def _chosen(
    db: sqlite3.Connection, ref: Reference | str | None, aliases: Sequence[str] | None
) -> list[list[VersionRow]]:
    """The versions, by model."""
    if ref is None:
        names = [row.name for row in model_rows(db, "WHERE archived = 0 ORDER BY name")]
    else:
        parsed = local(ref)
        if not parsed.is_model:
            row = find_version(db, parsed)
            _check_aliases(db, row, aliases or ())
            return [[row]]
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
        } | removed_aliases(db, model.name)
        for alias in aliases:
            if alias not in known:
                raise version_not_found(db, model, Reference(model.name, alias=alias))
    return [rows for rows in chosen if rows]


def _check_aliases(db: sqlite3.Connection, row: VersionRow, aliases: Iterable[str]) -> None:
    """Go on, unless an alias is neither on a version nor one that was removed."""
    here = dict(
        db.execute(
            "SELECT a.name, v.number FROM aliases a JOIN versions v ON v.id = a.version"
            " WHERE a.model = ?",
            (row.model_id,),
        ).fetchall()
    )
    removed = removed_aliases(db, row.model)
    for alias in aliases:
        if alias in here and here[alias] != row.number:
            raise VersionNotFoundError(
                f"alias {alias!r} of {row.model!r} is on {row.model}:{here[alias]}, "
                f"expected it on {row.reference}",
                hint=f"push {row.model}:{here[alias]}, or `alias {row.reference} {alias}` first",
            )
        if alias not in here and alias not in removed:
            model = find_model(db, row.model)
            raise version_not_found(db, model, Reference(row.model, alias=alias))


def _sizes(db: sqlite3.Connection, rows: Iterable[VersionRow]) -> dict[int, int]:
    """Version → bytes of all blobs that it needs."""
    wanted = {row.id for row in rows}
    sizes = db.execute("SELECT version, sum(size) FROM blobs GROUP BY version")
    return dict.fromkeys(wanted, 0) | {one: size for one, size in sizes if one in wanted}


def _push_model(
    catalog: Catalog,
    peer: Peer,
    rows: list[VersionRow],
    aliases: Sequence[str] | None,
    *,
    named: bool,
    force: bool,
) -> PushReport:
    model, model_id = rows[0].model, rows[0].model_id
    with catalog.db.read() as db:
        there = name_there(db, peer.remote, model)
        check_own(db, peer.remote, there, model)
        seen, sizes = seen_tags(db, peer.remote, there), _sizes(db, rows)
        removed = sorted(removed_aliases(db, model).intersection(aliases or ()))
        wanted = [
            (row, alias)
            for row in rows
            for (alias,) in db.execute(
                "SELECT name FROM aliases WHERE version = ? ORDER BY name", (row.id,)
            )
            if aliases is None or alias in aliases
        ]
    found = survey(peer, there, seen, aliases=[*(alias for _, alias in wanted), *removed])
    if not force:
        with catalog.db.read() as db:
            check_related(db, peer.remote, there, model, found.versions)
    gone_there = gone_from(found, seen)
    left_out = [] if named or force else [row for row in rows if row.digest in gone_there]
    rows = [row for row in rows if row not in left_out]
    wanted = [(row, alias) for row, alias in wanted if row not in left_out]
    pushed, claimed = [], found.claimed
    for row in rows:
        if row.digest in claimed:
            pushed.append(_leave(catalog, peer, there, row, found, sizes[row.id]))
        else:
            one, found = _push_version(catalog, peer, there, row, found, gone_there)
            pushed.append(one)
    repository = peer.remote.repository(there)
    moved: dict[str, VersionRow] = {}
    agreed: dict[str, str] = {}  # aliases that are there where they are here
    conflicts = []
    for row, alias in wanted:
        raw = catalog.storage.read(row.digest, limit=MAX_MANIFEST)
        try:
            if push_alias(peer, repository, row, alias, raw, found, seen, force=force):
                moved[alias] = row
            agreed[alias] = row.digest
        except AliasConflictError as exc:
            conflicts.append(exc)
    gone = []
    for alias in removed:
        try:
            if take_away(peer, repository, model, alias, found, seen, force=force):
                gone.append(alias)
        except AliasConflictError as exc:
            conflicts.append(exc)
    called = () if there == model else (f"{model} is {place(peer.remote, there)} there",)
    deleted = (_left_out(peer, left_out),) if left_out else ()
    report = PushReport(
        str(peer.remote),
        tuple(pushed),
        tuple(f"{model}:{name} → {found.numbers[row.digest]}" for name, row in moved.items()),
        removed=tuple(f"{model}:{alias}" for alias in gone),
        doubts=(*called, *deleted, *found.doubts),
        conflicts=tuple(conflicts),
    )
    own = {tag: digest for tag, digest in found.digests.items() if not is_alias(tag)}
    try:
        return _noted(catalog, peer, there, model_id, report, rows, own | agreed, gone, found)
    except StorageUnavailableError as exc:  # a folder to read: what is there is there
        doubt = f"what was pushed could not be noted here: {exc}"
        return replace(report, doubts=(*report.doubts, doubt))


def _noted(
    catalog: Catalog,
    peer: Peer,
    there: str,
    model_id: int,
    report: PushReport,
    rows: list[VersionRow],
    tags: dict[str, str],
    gone: Iterable[str],
    found: Survey,
) -> PushReport:
    """Keep what is there now, and take its numbers; the report in these."""
    with catalog.db.write() as db:
        share(db, peer.remote, there, model_id)
        note_tags(db, peer.remote, there, tags, [row.digest for row in rows])
        forget_tags(db, peer.remote, there, gone)
        renumbered = adjust(db, model_id, peer, there, found.numbers)
        now = {row.id: row for row in version_rows(db, "WHERE v.model = ?", (model_id,))}
    write_index(catalog)
    versions = tuple(
        replace(one, reference=now[row.id].reference if row.id in now else one.reference)
        for one, row in zip(report.versions, rows, strict=True)
    )
    numbers = {(one.model, one.number): found.numbers.get(one.digest) for one in now.values()}
    told = differing(place(peer.remote, there), numbers)
    return replace(report, versions=versions, renumbered=renumbered, doubts=(*report.doubts, *told))


def _left_out(peer: Peer, rows: Sequence[VersionRow]) -> str:
    """A sentence about versions that were deleted at the remote and stay so."""
    names = ", ".join(_some(row.reference for row in rows))
    if len(rows) == 1:
        return (
            f"{names} was deleted there: left out; "
            f"`push {names} {peer.remote}` (naming the version) brings it back"
        )
    return (
        f"{names} were deleted there: left out; `push {rows[0].reference} {peer.remote}` "
        "(naming the version) brings one back, --force all of them"
    )


def _leave(
    catalog: Catalog, peer: Peer, there: str, row: VersionRow, found: Survey, size: int
) -> PushedVersion:
    """Leave a version that is there, with what a push that was cut left out."""
    peer.advance(size)
    number = found.numbers[row.digest]
    repository = peer.remote.repository(there)
    signatures = push_signatures(catalog, peer.registry, repository, row.digest)
    if str(number) not in found.tags:
        _name(catalog, peer, repository, row, found)
    return PushedVersion(row.reference, row.digest, number, was_there=True, signatures=signatures)


def _push_version(
    catalog: Catalog,
    peer: Peer,
    there: str,
    row: VersionRow,
    found: Survey,
    gone: Mapping[str, int],
) -> tuple[PushedVersion, Survey]:
    """Push one version and claim its number; what the remote has then."""
    peer.check()
    fetch_row(catalog, row, peer.connect, cancelled=peer.cancelled)
    repository = peer.remote.repository(there)
    moved = peer.registry.push(
        repository, catalog.storage, row.digest, tags=(), progress=peer.advance
    )
    raw = catalog.storage.read(row.digest, limit=MAX_MANIFEST)
    signatures = push_signatures(catalog, peer.registry, repository, row.digest)
    found = _claim(peer, there, row, raw, found, gone)
    number = found.numbers[row.digest]
    _name(catalog, peer, repository, row, found)
    pushed = PushedVersion(
        row.reference,
        row.digest,
        number,
        was_there=False,
        sent=moved.sent,
        present=moved.present,
        saved=moved.saved,
        signatures=signatures,
    )
    return pushed, found


def _claim(
    peer: Peer, there: str, row: VersionRow, raw: bytes, found: Survey, gone: Mapping[str, int]
) -> Survey:
    """Claim a number until it is the version's, a few times; what the remote has then.

    Numbers of versions that are gone from there stay theirs.
    """
    repository = peer.remote.repository(there)
    aliases = found.aliases
    found = survey(peer, there, found.digests, aliases=())
    taken = {*found.numbers.values(), *(gone[one] for one in gone if one != row.digest)}
    number = gone.get(row.digest, row.number)
    number = number if number not in taken else next_number(taken)
    for _ in range(_ATTEMPTS):
        tag = Claim.of(number, row.digest, datetime.now(timezone.utc)).tag
        steadily(partial(peer.registry.push_manifest, repository, tag, raw))
        found = survey(peer, there, {**found.digests, tag: row.digest}, aliases=())
        if row.digest not in found.numbers:  # a list that comes late: the claim is there
            found = judge((*found.tags, tag), {**found.digests, tag: row.digest}, peer.remote.host)
        settled = found.numbers[row.digest]
        if settled == number or settled > MAX_NUMBER:
            break
        number = settled
    return replace(found, digests={**found.digests, **aliases})


def _name(catalog: Catalog, peer: Peer, repository: str, row: VersionRow, found: Survey) -> None:
    """Set the tags that other tools find a version by."""
    number = found.numbers[row.digest]
    tags = [str(number)] if number <= MAX_NUMBER else []
    there: str | None = row.digest
    if row.stamp in found.tags:  # another version of the same second keeps it
        there = steadily(lambda: peer.registry.digest(repository, row.stamp))
    if there in (None, row.digest):
        tags.append(row.stamp)
    if number == max(found.numbers.values()):
        tags.append("latest")
    raw = catalog.storage.read(row.digest, limit=MAX_MANIFEST)
    for tag in tags:
        steadily(partial(peer.registry.push_manifest, repository, tag, raw))
