"""Versions that came from a remote become versions here, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import Manifest
from nbmodel.errors import BlobNotFoundError, ManifestError
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.index import write_index
from nbmodel.registry.remote.numbering import Renumbered, take_numbers
from nbmodel.registry.remote.peer import Peer
from nbmodel.registry.remote.seen import note_tags, take_lead
from nbmodel.registry.remote.sharing import check_own, share
from nbmodel.registry.remote.survey import Survey
from nbmodel.registry.versions import Candidate, check_model, insert, make_model
from nbmodel.storage.manifests import blobs_of, parse_manifest

_MAX_BYTES = 2**62  # of a version: what the index can count


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of it.

    Attributes:
        new: Digests of the versions that were not here.
        renumbered: Versions here that have another number now.
    """

    new: tuple[str, ...]
    renumbered: tuple[Renumbered, ...]


def readable(catalog: Catalog, raw: bytes) -> Manifest:
    """The manifest of a version that a remote sent, whose config is in the storage.

    Raises:
        ManifestError: It is none of a model, or more than can be.
        BlobNotFoundError: The config is not there.
        SignatureError: Its signature has tensors that cannot be.
    """
    manifest = parse_manifest(catalog.storage, raw)
    if sum(blobs_of(raw).values()) > _MAX_BYTES:
        raise ManifestError(f"manifest {digest_of(raw)} of {manifest.size} bytes of files")
    return manifest


def bring(
    catalog: Catalog,
    peer: Peer,
    model: str,
    there: str,
    found: Survey,
    manifests: Mapping[str, bytes],
    *,
    unfetched: bool,
) -> Brought:
    """Make versions of manifests, take the numbers of the remote, and keep what was seen.

    Args:
        catalog: The registry.
        peer: Where they are from.
        model: The model, which is made with its first version.
        there: The name that it has at the remote.
        found: What the remote has of it.
        manifests: Digest → manifest; their configs are in the storage.
        unfetched: Whether their files are still at the remote alone; else they are here.

    Raises:
        ModelExistsError: The repository is another model here by now.
        RegistryError: The model is archived.
        BlobNotFoundError: What was stored was removed again meanwhile.
        ManifestError: A manifest is none of a model.
    """
    candidates = {
        digest: Candidate(model, raw, readable(catalog, raw), adopted=True)
        for digest, raw in manifests.items()
    }
    with catalog.db.write() as db:
        check_own(db, peer.remote, there, model)  # it may be renamed since we looked
        row = check_model(db, model)
        if row is None and not candidates:
            return Brought((), ())
        model_id = make_model(db, model)[0] if row is None else row.id
        share(db, peer.remote, there, model_id)
        note_tags(db, peer.remote, there, found.digests)
        new = []
        for turn, (digest, candidate) in enumerate(candidates.items(), 1):
            _check_stored(catalog, candidate, whole=not unfetched)
            twin = db.execute(
                "SELECT id FROM versions WHERE model = ? AND digest = ?", (model_id, digest)
            ).fetchone()
            if twin is None:
                if unfetched and _is_dismissed(db, model_id, digest):
                    continue  # meanwhile
                version = insert(db, model_id, -turn, candidate)
                new.append(digest)
                if unfetched:
                    db.execute("INSERT INTO unfetched VALUES (?)", (version,))
            elif not unfetched:
                db.execute("DELETE FROM unfetched WHERE version = ?", twin)
            if not unfetched:  # somebody asked for it
                db.execute(
                    "DELETE FROM dismissed WHERE model = ? AND digest = ?", (model_id, digest)
                )
        note_tags(db, peer.remote, there, {}, candidates)
        renumbered = adjust(db, model_id, peer, there, found.numbers)
    write_index(catalog)
    return Brought(tuple(new), renumbered)


def _is_dismissed(db: sqlite3.Connection, model_id: int, digest: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM dismissed WHERE model = ? AND digest = ?", (model_id, digest)
    ).fetchone()
    return found is not None


def adjust(
    db: sqlite3.Connection, model_id: int, peer: Peer, there: str, numbers: Mapping[str, int]
) -> tuple[Renumbered, ...]:
    """Let the numbers of a remote count here, if it is the one whose numbers do.

    Of any other only versions that have no number yet take theirs, where it is free.

    Args:
        db: A transaction that writes.
        model_id: The model.
        peer: The remote.
        there: The name that the model has there.
        numbers: Digest → number, as it settled them.
    """
    if take_lead(db, model_id, peer.remote, there, anyway=peer.leads):
        return take_numbers(db, model_id, numbers, peer.remote)
    rows = db.execute("SELECT digest, number FROM versions WHERE model = ?", (model_id,)).fetchall()
    taken = {number for _, number in rows}
    free = {
        digest: numbers[digest]
        for digest, number in rows
        if number < 1 and digest in numbers and numbers[digest] not in taken
    }
    return take_numbers(db, model_id, free, peer.remote)


def _check_stored(catalog: Catalog, candidate: Candidate, *, whole: bool) -> None:
    blobs = blobs_of(candidate.raw)
    needed = blobs if whole else dict([next(iter(blobs.items()))])
    for digest, size in {digest_of(candidate.raw): len(candidate.raw), **needed}.items():
        if not catalog.storage.keep(digest) or catalog.storage.size(digest) != size:
            raise BlobNotFoundError(
                f"blob {digest} of {candidate.name!r} was removed while it was brought, "
                f"or has not {size} bytes",
                hint="something empties the registry's folder: run gc with a grace period",
            )
