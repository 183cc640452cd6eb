"""The state of real repositories, which reading leaves as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from nbmodel.core.provenance import MAX_DIFF
from nbmodel.provenance.git import GitState, read_git, state_of, without_empty

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
LONG_S = 120.0  # other processes may take the CPU for a while


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    command = ("git", *identity, *words)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "below").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "train.py").write_text("a = 1\n")
    (folder / "train.ipynb").write_text("{}\n")
    (folder / "below" / "more.py").write_text("b = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def read(folder: Path, *, with_diff: bool = True, timeout: float = LONG_S) -> GitState:
    return read_git(folder, with_diff=with_diff, timeout=timeout)


def test_a_clean_repository(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert read(repository) == GitState(head, "main", is_dirty=False)
    assert read(repository / "below") == GitState(head, "main", is_dirty=False)
    (repository / "new.py").write_text("untracked files say nothing of the code that ran\n")
    assert read(repository).is_dirty is False


def test_local_changes_of_the_whole_repository(repository: Path) -> None:
    (repository / "train.py").write_text("a = 2  # größer\n")
    (repository / "below" / "more.py").write_text("b = 2\n")
    git(repository, "add", "below")
    state = read(repository / "below")
    assert state.is_dirty is True
    for line in ("-a = 1", "+a = 2  # größer", "-b = 1", "+b = 2"):
        assert line in state.diff.splitlines()
    assert read(repository, with_diff=False) == GitState(state.commit, "main", is_dirty=True)


def test_notebooks_are_no_part_of_the_diff(repository: Path) -> None:
    (repository / "train.ipynb").write_text('{"outputs": "many"}\n')
    (repository / "below" / "b.ipynb").write_text("{}\n")
    git(repository, "add", ".")
    state = read(repository)
    assert state.is_dirty is True
    assert state.diff == ""


def test_a_detached_head_and_a_repository_without_commits(repository: Path, tmp_path: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "--detach")
    assert read(repository) == GitState(head, None, is_dirty=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet", "--initial-branch=main")
    assert read(empty) == GitState(None, "main", is_dirty=False)


def test_outside_of_repositories_nothing_is_known(tmp_path: Path) -> None:
    assert read(tmp_path) == GitState()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / ".git").write_text("gitdir: /nowhere\n")
    assert read(broken) == GitState()


def test_a_work_tree_is_a_repository(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    assert read(tmp_path / "side").branch == "side"


def test_nothing_of_the_repository_is_run_or_written(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >> {ran}\n")
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "post-checkout", "fsmonitor-watchman", "pre-commit"):
        shutil.copy(program, hooks / hook)
    git(repository, "config", "core.hooksPath", str(hooks))
    git(repository, "config", "core.fsmonitor", str(program))
    git(repository, "config", "diff.external", str(program))
    git(repository, "config", "diff.text.textconv", str(program))
    git(repository, "config", "core.pager", str(program))
    (repository / ".git" / "info" / "attributes").write_text("*.py diff=text\n")
    (repository / "train.py").write_text("a = 2\n")
    os.utime(repository / "below" / "more.py", (1, 1))  # git would like to write that down
    index = repository / ".git" / "index"
    before = index.read_bytes()
    ran.unlink(missing_ok=True)  # what setting this up did
    assert "+a = 2" in read(repository).diff
    assert not ran.exists()
    assert index.read_bytes() == before
    assert "more.py" not in read(repository).diff  # whose time alone is another


def test_a_partial_clone_fetches_nothing(repository: Path, tmp_path: Path) -> None:
    git(repository, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    source = repository.as_uri()
    git(tmp_path, "clone", "--quiet", "--no-checkout", "--filter=blob:none", source, str(clone))
    git(clone, "sparse-checkout", "set", "--no-cone", "/below/")
    git(clone, "checkout", "--quiet")
    git(clone, "rm", "--quiet", "--cached", "--sparse", "train.py")  # whose content is not here
    assert missing(clone)
    state = read(clone)
    assert (state.branch, state.is_dirty) == ("main", True)
    assert missing(clone)


def missing(clone: Path) -> list[str]:
    """Objects that a partial clone has not got."""
    told = git(clone, "rev-list", "--objects", "--missing=print", "HEAD")
    return [line for line in told.splitlines() if line.startswith("?")]


def test_a_diff_is_read_up_to_a_limit(repository: Path) -> None:
    (repository / "train.py").write_text("".join(f"line {n}\n" for n in range(MAX_DIFF)))
    state = read(repository)
    assert MAX_DIFF < len(state.diff) <= 4 * MAX_DIFF


def test_git_that_takes_too_long_is_ended(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    assert read(repository, timeout=0.1) == GitState()
    assert time.monotonic() - began < 300  # not the ten minutes that it sleeps


def test_without_git_nothing_is_known(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert read(repository) == GitState()


def test_heads_of_files_that_do_not_differ_are_left_out() -> None:
    same = "diff --git a/x b/x\n"
    changed = "diff --git a/y b/y\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n"
    mode = "diff --git a/z b/z\nold mode 100644\nnew mode 100755\n"
    assert without_empty(same + changed + same + same + mode + same) == changed + mode
    assert without_empty("") == ""


def test_what_git_says() -> None:
    told = "# branch.oid 1234\n# branch.head a-b\n# branch.ab +1 -0\n1 .M N... a.py\n"
    assert state_of(told) == GitState("1234", "a-b", is_dirty=True)
    told = "# branch.oid (initial)\n# branch.head (detached)\n"
    assert state_of(told) == GitState(None, None, is_dirty=False)
