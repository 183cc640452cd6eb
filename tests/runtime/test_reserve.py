from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.runtime.reserve import RESERVE_BYTES, RESERVE_FILE, Reserve


def test_room_is_set_aside_and_given_up_once(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.make()
    file = tmp_path / RESERVE_FILE
    assert file.stat().st_size == RESERVE_BYTES
    assert reserve.release()
    assert not file.exists()
    assert not reserve.release()


def test_what_is_set_aside_is_not_written_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.make()
    written = (tmp_path / RESERVE_FILE).read_bytes()
    assert reserve.make()
    assert (tmp_path / RESERVE_FILE).read_bytes() == written


def test_a_piece_of_the_reserve_is_no_reserve(tmp_path: Path) -> None:
    (tmp_path / RESERVE_FILE).write_bytes(b"torn")
    assert Reserve(tmp_path).make()
    assert (tmp_path / RESERVE_FILE).stat().st_size == RESERVE_BYTES


@pytest.mark.parametrize("where", ["missing", "no room"])
def test_where_no_room_can_be_set_aside_there_is_none(tmp_path: Path, where: str) -> None:
    home = tmp_path / "missing" if where == "missing" else tmp_path
    assert not Reserve(home, size=1 << 62).make()
    assert not list(tmp_path.iterdir())


def test_a_disk_is_short_after_something_did_not_fit(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.is_short
    reserve.lack()
    assert reserve.is_short
