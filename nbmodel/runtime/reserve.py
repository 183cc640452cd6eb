"""A little room on the disk that is given up when a full disk would not take a config.

A device that is full can be helped by taking a model away, and that is a change of its
config: the one thing that must fit whatever else does not.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from nbmodel.storage.atomic import write_atomically

RESERVE_FILE = "reserve"  # in the home of a runtime
RESERVE_BYTES = 64 * 1024
SHORT_S = 600.0  # after something did not fit, the disk counts as short for so long


class Reserve:
    """A file of bytes that nobody needs. For use from any thread.

    Args:
        home: The runtime's home; the file is there, so that both are on one disk.
        size: Of the file, in bytes.
    """

    def __init__(self, home: Path, size: int = RESERVE_BYTES) -> None:
        self._home = home
        self._file = home / RESERVE_FILE
        self._size = size
        self._lock = threading.Lock()
        self._lacked: float | None = None  # time.monotonic() seconds

    def make(self) -> bool:
        """Set the room aside, where the disk has twice as much; whether it is there."""
        with self._lock:
            try:
                if self._file.is_file() and self._file.stat().st_size >= self._size:
                    return True
                if shutil.disk_usage(self._home).free < 2 * self._size:
                    return False
                # Of zeros, some file systems would keep nothing but the length.
                write_atomically(self._file, os.urandom(self._size), mode=0o600)
            except OSError:
                return False
            return True

    def release(self) -> bool:
        """Give the room up; whether there was any."""
        with self._lock:
            try:
                self._file.unlink()
            except OSError:
                return False
            return True

    def lack(self) -> None:
        """Note that something did not fit on the disk."""
        self._lacked = time.monotonic()

    @property
    def is_short(self) -> bool:
        """Whether something did not fit on the disk lately."""
        lacked = self._lacked
        return lacked is not None and time.monotonic() - lacked < SHORT_S
