"""A lock that the operating system lets go of when its process ends, however it ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made when it is not there and stays.

    Args:
        path: Of the file; its contents mean nothing. On a disk that may only be read it must
            be there.
        wait: Whether to wait for another holder.

    Raises:
        BlockingIOError: Somebody else holds it, and ``wait`` is false.
        OSError: The file cannot be opened.
    """
    with _opened(path) as file:
        _lock(file, wait=wait)
        # Closing the file lets the lock go.
        yield


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
        return path.open("rb")  # a lock of a disk that may only be read is one all the same


if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(file: IO[bytes], *, wait: bool) -> None:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as exc:
                if not wait:
                    raise BlockingIOError(str(exc)) from exc
                time.sleep(0.02)
            else:
                return

else:
    import fcntl

    def _lock(file: IO[bytes], *, wait: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
