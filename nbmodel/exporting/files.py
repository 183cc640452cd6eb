"""Files of a version on their way out: read from the storage, and checked as they go."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nbmodel.core.manifest import FileEntry
from nbmodel.core.reference import Reference
from nbmodel.errors import DigestMismatchError, InputError
from nbmodel.exporting.base import Export
from nbmodel.storage.atomic import TEMPORARY, sync_folder
from nbmodel.storage.base import translated

_CHUNK = 1 << 20


class CheckedFile(io.RawIOBase):
    """A file of a version, which raises at its end when its bytes are not its digest's.

    Args:
        job: Told of the bytes.
        entry: Which file.
    """

    def __init__(self, job: Export, entry: FileEntry) -> None:
        super().__init__()
        self._job = job
        self._entry = entry
        self._state = hashlib.sha256()
        self._left = entry.size
        self._file = job.registry.storage.open(entry.digest)

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            DigestMismatchError: The file is at its end, and is another.
        """
        self._job.check()
        with translated(f"read {self._entry.path}"):
            piece = self._file.read(_CHUNK if size < 0 else min(size, _CHUNK))
        self._state.update(piece)
        self._left -= len(piece)
        if self._left <= 0 or not piece:
            actual = f"sha256:{self._state.hexdigest()}"
            if actual != self._entry.digest:
                raise DigestMismatchError(
                    f"file {self._entry.path!r}",
                    expected=self._entry.digest,
                    actual=actual,
                    hint="nbmodel verify says what else is damaged",
                )
        self._job.progress(len(piece))
        return piece

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


@contextmanager
def new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when all of it is written, in place of one of that name.

    Raises:
        InputError: A folder has that name.
        StorageUnavailableError: The disk does not take it; nothing changed.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder, expected the name of a file")
    with translated(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    temporary = Path(name)
    try:
        with translated(f"write {target}"):
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
            sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> Path:
    """Write a small file as a whole; its path."""
    with new_file(target) as file:
        file.write(text.encode())
    return target


def extract(job: Export, folder: Path) -> tuple[Path, ...]:
    """The files of the version in a folder.

    Raises:
        InputError: Other files of the same names are there; nothing changed.
    """
    job.check()
    own = Reference(job.version.model, digest=job.version.digest)
    paths = job.registry.extract(own, folder)
    job.progress(job.version.size)
    return paths


def plain_name(model: str, allowed: str, join: str = "-") -> str:
    """A model's name where other characters may not be.

    Args:
        model: ``namespace/name``.
        allowed: What may be in it, as the inside of a character class.
        join: What stands for the rest.
    """
    return re.sub(f"[^{allowed}]+", join, model).strip(join)


def check_free(folder: Path, wanted: Callable[[Path], bool], what: str) -> None:
    """Refuse a folder that has something else in it.

    Args:
        folder: Need not be there.
        wanted: Whether what is there may stay.
        what: What is to be in there, for the message.

    Raises:
        InputError: It is a file, or something else is in it.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file, expected a folder for {what}")
    if folder.is_dir() and any(folder.iterdir()) and not wanted(folder):
        raise InputError(f"{folder} is not empty", hint=f"choose an empty folder for {what}")
