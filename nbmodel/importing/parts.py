"""Downloads that were broken off, kept for three days so that the next import goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from nbmodel.storage.base import translated
from nbmodel.storage.lock import file_lock
from nbmodel.storage.room import is_full

KEPT_S = 72 * 3600.0  # as long as Viam keeps them
_SUFFIXES = (".part", ".json", ".lock")


@contextmanager
def part_file(folder: Path, what: str | None) -> Iterator[Path]:
    """Where a download grows: what an earlier one of the same left is there already.

    Args:
        folder: Of all of them; made when it is missing.
        what: Tells this very content from all others; None: nothing does, and it begins anew.

    Raises:
        StorageUnavailableError: The folder takes nothing.
    """
    names = [uuid4().hex]
    if what is not None:
        names.insert(0, hashlib.sha256(what.encode(errors="replace")).hexdigest()[:32])
    with ExitStack() as held:
        with translated("keep what is imported"):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            for name in names:
                with suppress(BlockingIOError):  # another process brings the same
                    held.enter_context(file_lock(folder / f"{name}.lock", wait=False))
                    break
        yield folder / f"{name}.part"


def collect(folder: Path, *, grace_s: float, dry_run: bool) -> tuple[int, int]:
    """Remove what nobody is at work on; how many downloads, and their bytes.

    Args:
        folder: Of all of them; need not be there.
        grace_s: What came in the last so many seconds stays, but on a full disk; ≥ 0.
        dry_run: Only count.
    """
    gone: list[int] = []
    before = time.time() - (0.0 if is_full(folder) else grace_s)
    for part in sorted(folder.glob("*.part")):
        with suppress(OSError), ExitStack() as held:
            status = part.stat()
            if status.st_mtime > before:
                continue
            held.enter_context(file_lock(part.with_suffix(".lock"), wait=False))
            if not dry_run:
                part.unlink()
                part.with_suffix(".json").unlink(missing_ok=True)
            gone.append(status.st_size)
    return len(gone), sum(gone)


def sweep(folder: Path) -> None:
    """Remove what nobody went on with for three days."""
    oldest = time.time() - KEPT_S
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix in _SUFFIXES and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
