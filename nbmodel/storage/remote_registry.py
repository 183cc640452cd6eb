"""What every place that versions are pushed to and pulled from can do, and opening one.

A registry or runtime that speaks the distribution API, and an object store, are the same to
who pushes and pulls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nbmodel.core.address import is_store
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress

if TYPE_CHECKING:
    from typing_extensions import Self

    from nbmodel.storage.access import Access
    from nbmodel.storage.object_store_garbage import Garbage
    from nbmodel.storage.send import Pushed


class RemoteRegistry(Protocol):
    """Repositories of manifests under tags, and of the blobs that these need.

    Every method raises TargetUnreachableError when the other side does not answer,
    AuthenticationError when it refuses what it is shown, and StorageError for anything else
    that it refuses, each with its address. May be used by one thread at a time.
    """

    @property
    def host(self) -> str:
        """What the place is called in messages."""

    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, *_: object) -> None:
        """Close the connections."""

    def check(self) -> None:
        """Ask whether it is there and takes what it is shown."""

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
            tags: Tags to put on it, in that order: a reader that follows a movable tag finds
                the version's own ones set when they come first. Without any it is there by
                digest.
            progress: Called with the bytes just sent, or found to be there; with less than
                nothing when they have to be sent again.
        """

    def pull(
        self,
        name: str,
        reference: str,
        storage: Storage,
        *,
        progress: Progress | None = None,
    ) -> str:
        """Pull a version's blobs and manifest into a storage; the manifest's digest.

        Args:
            name: The repository.
            reference: A tag or digest.
            storage: What they are added to; blobs it has are not fetched.
            progress: Called with the bytes just received, or found to be there; with less than
                nothing when they are thrown away.
        """

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the repository has a blob."""

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

        Args:
            name: The repository.
            storage: Where the blob is.
            digest: Which one.
            table: Digest of its chunk table, which the repository has: only what the other
                side lacks is sent, where it can say so. None to send all of it.
            progress: As for ``push``.

        Raises:
            BlobNotFoundError: The storage has no such blob.
            DigestMismatchError: Its bytes are not what the digest says.
            CancelledError: Nobody wants to go on.
        """

    def pull_blobs(
        self,
        name: str,
        storage: Storage,
        blobs: Mapping[str, int],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Fetch blobs into a storage; those that it has are not fetched.

        Args:
            name: The repository.
            storage: What they are added to.
            blobs: Their digests, and how many bytes each must have.
            progress: As for ``pull``.

        Returns:
            Bytes that came over the network.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            DigestMismatchError: What came is something else; it was not added.
        """

    def pull_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a blob into a storage; one that it has is replaced when all of it came.

        Args:
            name: The repository.
            storage: What it is added to.
            digest: What the bytes must have.
            size: What their number must be.
            progress: As for ``pull``.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            DigestMismatchError: What came is something else; nothing was added.
            CancelledError: Nobody wants to go on.
        """

    def manifest(self, name: str, reference: str) -> bytes:
        """The manifest that a tag or digest names, checked against its digest.

        Raises:
            BlobNotFoundError: There is none.
            DigestMismatchError: Its bytes are not those of the digest.
        """

    def push_manifest(self, name: str, reference: str, raw: bytes) -> str:
        """Push a manifest whose blobs are there, by tag or digest; its digest."""

    def move_tag(self, name: str, tag: str, raw: bytes, *, expected: str | None) -> bool:
        """Put a tag on a manifest whose blobs are there, unless somebody else moved it.

        Where the other side can compare and set in one step nobody comes between; else it is
        looked at just before.

        Args:
            name: The repository.
            tag: The tag.
            raw: The manifest.
            expected: Digest of the manifest that the tag is on; None: there is no such tag.

        Returns:
            Whether it is there now; False: it was not where it was expected.
        """

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none when there is no such repository."""

    def digest(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on; None when there is no such tag."""

    def repositories(self) -> tuple[str, ...] | None:
        """The repositories, sorted; None where the place does not tell."""

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""


@runtime_checkable
class CarriesSignatures(Protocol):
    """A place that keeps what refers to a version beside it."""

    def push_signatures(
        self, name: str, storage: Storage, subject: str, digests: Collection[str]
    ) -> int:
        """Push the signatures of a version that are not there; how many that were.

        Args:
            name: The repository; it need not have the version yet.
            storage: Where the signatures are.
            subject: Digest of the version's manifest.
            digests: Of the signatures' manifests.

        Raises:
            BlobNotFoundError: The storage lacks one.
            ManifestError: One is no signature of that version.
        """

    def pull_signatures(
        self, name: str, subject: str, storage: Storage, *, known: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Pull the signatures of a version; digests of the manifests of those that came.

        Args:
            name: The repository.
            subject: Digest of the version's manifest.
            storage: What they are added to.
            known: Digests of the manifests of those that are here.
        """


@runtime_checkable
class CollectsGarbage(Protocol):
    """A place whose clients delete what nobody needs there; a registry does that itself."""

    def collect(self, *, grace_s: float, dry_run: bool = False) -> Garbage:
        """Delete what no manifest refers to.

        Args:
            grace_s: What was written in the last ``grace_s`` seconds stays; 0 or more.
            dry_run: Only count.

        Raises:
            InputError: ``grace_s`` is negative.
            InUseError: Somebody pushes there.
            ManifestError, DigestMismatchError: What a tag leads to cannot be read, so that
                nobody knows what it needs.
        """


def open_registry(
    address: str,
    *,
    access: Access | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    sessions: Path | None = None,
) -> RemoteRegistry:
    """What holds repositories at an address.

    Args:
        address: ``http[s]://host[:port]`` of a registry or runtime, or an object store as
            ``open_store`` takes it, which has its credentials from the environment.
        access: With what registries are entered; None for a runtime.
        cancelled: Asked while bytes move: once it says yes, what a registry is asked for
            raises CancelledError.
        sessions: Folder of uploads to registries that are not over; None: each begins anew.

    Raises:
        InputError: It is no such address.
        ConfigError: Settings in the environment cannot be used.
        PluginError: An object store's extra is not installed.
    """
    if is_store(address):
        from nbmodel.storage.object_store import open_store
        from nbmodel.storage.object_store_registry import ObjectStoreRegistry

        return ObjectStoreRegistry(open_store(address), cancelled=cancelled)
    from nbmodel.storage.distribution_client import Distribution

    return Distribution(address, access=access, cancelled=cancelled, sessions=sessions)
