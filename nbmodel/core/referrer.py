"""Referrers: manifests that say something about another one, as a signature does.

A registry lists the referrers of a manifest in an image index. One that does not know how
keeps that index under a tag, which clients look after: ``fallback_tag``.

Source: OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema";
OCI image specification 1.1, "Image Index".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.artifact import EMPTY_TYPE, INDEX_TYPE, Artifact
from nbmodel.core.digest import check_digest, digest_of
from nbmodel.core.document import canonical_json
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST, read_object
from nbmodel.errors import ManifestError

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"  # of a signature
BUNDLE_FILE = "model.sig"  # what a bundle is called as a file, by model_signing too
MAX_BUNDLE = 8 * 1024 * 1024  # bytes; a version's manifest fits into 4 MiB
MAX_REFERRERS = 1000  # of one version and one type that are looked at
EMPTY = b"{}"  # the config of a manifest that needs none
_TITLE = "org.opencontainers.image.title"
_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True)
class Referrer:
    """One entry of a list of referrers.

    Attributes:
        digest: Of the manifest that refers.
        size: Its length in bytes.
        artifact_type: What it is; empty where the list does not say.
        media_type: Of the manifest.
        annotations: Words by key.

    Raises:
        ManifestError: ``digest`` is malformed, or ``size`` no length of a manifest.
    """

    digest: str
    size: int
    artifact_type: str = ""
    media_type: str = MANIFEST_TYPE
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_digest(self.digest, "a referrer")
        size: object = self.size
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_MANIFEST:
            raise ManifestError(f"size of referrer {self.digest} is none of a manifest: {size!r}")

    @classmethod
    def of(cls, raw: bytes) -> Referrer:
        """The entry of a manifest.

        Raises:
            ManifestError: It is none of one artifact.
        """
        artifact = Artifact.from_bytes(raw)
        return cls(
            digest_of(raw),
            len(raw),
            artifact.artifact_type,
            artifact.media_type,
            artifact.annotations,
        )

    def to_json(self) -> dict[str, Any]:
        """As an image index has it."""
        told: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            told["artifactType"] = self.artifact_type
        if self.annotations:
            told["annotations"] = dict(self.annotations)
        return told


def fallback_tag(digest: str) -> str:
    """The tag of the list of a manifest's referrers: ``sha256-<hex>``.

    Raises:
        ManifestError: ``digest`` is malformed.
    """
    return check_digest(digest, "a subject").replace(":", "-", 1)


def referrer_index(referrers: Iterable[Referrer]) -> bytes:
    """The image index that lists referrers."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [one.to_json() for one in referrers],
        }
    )


def read_referrer_index(raw: bytes) -> tuple[Referrer, ...]:
    """The referrers that an image index lists, each once, in its order.

    Raises:
        ManifestError: It is none.
    """
    data = read_object(raw, "list of referrers", MAX_MANIFEST)
    entries = data.get("manifests")
    if not isinstance(entries, list):
        raise ManifestError("list of referrers: expected a list under 'manifests'")
    found: dict[str, Referrer] = {}
    for entry in entries:
        try:
            annotations = entry.get("annotations") or {}
            one = Referrer(
                entry["digest"],
                entry["size"],
                str(entry.get("artifactType") or ""),
                str(entry["mediaType"]),
                {str(key): str(value) for key, value in annotations.items()},
            )
        except (AttributeError, KeyError, TypeError) as exc:
            raise ManifestError(f"list of referrers: an entry is no descriptor ({exc!r})") from exc
        found.setdefault(one.digest, one)
    return tuple(found.values())


def signature_manifest(subject: bytes, bundle: bytes, *, created: str) -> bytes:
    """The manifest by which a bundle refers to the version that it signs.

    Its config is ``EMPTY``, its one layer the bundle.

    Args:
        subject: Bytes of the version's manifest.
        bundle: The signature.
        created: When it was made, UTC, ISO 8601.

    Source: Sigstore's cosign, "Bundle specification" (artifact type and annotations).
    """
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": BUNDLE_TYPE,
            "config": {
                "mediaType": EMPTY_TYPE,
                "digest": digest_of(EMPTY),
                "size": len(EMPTY),
            },
            "layers": [
                {
                    "mediaType": BUNDLE_TYPE,
                    "digest": digest_of(bundle),
                    "size": len(bundle),
                    "annotations": {_TITLE: BUNDLE_FILE},
                }
            ],
            "subject": {
                "mediaType": MANIFEST_TYPE,
                "digest": digest_of(subject),
                "size": len(subject),
            },
            "annotations": {
                _CREATED: created,
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": "https://model_signing/signature/v1.0",
            },
        }
    )


def read_signature_manifest(raw: bytes, *, subject: str | None = None) -> dict[str, int]:
    """Digest → size in bytes of the blobs of a signature's manifest, the bundle last.

    Args:
        raw: Bytes of the manifest.
        subject: Digest of the manifest that it must refer to; None for any.

    Raises:
        ManifestError: It is no manifest of a signature, of another version, or its bundle is
            larger than one can be.
    """
    artifact = Artifact.from_bytes(raw)
    if artifact.artifact_type != BUNDLE_TYPE or len(artifact.layers) != 1:
        raise ManifestError(
            f"manifest of type {artifact.artifact_type[:100]!r} with {len(artifact.layers)} "
            f"layers, expected a signature: {BUNDLE_TYPE} with one"
        )
    if artifact.subject is None or subject not in (None, artifact.subject.digest):
        found = "nothing" if artifact.subject is None else artifact.subject.digest
        raise ManifestError(f"a signature of {found}, expected one of {subject or 'something'}")
    (bundle,) = artifact.layers
    if bundle.size > MAX_BUNDLE or artifact.config.size > MAX_BUNDLE:
        largest = max(bundle.size, artifact.config.size)
        raise ManifestError(f"signature of {largest} bytes, expected at most {MAX_BUNDLE}")
    return {artifact.config.digest: artifact.config.size, bundle.digest: bundle.size}
