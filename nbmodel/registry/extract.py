"""Copying the files of a version into a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbmodel.core.manifest import FileEntry
from nbmodel.core.version import Version
from nbmodel.errors import DigestMismatchError, InputError
from nbmodel.storage.base import Storage, translated
from nbmodel.storage.copying import pump


def extract(storage: Storage, version: Version, folder: Path) -> tuple[Path, ...]:
    """Put the files of a version into a folder, digests checked.

    All files are copied beside the folder's own first, so a failure leaves nothing. A
    file that is there already with the same bytes stays as it is.

    Returns:
        The paths, in the order of the version's files.

    Raises:
        InputError: The folder is none, holds a file of that name with other bytes, or
            leads elsewhere through a link.
        BlobNotFoundError, DigestMismatchError: The storage is damaged.
        StorageUnavailableError: The folder takes nothing.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder")
    missing = _missing(folder, version.files)
    with translated(f"extract to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".nbmodel-", dir=folder))
        try:
            for index, entry in enumerate(missing):
                _copy(storage, entry, staging / str(index))
            for index, entry in enumerate(missing):
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                (staging / str(index)).replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return tuple(folder / entry.path for entry in version.files)


def _missing(folder: Path, entries: Sequence[FileEntry]) -> list[FileEntry]:
    """The files that are not there yet; every obstacle is found before anything changes."""
    missing, taken = [], []
    for entry in entries:
        target = folder / entry.path
        _refuse_links(folder, entry.path)
        if not os.path.lexists(target):
            missing.append(entry)
        elif not _has(target, entry):
            taken.append(entry.path)
    if taken:
        raise InputError(
            f"{folder} has other files named {', '.join(map(repr, taken))}",
            hint="choose an empty folder, or move them away",
        )
    return missing


def _refuse_links(folder: Path, path: str) -> None:
    place = folder
    for part in path.split("/")[:-1]:
        place /= part
        if place.is_symlink():
            raise InputError(f"{place} is a link, expected a folder")
        if place.exists() and not place.is_dir():
            raise InputError(f"{place} is a file, expected a folder")


def _has(target: Path, entry: FileEntry) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != entry.size:
        return False
    with translated(f"read {target}"), target.open("rb", buffering=0) as file:
        return f"sha256:{pump(file).hexdigest()}" == entry.digest


def _copy(storage: Storage, entry: FileEntry, target: Path) -> None:
    with storage.open(entry.digest) as source, target.open("xb") as file:
        actual = f"sha256:{pump(source, file.write).hexdigest()}"  # type: ignore[arg-type] # files can readinto
        file.flush()
        os.fsync(file.fileno())
    if actual != entry.digest:
        raise DigestMismatchError(f"file {entry.path!r}", expected=entry.digest, actual=actual)
