"""Which manifests here refer to which: one empty file a referrer, named by both digests.

::

    <root>/<hex of the subject>/<hex of the referrer>

A folder rather than a table, because devices have it too, and because putting the same
file there twice changes nothing. The manifests and their blobs are in a storage, which
whoever collects there asks here first.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from nbmodel.core.artifact import Artifact
from nbmodel.core.digest import check_digest, is_digest
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.errors import FormatError, StorageError, StorageUnavailableError
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.base import Storage


class ReferrerStore:
    """What refers to the manifests of one storage. Methods may be called from any thread.

    Args:
        root: The folder; made when the first referrer is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, subject: str, digest: str) -> None:
        """Note that a manifest refers to another; durable when this returns.

        Args:
            subject: Digest of the manifest that is referred to; it need not be here.
            digest: Digest of the one that refers; it and its blobs are in the storage.

        Raises:
            ManifestError: Either is malformed.
            StorageUnavailableError: The disk does not take it.
        """
        file = self._folder(subject) / _hex(digest)
        if file.exists():
            return
        try:
            write_atomically(file, b"")
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot note the referrer {digest}: {exc.strerror}"
            ) from exc

    def of(self, subject: str) -> tuple[str, ...]:
        """Digests of what refers to a manifest, sorted; empty when nothing does.

        Raises:
            ManifestError: ``subject`` is malformed.
            StorageUnavailableError: The folder cannot be read.
        """
        return tuple(sorted(_digests(self._folder(subject))))

    def subjects(self) -> tuple[str, ...]:
        """Digests of the manifests that something refers to, sorted.

        Raises:
            StorageUnavailableError: The folder cannot be read.
        """
        return tuple(sorted(_digests(self.root)))

    def remove(self, subject: str, digest: str) -> bool:
        """Forget that one manifest refers to another; whether it did.

        Raises:
            ManifestError: Either is malformed.
            StorageUnavailableError: The disk does not let it go.
        """
        file = self._folder(subject) / _hex(digest)
        try:
            file.unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot forget the referrer {digest}: {exc.strerror}"
            ) from exc
        return True

    def forget(self, *, but: Collection[str], before: float) -> None:
        """Forget all referrers of manifests that are gone.

        Args:
            but: Digests of the manifests whose referrers stay.
            before: What was added later stays too, seconds since 1970: what it refers to may
                be on its way.

        Raises:
            StorageUnavailableError: The disk does not let it go.
        """
        for subject in self.subjects():
            if subject not in but and self._written(subject) <= before:
                self.remove_all(subject)

    def remove_all(self, subject: str) -> None:
        """Forget all that refers to one manifest.

        Raises:
            ManifestError: ``subject`` is malformed.
            StorageUnavailableError: The disk does not let it go.
        """
        try:
            shutil.rmtree(self._folder(subject))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot forget the referrers of {subject}: {exc.strerror}"
            ) from exc

    def needed(self, storage: Storage, subjects: Collection[str]) -> set[str]:
        """Digests of the referrers of manifests, and of their blobs: what a collector spares.

        Args:
            storage: Where they are; what is damaged or not there needs nothing.
            subjects: Digests of the manifests.

        Raises:
            StorageUnavailableError: The folder or the storage cannot be read.
        """
        needed: set[str] = set()
        for subject in self.subjects():
            if subject not in subjects:
                continue
            for digest in self.of(subject):
                needed.add(digest)
                try:
                    artifact = Artifact.from_bytes(storage.read(digest, limit=MAX_MANIFEST))
                except StorageUnavailableError:
                    raise
                except (FormatError, StorageError):
                    continue
                needed |= {artifact.config.digest, *(one.digest for one in artifact.layers)}
        return needed

    def _written(self, subject: str) -> float:
        """When something was added last, seconds since 1970; for ever when nothing is there."""
        try:
            return self._folder(subject).stat().st_mtime
        except OSError:
            return float("inf")

    def _folder(self, subject: str) -> Path:
        return self.root / _hex(subject)


def _hex(digest: str) -> str:
    return check_digest(digest, "a referrer").partition(":")[2]


def _digests(folder: Path) -> Iterator[str]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise StorageUnavailableError(f"cannot read {folder}: {exc.strerror}") from exc
    for name in names:
        if is_digest(f"sha256:{name}"):  # others are being written
            yield f"sha256:{name}"
