"""Room on the disk of a storage: whether what is to come fits there."""

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
    if not isinstance(storage, OciLayout):
        return
    needed = sum(max(0, size - storage.begun(name)) for name, size in coming.items())
    free = free_bytes(storage.root)
    if needed and free is not None and (needed := needed + _BESIDE) > free:
        raise _no_room(storage, needed, free)


@contextmanager
def room_told(storage: Storage, needed: Callable[[], int]) -> Iterator[None]:
    """Inside, a full disk is told of with what is needed and free.

    Args:
        storage: What is written to.
        needed: Gives the bytes that are still to come.

    Raises:
        StorageUnavailableError: The disk is full.
    """
    try:
        yield
    except StorageUnavailableError as exc:
        cause = exc.__cause__
        is_full = isinstance(cause, OSError) and cause.errno in _FULL
        if not is_full or not isinstance(storage, OciLayout):
            raise
        raise _no_room(storage, needed(), free_bytes(storage.root) or 0) from exc


def _no_room(storage: OciLayout, needed: int, free: int) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"no room on the disk of {storage.root}: {needed / 1e6:.1f} MB are needed, "
        f"{free / 1e6:.1f} MB are free",
        hint="free some space and do it again, which goes on with what came; `gc` frees what "
        "nobody needs, and on a full disk also what came just now",
    )
