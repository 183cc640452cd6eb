"""Disks of a few megabytes, mounted and filled up."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_RDONLY, _REMOUNT, _BIND = 1, 32, 4096  # of mount(2)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[tuple[Path, Path]]:
    """A disk of so many bytes: where it can be written, and where only read."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: Path, target: Path, kind: bytes | None, flags: int) -> None:
        options = None if kind is None else f"size={size}".encode()
        if libc.mount(os.fsencode(source), os.fsencode(target), kind, flags, options):
            pytest.skip(f"no disk can be mounted here: {os.strerror(ctypes.get_errno())}")

    place, view = folder / "disk", folder / "view"
    place.mkdir()
    view.mkdir()
    try:
        mount(Path("tmpfs"), place, b"tmpfs", 0)
        mount(place, view, None, _BIND)
        mount(place, view, None, _BIND | _REMOUNT | _RDONLY)
        yield place, view
    finally:
        for one in (view, place):
            libc.umount2(os.fsencode(one), 2)  # also while something is open


def fill(filler: Path, free: int) -> None:
    """Leave so many bytes of a disk, by a file on it."""
    with filler.open("wb", buffering=0) as file:
        status = os.statvfs(filler.parent)
        rest = max(0, status.f_bavail * status.f_frsize - free)
        try:
            while rest > 0:
                rest -= file.write(bytes(min(rest, 4096)))
        except OSError:
            assert free == 0
