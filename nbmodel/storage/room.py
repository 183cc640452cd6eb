"""Room on the disk of a storage or folder: whether what is to come fits there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nbmodel.errors import StorageUnavailableError
from nbmodel.storage.base import Storage
from nbmodel.storage.layout import OciLayout

_BESIDE = 1024 * 1024  # bytes; manifests and the index need room too
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def free_bytes(folder: Path) -> int | None:
    """Bytes free where a folder is, or would be made; None when nobody knows."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None


def is_full(folder: Path) -> bool:
    """Whether a disk has too little room for the files that an index needs beside it."""
    free = free_bytes(folder)
    return free is not None and free < _BESIDE


def check_room(storage: Storage, coming: Mapping[str, int]) -> None:
    """Raise where what is to come has no room, before any of it comes.

    Args:
        storage: Where it comes to; one that is on no disk has room.
        coming: Bytes that each upload will have, by its name; what is there of it already
            needs no more room.

    Raises:
        StorageUnavailableError: There is less room.
    """
    if isinstance(storage, OciLayout):
        needed = sum(max(0, size - storage.begun(name)) for name, size in coming.items())
        check_room_in(storage.root, needed)


def check_room_in(folder: Path, needed: int) -> None:
    """Raise where so many bytes, and a few beside them, have no room on the disk of a folder.

    Raises:
        StorageUnavailableError: There is less room.
    """
    free = free_bytes(folder)
    if needed > 0 and free is not None and (needed := needed + _BESIDE) > free:
        raise _no_room(folder, needed, free)


@contextmanager
def room_told(place: Storage | Path, needed: Callable[[], int]) -> Iterator[None]:
    """Inside, a full disk is told of with what is needed and free.

    Args:
        place: What is written to.
        needed: Gives the bytes that are still to come.

    Raises:
        StorageUnavailableError: The disk is full.
    """
    try:
        yield
    except StorageUnavailableError as exc:
        cause = exc.__cause__
        is_full = isinstance(cause, OSError) and cause.errno in _FULL
        folder = place.root if isinstance(place, OciLayout) else place
        if not is_full or not isinstance(folder, Path):
            raise
        raise _no_room(folder, needed(), free_bytes(folder) or 0) from exc


def _no_room(folder: Path, needed: int, free: int) -> StorageUnavailableError:
    wanted = f"{_bytes(needed)} are needed, " if needed else ""
    return StorageUnavailableError(
        f"no room on the disk of {folder}: {wanted}{_bytes(free)} are free",
        hint="free some space and do it again: what came in part is gone on with; `gc` frees "
        "what nobody needs, and on a full disk also such parts",
    )


def _bytes(number: int) -> str:
    if number >= 50_000:
        return f"{number / 1e6:.1f} MB"
    return f"{number / 1e3:.1f} kB" if number >= 100 else f"{number} B"
