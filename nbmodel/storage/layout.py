"""An OCI image layout on disk.

::

    <root>/oci-layout              {"imageLayoutVersion": "1.0.0"}
    <root>/index.json              which manifests there are, for other OCI tools
    <root>/blobs/sha256/<hex>      the blobs, read-only
    <root>/uploads/<name>          blobs on their way in

Nothing is made before the first write. A blob is written to ``uploads``, synchronised,
and renamed: it is there as a whole or not at all.

Source: OCI image specification 1.1, "OCI Image Layout Specification".
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.digest import is_digest
from nbmodel.errors import StorageError
from nbmodel.storage.atomic import make_folder, sync_folder, write_atomically, write_once
from nbmodel.storage.base import BlobWriter, Storage
from nbmodel.storage.copying import pump

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from hashlib import _Hash
    from io import FileIO

INDEX = "index.json"
_ATTEMPTS, _PAUSE_S = 10, 0.005  # to get an upload's file for ourselves
_SYNC_EVERY = 64 * 1024 * 1024  # bytes; write-back of a large blob starts while it comes in


def _index(manifests: str) -> bytes:
    return f'{{"schemaVersion":2,"mediaType":"{INDEX_TYPE}","manifests":{manifests}}}'.encode()


class OciLayout(Storage):
    """Blobs in a folder of the local file system.

    Args:
        root: The folder; made, with its parents, by the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._uploads = root / "uploads"

    def write_index(self, manifests: str) -> None:
        """Replace the list of manifests in ``index.json``.

        Args:
            manifests: The descriptors, as the text of a JSON list.

        Raises:
            OSError: The disk does not take it; the former list is still there.
        """
        write_atomically(self.root / INDEX, _index(manifests))

    def listed(self) -> list[Any] | None:
        """The descriptors in ``index.json``, as they lie there; None where there is no list."""
        try:
            found = json.loads((self.root / INDEX).read_bytes())["manifests"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if isinstance(found, list) else None

    def _file(self, digest: str) -> Path:
        return self._blobs / digest.partition(":")[2]

    def _find(self, digest: str) -> int | None:
        try:
            return self._file(digest).stat().st_size
        except FileNotFoundError:
            return None

    def _touch(self, digest: str) -> bool:
        path = self._file(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        except PermissionError:
            # Another user's blob in a shared folder, or a folder that nobody may write to.
            return path.exists()
        return True

    def _open(self, digest: str) -> BinaryIO:
        return self._file(digest).open("rb")

    def _path(self, digest: str) -> Path:
        path = self._file(digest)
        path.stat()  # FileNotFoundError is the answer for a blob that is not there
        return path

    def _delete(self, digest: str) -> None:
        path = self._file(digest)
        if os.name == "nt":
            path.chmod(0o600)  # Windows deletes no read-only file
        path.unlink()

    def _digests(self) -> Iterator[tuple[str, int, float]]:
        for entry in _entries(self._blobs):
            digest = f"sha256:{entry.name}"
            if is_digest(digest):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted meanwhile
                yield digest, status.st_size, status.st_mtime

    def _receive(self, name: str | None) -> BlobWriter:
        for _ in range(_ATTEMPTS):
            try:
                file = (self._uploads / (name or secrets.token_hex(16))).open(
                    "xb+" if name is None else "ab+", buffering=0
                )
            except FileNotFoundError:
                self._make()
                continue
            if not _lock(file):
                file.close()
                time.sleep(_PAUSE_S)  # a collector looks at it, or somebody writes to it
            elif not _is_at_its_path(file):
                file.close()  # collected between open and lock
            else:
                return _LayoutWriter(self, file, named=name is not None)
        raise StorageError(f"upload {name!r} is being written to by somebody else")

    def _abandoned(self, before: float) -> Iterator[tuple[str, int]]:
        for entry in _entries(self._uploads):
            try:
                status = entry.stat(follow_symlinks=False)
                if status.st_mtime > before:
                    continue
                with Path(entry.path).open("rb") as file:
                    free = _lock(file)
            except FileNotFoundError:
                continue  # committed or aborted meanwhile
            if free:
                yield entry.name, status.st_size

    def _begun(self, name: str) -> int:
        try:
            return (self._uploads / name).stat().st_size
        except FileNotFoundError:
            return 0

    def _discard(self, name: str) -> bool:
        path = self._uploads / name
        try:
            with path.open("rb") as file:
                if not _lock(file) or not _is_at_its_path(file):
                    return False
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _make(self) -> None:
        make_folder(self._blobs)
        write_once(self.root / "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        # Only where there is none: another process may have listed versions meanwhile.
        write_once(self.root / INDEX, _index("[]"))
        # Last: who finds this folder, in another thread or process, finds all the others.
        make_folder(self._uploads)

    def _keep(self, upload: Path, digest: str) -> None:
        """Make a complete, synchronised upload the blob of that digest."""
        upload.replace(self._file(digest))
        sync_folder(self._blobs)


class _LayoutWriter(BlobWriter):
    """A file in ``uploads``, locked as long as this is open."""

    def __init__(self, layout: OciLayout, file: FileIO, *, named: bool) -> None:
        super().__init__(file.seek(0, os.SEEK_END), named=named)
        self._layout = layout
        self._file = file
        self._path = Path(os.fsdecode(file.name))
        self._unsynced = 0
        self._sync: threading.Thread | None = None
        self._sync_error: OSError | None = None

    def _append(self, data: memoryview) -> None:
        self._unsynced += len(data)
        while data:
            data = data[self._file.write(data) :]
        if self._unsynced >= _SYNC_EVERY:
            self._unsynced = 0
            self._join_sync()
            self._sync = threading.Thread(target=self._write_back, name="nbmodel-sync", daemon=True)
            self._sync.start()

    def _write_back(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as exc:
            # The kernel tells of a lost write once; the last fsync would not hear of it.
            self._sync_error = exc

    def _join_sync(self) -> None:
        if self._sync is not None:
            self._sync.join()
            self._sync = None
        if self._sync_error is not None:
            raise self._sync_error

    def _reopen(self) -> BinaryIO:
        return self._path.open("rb")

    def _rehash(self) -> _Hash:
        self._file.seek(0)
        state = pump(self._file)
        self._file.seek(0, os.SEEK_END)
        return state

    def _finish(self, digest: str) -> None:
        self._join_sync()
        if os.name != "nt":
            os.fchmod(self._file.fileno(), 0o444)
        # An upload that was resumed and waited may be old; a blob counts from its commit.
        now = time.time()
        os.utime(self._path, (now, now))
        os.fsync(self._file.fileno())
        if os.name == "nt":
            self._file.close()  # Windows renames no open file
        self._layout._keep(self._path, digest)  # noqa: SLF001 - the two halves of one thing
        self._file.close()

    def _drop(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        finally:
            self._suspend()

    def _suspend(self) -> None:
        if self._sync is not None:
            self._sync.join()
        self._file.close()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _lock(file: FileIO | BinaryIO) -> bool:
    """Take the file for ourselves until it is closed or we die; False when it is taken."""
    if sys.platform == "win32":
        return True  # there an open file can be neither removed nor replaced
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks on this file system: the grace period has to do
    return True


def _is_at_its_path(file: FileIO | BinaryIO) -> bool:
    mine = os.fstat(file.fileno())
    try:
        there = os.stat(file.name)  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
