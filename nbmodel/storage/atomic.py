"""Small files that are there as a whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TEMPORARY = ".new-"  # what the name of a file begins with until it is complete


def write_atomically(target: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file, replacing one of that name; durable when this returns.

    Args:
        target: Where; its folder is made when it is missing.
        content: All of it.
        mode: Permissions of the file.

    Raises:
        OSError: The disk does not take it; what was there before still is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename across file systems would be a copy.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a rename can be lost with the power."""
    if os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
