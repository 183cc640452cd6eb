"""A pulled artifact of another tool becomes a version here; its lineage says where it was.

It is a version of its own, with a digest of its own: packed files have to come out of their
archives. Files of a format that nbmodel does not read are kept all the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nbmodel.core.lineage import Lineage
from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import InputError, ModelNotFoundError, UnknownFormatError
from nbmodel.importing.base import Fetched, Import
from nbmodel.importing.bring import workplace
from nbmodel.importing.oci import unpack_artifact
from nbmodel.importing.source import source_of
from nbmodel.source import Source

if TYPE_CHECKING:
    from nbmodel.registry import Registry
    from nbmodel.registry.remote.pull import Unpack
    from nbmodel.storage.remote_registry import RemoteRegistry

_LOOKED_AT = 200  # newest versions
_OTHER = "other"


def unpacking(registry: Registry, home: Path, **given: Any) -> Unpack:
    """What a pull calls for artifacts that other tools packed.

    Args:
        registry: Where versions are made.
        home: Folder for all imports.
        given: Fields of the ``Import``: ``progress``, ``cancelled`` …
    """

    def unpack(
        remote: RemoteRegistry, repository: str, digest: str, name: str
    ) -> tuple[Version, bool]:
        with workplace(home, **given) as job:
            return adopt_artifact(registry, remote, repository, digest, name=name, job=job)

    return unpack


def adopt_artifact(
    registry: Registry,
    remote: RemoteRegistry,
    repository: str,
    digest: str,
    *,
    name: str,
    job: Import,
) -> tuple[Version, bool]:
    """Make a version of an artifact that another tool packed.

    Args:
        registry: Where the version is made.
        remote: Where the artifact is.
        repository: Its repository.
        digest: Of its manifest.
        name: The model.
        job: What may be brought, and where to.

    Returns:
        The version, and whether it was made now: an artifact is unpacked once.

    Raises:
        InputError: It is larger than it may be.
        FormatError: It is of no model, or damaged, or leads out of its folder.
        RegistryError: The model is archived.
        NbModelError: As the remote's.
    """
    known = _known(registry, name, digest)
    if known is not None:
        return known, False
    fetched = unpack_artifact(remote, repository, digest, job)
    try:
        source, _ = source_of(fetched)
    except (InputError, UnknownFormatError):
        source = _plain(fetched)
    made = registry.add(
        name,
        source.files,
        framework=source.framework,
        model_type=source.model_type or model_type_of(source.signature) or _OTHER,
        signature=source.signature,
        metadata={**source.metadata, **fetched.metadata},
        lineage=Lineage(origin=replace(fetched.origin, digest=digest)),
        description=fetched.description or source.description,
        media_types=source.media_types,
        progress=lambda _: job.check(),
    )
    return made, True


def _known(registry: Registry, name: str, digest: str) -> Version | None:
    """The version that was made of an artifact before."""
    try:
        versions = registry.versions(name, archived=True)
    except ModelNotFoundError:
        return None
    for version in versions[:_LOOKED_AT]:
        origin = version.manifest.lineage.origin
        if origin is not None and (origin.kind, origin.revision) == ("oci", digest):
            return version
    return None


def _plain(fetched: Fetched) -> Source:
    """All files, of whatever format; nothing is known of their tensors."""
    root = fetched.path
    files: dict[str, Path | bytes] = {
        file.relative_to(root).as_posix(): file
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
    largest = max(files, key=lambda path: (root / path).stat().st_size)
    suffix = PurePosixPath(largest).suffix.lower().lstrip(".")
    return Source(
        files=files,
        model_path=largest,
        framework=suffix or "unknown",
        model_type=_OTHER,
        signature=Signature(),
        metadata={},
    )
