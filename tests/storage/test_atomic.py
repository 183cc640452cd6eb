from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbmodel.storage.atomic import (
    make_folder,
    remove_unfinished,
    write_atomically,
    write_once,
)


def test_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file"
    write_atomically(target, b"one")
    write_atomically(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.mkdir()
    (target / "inside").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write_atomically(target, b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_there_is_not_written_once_more(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    write_once(target, b"one")
    write_once(target, b"two")
    assert target.read_bytes() == b"one"
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_of_many_who_write_a_file_once_one_wins_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    contents = [bytes([number]) * 1000 for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda content: write_once(target, content), contents))
    assert target.read_bytes() in contents
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_a_folder_may_be_there(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_was_being_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".new-file").write_bytes(b"")
    (tmp_path / ".new-link").symlink_to("nowhere")
    (tmp_path / ".new-folder" / "inside").mkdir(parents=True)
    (tmp_path / "kept" / ".new-inside").mkdir(parents=True)
    (tmp_path / "new-file").write_bytes(b"")
    assert remove_unfinished(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".new-inside", "kept", "new-file"]
    assert remove_unfinished(tmp_path / "missing") == 0
