"""Small files that are there as a whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
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
        OSError: The disk does not take it; what was there before still is. Only where the
            disk fails after the very last step either may be there after a power cut.
    """
    temporary = _complete(target, content, mode)
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_once(target: Path, content: bytes) -> None:
    """Write a file unless there is one of that name; durable when this returns.

    Of several who do so at a time one wins, as a whole.

    Args:
        target: Where; its folder is made when it is missing.
        content: All of it.

    Raises:
        OSError: The disk does not take it; nothing is there.
    """
    if target.exists():
        return
    temporary = _complete(target, content, 0o644)
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links: the last of several wins
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and its parents where they are missing; durable when this returns.

    Raises:
        OSError: The disk does not take it.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove_unfinished(folder: Path) -> int:
    """Remove what was being written in a folder when a process ended; how many things.

    Only for a folder that nobody writes to meanwhile. Folders in it are not looked into.

    Raises:
        OSError: The disk does not let it go.
    """
    try:
        unfinished = [one for one in folder.iterdir() if one.name.startswith(TEMPORARY)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    for path in unfinished:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(unfinished)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a rename can be lost with the power."""
    if os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _complete(target: Path, content: bytes, mode: int) -> Path:
    """A synchronised file with that content, in the folder of ``target``."""
    make_folder(target.parent)
    # In the same folder: a rename across file systems would be a copy.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
