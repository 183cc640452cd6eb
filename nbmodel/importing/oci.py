"""Models that other tools packed into an OCI registry: KitOps, Docker Model Runner, ModelPack.

Artifacts are unpacked as archives are: nothing leads out, and bytes and files are
counted over all layers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nbmodel.core.artifact import Artifact
from nbmodel.core.digest import digest_of
from nbmodel.core.foreign import Part, Told, parts_of, told_by
from nbmodel.core.manifest import MAX_CONFIG, read_object
from nbmodel.core.origin import Origin
from nbmodel.core.reference import check_repository
from nbmodel.core.remote import Remote
from nbmodel.errors import FormatError, InputError, ManifestError, RefError
from nbmodel.importing.base import Fetched, Import, Importer, name_from, shown
from nbmodel.importing.unpack import Counter, unpack
from nbmodel.storage.layout import OciLayout
from nbmodel.storage.remote_registry import open_registry

if TYPE_CHECKING:
    from nbmodel.storage.remote_registry import RemoteRegistry

_SCHEME = "oci://"


class OciArtifact(Importer):
    """``oci://HOST/REPOSITORY:TAG``, or ``…@sha256:…``."""

    name = "oci"
    form = "oci://HOST/REPOSITORY:TAG"

    def takes(self, uri: str) -> bool:
        """Whether it is the address of an artifact."""
        return uri.startswith(_SCHEME)

    def fetch(self, uri: str, job: Import) -> Fetched:
        """Fetch the layers and unpack them; the manifest's digest is the revision."""
        from nbmodel.storage.access import Access

        remote, repository, reference = _parse(uri)
        with open_registry(remote.base_url, access=Access.of(os.environ)) as registry:
            return unpack_artifact(registry, repository, job.revision or reference, job)


def unpack_artifact(
    registry: RemoteRegistry, repository: str, reference: str, job: Import
) -> Fetched:
    """Bring the files of an artifact of a model.

    Args:
        registry: Where it is.
        repository: Its repository.
        reference: A tag or digest.
        job: What may be brought, and where to.

    Raises:
        InputError: It is larger than it may be.
        FormatError: It is of no model, or damaged, or leads out of its folder.
        NbModelError: As the registry's.
    """
    raw = registry.manifest(repository, reference)
    digest = digest_of(raw)
    artifact = Artifact.from_bytes(raw)
    parts = parts_of(artifact)
    what = f"{registry.host}/{repository}"
    job.check_size(sum(artifact.blobs.values()), what)
    job.check_count(len(parts), what)
    store = OciLayout(job.room("blobs"))
    told = _told(registry, repository, artifact, store)

    def progress(count: int) -> None:
        job.check()
        job.progress(count)

    for layer, size in {part.blob.digest: part.blob.size for part in parts}.items():
        job.check()
        registry.pull_blob(repository, store, layer, size=size, progress=progress)
    mark = "@" if reference == digest else ":"
    return Fetched(
        _gathered(parts, store, job),
        Origin("oci", f"{what}{mark}{reference}", digest),
        name=name_from(told.name) or name_from(repository),
        description=told.description,
        metadata=told.metadata,
    )


def _told(registry: RemoteRegistry, repository: str, artifact: Artifact, store: OciLayout) -> Told:
    config = artifact.config
    if config.size > MAX_CONFIG:
        raise ManifestError(f"config of {config.size} bytes, expected at most {MAX_CONFIG}")
    registry.pull_blob(repository, store, config.digest, size=config.size)
    raw = store.read(config.digest, limit=MAX_CONFIG)
    return told_by(artifact, read_object(raw, "config of an artifact", MAX_CONFIG))


def _gathered(parts: tuple[Part, ...], store: OciLayout, job: Import) -> Path:
    """A folder with the files of all layers."""
    files: dict[str, Path] = {}
    counter = Counter(job)

    def take(path: str, file: Path) -> None:
        if files.setdefault(path, file) is not file:
            raise FormatError(f"two layers of an artifact have {path[:80]!r}")

    for part in parts:
        blob = store.path(part.blob.digest)
        if part.path is not None:
            take(part.path, blob)
            continue
        room = unpack(blob, job, is_plain=True, counter=counter)
        for file in sorted(room.rglob("*")):
            if file.is_file():
                take(file.relative_to(room).as_posix(), file)
    if not files:
        raise FormatError("an artifact without files")
    return job.gather(files)


def _parse(uri: str) -> tuple[Remote, str, str]:
    """The registry, repository, and tag or digest of an address."""
    host, slash, rest = uri.removeprefix(_SCHEME).partition("/")
    repository, at, reference = rest.partition("@")
    if not at:
        repository, _, reference = rest.partition(":")
    if not slash or not repository:
        raise InputError(f"not an artifact's address: {shown(uri)!r}", hint=OciArtifact.form)
    try:
        check_repository(repository)
    except RefError as exc:
        raise InputError(f"{exc}", hint=exc.hint) from exc
    return Remote.parse(host), repository, reference or "latest"
