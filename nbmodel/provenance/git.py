"""The state of the git repository that a folder is in, read without changing anything.

Git runs no hook, no file monitor, no external diff, asks nobody for a password and fetches
nothing (a partial clone would, for a diff), and gets a limited time for all of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nbmodel.core.provenance import MAX_DIFF

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_S = 2.0  # a huge working tree must not hold up an upload
_MAX_STATUS = 1024 * 1024  # bytes; it begins with what matters
_MAX_BYTES = 4 * MAX_DIFF  # of UTF-8 for so many characters, and one too many to tell
_EMPTY = re.compile(r"^diff --git [^\n]*\n(?=diff --git |\Z)", re.MULTILINE)
_QUIET = (
    "git",
    "--no-optional-locks",
    "--no-pager",
    "-c", "core.fsmonitor=false",
    "-c", f"core.hooksPath={os.devnull}",
    "-c", "core.quotePath=false",
    "-c", "diff.autoRefreshIndex=false",  # it would lock and write the index
)  # fmt: skip
_STATUS = (
    "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty",
)  # fmt: skip
_DIFF = (
    "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty",
    "HEAD", "--", ":/", ":(top,exclude,glob)**/*.ipynb",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


@dataclass(frozen=True, slots=True)
class GitState:
    """What git says of a folder; None and empty where it says nothing.

    Attributes:
        commit: 40 hex digits.
        branch: Its name.
        is_dirty: Whether tracked files differ from the commit.
        diff: The difference, without notebooks, whose cells are recorded as they were run.
    """

    commit: str | None = None
    branch: str | None = None
    is_dirty: bool | None = None
    diff: str = ""


def read_git(folder: Path, *, with_diff: bool, timeout: float = TIMEOUT_S) -> GitState:
    """The state of the repository that a folder is in; nothing where it is in none.

    Args:
        folder: In its working tree.
        with_diff: Whether to read the difference, too.
        timeout: Seconds for all of it; what is not known by then stays unknown.
    """
    # The look for .git saves a process, a few milliseconds, outside of repositories.
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return GitState()
    begin = partial(_Git, folder, until=time.monotonic() + timeout)
    try:
        # Both at once: what differs is known no later than that something does.
        with begin(*_STATUS, limit=_MAX_STATUS) as status:
            if not with_diff:
                return state_of(status.read() or "")
            with begin(*_DIFF, limit=_MAX_BYTES) as diff:
                state = state_of(status.read() or "")
                if not state.is_dirty or state.commit is None:
                    return state
                return replace(state, diff=without_empty(diff.read() or ""))
    except OSError:
        return GitState()


def state_of(status: str) -> GitState:
    """The state that ``git status --porcelain=v2 --branch`` tells; nothing where it is empty."""
    commit = branch = None
    is_dirty = False if status else None
    for line in status.splitlines():
        if line.startswith("# branch.oid ") and not line.endswith("(initial)"):
            commit = line.rpartition(" ")[2]
        elif line.startswith("# branch.head ") and not line.endswith("(detached)"):
            branch = line.rpartition(" ")[2]
        elif not line.startswith("#"):
            is_dirty = True
    return GitState(commit, branch, is_dirty)


def without_empty(diff: str) -> str:
    """A diff without the heads of files in which nothing differs but their times."""
    return _EMPTY.sub("", diff)


class _Git:
    """A command of git that runs, in a folder, until it ends or time is over.

    Raises:
        OSError: Git cannot be run.
    """

    def __init__(self, folder: Path, *words: str, limit: int, until: float) -> None:
        self._limit = limit
        self._is_late = False
        self._process = subprocess.Popen(
            (*_QUIET, *words),
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._timer = threading.Timer(max(0.0, until - time.monotonic()), self._end)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        with self._process:
            pass

    def _end(self) -> None:
        self._is_late = True
        self._process.kill()

    def read(self) -> str | None:
        """The beginning of what it prints; None when it fails or takes too long."""
        assert self._process.stdout is not None
        told = self._process.stdout.read(self._limit)
        is_more = bool(self._process.stdout.read(1))
        if self._is_late or (not is_more and self._process.wait() != 0):
            return None
        return told.decode("utf-8", errors="replace")
