from __future__ import annotations

from pathlib import Path

from nbmodel.runtime.leftovers import remove_leftovers


def test_half_written_files_go_and_everything_else_stays(tmp_path: Path) -> None:
    stays = {
        tmp_path / "state.json",
        tmp_path / "blobs" / "uploads" / "abc",
        tmp_path / "tags" / "team+fruit" / "latest",
        tmp_path / "packages" / "data" / "ml_model" / "fruit-1" / ".new-in-the-model",
    }
    goes = {
        tmp_path / ".new-1",
        tmp_path / "blobs" / ".new-2",
        tmp_path / "tags" / "team+fruit" / ".new-3",
    }
    for file in stays | goes:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    assert remove_leftovers(tmp_path) == 3
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == stays


def test_a_home_need_not_be_there(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path / "missing") == 0
    assert not (tmp_path / "missing").exists()
