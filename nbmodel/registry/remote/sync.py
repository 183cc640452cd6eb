"""Synchronising: what a remote has becomes known here, without its files.

Manifests and configs come, a few kilobytes a version; then lists, searches and lineage tell
of all versions, and what needs files fetches them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbmodel.core.claim import Claim, is_claim
from nbmodel.core.digest import short_digest
from nbmodel.core.manifest import MAX_CONFIG
from nbmodel.errors import (
    FormatError,
    ManifestError,
    ModelExistsError,
    ModelNotFoundError,
    NbModelError,
    SignatureError,
    StorageError,
    StorageUnavailableError,
)
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.remote.alias_tags import (
    AliasTaken,
    Way,
    removed_aliases,
    take_alias,
    way_of,
)
from nbmodel.registry.remote.bring import bring, readable
from nbmodel.registry.remote.numbering import Renumbered, differing
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.registry.remote.seen import (
    digests_seen,
    forget_tags,
    models_seen,
    note_tags,
    seen_tags,
)
from nbmodel.registry.remote.sharing import (
    model_here,
    name_for,
    name_there,
    place,
    was_deleted,
)
from nbmodel.registry.remote.signature_copies import pull_signatures
from nbmodel.registry.remote.survey import Survey, gone_from, survey
from nbmodel.registry.rows import VersionRow, model_rows, version_rows
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.remote_registry import RemoteRegistry

_MAX_STRANGE = 2000  # repositories that are asked whether they hold a model of nbmodel
_BATCH = 500  # versions that are made in one transaction
_ASKED = 8  # newest versions of each model that are looked at for signatures
_ASKED_OF_ONE = 200  # the same when one model is asked for by name
_MAX_TOLD = 8  # versions that a sentence names


@dataclass(frozen=True, slots=True)
class SyncedModel:
    """What came of one model.

    Attributes:
        model: Its name.
        there: How many versions the remote has.
        new: References of the versions that are known here since now.
        unpushed: How many versions are here and not there.
        aliases: Aliases that moved here because they moved there.
        renumbered: Versions that have another number here now.
        doubts: What else there is to know, a sentence each.
        signatures: How many signatures came, of versions that were known here.
    """

    model: str
    there: int
    new: tuple[str, ...] = ()
    unpushed: int = 0
    aliases: tuple[AliasTaken, ...] = ()
    renumbered: tuple[Renumbered, ...] = ()
    doubts: tuple[str, ...] = ()
    signatures: int = 0

    @property
    def is_changed(self) -> bool:
        """Whether anything here is different from before."""
        return bool(self.new or self.aliases or self.renumbered or self.signatures)

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "model": self.model,
            "there": self.there,
            "new": list(self.new),
            "unpushed": self.unpushed,
            "aliases": [one.to_json() for one in self.aliases],
            "signatures": self.signatures,
            "renumbered": [one.to_json() for one in self.renumbered],
            "notes": list(self.doubts),
        }


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a synchronisation brought.

    Attributes:
        remote: Where from.
        models: A part each, by name.
        seconds: How long it took.
        left_out: How many repositories there were not looked at for models of nbmodel.
        others: Repositories that no push of nbmodel made, by the names of their models there.
    """

    remote: str
    models: tuple[SyncedModel, ...]
    seconds: float = 0.0
    left_out: int = 0
    others: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "remote": self.remote,
            "models": [model.to_json() for model in self.models],
            "seconds": self.seconds,
            "left_out": self.left_out,
            "others": list(self.others),
        }


def sync(
    catalog: Catalog,
    peer: Peer,
    model: str | None = None,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> SyncReport:
    """Know what a remote has of a model, or (None) of all that it has and are shared with it.

    A version that cannot be read is left out, and told of; so is one model among all. What was
    deleted here stays deleted, and what was removed stays removed, until somebody asks for it: a
    version by pulling it, a model by its name. Signatures that were made later come, too: of the
    newest versions, of more of them when the model is asked for by name, and of all with an alias.

    Args:
        catalog: The registry.
        peer: The remote.
        model: Its name here; None: those that the remote lists with claims of numbers, and those
            that something was pushed to or came from before.
        note: Told the name of each model that it is at.

    Raises:
        ModelNotFoundError: The remote has no such model.
        TargetUnreachableError, AuthenticationError: The remote's own.
        StorageError: The remote fails over all of it, or over the model that is wanted.
        StorageUnavailableError: The disk does not take it.
        CancelledError: Nobody wants to go on.
    """
    began = time.monotonic()
    if model is None:
        names, others, left_out = _names(catalog, peer)
    else:
        with catalog.db.read() as db:
            names, others, left_out = [name_there(db, peer.remote, model)], (), 0
    parts = []
    for name in names:
        peer.check()
        note(name)
        try:
            parts.append(_sync_model(catalog, peer, name, wanted=model is not None))
        except StorageUnavailableError:
            raise  # our own disk
        except (FormatError, ModelExistsError, StorageError) as exc:
            if model is not None:
                raise
            parts.append(SyncedModel(name, 0, doubts=(f"{name} was left out: {exc}",)))
    return SyncReport(str(peer.remote), tuple(parts), time.monotonic() - began, left_out, others)


def _names(catalog: Catalog, peer: Peer) -> tuple[list[str], tuple[str, ...], int]:
    """The models to look at, those that others made, and how many more there may be."""
    with catalog.db.read() as db:
        known = set(models_seen(db, peer.remote))
    listed = {peer.remote.model(name) for name in peer.registry.repositories() or ()}
    strange = sorted(name for name in listed if name is not None and name not in known)
    asked, left_out = strange[:_MAX_STRANGE], strange[_MAX_STRANGE:]
    # A registry may hold anything; what has a claim of a number was pushed by one of us.
    ours = peer.each(partial(_has_claim, peer), asked)
    answers = dict(zip(asked, ours, strict=True))
    found = {name for name, is_ours in answers.items() if is_ours}
    others = tuple(name for name, is_ours in answers.items() if is_ours is False)
    return sorted(known | found), others, len(left_out)


def _has_claim(peer: Peer, registry: RemoteRegistry, model: str) -> bool | None:
    """Whether a tag of a repository claims a number; None for one without any tag."""
    try:
        tags = registry.tags(peer.remote.repository(model))
        return any(map(is_claim, tags)) if tags else None
    except StorageUnavailableError:
        raise
    except (FormatError, StorageError):
        return True  # it may: what is wrong is told where it is looked at


def _sync_model(catalog: Catalog, peer: Peer, there: str, *, wanted: bool) -> SyncedModel:
    """Know what a remote has of a model, by the name that it has there."""
    with catalog.db.read() as db:
        seen = seen_tags(db, peer.remote, there)
        deleted = was_deleted(db, peer.remote, there)
    if deleted and not wanted:
        return _left_there(peer, there)
    found = survey(peer, there, seen, aliases=None)
    if wanted and not found.tags:
        raise ModelNotFoundError(
            f"no model {there!r} on {peer.remote}",
            hint=f"`list --remote {peer.remote}` shows what is there",
        )
    with catalog.db.read() as db:
        model = name_for(db, peer.remote, there, None, found.versions, merge=wanted)
        was_here = model_here(db, peer.remote, there) == model
        rows = version_rows(db, "WHERE m.name = ?", (model,))
        archived = any(row.archived for row in model_rows(db, "WHERE name = ?", (model,)))
        dismissed = _dismissed(db, model)
    if archived:
        return SyncedModel(model, 0, doubts=(f"{model} is archived here: it was left alone",))
    here = {row.digest for row in rows}
    strange = [one for one in found.versions if one not in here]
    lacking = [one for one in strange if one not in dismissed]
    left = {dismissed[one]: one for one in strange if one in dismissed}
    gone = gone_from(found, seen)
    notes = [
        *found.doubts,
        *([] if was_here else _joined(peer, there, model, here, found)),
        *([] if model == there else [f"{place(peer.remote, there)} is {model} here"]),
        *([_left(peer, there, model, left, found)] if left else []),
        *_gone(peer, [row for row in rows if row.digest in gone]),
    ]
    repository = peer.remote.repository(there)
    new: list[str] = []
    renumbered: list[Renumbered] = []
    for start in range(0, max(len(lacking), 1), _BATCH):
        batch = lacking[start : start + _BATCH]
        read = peer.each(partial(_read, catalog, repository), batch)
        manifests = {}
        for digest, answer in zip(batch, read, strict=True):
            if isinstance(answer, bytes):
                manifests[digest] = answer
            else:
                notes.append(f"{short_digest(digest)} was left out: {answer}")
        known = _without_aliases(found)
        brought = bring(catalog, peer, model, there, known, manifests, unfetched=True)
        new += brought.new
        renumbered += brought.renumbered
    both = [one for one in found.versions if one in here]
    worthy = {*found.aliases.values(), *both[-(_ASKED_OF_ONE if wanted else _ASKED) :]}
    signatures, missing = _late_signatures(
        catalog, peer, repository, [one for one in both if one in worthy]
    )
    with catalog.db.write() as db:
        taken, told = _take_aliases(db, peer, model, there, found, seen)
        rows = version_rows(db, "WHERE m.name = ? ORDER BY v.number", (model,))
        seen_there = digests_seen(db, peer.remote, there)
    numbers = {(row.model, row.number): found.numbers.get(row.digest) for row in rows}
    told += differing(place(peer.remote, there), numbers)
    fresh = set(new)
    return SyncedModel(
        model=model,
        there=len(found.versions),
        new=tuple(row.reference for row in rows if row.digest in fresh),
        unpushed=sum(row.digest not in seen_there for row in rows),
        aliases=taken,
        signatures=signatures,
        renumbered=tuple(renumbered),
        doubts=(*notes, *missing, *told),
    )


def _dismissed(db: sqlite3.Connection, model: str) -> dict[str, int]:
    """Digest → number of the versions of a model that were deleted here."""
    return dict(
        db.execute(
            "SELECT d.digest, d.number FROM dismissed d JOIN models m ON m.id = d.model"
            " WHERE m.name = ?",
            (model,),
        ).fetchall()
    )


def _left(peer: Peer, there: str, model: str, left: Mapping[int, str], found: Survey) -> str:
    """A sentence about versions that were deleted here: number they had here → digest."""
    first = next(iter(left.values()))
    tag = found.numbers.get(first)
    back = f":{tag}" if tag is not None else f"@{first}"
    were = "was deleted here and is" if len(left) == 1 else "were deleted here and are"
    one = "it" if len(left) == 1 else "the first"
    return (
        f"{_names_of(f'{model}:{number}' for number in left)} {were} left there: "
        f"`pull {place(peer.remote, there)}{back}` brings {one} back"
    )


def _left_there(peer: Peer, there: str) -> SyncedModel:
    """A model that was deleted here, and stays so."""
    repository = peer.remote.repository(there)
    tags = steadily(lambda: peer.registry.tags(repository))
    if not tags:
        return SyncedModel(there, 0)
    back = f"`sync {there} {peer.remote}` brings it back"
    note = f"{there} was deleted here and is left there: {back}"
    count = len({claim.version for claim in map(Claim.parse, tags) if claim is not None})
    return SyncedModel(there, count, doubts=(note,))


def _joined(peer: Peer, there: str, model: str, here: Collection[str], found: Survey) -> list[str]:
    """A sentence about two models that become one because somebody names both, or none."""
    if not here or not found.versions or not set(here).isdisjoint(found.versions):
        return []
    both = f"{place(peer.remote, there)} and the {model} here"
    return [f"{both} had no version in common: they are one model now"]


def _gone(peer: Peer, rows: Sequence[VersionRow]) -> list[str]:
    """A sentence about versions that were deleted at the remote, or none."""
    if not rows:
        return []
    was = "was" if len(rows) == 1 else "were"
    one = "it" if len(rows) == 1 else "one"
    names = _names_of(row.reference for row in rows)
    back = f"`push {rows[0].reference} {peer.remote}` (naming the version) brings {one} back"
    return [f"{names} {was} deleted there, and left here: {back}"]


def _names_of(references: Iterable[str]) -> str:
    names = list(references)
    more = f" and {len(names) - _MAX_TOLD} more" if len(names) > _MAX_TOLD else ""
    return ", ".join(names[:_MAX_TOLD]) + more


def _late_signatures(
    catalog: Catalog, peer: Peer, repository: str, digests: list[str]
) -> tuple[int, list[str]]:
    """Bring the signatures of versions that are known here; how many came, what is wrong."""
    answers = peer.each(partial(_signatures, catalog, repository), digests)
    wrong = [
        f"signatures of {short_digest(digest)} were left out: {answer}"
        for digest, answer in zip(digests, answers, strict=True)
        if not isinstance(answer, int)
    ]
    return sum(answer for answer in answers if isinstance(answer, int)), wrong


def _signatures(
    catalog: Catalog, repository: str, registry: RemoteRegistry, digest: str
) -> int | NbModelError:
    """Bring the signatures of a version that is known here; how many came, or what is wrong."""
    try:
        return pull_signatures(catalog, registry, repository, digest)
    except StorageUnavailableError:
        raise  # our own disk
    except (FormatError, StorageError) as exc:
        return exc


def _read(
    catalog: Catalog, repository: str, registry: RemoteRegistry, digest: str
) -> bytes | NbModelError:
    """The manifest of a version, its config stored; or what is wrong with it."""
    try:
        raw = registry.manifest(repository, digest)
        config, size = next(iter(blobs_of(raw).items()))
        if size > MAX_CONFIG:
            raise ManifestError(f"config of {size} bytes, expected at most {MAX_CONFIG}")
        if not catalog.storage.has(config):
            registry.pull_blob(repository, catalog.storage, config, size=size)
        readable(catalog, raw)
        catalog.storage.add_bytes(raw)
        pull_signatures(catalog, registry, repository, digest)
    except StorageUnavailableError:
        raise  # our own disk
    except (FormatError, SignatureError, StorageError) as exc:
        return exc
    return raw


def _without_aliases(found: Survey) -> Survey:
    """The same without what is known only once the aliases here are judged."""
    digests = {tag: digest for tag, digest in found.digests.items() if is_claim(tag)}
    return Survey(found.tags, digests, found.numbers, found.doubts)


def _take_aliases(
    db: sqlite3.Connection,
    peer: Peer,
    model: str,
    there: str,
    found: Survey,
    seen: dict[str, str],
) -> tuple[tuple[AliasTaken, ...], list[str]]:
    """Move the aliases that moved at the remote alone; those moved, and what there is to say."""
    rows = {row.digest: row for row in version_rows(db, "WHERE m.name = ?", (model,))}
    removed = removed_aliases(db, model)
    here = dict(
        db.execute(
            "SELECT a.name, v.digest FROM aliases a JOIN versions v ON v.id = a.version"
            " JOIN models m ON m.id = a.model WHERE m.name = ?",
            (model,),
        ).fetchall()
    )
    host = peer.remote.host
    taken, told = [], []
    for alias in sorted({*found.aliases, *here}):
        digest = found.aliases.get(alias)
        way = way_of(here.get(alias), seen.get(alias), digest)
        if alias not in here:
            way = Way.LEAVE if alias in removed else Way.TAKE
        if way is Way.GONE:
            forget_tags(db, peer.remote, there, [alias])
            told.append(f"alias {alias!r} is gone from {host}, and stays here")
        elif way is Way.BOTH_MOVED:
            told.append(
                f"alias {alias!r} was moved here and on {host}: it stays here; `push --force` "
                "moves it there"
            )
        elif way is Way.LEAVE and alias in here:
            told.append(f"alias {alias!r} was moved here: push moves it on {host}")
        elif way is Way.LEAVE and digest in rows:
            told.append(
                f"alias {alias!r} was removed here, and stays on {host}: "
                f"`push {model} {peer.remote} --alias {alias}` takes it away there, "
                f"`pull {place(peer.remote, there)}:{alias}` brings it back"
            )
        elif way is Way.TAKE and digest in rows and not rows[digest].archived:
            taken.append(take_alias(db, rows[digest], alias, host))
            note_tags(db, peer.remote, there, {alias: rows[digest].digest})
        elif way is Way.NOTHING and digest is not None:
            note_tags(db, peer.remote, there, {alias: digest})
    return tuple(taken), told
