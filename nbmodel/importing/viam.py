"""A Viam package: the ``.tar.gz`` of an ML model, and the JSON that names it.

Read are, besides the files: the package entry of a machine config (what "Copy package JSON"
gives: ``package``, ``version``, ``name``, ``type``), or a ``PackageInfo``
(``organization_id``, ``name``, ``version``, ``type``, ``files``, ``metadata``, ``platform``),
from ``<name>.json`` or ``package.json`` beside the archive. Without one, the version is the
folder that it is in, as ``viam packages export`` writes ``<version>/<name>.tar.gz``.

Source: viamrobotics/api ``app/packages/v1/packages.proto``; rdk ``config/config.go`` and
``cli/packages.go``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmodel.core.model_type import check_model_type
from nbmodel.core.reference import normal_stamp
from nbmodel.errors import FormatError, InputError, StorageUnavailableError
from nbmodel.importing.base import Fetched, Import, Layout, name_from
from nbmodel.importing.documents import read_json, text
from nbmodel.importing.unpack import unpack
from nbmodel.interchange.record import KEY, read_record

_SUFFIXES = (".tar.gz", ".tgz")
_TYPES = ("ml_model", "PACKAGE_TYPE_ML_MODEL", 2)
_MILLISECONDS = re.compile(r"\d{13}")  # what the command line gives a version without a name
_MAX_VERSION = 200  # characters


@dataclass(frozen=True, slots=True)
class _Package:
    """What the JSON of a package says.

    Attributes:
        name: Of the model.
        organization: Whose it is; may be empty.
        version: As it is written there; may be empty.
        metadata: ``model_framework``, ``model_type`` …
        sizes: Path → bytes, of the files that are listed.
        platform: May be empty.
        record: What nbmodel said of it, when it wrote it.
    """

    name: str
    organization: str = ""
    version: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    platform: str = ""
    record: object = None


class ViamPackage(Layout):
    """``<name>.tar.gz`` with its JSON beside it, or in the folder of its version."""

    name = "viam"
    form = "NAME.tar.gz (Viam package)"

    def recognises(self, path: Path) -> bool:
        """Whether it is an archive with a package's JSON beside it, or a version's folder around."""
        if not path.name.endswith(_SUFFIXES) or not path.is_file():
            return False
        if _is_version(path.parent.name):
            return True
        try:
            return _beside(path) is not None
        except (FormatError, StorageUnavailableError):
            return False

    def read(self, path: Path, job: Import) -> Fetched:
        """Its files; version, organisation and framework as tags and metadata."""
        stem = path.name
        for suffix in _SUFFIXES:
            stem = stem.removesuffix(suffix)
        package = _beside(path) or _Package(stem)
        version = package.version
        if not version and _is_version(path.parent.name):
            version = path.parent.name
        room = unpack(path, job, is_plain=True)
        _check_sizes(room, package)
        stamp = normal_stamp(version) or ""
        said = {
            "package": f"{package.organization}/{package.name}" if package.organization else "",
            "version": version,
            "stamp": stamp,
            "platform": package.platform,
            "metadata": dict(package.metadata),
        }
        record = read_record(package.record)
        tags = {
            "viam.version": version,
            "viam.organization": package.organization[:1024],
            "viam.framework": text(package.metadata.get("model_framework"), 1024),
        }
        return Fetched(
            room,
            self.here(version),
            name=name_from(package.name),
            signature=record.signature,
            model_type=record.model_type or _model_type(package.metadata.get("model_type")),
            description=record.description,
            metadata={**record.metadata, "viam": {key: one for key, one in said.items() if one}},
            metrics=record.metrics,
            tags={key: one for key, one in tags.items() if one},
            golden=record.golden,
        )


def _is_version(name: str) -> bool:
    return normal_stamp(name) is not None or _MILLISECONDS.fullmatch(name) is not None


def _beside(path: Path) -> _Package | None:
    """What the JSON beside an archive says, or None without one.

    Raises:
        FormatError: There is one, and it is malformed or of another kind of package.
    """
    stem = path.name
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    for name in (f"{stem}.json", "package.json"):
        file = path.with_name(name)
        if file.is_file() and not file.is_symlink():
            return _package(read_json(file), file.name)
    return None


def _package(data: object, file: str) -> _Package:
    if isinstance(data, Mapping) and isinstance(data.get("info"), Mapping):
        data = {KEY: data.get(KEY), **data["info"]}  # a whole ``Package``
    if not isinstance(data, Mapping) or not ("package" in data or "name" in data):
        raise FormatError(
            f"{file} is no package of Viam's: expected an object with package, version, name "
            "and type"
        )
    kind = data.get("type", "ml_model")
    if kind not in _TYPES:
        raise FormatError(f"{file} is of a package of type {kind!r}, expected ml_model")
    organization, _, name = text(data.get("package")).rpartition("/")
    version = text(data.get("version"))
    metadata = data.get("metadata") or {}
    if version == "latest":
        version = ""
    if len(version) > _MAX_VERSION or not isinstance(metadata, Mapping):
        raise FormatError(f"{file}: version or metadata is malformed")
    return _Package(
        name or text(data.get("name"), 200),
        organization or text(data.get("organization_id"), 200),
        version,
        metadata,
        _sizes(data.get("files"), file),
        text(data.get("platform"), 200),
        data.get(KEY),
    )


def _sizes(listed: object, file: str) -> dict[str, int]:
    """The files that a ``PackageInfo`` lists; JSON has 64-bit numbers as text."""
    if not listed:
        return {}
    entries: Any = listed
    try:
        return {
            str(one["name"]): int(one["size"]) for one in entries if not one.get("is_directory")
        }
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise FormatError(f"{file}: malformed list of files") from exc


def _check_sizes(room: Path, package: _Package) -> None:
    for name, size in package.sizes.items():
        try:
            found = (room / name).stat().st_size if ".." not in name.split("/") else None
        except (OSError, ValueError):
            found = None
        if found != size:
            raise FormatError(
                f"package {package.name}: {name[:80]!r} has "
                f"{'nothing' if found is None else f'{found:,} bytes'}, its JSON says {size:,}"
            )


def _model_type(said: object) -> str | None:
    """Our word for Viam's, or None where it says nothing that we know."""
    word = str(said or "").lower().removeprefix("model_type_")
    try:
        return check_model_type(word) if word not in ("", "unspecified", "other") else None
    except InputError:
        return None
