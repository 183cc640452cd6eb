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
from pathlib import Path

from nbmodel.core.provenance import MAX_DIFF

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
    until = time.monotonic() + timeout
    status = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    told = _git(folder, (*status, "--ignore-submodules=dirty"), _MAX_STATUS, until)
    if told is None:
        return GitState()
    state = state_of(told)
    if not with_diff or not state.is_dirty or state.commit is None:
        return state
    diff = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty")
    notebooks = ":(top,exclude,glob)**/*.ipynb"
    text = _git(folder, (*diff, "HEAD", "--", ":/", notebooks), _MAX_BYTES, until)
    return replace(state, diff=without_empty(text or ""))


def state_of(status: str) -> GitState:
    """The state that ``git status --porcelain=v2 --branch`` tells."""
    commit = branch = None
    is_dirty = False
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


def _git(folder: Path, words: tuple[str, ...], limit: int, until: float) -> str | None:
    """The beginning of what a command of git prints; None when it fails or takes too long."""
    try:
        process = subprocess.Popen(
            (*_QUIET, *words),
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(max(0.0, until - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    with process:
        assert process.stdout is not None
        told = process.stdout.read(limit)
        is_more = bool(process.stdout.read(1))
        if is_more:
            process.kill()
    timer.cancel()
    if is_late.is_set() or (process.returncode != 0 and not is_more):
        return None
    return told.decode("utf-8", errors="replace")
