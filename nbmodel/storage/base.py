"""What every storage of bytes by digest does; where the bytes are is the subclass's.

Public methods are final and fail alike for every storage; the hooks below them begin with
an underscore, raise ``KeyError`` for a blob that is not there, and may let ``OSError``
through.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, final

from nbmodel.core.digest import check_digest, digest_of
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InputError,
    StorageError,
    StorageUnavailableError,
)
from nbmodel.storage.copying import Progress, Readable, pump

if TYPE_CHECKING:
    from hashlib import _Hash
    from io import FileIO

    from typing_extensions import Self

_UPLOAD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DAMAGED = "`nbmodel verify` tells of which version, and what brings it back"


class BlobWriter(ABC):
    """A blob on its way in: write, then commit under its digest, or abort.

    As a context manager it ends what was not committed: an upload without a name is
    aborted, one with a name is kept so that ``receive`` of that name resumes it. Not
    thread-safe.
    """

    def __init__(self, offset: int, *, named: bool) -> None:
        self._offset = offset
        self._named = named
        # A resumed upload was hashed by whoever began it; it is read again at the end.
        self._hash: _Hash | None = hashlib.sha256() if offset == 0 else None
        self._open = True

    @property
    def offset(self) -> int:
        """How many bytes are there, those of earlier sessions included."""
        return self._offset

    @final
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            StorageUnavailableError: The storage does not take them.
        """
        with translated("write to the storage"):
            self._append(memoryview(data))
        self._offset += len(data)
        if self._hash is not None:
            self._hash.update(data)

    @final
    def fill(
        self,
        source: Readable,
        *,
        progress: Progress | None = None,
        beside: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Append all of ``source``, hashing beside copying.

        Args:
            source: What to append.
            progress: Told of the bytes just appended.
            beside: Takes the same bytes in order, in a thread of its own.

        Raises:
            StorageUnavailableError: The storage does not take them, or ``source``
                cannot be read.
        """
        known, self._hash = self._hash, None  # only a state that saw every byte is the blob's
        with translated("copy into the storage"):
            state = pump(
                source, self._append_counted, progress=progress, beside=beside, state=known
            )
        self._hash = None if known is None else state

    @final
    def read_back(self) -> BinaryIO:
        """The bytes so far as a file to read and seek in; the caller closes it.

        For what is no blob itself but says how to make one.

        Raises:
            StorageUnavailableError: They cannot be read.
        """
        with translated("read an upload"):
            return self._reopen()

    @property
    def digest(self) -> str:
        """Digest of all bytes so far.

        Raises:
            StorageUnavailableError: Bytes of an earlier session cannot be read.
        """
        if self._hash is None:
            with translated("read an upload"):
                self._hash = self._rehash()
        return f"sha256:{self._hash.hexdigest()}"

    @final
    def commit(self, expected: str) -> int:
        """Make the bytes a blob; durable when this returns.

        Args:
            expected: The digest that they must have.

        Returns:
            The blob's size in bytes.

        Raises:
            DigestMismatchError: They have another digest; the upload is gone.
            StorageUnavailableError: The storage cannot keep them; the upload is gone.
            StorageError: The upload has ended already.
        """
        check_digest(expected, "an upload")
        if not self._open:
            raise StorageError("the upload has ended, expected one that is under way")
        actual = self.digest
        if actual != expected:
            self.abort()
            raise DigestMismatchError("upload", expected=expected, actual=actual)
        try:
            with translated("keep a blob"):
                self._finish(expected)
        except BaseException:
            self.abort()
            raise
        self._open = False
        return self._offset

    @final
    def abort(self) -> None:
        """Forget the upload and free its bytes; nothing to do when it has ended."""
        if self._open:
            self._open = False
            with translated("abort an upload"):
                self._drop()

    @final
    def close(self) -> None:
        """Keep a named upload for later, abort any other."""
        if self._open and self._named:
            self._open = False
            with translated("close an upload"):
                self._suspend()
        else:
            self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append_counted(self, data: memoryview) -> None:
        self._append(data)
        self._offset += len(data)

    @abstractmethod
    def _append(self, data: memoryview) -> None: ...

    @abstractmethod
    def _reopen(self) -> BinaryIO: ...

    @abstractmethod
    def _rehash(self) -> _Hash: ...

    @abstractmethod
    def _finish(self, digest: str) -> None: ...

    @abstractmethod
    def _drop(self) -> None: ...

    @abstractmethod
    def _suspend(self) -> None: ...


class Storage(ABC):
    """Bytes by digest. Methods may be called from several threads and processes.

    Every method that takes a digest raises ManifestError for a malformed one.
    """

    @final
    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        with translated("look for a blob"):
            return self._find(check_digest(digest, "a blob")) is not None

    @final
    def keep(self, digest: str) -> bool:
        """Whether the blob is there; if so it counts as just written.

        What reuses a blob calls this, so that a collector with a grace period leaves it.
        """
        with translated("reuse a blob"):
            return self._touch(check_digest(digest, "a blob"))

    @final
    def size(self, digest: str) -> int:
        """Length of the blob in bytes.

        Raises:
            BlobNotFoundError: There is no such blob.
        """
        with translated("look for a blob"):
            size = self._find(check_digest(digest, "a blob"))
        if size is None:
            raise _not_found(digest)
        return size

    @final
    def read(self, digest: str, *, limit: int) -> bytes:
        """All bytes of a small blob, checked against its digest.

        Args:
            digest: Which blob.
            limit: The most bytes to read into memory.

        Raises:
            BlobNotFoundError: There is no such blob.
            DigestMismatchError: The stored bytes are not what the digest says.
            StorageError: It is larger than ``limit``.
        """
        with self.open(digest) as file, translated("read a blob"):
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StorageError(f"blob {digest} is larger than {limit} bytes")
        actual = digest_of(data)
        if actual != digest:
            raise DigestMismatchError(
                "stored blob is damaged", expected=digest, actual=actual, hint=_DAMAGED
            )
        return data

    @final
    def open(self, digest: str) -> BinaryIO:
        """The blob as a file to read and seek in; the caller closes it.

        Nothing checks these bytes: it is for passing them on to a receiver that does.
        ``read``, ``check`` and ``BlobWriter.commit`` are the ones that check.

        Raises:
            BlobNotFoundError: There is no such blob.
        """
        check_digest(digest, "a blob")
        with translated("open a blob"), _found(digest):
            return self._open(digest)

    @final
    def path(self, digest: str) -> Path:
        """A local file that holds the blob; not to be changed, not checked.

        Raises:
            BlobNotFoundError: There is no such blob.
        """
        check_digest(digest, "a blob")
        with translated("find a blob"), _found(digest):
            return self._path(digest)

    @final
    def check(self, digest: str, *, progress: Progress | None = None) -> None:
        """Read the whole blob and compare its digest.

        Raises:
            BlobNotFoundError: There is no such blob.
            DigestMismatchError: The stored bytes are not what the digest says.
        """
        with self.open(digest) as file, translated("read a blob"):
            actual = f"sha256:{pump(file, progress=progress).hexdigest()}"  # type: ignore[arg-type] # files can readinto
        if actual != digest:
            raise DigestMismatchError(
                "stored blob is damaged", expected=digest, actual=actual, hint=_DAMAGED
            )

    @final
    def add_bytes(self, data: bytes) -> str:
        """Store bytes and give their digest; bytes that are there already are kept.

        Raises:
            StorageUnavailableError: The storage does not take them.
        """
        digest = digest_of(data)
        if self.keep(digest) and self._holds(digest, data):
            return digest
        with self.receive() as writer:
            writer.write(data)
            writer.commit(digest)
        return digest

    @final
    def add_file(
        self,
        path: Path,
        *,
        progress: Progress | None = None,
        beside: Callable[[memoryview], object] | None = None,
    ) -> tuple[str, int]:
        """Copy a file in, hashing it in the same pass.

        Args:
            path: The file.
            progress: Told of the bytes just copied.
            beside: Takes the same bytes in order, in a thread of its own.

        Returns:
            Digest and size in bytes.

        Raises:
            InputError: ``path`` is no regular file, cannot be read, or changed meanwhile.
            StorageUnavailableError: The storage does not take the bytes.
        """
        with open_source(path) as source, self.receive() as writer:
            before = os.fstat(source.fileno())

            def watch(count: int) -> None:
                if writer.offset > before.st_size:  # else a growing file would never end
                    raise _changed(path)
                if progress is not None:
                    progress(count)

            writer.fill(source, progress=watch, beside=beside)
            after = os.fstat(source.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise _changed(path)
            digest = writer.digest
            return digest, writer.commit(digest)

    @final
    def receive(self, *, name: str | None = None) -> BlobWriter:
        """Begin an upload, or resume the one of that name.

        Args:
            name: Lets a later ``receive`` of this name go on at ``offset``; an upload
                without a name ends with its writer.

        Raises:
            StorageError: Somebody else is writing to the upload of that name.
            StorageUnavailableError: The storage takes nothing.
        """
        if name is not None and _UPLOAD_NAME.fullmatch(name) is None:
            raise StorageError(f"not a name for an upload: {name!r}")
        with translated("begin an upload"):
            return self._receive(name)

    @final
    def delete(self, digest: str) -> int:
        """Remove a blob; how many bytes are free that were not.

        That may be fewer than it had, or none: what was kept as its difference to this one
        is made whole before.

        Raises:
            BlobNotFoundError: There is no such blob.
            StorageError: A damaged blob is kept as its difference to this one, which stays.
        """
        check_digest(digest, "a blob")
        with translated("delete a blob"), _found(digest):
            return self._delete(digest)

    @final
    def digests(self) -> Iterator[tuple[str, int, float]]:
        """Every blob: digest, bytes that it takes, and when it was last written or kept.

        A blob that is kept as its difference to others takes less than its size, and comes
        before those. The time is seconds since the epoch. Blobs added or removed meanwhile may or may
        not be among them.
        """
        with translated("list blobs"):
            yield from self._digests()

    @final
    def abandoned(self, before: float) -> Iterator[tuple[str, int]]:
        """Uploads that nobody is writing to: name and size in bytes.

        Args:
            before: Only those last written earlier; seconds since the epoch.
        """
        with translated("list uploads"):
            yield from self._abandoned(before)

    @final
    def begun(self, name: str) -> int:
        """How many bytes an upload has, whoever writes to it; 0 when there is none."""
        if _UPLOAD_NAME.fullmatch(name) is None:
            return 0
        with translated("look at an upload"):
            return self._begun(name)

    @final
    def discard(self, name: str) -> bool:
        """Remove an abandoned upload; False when it is gone or being written to."""
        with translated("discard an upload"):
            return self._discard(name)

    def _holds(self, digest: str, data: bytes) -> bool:
        """Whether the blob has these bytes: adding again mends one that was damaged."""
        try:
            with self.open(digest) as file:
                return file.read(len(data) + 1) == data
        except (StorageError, OSError):
            return False

    @abstractmethod
    def _find(self, digest: str) -> int | None:
        """Size of the blob, None when it is not there."""

    @abstractmethod
    def _touch(self, digest: str) -> bool:
        """Make the blob count as just written; False when it is not there."""

    @abstractmethod
    def _open(self, digest: str) -> BinaryIO: ...

    @abstractmethod
    def _path(self, digest: str) -> Path: ...

    @abstractmethod
    def _receive(self, name: str | None) -> BlobWriter: ...

    @abstractmethod
    def _delete(self, digest: str) -> int:
        """Bytes that are free now and were not."""

    @abstractmethod
    def _digests(self) -> Iterator[tuple[str, int, float]]: ...

    @abstractmethod
    def _abandoned(self, before: float) -> Iterator[tuple[str, int]]: ...

    @abstractmethod
    def _begun(self, name: str) -> int: ...

    @abstractmethod
    def _discard(self, name: str) -> bool: ...


def open_source(path: Path) -> FileIO:
    """Open a file that a caller named, for reading without a buffer.

    Raises:
        InputError: It is missing, no regular file, or must not be read.
    """
    try:
        # Not following into a FIFO, whose open would wait for a writer for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"{path} is {kind}, expected a file")
        return path.open("rb", buffering=0)
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror or exc}") from exc


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an ``OSError`` inside into a StorageUnavailableError that says what failed."""
    try:
        yield
    except OSError as exc:
        where = f" ({exc.filename})" if exc.filename is not None else ""
        raise StorageUnavailableError(
            f"cannot {what}: {exc.strerror or exc}{where}",
            hint="check free space and permissions of the folder",
        ) from exc


@contextmanager
def _found(digest: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, FileNotFoundError) as exc:
        raise _not_found(digest) from exc


def _changed(path: Path) -> InputError:
    return InputError(f"{path} changed while it was read", hint="try again when it is complete")


def _not_found(digest: str) -> BlobNotFoundError:
    return BlobNotFoundError(f"no blob {digest} in the storage")
