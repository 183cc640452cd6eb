"""An OCI image layout on disk.

::

    <root>/oci-layout              {"imageLayoutVersion": "1.0.0"}
    <root>/index.json              which manifests there are, for other OCI tools
    <root>/blobs/sha256/<hex>      the blobs, read-only
    <root>/packed/<hex>            blobs that are kept as what differs from others
    <root>/uploads/<name>          blobs on their way in

Nothing is made before the first write. A blob is written to ``uploads``, synchronised,
and renamed: it is there as a whole or not at all.

A packed blob is read like any other, and made whole again where somebody needs a file of it.
It is packed in this order, so that it can be read at every moment: the packed one is written,
read back, and renamed, and only then is the whole one deleted. Where both are there, after a
power cut or because somebody stored it anew, the whole one counts. What others are put together
from is deleted after they were made whole. Packing and deleting hold a lock of ``uploads``, so
that nothing is deleted that is just being packed upon; reading needs none.

Source: OCI image specification 1.1, "OCI Image Layout Specification" (whose folder of blobs may
lack some that are kept elsewhere).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.chunks import CHUNKED_FROM, ChunkTable, Have, segments
from nbmodel.core.digest import check_digest, is_digest
from nbmodel.core.packed import Packed
from nbmodel.errors import DigestMismatchError, StorageError
from nbmodel.storage.atomic import make_folder, sync_folder, write_atomically, write_once
from nbmodel.storage.base import BlobWriter, Storage, translated
from nbmodel.storage.copying import pump
from nbmodel.storage.packs import Packs, files_open, heights, open_packed

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from hashlib import _Hash
    from io import FileIO

INDEX = "index.json"
_ATTEMPTS, _PAUSE_S = 10, 0.005  # to get an upload's file for ourselves
_SYNC_EVERY = 64 * 1024 * 1024  # bytes; write-back of a large blob starts while it comes in
_PIECE = 1024 * 1024  # bytes of one copy
_WORTH = 0.5  # of a blob's size: what it may take at most when it is packed
_MAX_HEIGHT = 16  # packed blobs that need one another to be read
_MAX_OPEN = 64  # files of one blob that is read; a process often may have 1,024, macOS's 256


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
        self._packs = Packs(root / "packed")

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

    def is_whole(self, digest: str) -> bool:
        """Whether a blob lies here as a file, not as what differs from others."""
        return self._file(check_digest(digest, "a blob")).exists()

    def pack(self, digest: str, table: ChunkTable, have: Have) -> int:
        """Keep a blob as what differs from others, where that takes half of it or less.

        A blob stays whole that is damaged, has hard links, or on which packed ones rest that
        are many already; and all do where the file system has no locks, as on Windows.

        Args:
            digest: Of the blob.
            table: Its chunks; whatever it says, only what gives the blob again is kept.
            have: Where chunks of other blobs are. Those that are packed are not used.

        Returns:
            Bytes that are free now.

        Raises:
            StorageUnavailableError: The disk does not take it; the blob is as it was.
        """
        check_digest(digest, "a blob")
        if sys.platform == "win32":
            return 0
        with translated("pack a blob"):
            blobs = {blob for blob, _ in have.values()} - {digest}
            usable = {blob for blob in blobs if _size(self._file(blob)) >= CHUNKED_FROM}
            there = {chunk: place for chunk, place in have.items() if place[0] in usable}
            packed = Packed.of(segments(table, there))
            try:
                status = self._file(digest).stat()
                small = packed.packed_size <= status.st_size * _WORTH
                if not small or packed.size != status.st_size or status.st_nlink != 1:
                    return 0
                done = self._pack(digest, packed)
            except FileNotFoundError:
                return 0  # it is not there, or somebody else packed or deleted it meanwhile
            return status.st_size - packed.packed_size if done else 0

    def release(self, gone: Collection[str]) -> int:
        """Make whole what is kept as its difference to blobs that are to be deleted.

        ``delete`` does that too, and takes as long: who holds a lock then does it before. What
        the disk does not take, or is damaged, is left to it.

        Args:
            gone: Their digests; those of them that are packed themselves stay so.

        Returns:
            Bytes that are taken now and were not.
        """
        grown = 0
        for one, bases in self._packs.needs().items():
            base = next((base for base in bases if base in gone), None)
            if one not in gone and base is not None:
                with suppress(StorageError), translated("make a blob whole"), self._alone():
                    if self._packs.file(one).exists():
                        grown += self._free(one, base)
        return grown

    def _pack(self, digest: str, packed: Packed) -> bool:
        """Write, read back, and put in place; whether it was."""
        upload = self._uploads / f"pack-{secrets.token_hex(16)}"
        with upload.open("xb+", buffering=0) as file:
            try:
                if not _lock(file):
                    return False
                _copy_given(packed, self._file(digest), file)
                if not self._gives(upload, digest):
                    return False
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
                make_folder(self._packs.root)
                with self._alone() as alone:
                    if not alone or not self._may_rest(digest, packed.bases):
                        return False
                    upload.replace(self._packs.file(digest))
                    sync_folder(self._packs.root)
                    self._file(digest).unlink(missing_ok=True)
                    return True
            finally:
                upload.unlink(missing_ok=True)

    def _may_rest(self, digest: str, bases: tuple[str, ...]) -> bool:
        """Whether it and all those are still whole, and what needs it can be read with them."""
        if not all(self._file(one).exists() for one in (digest, *bases)):
            return False
        needs = self._packs.needs()
        if heights(needs).get(digest, 0) >= _MAX_HEIGHT:
            return False
        return files_open(needs | {digest: bases}, digest) <= _MAX_OPEN

    def _gives(self, packed: Path, digest: str) -> bool:
        try:
            file = open_packed(packed.open("rb"), lambda base: self._file(base).open("rb"))
        except FileNotFoundError:
            return False  # what it rests on was deleted meanwhile
        with file:
            return f"sha256:{pump(file).hexdigest()}" == digest  # type: ignore[arg-type] # files can readinto

    def _unpack(self, digest: str) -> None:
        """Have a packed blob as a file of its own; only with ``_alone``."""
        if not self._file(digest).exists():
            with self._open_packed(digest, {}) as source, self.receive() as writer:
                while piece := source.read(_PIECE):
                    writer.write(piece)
                writer.commit(digest)
        with suppress(FileNotFoundError):
            _unlink(self._packs.file(digest))

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Be the only one who packs, unpacks or deletes; False where nothing can see to that."""
        if sys.platform == "win32":
            yield False
            return
        try:
            handle = os.open(self._uploads, os.O_RDONLY)
        except FileNotFoundError:
            yield False  # nothing was ever written here
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def _file(self, digest: str) -> Path:
        return self._blobs / digest.partition(":")[2]

    def _find(self, digest: str) -> int | None:
        for _ in range(_ATTEMPTS):
            try:
                return self._file(digest).stat().st_size
            except FileNotFoundError:
                pass
            try:
                return self._packs.packed(digest).size
            except FileNotFoundError:
                if not self._came_back(digest):
                    return None
        return None

    def _touch(self, digest: str) -> bool:
        for path in (self._file(digest), self._packs.file(digest), self._file(digest)):
            try:
                os.utime(path)
            except FileNotFoundError:
                continue  # or it was packed, or made whole, between two looks
            except PermissionError:
                # Another user's blob in a shared folder, or a folder that nobody may write to.
                return path.exists()
            return True
        return False

    def _open(self, digest: str) -> BinaryIO:
        for _ in range(_ATTEMPTS):
            try:
                return self._open_once(digest, {})
            except FileNotFoundError:
                if not self._came_back(digest):
                    raise
        raise FileNotFoundError(digest)

    def _open_once(self, digest: str, opened: dict[str, BinaryIO]) -> BinaryIO:
        """Open a blob, and what it is put together from; each once, however many need it."""
        if digest not in opened:
            try:
                opened[digest] = self._file(digest).open("rb")
            except FileNotFoundError:
                opened[digest] = self._open_packed(digest, opened)
        return opened[digest]

    def _open_packed(self, digest: str, opened: dict[str, BinaryIO]) -> BinaryIO:
        return self._packs.open(digest, lambda one: self._open_once(one, opened))

    def _came_back(self, digest: str) -> bool:
        """Whether a blob that was found neither packed nor whole is here all the same.

        It is made whole before what it is put together from is deleted, and may have been
        packed again since.
        """
        return self._file(digest).exists() or self._packs.file(digest).exists()

    def _path(self, digest: str) -> Path:
        path = self._file(digest)
        if not path.exists() and self._packs.file(digest).exists():
            with self._alone():
                self._unpack(digest)
        path.stat()  # FileNotFoundError is the answer for a blob that is not there
        return path

    def _delete(self, digest: str) -> int:
        path = self._file(digest)
        if 0 <= _size(path) < CHUNKED_FROM:
            return _unlink(path)  # nothing rests on it, nor is it packed
        grown = 0
        with self._alone():
            for one, bases in self._packs.needs().items():
                if digest in bases and one != digest:
                    grown += self._free(one, digest)
            packed = self._packs.file(digest)
            if packed.exists():
                return _unlink(packed) + (_unlink(path) if path.exists() else 0) - grown
            return _unlink(path) - grown

    def _free(self, digest: str, base: str) -> int:
        """Unpack a blob so that it needs no other; bytes that it takes more than before."""
        before = max(_size(self._packs.file(digest)), 0)
        known = max(_size(self._file(digest)), 0)
        try:
            self._unpack(digest)
        except (DigestMismatchError, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno not in (errno.EIO, errno.ENOENT):
                raise
            raise StorageError(
                f"blob {base} stays: {digest} is kept as what differs from it, and is damaged",
                hint="nbmodel verify tells which versions need it",
            ) from exc
        return max(_size(self._file(digest)), 0) - known - before

    def _digests(self) -> Iterator[tuple[str, int, float]]:
        packed = dict(self._packs.entries())
        height = heights(self._packs.needs())
        for digest in sorted(packed, key=lambda one: height.get(one, 0)):
            status = packed[digest]
            if not self._file(digest).exists():
                yield digest, status.st_size, status.st_mtime
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


def _size(path: Path) -> int:
    """Length of a file in bytes; -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _unlink(path: Path) -> int:
    """Remove a file; how many bytes it had."""
    size = path.stat().st_size
    if os.name == "nt":
        path.chmod(0o600)  # Windows deletes no read-only file
    path.unlink()
    return size


def _copy_given(packed: Packed, whole: Path, target: FileIO) -> None:
    """Write a packed blob: its head, and of the whole one what no other has."""
    _write_all(target, packed.head())
    with whole.open("rb") as source:
        for _, start, length in packed.given:
            source.seek(start)
            for at in range(0, length, _PIECE):
                _write_all(target, source.read(min(_PIECE, length - at)))


def _write_all(target: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


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
