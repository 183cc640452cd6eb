"""Links to folders, and removing what is not ours to keep."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nbmodel.storage.atomic import TEMPORARY, make_folder, sync_folder


def link_folder(link: Path, folder: Path) -> None:
    """Make ``link`` lead to ``folder``, in one step where a link was there before.

    The link is relative, so both may be moved together; a stranger's folder of its name goes.

    Raises:
        OSError: The disk does not take it; a link that was there before still is.
    """
    target = os.path.relpath(folder, link.parent)
    if link.is_symlink() and str(link.readlink()) == target:
        return
    make_folder(link.parent)
    if link.is_dir() and not link.is_symlink():
        remove(link)
    temporary = link.with_name(f"{TEMPORARY}{link.name}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


def entries(folder: Path) -> Iterator[Path]:
    """What is in a folder; nothing when it is none. Entries may be removed meanwhile."""
    if folder.is_dir():
        yield from list(folder.iterdir())


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing when it is gone.

    Raises:
        OSError: The disk does not let it go.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
