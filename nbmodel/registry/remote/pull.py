"""Pulling: one version from a remote, with its files.

What is pulled is told by its digest from the moment that the remote was asked: tags that
move meanwhile change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nbmodel.core.artifact import Artifact
from nbmodel.core.foreign import is_foreign
from nbmodel.core.reference import Reference
from nbmodel.core.version import Version
from nbmodel.errors import ManifestError, ModelNotFoundError, VersionNotFoundError
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.packing import pack_pulled
from nbmodel.registry.remote.alias_tags import AliasTaken, Way, take_alias, way_of
from nbmodel.registry.remote.bring import bring
from nbmodel.registry.remote.mend import damaged_among, mend
from nbmodel.registry.remote.numbering import Renumbered, differing
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.registry.remote.seen import note_tags, seen_tags
from nbmodel.registry.remote.sharing import name_for, place, share
from nbmodel.registry.remote.signature_copies import pull_signatures
from nbmodel.registry.remote.survey import Survey, survey
from nbmodel.registry.rows import model_rows, version_rows
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.remote_registry import RemoteRegistry

#: Makes a version of an artifact (registry, repository, digest) of another tool, of the model
#: of a name; whether it was made now.
Unpack: TypeAlias = Callable[[RemoteRegistry, str, str, str], tuple[Version, bool]]


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull brought.

    Attributes:
        remote: Where from.
        version: The version, as it is here now.
        number: Its number there, or None where it has none.
        received: Bytes of blobs that were not here.
        present: Bytes of blobs that were.
        aliases: The alias that it was asked for by, when it moved here.
        renumbered: Versions that have another number here now.
        doubts: What else there is to know, a sentence each.
        seconds: How long it took.
    """

    remote: str
    version: Version
    number: int | None
    received: int
    present: int
    aliases: tuple[AliasTaken, ...] = ()
    renumbered: tuple[Renumbered, ...] = ()
    doubts: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "remote": self.remote,
            "reference": self.version.reference,
            "digest": self.version.digest,
            "number": self.number,
            "received": self.received,
            "present": self.present,
            "aliases": [one.to_json() for one in self.aliases],
            "renumbered": [one.to_json() for one in self.renumbered],
            "notes": list(self.doubts),
            "seconds": self.seconds,
        }


def pull(
    catalog: Catalog,
    peer: Peer,
    ref: Reference,
    *,
    name: str | None = None,
    unpack: Unpack | None = None,
) -> PullReport:
    """Bring a version from a remote.

    Args:
        catalog: The registry.
        peer: Where from.
        ref: The version, by the name of its model there; a bare name and ``latest`` are the one
            with the largest number there.
        name: What the model is to be called here; None: as it is, or else as there.
        unpack: Makes a version of what another tool packed; None: that is refused.

    Raises:
        ModelNotFoundError, VersionNotFoundError: The remote has no such version.
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        ManifestError: It is no version of a model.
        ModelExistsError: The name is another model's here; see ``sharing.name_for``.
        RegistryError: The model is archived here.
        CancelledError: Nobody wants to go on.
    """
    began = time.monotonic()
    with catalog.db.read() as db:
        seen = seen_tags(db, peer.remote, ref.name)
    asked = [] if ref.alias is None else [ref.alias]
    found = survey(peer, ref.name, seen, aliases=asked)
    digest = _wanted(peer, ref, found)
    repository = peer.remote.repository(ref.name)
    with catalog.db.read() as db:
        model = name_for(db, peer.remote, ref.name, name, {digest, *found.versions})
    raw = peer.registry.manifest(repository, digest)
    if is_foreign(Artifact.from_bytes(raw)):
        return replace(
            _unpacked(catalog, peer, ref.name, model, digest, unpack),
            remote=str(peer.remote),
            seconds=time.monotonic() - began,
        )
    blobs = blobs_of(raw)
    there = {blob: size for blob, size in blobs.items() if catalog.storage.has(blob)}
    damaged = damaged_among(catalog.storage, there)
    peer.expect(sum(blobs.values()) + sum(damaged.values()))
    mend(peer, repository, catalog.storage, damaged)
    there = {blob: size for blob, size in there.items() if blob not in damaged}
    peer.registry.pull(repository, digest, catalog.storage, progress=peer.advance)
    pull_signatures(catalog, peer.registry, repository, digest)
    brought = bring(catalog, peer, model, ref.name, found, {digest: raw}, unfetched=False)
    with catalog.db.write() as db:
        (row,) = version_rows(db, "WHERE m.name = ? AND v.digest = ?", (model, digest))
        taken: tuple[AliasTaken, ...] = ()
        if ref.alias in found.aliases:
            assert ref.alias is not None
            note_tags(db, peer.remote, ref.name, {ref.alias: digest})
            here = db.execute(
                "SELECT v.digest FROM aliases a JOIN versions v ON v.id = a.version"
                " WHERE a.model = ? AND a.name = ?",
                (row.model_id, ref.alias),
            ).fetchone()
            # One that was removed here comes back: somebody asks for it.
            if here is None or way_of(here[0], seen.get(ref.alias), digest) is Way.TAKE:
                taken = (take_alias(db, row, ref.alias, peer.remote.host),)
        version = catalog.version(db, row)
        assert version.manifest.files is not None  # its fields are of this transaction
    pack_pulled(catalog, model, row.number)
    return PullReport(
        remote=str(peer.remote),
        version=version,
        number=found.numbers.get(digest),
        received=sum(blobs.values()) - sum(there.values()),
        present=sum(there.values()),
        aliases=taken,
        renumbered=brought.renumbered,
        doubts=(
            *found.doubts,
            *_mended(damaged),
            *_called(peer, ref.name, model, name),
            *differing(
                place(peer.remote, ref.name), {(model, row.number): found.numbers.get(digest)}
            ),
        ),
        seconds=time.monotonic() - began,
    )


def _mended(damaged: Collection[str]) -> tuple[str, ...]:
    """A line for files that were here, and not as they should be."""
    if not damaged:
        return ()
    what = "a file that was" if len(damaged) == 1 else f"{len(damaged)} files that were"
    return (f"{what} damaged here came anew",)


def _called(peer: Peer, there: str, model: str, name: str | None) -> tuple[str, ...]:
    """A line for a model that has another name here than its place tells, unless asked for."""
    if model == there or name is not None:
        return ()
    return (f"{place(peer.remote, there)} is {model} here",)


def _unpacked(
    catalog: Catalog, peer: Peer, there: str, model: str, digest: str, unpack: Unpack | None
) -> PullReport:
    """A version made of what another tool packed."""
    repository = peer.remote.repository(there)
    if unpack is None:
        raise ManifestError(
            f"{repository}@{digest} on {peer.remote.host} is packed by another tool",
            hint=f"nbmodel import oci://{peer.remote.host}/{repository}@{digest}",
        )
    version, is_new = unpack(peer.registry, repository, digest, model)
    with catalog.db.write() as db:
        (row,) = model_rows(db, "WHERE name = ?", (model,))
        share(db, peer.remote, there, row.id)
    return PullReport(
        remote=str(peer.remote),
        version=version,
        number=None,
        received=version.size if is_new else 0,
        present=0 if is_new else version.size,
        doubts=(
            f"unpacked from {peer.remote.host}/{repository}@{digest}, which another tool packed"
            if is_new
            else f"{version.reference} was unpacked from it before",
        ),
    )


def _wanted(peer: Peer, ref: Reference, found: Survey) -> str:
    """The digest of the version that is meant."""
    if ref.digest is not None:
        return ref.digest
    if not found.tags:
        raise ModelNotFoundError(
            f"no model {ref.name!r} on {peer.remote}",
            hint=f"`list --remote {peer.remote}` shows what is there",
        )
    by_number = {number: digest for digest, number in found.numbers.items()}
    digest: str | None
    if ref.number is not None:
        digest = by_number.get(ref.number)
    elif ref.is_model or ref.alias == "latest":
        digest = by_number[max(by_number)] if by_number else found.digests.get("latest")
    else:
        tag = ref.stamp or ref.alias or ""
        repository = peer.remote.repository(ref.name)
        digest = found.digests.get(tag) or steadily(lambda: peer.registry.digest(repository, tag))
    if digest is None:
        newest = ", ".join(map(str, sorted(by_number, reverse=True)[:8]))
        raise VersionNotFoundError(
            f"no version {ref.tag} of {ref.name!r} on {peer.remote}",
            hint=f"newest versions there: {newest}" if newest else None,
        )
    return digest
