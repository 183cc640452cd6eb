"""Downloads that were broken off: kept for three days, and grown by one at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbmodel.importing.parts import KEPT_S, collect, part_file


def test_the_same_download_goes_on_in_the_same_file(tmp_path: Path) -> None:
    with part_file(tmp_path, "https://host/m") as first:
        first.write_bytes(b"half")
    with part_file(tmp_path, "https://host/m") as again:
        assert again == first
        assert again.read_bytes() == b"half"
    with part_file(tmp_path, "https://host/other") as other:
        assert other != first


def test_two_at_once_do_not_write_into_one_file(tmp_path: Path) -> None:
    with part_file(tmp_path, "x") as one, part_file(tmp_path, "x") as two:
        assert one != two
    with part_file(tmp_path, None) as three, part_file(tmp_path, None) as four:
        assert three != four


def test_what_nobody_went_on_with_goes(tmp_path: Path) -> None:
    with part_file(tmp_path, "old") as old, part_file(tmp_path, "young") as young:
        old.write_bytes(b"old")
        young.write_bytes(b"young")
    (tmp_path / "thesis.txt").write_text("mine")
    before = time.time() - KEPT_S - 60
    for path in (old, tmp_path / "thesis.txt"):
        os.utime(path, (before, before))
    with part_file(tmp_path, "next"):
        assert not old.exists()
        assert young.exists()
        assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("what", [None, "x"], ids=["anything", "what another brings"])
def test_what_is_brought_now_is_not_collected(tmp_path: Path, what: str | None) -> None:
    with part_file(tmp_path, "x"), part_file(tmp_path, what) as part:
        part.write_bytes(b"half")
        assert collect(tmp_path, grace_s=-60, dry_run=False) == (0, 0)
        assert part.exists()
    assert collect(tmp_path, grace_s=-60, dry_run=False) == (1, 4)
