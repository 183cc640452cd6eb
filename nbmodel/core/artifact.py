"""Artifacts: what any OCI manifest says, whoever made it and whatever it is of.

``core.manifest`` reads the manifests that nbmodel writes; this is the part that all of
them share, for passing on what is not a model (a signature, say) and for reading models
that other tools packed.

Source: OCI image specification 1.1, "Image Manifest", "Content Descriptors" and "Guidelines
for Artifact Usage".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.digest import check_digest
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST, read_object
from nbmodel.errors import ManifestError

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
DOCKER_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_SINGLE = (MANIFEST_TYPE, DOCKER_TYPE)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one blob.

    Attributes:
        media_type: What the blob is.
        digest: Its digest.
        size: Its length in bytes.
        annotations: Words by key.

    Raises:
        ManifestError: ``size`` is no length, or ``digest`` is malformed.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_digest(self.digest, "a descriptor")
        size: object = self.size
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ManifestError(f"size of {self.digest} is not a length in bytes: {size!r}")

    @classmethod
    def from_json(cls, data: object, what: str) -> Descriptor:
        """Read a descriptor.

        Args:
            data: As parsed JSON.
            what: What it should describe, for messages.

        Raises:
            ManifestError: It is none.
        """
        if not isinstance(data, dict):
            raise ManifestError(f"manifest: expected a descriptor under {what}, found {data!r:.80}")
        try:
            return cls(
                str(data["mediaType"]),
                data["digest"],
                data["size"],
                _annotations(data, what),
            )
        except KeyError as exc:
            raise ManifestError(f"manifest: no {exc} in the descriptor under {what}") from None

    def to_json(self) -> dict[str, Any]:
        """As a manifest has it."""
        told: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        return told | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, slots=True)
class Artifact:
    """One manifest, as far as all manifests are alike.

    Attributes:
        media_type: Of the manifest: OCI's, or Docker's of the same form.
        artifact_type: What it is of; where it does not say, the media type of its config.
        config: Its config blob.
        layers: Its other blobs, in order.
        subject: The manifest that it refers to, as a signature does; or None.
        annotations: Words by key.
    """

    media_type: str
    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Artifact:
        """Read a manifest.

        Raises:
            ManifestError: It is none, or a list of several.
        """
        data = read_object(raw, "manifest", MAX_MANIFEST)
        media_type = str(data.get("mediaType", MANIFEST_TYPE))
        layers = data.get("layers")
        if media_type not in _SINGLE or not isinstance(layers, list):
            raise ManifestError(
                f"manifest of type {media_type[:100]!r}, expected one artifact: {MANIFEST_TYPE}",
                hint="an index lists several manifests: name one of them by its digest"
                if "manifests" in data
                else None,
            )
        config = Descriptor.from_json(data.get("config"), "'config'")
        subject = data.get("subject")
        return cls(
            media_type=media_type,
            artifact_type=str(data.get("artifactType") or config.media_type),
            config=config,
            layers=tuple(
                Descriptor.from_json(layer, f"layer {at}") for at, layer in enumerate(layers)
            ),
            subject=None if subject is None else Descriptor.from_json(subject, "'subject'"),
            annotations=_annotations(data, "the manifest"),
        )

    @property
    def blobs(self) -> dict[str, int]:
        """Digest → size in bytes of the blobs that it needs; the config comes first.

        Raises:
            ManifestError: It says two sizes of one blob.
        """
        found: dict[str, int] = {}
        for blob in (self.config, *self.layers):
            if found.setdefault(blob.digest, blob.size) != blob.size:
                raise ManifestError(f"manifest: two sizes for blob {blob.digest}")
        return found


def _annotations(data: Mapping[str, Any], what: str) -> dict[str, str]:
    found = data.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ManifestError(f"manifest: expected text by key in the annotations of {what}")
    return found
