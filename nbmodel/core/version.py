"""A version of a model and a model, as the registry knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature

_FIRST_YEAR, _LAST_YEAR = 1000, 9998  # four digits, and a day before and after


@dataclass(frozen=True)
class Version:
    """One immutable version, with what the registry says about it.

    Attributes:
        model: The model's present name.
        number: 1, 2, 3 … in order of upload.
        stamp: UTC timestamp id ``YYYY-MM-DDThh-mm-ss``, unique in the model.
        digest: Digest of the manifest blob.
        manifest: What never changes: files, signature, metrics, lineage …
        description: Free text, may be empty.
        tags: Free key → value words.
        aliases: Names that are on this version, ``latest`` included, sorted.
        pinned: Whether the whole registry holds the model at this version.
        published: Whether it is read-only.
        archived: Whether lists leave it out.
        deprecated: Why nobody should use it, or None.
        files_on: Host of the remote that alone has its files; None when they are here.
    """

    model: str
    number: int
    stamp: str
    digest: str
    manifest: Manifest
    # Factories throughout, also for what cannot change: a plain default would be an
    # attribute of the class, and hide a field that a subclass works out when asked.
    description: str = field(default_factory=str)
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = field(default_factory=tuple)
    pinned: bool = field(default_factory=bool)
    published: bool = field(default_factory=bool)
    archived: bool = field(default_factory=bool)
    deprecated: str | None = field(default_factory=lambda: None)
    files_on: str | None = field(default_factory=lambda: None)

    @property
    def reference(self) -> str:
        """``digits:3``."""
        return f"{self.model}:{self.number}"

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The files, sorted by path."""
        return self.manifest.files

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return self.manifest.size

    @property
    def framework(self) -> str:
        """The file format: ``onnx``, ``tflite``."""
        return self.manifest.framework

    @property
    def model_type(self) -> str:
        """What it is for: a name of ``core.model_type.MODEL_TYPES``."""
        return self.manifest.model_type

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self.manifest.signature

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the first labelled output, or nothing."""
        return self.manifest.signature.labels

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers by name."""
        return self.manifest.metrics

    @property
    def metadata(self) -> Mapping[str, Any]:
        """JSON values by name."""
        return self.manifest.metadata

    @property
    def created(self) -> datetime:
        """When it was uploaded, UTC."""
        return parse_time(self.manifest.created)

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object, for machines (``--json``) and the side bar."""
        manifest = self.manifest
        return {
            "model": self.model,
            "number": self.number,
            "stamp": self.stamp,
            "reference": self.reference,
            "digest": self.digest,
            "created": manifest.created,
            "framework": manifest.framework,
            "model_type": manifest.model_type,
            "size": self.size,
            "files": [
                {"path": entry.path, "size": entry.size, "digest": entry.digest}
                for entry in manifest.files
            ],
            "signature": manifest.signature.to_json(),
            "metadata": dict(manifest.metadata),
            "metrics": dict(manifest.metrics),
            "lineage": manifest.lineage.to_json(),
            "golden": None if manifest.golden is None else manifest.golden.to_json(),
            "conversion": None if manifest.conversion is None else manifest.conversion.to_json(),
            "description": self.description,
            "tags": dict(self.tags),
            "aliases": list(self.aliases),
            "pinned": self.pinned,
            "published": self.published,
            "archived": self.archived,
            "deprecated": self.deprecated,
            "files_on": self.files_on,
        }


@dataclass(frozen=True)
class Model:
    """A model: a name over versions.

    Attributes:
        name: ``name`` or ``namespace/name``.
        description: Free text, may be empty.
        created: UTC, ISO 8601.
        versions: How many versions it has, archived ones included.
        latest: The newest version that is not archived, or None.
        aliases: Alias → version number, ``latest`` included.
        pin: The version number the whole registry holds it at, or None.
        archived: Whether lists leave it out.
        deprecated: Why nobody should use it, or None.
        retired: Numbers up to this were another model's of that name; never given again.
    """

    name: str
    description: str
    created: str
    versions: int
    latest: int | None
    aliases: Mapping[str, int] = field(default_factory=dict)
    pin: int | None = None
    archived: bool = False
    deprecated: str | None = None
    retired: int = 0

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "name": self.name,
            "description": self.description,
            "created": self.created,
            "versions": self.versions,
            "latest": self.latest,
            "aliases": dict(self.aliases),
            "pin": self.pin,
            "archived": self.archived,
            "deprecated": self.deprecated,
            "retired": self.retired,
        }


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history.

    Attributes:
        alias: The name that moved.
        at: UTC, ISO 8601.
        who: Login name.
        old: Version number it left, or None when it was new.
        new: Version number it went to, or None when it was removed.
        why: Free text, may be empty.
    """

    alias: str
    at: str
    who: str
    old: int | None
    new: int | None
    why: str = ""


def now() -> str:
    """The present time, UTC: ``2026-02-28T13:36:51.250000Z``."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The time that ``now`` wrote, with a time zone.

    The epoch when a foreign manifest has something unreadable there, or a year that not every
    time zone and form of a date has.
    """
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        year = time.astimezone(timezone.utc).year
    except (ValueError, OverflowError):
        year = 0
    return time if _FIRST_YEAR <= year <= _LAST_YEAR else datetime.fromtimestamp(0, timezone.utc)


def stamp_of(time: datetime) -> str:
    """The version id of a time, to the second: ``2026-02-28T13-36-51``."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
