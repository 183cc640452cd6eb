"""Repositories: under which names and tags the distribution API offers manifests.

The API itself is the same for a device, which keeps tags in files, and for a registry,
which keeps versions in an index; what differs is behind ``Repositories``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from nbmodel.core.artifact import Artifact
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import FormatError, StorageError
from nbmodel.storage.base import Storage
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.tags import TagStore


class Repositories(Protocol):
    """Manifests by repository and tag. Methods may be called from several threads.

    Every method that takes a name or tag raises RefError for a malformed one. The bytes of
    manifests and blobs are in the storage beside it.
    """

    def names(self) -> Sequence[str]:
        """Names of the repositories, sorted."""

    def tags(self, name: str) -> Mapping[str, str]:
        """Tag → manifest digest; empty for an unknown repository."""

    def get(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on, or None."""

    def has(self, name: str, digest: str) -> bool:
        """Whether a repository has a manifest, which may be without a tag."""

    def put(self, name: str, tag: str, digest: str) -> None:
        """Put a tag on a manifest, new or moved.

        Raises:
            RegistryError: The tag cannot be put there.
        """

    def untag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there.

        Raises:
            RegistryError: It stays.
        """

    def forget(self, name: str, digest: str) -> None:
        """Forget a manifest with all of its tags, in one repository.

        Raises:
            RegistryError: Something needs it.
        """

    def similar(self, name: str) -> Iterable[str]:
        """Digests of manifests whose files may have chunks in common with a repository's."""

    def referrers(self, name: str, subject: str) -> Sequence[str]:
        """Digests of the manifests that refer to one, sorted."""

    def refer(self, name: str, subject: str, digest: str) -> None:
        """Note that a manifest refers to another, which need not be there (yet)."""


class TaggedRepositories:
    """The repositories of a device: tags in files, and nothing else.

    Args:
        storage: Where the manifests are.
        tags: Where the tags are.
        referrers: Where it is noted what refers to them.
    """

    def __init__(self, storage: Storage, tags: TagStore, referrers: ReferrerStore) -> None:
        self._storage = storage
        self._tags = tags
        self._referrers = referrers

    def names(self) -> Sequence[str]:
        """Names of the repositories, sorted."""
        return self._tags.names()

    def tags(self, name: str) -> Mapping[str, str]:
        """Tag → manifest digest; empty for an unknown repository."""
        return self._tags.tags(name)

    def get(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on, or None."""
        return self._tags.get(name, tag)

    def has(self, name: str, digest: str) -> bool:
        """Whether the manifest is on the device: repositories share them."""
        del name
        return self._storage.has(digest)

    def put(self, name: str, tag: str, digest: str) -> None:
        """Put a tag on a manifest, new or moved."""
        self._tags.set(name, tag, digest)

    def untag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        return self._tags.delete(name, tag)

    def forget(self, name: str, digest: str) -> None:
        """Forget a manifest with all of its tags; its bytes go when no repository has it."""
        for tag, target in self._tags.tags(name).items():
            if target == digest:
                self._tags.delete(name, tag)
        # Repositories share blobs: another one may have the same manifest.
        if all(target != digest for _, _, target in self._tags.all()):
            forget_referrer(self._storage, self._referrers, digest)
            self._storage.delete(digest)

    def similar(self, name: str) -> Iterable[str]:  # noqa: ARG002 - a device has few of them
        """Digests of all manifests that have a tag."""
        return dict.fromkeys(digest for _, _, digest in self._tags.all())

    def referrers(self, name: str, subject: str) -> Sequence[str]:
        """Digests of the manifests that refer to one, sorted."""
        del name  # repositories share manifests
        return self._referrers.of(subject)

    def refer(self, name: str, subject: str, digest: str) -> None:
        """Note that a manifest refers to another, which need not be there (yet)."""
        del name
        self._referrers.add(subject, digest)


def forget_referrer(storage: Storage, referrers: ReferrerStore, digest: str) -> bool:
    """Forget that a manifest refers to another; whether it did.

    Args:
        storage: Where it is.
        referrers: Where that is noted.
        digest: Of the manifest that refers.
    """
    try:
        subject = Artifact.from_bytes(storage.read(digest, limit=MAX_MANIFEST)).subject
    except (FormatError, StorageError):
        return False  # gone or damaged: nobody can tell any more
    return subject is not None and referrers.remove(subject.digest, digest)
