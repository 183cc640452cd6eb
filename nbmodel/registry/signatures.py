"""Signatures of versions, and whatever else refers to their manifests.

They are manifests and blobs beside the versions', kept as long as the version is. Making
and checking them is ``nbmodel.signing``'s; nothing here knows a key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbmodel.core.artifact import Artifact
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.referrer import (
    BUNDLE_FILE,
    BUNDLE_TYPE,
    EMPTY,
    MAX_BUNDLE,
    read_signature_manifest,
    signature_manifest,
)
from nbmodel.core.version import Version, now
from nbmodel.errors import (
    BlobNotFoundError,
    FormatError,
    ManifestError,
    StorageError,
    StorageUnavailableError,
)
from nbmodel.registry.catalog import Catalog
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.base import Storage


@dataclass(frozen=True, slots=True)
class KeptSignature:
    """A signature as it is kept, not checked.

    Attributes:
        digest: Of the manifest that refers to the version.
        created: When it was made, UTC, ISO 8601, as it says itself; may be empty.
        bundle: Its bytes; None where they are not here or are damaged.
    """

    digest: str
    created: str
    bundle: bytes | None


def referrers_of(catalog: Catalog, digest: str) -> tuple[str, ...]:
    """Digests of the manifests that refer to one, sorted: signatures, and what others put there.

    Raises:
        StorageUnavailableError: The registry's folder cannot be read.
    """
    return catalog.referrers.of(digest)


def signatures_of(catalog: Catalog, digest: str) -> tuple[str, ...]:
    """Digests of the manifests of a version's signatures, sorted; what is damaged is left out.

    Raises:
        StorageUnavailableError: The registry's folder cannot be read.
    """
    return tuple(found for found, _ in _signatures(catalog.storage, referrers_of(catalog, digest)))


def add_referrer(catalog: Catalog, digest: str) -> str:
    """Note that a manifest, which is in the storage with its blobs, refers to its subject.

    Args:
        catalog: The registry.
        digest: Of the manifest that refers.

    Returns:
        Digest of its subject, which need not be here yet; a collector takes away what
        refers to no version.

    Raises:
        ManifestError: It is no manifest, or refers to nothing.
        BlobNotFoundError: It or a blob of it is not here.
        StorageUnavailableError: The registry's folder takes nothing.
    """
    storage = catalog.storage
    artifact = Artifact.from_bytes(storage.read(digest, limit=MAX_MANIFEST))
    if artifact.subject is None:
        raise ManifestError(f"manifest {digest} refers to nothing, expected a 'subject'")
    # A collector deletes under this lock, so what is there now stays.
    with catalog.db.write():
        for blob in (digest, *artifact.blobs):
            if not storage.keep(blob):
                raise BlobNotFoundError(f"no blob {blob} in {catalog.root}")
        catalog.referrers.add(artifact.subject.digest, digest)
    return artifact.subject.digest


def add_signature(catalog: Catalog, subject: str, bundle: bytes) -> str:
    """Keep a signature with the version that it is of; the same bundle is kept once.

    Args:
        catalog: The registry.
        subject: Digest of the version's manifest, which is here.
        bundle: The signature, not checked here.

    Returns:
        Digest of the manifest that refers to the version.

    Raises:
        BlobNotFoundError: The version's manifest is not here.
        StorageUnavailableError: The registry's folder takes nothing.
    """
    for kept in kept_signatures(catalog, subject):
        if kept.bundle == bundle:
            return kept.digest
    raw = catalog.storage.read(subject, limit=MAX_MANIFEST)
    for blob in (EMPTY, bundle):
        catalog.storage.add_bytes(blob)
    digest = catalog.storage.add_bytes(signature_manifest(raw, bundle, created=now()))
    add_referrer(catalog, digest)
    return digest


def kept_signatures(catalog: Catalog, digest: str) -> tuple[KeptSignature, ...]:
    """The signatures of a version, newest first by what they say.

    Raises:
        StorageUnavailableError: The registry's folder cannot be read.
    """
    found = []
    for known, artifact in _signatures(catalog.storage, referrers_of(catalog, digest)):
        created = artifact.annotations.get("org.opencontainers.image.created", "")
        try:
            bundle = catalog.storage.read(artifact.layers[0].digest, limit=MAX_BUNDLE)
        except StorageUnavailableError:
            raise
        except (FormatError, StorageError):
            bundle = None
        found.append(KeptSignature(known, created, bundle))
    return tuple(sorted(found, key=lambda one: (one.created, one.digest), reverse=True))


def lay_out(catalog: Catalog, version: Version, folder: Path) -> Path | None:
    """Write the newest signature of a version beside its files, as ``BUNDLE_FILE``.

    There ``model_signing verify`` and others find it, who check a folder. A signature that
    is there is replaced; any other file of that name is left, and none is written.

    Args:
        catalog: The registry.
        version: The version.
        folder: Where its files are.

    Returns:
        Where it is; None where there is none, or it has no place.

    Raises:
        StorageUnavailableError: The folder takes nothing.
    """
    target = folder / BUNDLE_FILE
    bundles = [one.bundle for one in kept_signatures(catalog, version.digest)]
    newest = next((bundle for bundle in bundles if bundle is not None), None)
    is_taken = any(entry.path == BUNDLE_FILE for entry in version.files)
    if newest is None or is_taken or not _may_replace(target):
        return None
    try:
        write_atomically(target, newest)
    except OSError as exc:
        raise StorageUnavailableError(f"cannot write {target}: {exc.strerror}") from exc
    return target


def _may_replace(target: Path) -> bool:
    """Whether there is nothing, or a signature, of that name."""
    if not os.path.lexists(target):
        return True
    if target.is_symlink() or not target.is_file() or target.stat().st_size > MAX_BUNDLE:
        return False
    return BUNDLE_TYPE.encode() in target.read_bytes()


def _signatures(storage: Storage, digests: tuple[str, ...]) -> Iterator[tuple[str, Artifact]]:
    for digest in digests:
        try:
            raw = storage.read(digest, limit=MAX_MANIFEST)
            artifact = Artifact.from_bytes(raw)
            if artifact.artifact_type == BUNDLE_TYPE:
                read_signature_manifest(raw)
                yield digest, artifact
        except StorageUnavailableError:
            raise
        except (FormatError, StorageError):
            continue
