"""Imports to a disk without room, and what gc does about them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.errors import StorageUnavailableError
from nbmodel.importing.parts import collect
from nbmodel.storage.lock import file_lock
from tests.tools.site import Page, Site
from tests.tools.small_disk import disk, fill

pytestmark = pytest.mark.unhurried

MIB = 1024 * 1024


def part(folder: Path, name: str, size: int, age_s: float = 0.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{name}.part"
    made.write_bytes(os.urandom(size))
    made.with_suffix(".json").write_text("{}")
    at = time.time() - age_s
    os.utime(made, (at, at))
    return made


def test_an_import_that_has_no_room_is_refused_before_it_comes(tmp_path: Path, web: Site) -> None:
    web.pages["/m.onnx"] = Page(os.urandom(6 * MIB))
    with disk(tmp_path, 4 * MIB) as (place, _):
        client = Client(place / "home")
        with pytest.raises(StorageUnavailableError, match=r"7\.3 MB are needed, 4\.\d MB are free"):
            client.import_(f"{web.url}/m.onnx", name="toy", type="other")
        assert not list((place / "home").rglob("*.part"))
        client.close()


def test_gc_frees_parts_of_imports_on_a_full_disk(tmp_path: Path, linear_onnx: Path) -> None:
    with disk(tmp_path, 4 * MIB) as (place, _):
        client = Client(place / "home")
        made = part(client.home / "imports" / "parts", "a" * 32, MIB)
        assert client.gc().freed == 0, "where there is room, what came just now stays"
        fill(place / "filler", 0)
        assert client.gc(dry_run=True).freed == MIB
        assert made.exists()
        report = client.gc()
        assert (report.freed, report.uploads) == (MIB, 1)
        assert not made.exists()
        assert client.upload(linear_onnx, name="lines", type="regression").number == 1
        client.close()


@pytest.mark.parametrize(
    ("age_s", "is_held", "is_collected"),
    [
        pytest.param(7200.0, False, True, id="old"),
        pytest.param(60.0, False, False, id="young"),
        pytest.param(7200.0, True, False, id="old, and somebody is at work on it"),
    ],
)
def test_which_parts_go(tmp_path: Path, age_s: float, is_held: bool, is_collected: bool) -> None:
    made = part(tmp_path, "b" * 32, 1000, age_s)
    if is_held:
        with file_lock(made.with_suffix(".lock"), wait=False):
            found = collect(tmp_path, grace_s=3600.0, dry_run=False)
    else:
        found = collect(tmp_path, grace_s=3600.0, dry_run=False)
    assert found == ((1, 1000) if is_collected else (0, 0))
    assert made.exists() is not is_collected
    assert made.with_suffix(".json").exists() is not is_collected
