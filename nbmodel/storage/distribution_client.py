"""Client of the OCI distribution API: pushing to and pulling from runtimes and registries.

One client for both, because a runtime is a registry. Bytes go from and to files with
constant memory, and every blob that arrives is checked by its digest.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from nbmodel.core.digest import digest_of, is_digest
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.storage.access import Access
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import BlobSource, fetch_blob
from nbmodel.storage.manifests import blobs_of, chunked_blobs
from nbmodel.storage.origin import TIMEOUT, Origin
from nbmodel.storage.reading import manifest_path, read_manifest, read_repositories, read_tags
from nbmodel.storage.send import Pushed, has_blob, request, send_blob

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Distribution", "Pushed"]


class Distribution:
    """A registry or runtime that speaks the distribution API.

    Every method raises TargetUnreachableError when the other side does not answer,
    AuthenticationError when it refuses what it is shown, and StorageError for anything else
    that it refuses, each with its address. A lost connection is tried once more. May be
    used by one thread at a time.

    Args:
        base_url: ``http[s]://host[:port]``, without ``/v2``.
        token: Bearer token, sent to that address only; None when it wants none.
        access: With what registries are entered, in the token's place; None for a runtime.
        timeout: Seconds to wait for a connection and for each answer.
        transport: What carries requests; None for the network.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        access: Access | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._origin = Origin(
            base_url, token=token, access=access, timeout=timeout, transport=transport
        )

    @property
    def host(self) -> str:
        """``host[:port]``, for messages."""
        return self._origin.host

    def close(self) -> None:
        """Close the connections."""
        self._origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Ask whether it speaks the distribution API and takes the token."""
        request(self._origin, "GET", "v2/", expect=(200,))

    # Whole versions

    def push(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        tags: Sequence[str],
        progress: Progress | None = None,
    ) -> Pushed:
        """Push a version: the blobs that are not there yet, its manifest, its tags.

        Args:
            name: The repository.
            storage: Where the blobs are.
            digest: Of the manifest.
            tags: Tags to put on it, in that order: a reader that follows a movable tag
                finds the version's own ones set when they come first. Without any, the
                manifest is pushed by digest.
            progress: Called with the bytes just sent, or found to be there; with less than
                nothing when they have to be sent again.
        """
        raw = storage.read(digest, limit=MAX_MANIFEST)  # as stored: the digest is of these
        tables = {blob: entry.digest for blob, entry in chunked_blobs(raw).items()}
        pushed = Pushed(0, 0)
        # A table is there before the file that it is of, which then goes as a patch.
        for blob in sorted(blobs_of(raw), key=lambda blob: blob not in tables.values()):
            pushed += self.push_blob(name, storage, blob, table=tables.get(blob), progress=progress)
        for tag in tags or (digest,):
            self.push_manifest(name, tag, raw)
        return pushed

    def pull(
        self,
        name: str,
        reference: str,
        storage: Storage,
        *,
        progress: Progress | None = None,
    ) -> str:
        """Pull a version's blobs and manifest into a storage.

        Args:
            name: The repository.
            reference: A tag or digest.
            storage: What they are added to; blobs it has are not fetched.
            progress: Called with the bytes just received, or found to be there.

        Returns:
            Digest of the manifest.
        """
        raw = self.manifest(name, reference)
        for blob, size in blobs_of(raw).items():
            if storage.has(blob):
                _report(progress, size)
            else:
                self.pull_blob(name, storage, blob, size=size, progress=progress)
        return storage.add_bytes(raw)

    # Blobs

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the repository has a blob."""
        return has_blob(self._origin, name, digest)

    def push_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        table: str | None = None,
        progress: Progress | None = None,
    ) -> Pushed:
        """Push a blob unless it is there, and say what that took.

        A large one goes in pieces, and after a lost connection from where the other side
        has it.

        Args:
            name: The repository.
            storage: Where the blob is.
            digest: Which one.
            table: Digest of its chunk table, which the repository has: only what the other
                side lacks is sent, where it can say so. None to send all of it.
            progress: Called with the bytes just sent, or found to be there; with less than
                nothing when they have to be sent again.
        """
        return send_blob(self._origin, name, storage, digest, table=table, progress=progress)

    def pull_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a blob into a storage, as ``fetch_blob`` does.

        Args:
            name: The repository.
            storage: What it is added to.
            digest: What the bytes must have.
            size: What their number must be.
            progress: Called with the bytes just received.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            DigestMismatchError: What came is something else; nothing was added.
        """
        source = BlobSource(name, digest, size)
        fetch_blob(self._origin, source, storage, progress=progress)

    # Manifests and tags

    def manifest(self, name: str, reference: str) -> bytes:
        """The manifest that a tag or digest names.

        Raises:
            BlobNotFoundError: There is none.
            DigestMismatchError: Its bytes are not those of the digest asked for, or told.
        """
        return read_manifest(self._origin, name, reference).raw

    def push_manifest(self, name: str, reference: str, raw: bytes) -> str:
        """Push a manifest whose blobs are there, by tag or digest; its digest."""
        request(
            self._origin,
            "PUT",
            manifest_path(name, reference),
            expect=(201,),
            headers={"Content-Type": MANIFEST_TYPE},
            content=raw,
        )
        return digest_of(raw)

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none when there is no such repository."""
        return read_tags(self._origin, name)

    def digest(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on; None when there is no such tag."""
        path = manifest_path(name, tag)
        answer = request(
            self._origin, "HEAD", path, expect=(200, 404), headers={"Accept": MANIFEST_TYPE}
        )
        if answer.status == 404:
            return None
        told = answer.headers.get("Docker-Content-Digest", "")
        return told if is_digest(told) else read_manifest(self._origin, name, tag).digest

    def repositories(self) -> tuple[str, ...] | None:
        """The repositories of the registry, sorted; None where it does not tell."""
        return read_repositories(self._origin)

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        answer = request(self._origin, "DELETE", manifest_path(name, tag), expect=(200, 202, 404))
        return answer.status != 404


def _report(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)
