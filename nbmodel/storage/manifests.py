"""Manifests in a storage: reading one with its config, and the blobs it needs."""

from __future__ import annotations

from nbmodel.core.digest import check_digest
from nbmodel.core.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    FileEntry,
    Manifest,
    read_layers,
    read_object,
)
from nbmodel.errors import ManifestError
from nbmodel.storage.base import Storage


def load_manifest(storage: Storage, digest: str) -> Manifest:
    """The manifest of that digest, with its config.

    Raises:
        BlobNotFoundError: The manifest or its config is not in the storage.
        DigestMismatchError: The bytes of either changed on the disk.
        ManifestError: It is not a manifest, or not one of a model.
        SignatureError: Its signature has tensors that cannot be.
    """
    return parse_manifest(storage, storage.read(digest, limit=MAX_MANIFEST))


def parse_manifest(storage: Storage, raw: bytes) -> Manifest:
    """As ``load_manifest``, for the bytes of a manifest that is not stored yet."""
    config = next(iter(blobs_of(raw)))
    return Manifest.from_bytes(raw, storage.read(config, limit=MAX_CONFIG))


def blobs_of(raw: bytes) -> dict[str, int]:
    """Digest → size in bytes of the blobs that a manifest needs, chunk tables among them.

    The config comes first.

    Raises:
        ManifestError: It is not a manifest.
    """
    data = read_object(raw, "manifest", MAX_MANIFEST)
    config = data.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("size"), int):
        raise ManifestError("manifest: expected a descriptor with digest and size under 'config'")
    blobs = {check_digest(config.get("digest"), "the config"): int(config["size"])}
    files, chunks = read_layers(data)
    for entry in (*files, *chunks.values()):
        if blobs.setdefault(entry.digest, entry.size) != entry.size:
            raise ManifestError(f"manifest: two sizes for blob {entry.digest}")
    return blobs


def chunked_blobs(raw: bytes) -> dict[str, FileEntry]:
    """Digest of a file → its chunk table, for the files of a manifest that have one.

    Raises:
        ManifestError: It is not a manifest.
    """
    files, chunks = read_layers(read_object(raw, "manifest", MAX_MANIFEST))
    return {entry.digest: chunks[entry.path] for entry in files if entry.path in chunks}
