from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.storage.atomic import write_atomically


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
