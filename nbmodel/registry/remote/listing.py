"""What a remote has, read there and not kept: models, or the versions of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbmodel.core.claim import Claim, claimant, settle
from nbmodel.errors import ModelNotFoundError
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.remote.peer import Peer
from nbmodel.registry.remote.seen import models_seen, seen_tags
from nbmodel.registry.remote.sharing import model_here, models_here
from nbmodel.registry.remote.survey import is_alias, survey
from nbmodel.registry.rows import model_rows
from nbmodel.storage.remote_registry import RemoteRegistry


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model of a remote, as its tags tell.

    Attributes:
        name: Its name.
        versions: How many versions have claimed a number; where none has, how many tags are
            numbers.
        latest: The largest number, or None.
        pushed: When the last version was pushed, UTC, ISO 8601; empty when nobody knows.
        aliases: Its aliases, sorted.
        here: How many of its versions are known here.
    """

    name: str
    versions: int
    latest: int | None
    pushed: str
    aliases: tuple[str, ...]
    here: int

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "name": self.name,
            "versions": self.versions,
            "latest": self.latest,
            "pushed": self.pushed,
            "aliases": list(self.aliases),
            "here": self.here,
        }


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version of a remote.

    Attributes:
        model: The model.
        number: Its number there, or None.
        digest: Of its manifest.
        pushed: When it was pushed first, UTC, ISO 8601; empty when nobody knows.
        aliases: Aliases that are on it there, sorted.
        local: What it is called here, ``digits:3``; None when it is not known here.
    """

    model: str
    number: int | None
    digest: str
    pushed: str
    aliases: tuple[str, ...]
    local: str | None

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "model": self.model,
            "number": self.number,
            "digest": self.digest,
            "pushed": self.pushed,
            "aliases": list(self.aliases),
            "local": self.local,
        }


def list_models(catalog: Catalog, peer: Peer) -> list[RemoteModel]:
    """The models of a remote, by name.

    Where the registry does not tell which repositories it has, those that are known here.

    Raises:
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        CancelledError: Nobody wants to know any more.
    """
    with catalog.db.read() as db:
        known = {*models_seen(db, peer.remote), *(row.name for row in model_rows(db, ""))}
        called = models_here(db, peer.remote)
        here: dict[str, set[str]] = {}
        for name, digest in db.execute(
            "SELECT m.name, v.digest FROM versions v JOIN models m ON m.id = v.model"
        ):
            here.setdefault(name, set()).add(claimant(digest))
    listed = peer.registry.repositories()
    names = {peer.remote.model(name) for name in listed} if listed is not None else known
    wanted = sorted(name for name in names if name is not None)
    answers = peer.each(partial(_tags, peer), wanted)
    models = [
        _model(name, tags, here.get(called.get(name, name), set()))
        for name, tags in zip(wanted, answers, strict=True)
    ]
    return [model for model in models if model is not None]


def list_versions(catalog: Catalog, peer: Peer, model: str) -> list[RemoteVersion]:
    """The versions of a model of a remote, the largest number first.

    Raises:
        ModelNotFoundError: The remote has no such model.
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        CancelledError: Nobody wants to know any more.
    """
    with catalog.db.read() as db:
        seen = seen_tags(db, peer.remote, model)
        local = dict(
            db.execute(
                "SELECT v.digest, m.name || ':' || v.number FROM versions v"
                " JOIN models m ON m.id = v.model WHERE m.name = ?",
                (model_here(db, peer.remote, model) or model,),
            ).fetchall()
        )
    found = survey(peer, model, seen, aliases=None)
    if not found.tags:
        raise ModelNotFoundError(f"no model {model!r} on {peer.remote}")
    pushed = _times(found.tags)
    aliases: dict[str, list[str]] = {}
    for alias, digest in sorted(found.aliases.items()):
        aliases.setdefault(digest, []).append(alias)
    versions = [
        RemoteVersion(
            model,
            found.numbers.get(digest),
            digest,
            pushed.get(claimant(digest), ""),
            tuple(aliases.get(digest, ())),
            local.get(digest),
        )
        for digest in found.versions
    ]
    return sorted(versions, key=lambda one: one.number or 0, reverse=True)


def _tags(peer: Peer, registry: RemoteRegistry, model: str) -> tuple[str, ...]:
    return registry.tags(peer.remote.repository(model))


def _model(name: str, tags: tuple[str, ...], here: set[str]) -> RemoteModel | None:
    """A model as its tags tell, without asking what they are on."""
    if not tags:
        return None
    claims = [claim for claim in map(Claim.parse, tags) if claim is not None]
    settled: Mapping[str, int] = settle(claims)
    numbers = list(settled.values()) or [int(tag) for tag in tags if _is_number(tag)]
    return RemoteModel(
        name=name,
        versions=len(numbers),
        latest=max(numbers, default=None),
        pushed=max((_iso(claim.time) for claim in claims), default=""),
        aliases=tuple(sorted(tag for tag in tags if is_alias(tag))),
        here=len(here & set(settled)),
    )


def _is_number(tag: str) -> bool:
    return tag.isascii() and tag.isdigit() and len(tag) < 10 and tag[0] != "0"


def _times(tags: tuple[str, ...]) -> dict[str, str]:
    """What claims call a version → when it was pushed first."""
    found: dict[str, str] = {}
    for claim in map(Claim.parse, tags):
        if claim is not None:
            at = _iso(claim.time)
            found[claim.version] = min(at, found.get(claim.version, at))
    return found


def _iso(time: str) -> str:
    """A claim's time, ``YYYYMMDDThhmmss.ffffff``, as ISO 8601."""
    date, _, rest = time.partition("T")
    return f"{date[:4]}-{date[4:6]}-{date[6:]}T{rest[:2]}:{rest[2:4]}:{rest[4:]}Z"
