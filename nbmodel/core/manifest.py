"""Manifests: a version as an OCI image manifest of CNCF ModelPack type.

Layers are *raw*: a layer's digest is the file's own sha256. What ModelPack has no field
for (signature, labels, metrics, lineage, golden sample) is in the config under
``"nbmodel"``. A manifest holds what never changes about a version; its number, aliases,
tags, description and status belong to the registry.

Source: OCI image specification 1.1 "Image Manifest"; CNCF ModelPack model-spec
``docs/spec.md``, ``config.md``, ``annotations.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.chunks import CHUNKS_TYPE, max_table
from nbmodel.core.digest import check_digest, digest_of
from nbmodel.core.document import canonical_json
from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.signature import Signature
from nbmodel.errors import ManifestError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
DATASET_TYPE = "application/vnd.cncf.model.dataset.v1.raw"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"  # by which ORAS names files
CHUNKS_OF = "io.nbmodel.chunks.of"  # annotation of a chunk table: the path of its file
MAX_MANIFEST = 4 * 1024 * 1024  # bytes; the size registries must accept (OCI distribution)
MAX_CONFIG = 16 * 1024 * 1024  # bytes; a signature with 100,000 labels stays far below


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One file of a version.

    Attributes:
        path: POSIX path relative to the version's root.
        size: Length in bytes.
        digest: ``sha256:<64 lower-case hex digits>`` of the file's bytes.
        media_type: What the layer is, in ModelPack's words.

    Raises:
        ManifestError: ``path`` could name something outside the root, ``size`` is
            negative, or ``digest`` is malformed.

    Source: the descriptor of the OCI image spec, with ModelPack's filepath annotation and
    the title of OCI's pre-defined ones.
    """

    path: str
    size: int
    digest: str
    media_type: str = WEIGHT_TYPE

    def __post_init__(self) -> None:
        check_path(self.path)
        size: object = self.size  # from a remote: the annotation promises nothing
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ManifestError(f"size of {self.path!r} is not a length in bytes: {self.size!r}")
        check_digest(self.digest, repr(self.path))

    def to_json(self) -> dict[str, Any]:
        """The OCI descriptor of the file."""
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
            "annotations": {FILEPATH: self.path, TITLE: self.path},
        }


def check_path(path: str) -> str:
    """Return ``path`` unchanged when joining it to a folder stays inside that folder.

    Manifests come from remote storages. Checking here, and nowhere else, is what lets a
    runtime join any FileEntry to a directory. Lexical on purpose: ``Path.relative_to``
    lets ``../x`` through, and ``:`` is a drive on Windows.

    Raises:
        ManifestError: It is empty, absolute, has ``..``, a backslash, a colon, a control
            character, or half of a surrogate pair, which no file system takes.
    """
    parts = path.split("/")
    unsafe = any(char in "\\:" or char < " " or "\ud800" <= char <= "\udfff" for char in path)
    if unsafe or any(part in ("", ".", "..") for part in parts) or len(path) > 1024:
        raise ManifestError(f"unsafe path in manifest: {path[:80]!r}")
    return path


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that never changes about a version.

    Attributes:
        name: The model it was uploaded as (a rename does not change it).
        created: UTC, ISO 8601 with microseconds: ``2026-02-28T13:36:51.250000Z``.
        files: Sorted by path; paths are distinct.
        framework: ``onnx``, ``tflite`` …: a name of the format table.
        model_type: ``classification``, ``detection`` …, see ``core.model_type``.
        signature: Inputs and outputs, labels included.
        metadata: JSON values by name, types kept.
        metrics: Numbers by name.
        lineage: Where it comes from.
        golden: The acceptance test, or None.
        conversion: How the file was made from a live object, or None.
        chunks: Path of a file → its chunk table, a layer of its own that is not among
            ``files``: it saves bytes on the way and says nothing about the version.
        extra: Fields of the manifest that nbmodel does not know, kept as read.
        config_extra: The same for the config.

    Raises:
        ManifestError: Two files have one path, or a chunk table is of no file or larger
            than one of its file can be.
    """

    name: str
    created: str
    files: tuple[FileEntry, ...]
    framework: str
    model_type: str
    signature: Signature
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Lineage = Lineage()
    golden: Golden | None = None
    conversion: Conversion | None = None
    chunks: Mapping[str, FileEntry] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    config_extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.files]
        if len(set(paths)) != len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ManifestError(f"path twice in manifest: {twice!r}")
        sizes = {entry.path: entry.size for entry in self.files}
        for path, table in self.chunks.items():
            if path not in sizes:
                raise ManifestError(f"manifest: chunk table of {path[:80]!r}, which is no file")
            if table.media_type != CHUNKS_TYPE:
                raise ManifestError(
                    f"manifest: chunk table of {path!r} is {table.media_type!r}, "
                    f"expected {CHUNKS_TYPE}"
                )
            if table.size > max_table(sizes[path]):
                raise ManifestError(
                    f"manifest: chunk table of {path!r} has {table.size} bytes, "
                    f"expected at most {max_table(sizes[path])}"
                )

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @property
    def content(self) -> str:
        """A digest of paths and bytes alone: equal content needs no redeploy."""
        lines = "".join(f"{entry.digest}  {entry.path}\n" for entry in sorted(self.files))
        return digest_of(lines.encode())

    def config_bytes(self) -> bytes:
        """The config blob: ModelPack's fields, and nbmodel's own under ``"nbmodel"``."""
        own: dict[str, Any] = {
            "name": self.name,
            "framework": self.framework,
            "model_type": self.model_type,
            "signature": self.signature.to_json(),
            "metadata": dict(self.metadata),
            "metrics": dict(self.metrics),
            "lineage": self.lineage.to_json(),
        }
        if self.golden is not None:
            own["golden"] = self.golden.to_json()
        if self.conversion is not None:
            own["conversion"] = self.conversion.to_json()
        return canonical_json(
            {
                **self.config_extra,
                "descriptor": {
                    **self.config_extra.get("descriptor", {}),
                    "createdAt": self.created,
                    "name": self.name,
                },
                "config": {**self.config_extra.get("config", {}), "format": self.framework},
                "modelfs": {
                    "type": "layers",
                    "diffIds": [layer["digest"] for layer in self._layers()],
                },
                "nbmodel": own,
            }
        )

    def manifest_bytes(self) -> bytes:
        """The manifest blob; its sha256 is the version's digest."""
        config = self.config_bytes()
        return canonical_json(
            {
                **self.extra,
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": ARTIFACT_TYPE,
                "config": {
                    "mediaType": CONFIG_TYPE,
                    "digest": digest_of(config),
                    "size": len(config),
                },
                "layers": self._layers(),
            }
        )

    def _layers(self) -> list[dict[str, Any]]:
        """The descriptors of the files, then of their chunk tables."""
        layers = [entry.to_json() for entry in self.files]
        for path, table in sorted(self.chunks.items()):
            layer = table.to_json()
            layer["annotations"][CHUNKS_OF] = path
            layers.append(layer)
        return layers

    @classmethod
    def from_bytes(cls, manifest: bytes, config: bytes) -> Manifest:
        """Read a manifest and its config blob, both already checked by digest.

        Raises:
            ManifestError: Either is not what the specifications say; the message names
                the field.
        """
        data = read_object(manifest, "manifest", MAX_MANIFEST)
        settings = read_object(config, "model config", MAX_CONFIG)
        files, chunks = read_layers(data)
        own = settings.get("nbmodel", {})
        descriptor = settings.get("descriptor", {})
        if not isinstance(own, dict) or not isinstance(descriptor, dict):
            raise ManifestError("model config: expected objects under 'nbmodel' and 'descriptor'")
        try:
            golden, conversion = own.get("golden"), own.get("conversion")
            return cls(
                name=str(own.get("name") or descriptor.get("name") or "model"),
                created=str(descriptor.get("createdAt", "")),
                files=files,
                chunks=chunks,
                framework=str(
                    own.get("framework") or settings.get("config", {}).get("format", "unknown")
                ),
                model_type=str(own.get("model_type", "other")),
                signature=Signature.from_json(own.get("signature", {})),
                metadata=dict(own.get("metadata", {})),
                metrics={str(name): float(value) for name, value in own.get("metrics", {}).items()},
                lineage=Lineage.from_json(own.get("lineage", {})),
                golden=None if golden is None else Golden.from_json(golden),
                conversion=None if conversion is None else Conversion.from_json(conversion),
                extra=_without(
                    data, "schemaVersion", "mediaType", "artifactType", "config", "layers"
                ),
                config_extra=_unknown_settings(settings),
            )
        except (TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise ManifestError(f"malformed model config: {exc!r}") from exc


def read_object(raw: bytes, what: str, limit: int) -> dict[str, Any]:
    """The JSON object in bytes that a remote sent.

    Args:
        raw: The bytes.
        what: What they are, for messages.
        limit: Largest number of bytes that is accepted.

    Raises:
        ManifestError: They are too many, or not an object that can be written as JSON again:
            Python reads NaN and half characters, which nothing can pass on.
    """
    if len(raw) > limit:
        raise ManifestError(f"{what} of {len(raw)} bytes, expected at most {limit}")
    try:
        data = json.loads(raw)
        canonical_json(data)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"{what} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise ManifestError(f"{what}: expected a JSON object, found {type(data).__name__}")
    return data


def read_layers(
    data: Mapping[str, Any],
) -> tuple[tuple[FileEntry, ...], dict[str, FileEntry]]:
    """The files that a manifest, as parsed JSON, lists, and the chunk tables of files by path.

    Raises:
        ManifestError: A layer has no path, digest or size, or an unsafe one; or a file has
            two chunk tables.
    """
    layers = data.get("layers")
    if not isinstance(layers, list):
        raise ManifestError("manifest: expected a list under 'layers'")
    files: list[FileEntry] = []
    chunks: dict[str, FileEntry] = {}
    for index, layer in enumerate(layers):
        try:
            annotations = layer.get("annotations", {})
            path = annotations.get(FILEPATH) or annotations[TITLE]
            entry = FileEntry(str(path), layer["size"], layer["digest"], str(layer["mediaType"]))
            chunked = str(annotations[CHUNKS_OF]) if entry.media_type == CHUNKS_TYPE else None
        except (AttributeError, KeyError, TypeError) as exc:
            raise ManifestError(
                f"manifest: layer {index} needs mediaType, digest, size and a "
                f"{FILEPATH} annotation ({exc!r})"
            ) from exc
        if chunked is None:
            files.append(entry)
        elif chunks.setdefault(chunked, entry) is not entry:
            raise ManifestError(f"manifest: two chunk tables of {chunked[:80]!r}")
    return tuple(files), chunks


def _unknown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that ``config_bytes`` does not write from other fields."""
    extra = _without(settings, "modelfs", "nbmodel", "descriptor", "config")
    descriptor = _without(settings.get("descriptor", {}), "createdAt", "name")
    config = _without(settings.get("config", {}), "format")
    if descriptor:
        extra["descriptor"] = descriptor
    if config:
        extra["config"] = config
    return extra


def _without(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}
