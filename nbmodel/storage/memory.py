"""A storage in memory: for tests, of nbmodel and of whoever builds on it."""

from __future__ import annotations

import hashlib
import io
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nbmodel.errors import StorageError
from nbmodel.storage.base import BlobWriter, Storage

if TYPE_CHECKING:
    from hashlib import _Hash


class MemoryStorage(Storage):
    """Blobs in a dictionary, gone with the object."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._times: dict[str, float] = {}
        self._uploads: dict[str, tuple[bytearray, float]] = {}
        self._writing: set[str] = set()
        self._folder: Path | None = None

    def _find(self, digest: str) -> int | None:
        return len(self._blobs[digest]) if digest in self._blobs else None

    def _touch(self, digest: str) -> bool:
        if digest not in self._blobs:
            return False
        self._times[digest] = time.time()
        return True

    def _open(self, digest: str) -> BinaryIO:
        return io.BytesIO(self._blobs[digest])

    def _path(self, digest: str) -> Path:
        data = self._blobs[digest]
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="nbmodel-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / digest.partition(":")[2]
        if not path.exists():
            path.write_bytes(data)
            path.chmod(0o444)
        return path

    def _receive(self, name: str | None) -> BlobWriter:
        if name in self._writing:
            raise StorageError(f"upload {name!r} is being written to by somebody else")
        return _MemoryWriter(self, name or secrets.token_hex(16), named=name is not None)

    def _delete(self, digest: str) -> int:
        del self._times[digest]
        return len(self._blobs.pop(digest))

    def _digests(self) -> Iterator[tuple[str, int, float]]:
        for digest, data in list(self._blobs.items()):
            yield digest, len(data), self._times[digest]

    def _abandoned(self, before: float) -> Iterator[tuple[str, int]]:
        for name, (data, at) in list(self._uploads.items()):
            if name not in self._writing and at <= before:
                yield name, len(data)

    def _begun(self, name: str) -> int:
        return len(self._uploads.get(name, (b"", 0.0))[0])

    def _discard(self, name: str) -> bool:
        return name not in self._writing and self._uploads.pop(name, None) is not None


class _MemoryWriter(BlobWriter):
    def __init__(self, storage: MemoryStorage, name: str, *, named: bool) -> None:
        self._storage = storage
        self._name = name
        self._data, _ = storage._uploads.get(name, (bytearray(), 0.0))  # noqa: SLF001 - one thing
        storage._writing.add(name)  # noqa: SLF001
        super().__init__(len(self._data), named=named)

    def _append(self, data: memoryview) -> None:
        self._data += data
        self._storage._uploads[self._name] = (self._data, time.time())  # noqa: SLF001

    def _reopen(self) -> BinaryIO:
        return io.BytesIO(self._data)

    def _rehash(self) -> _Hash:
        return hashlib.sha256(self._data)

    def _finish(self, digest: str) -> None:
        self._storage._blobs[digest] = bytes(self._data)  # noqa: SLF001
        self._storage._times[digest] = time.time()  # noqa: SLF001
        self._drop()

    def _drop(self) -> None:
        self._storage._uploads.pop(self._name, None)  # noqa: SLF001
        self._suspend()

    def _suspend(self) -> None:
        self._storage._writing.discard(self._name)  # noqa: SLF001
