from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbmodel.errors import ManifestError
from nbmodel.runtime.collector import collect, forgettable_tags
from nbmodel.storage import OciLayout
from nbmodel.storage.tags import TagStore

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("tags", "held", "forgettable"),
    [
        pytest.param(["1", "2026-02-28T00-00-01"], set(), True, id="a number and a timestamp id"),
        pytest.param(["1", "latest"], set(), False, id="a number and latest"),
        pytest.param(["1", "champion"], set(), False, id="a number and an alias"),
        pytest.param(["1"], {OLD}, False, id="the number of what runs"),
    ],
)
def test_what_keeps_a_version(tags: list[str], held: set[str], forgettable: bool) -> None:
    entries = [("digits", tag, OLD) for tag in tags] + [("digits", "2", NEW)]
    expected = [("digits", tag) for tag in tags] if forgettable else []
    assert forgettable_tags(entries, {NEW, *held}) == expected


def test_a_moving_tag_in_one_repository_keeps_the_version_in_all() -> None:
    entries = [("digits", "latest", OLD), ("copy", "1", OLD)]
    assert forgettable_tags(entries, set()) == []


def test_an_unreadable_manifest_stops_the_collector(tmp_path: Path) -> None:
    storage, tags = OciLayout(tmp_path / "blobs"), TagStore(tmp_path / "tags")
    tags.set("digits", "latest", storage.add_bytes(b"no manifest"))
    blob = storage.add_bytes(b"perhaps needed")
    os.utime(storage.path(blob), (0, 0))
    with pytest.raises(ManifestError):
        collect(storage, tags, held=())
    assert storage.has(blob)


def test_unfinished_uploads_go_after_a_day(tmp_path: Path) -> None:
    storage, tags = OciLayout(tmp_path / "blobs"), TagStore(tmp_path / "tags")
    for name, age_s in (("old", 25 * 3600), ("young", 23 * 3600)):
        with storage.receive(name=name) as writer:
            writer.write(b"abc")
        written = time.time() - age_s
        os.utime(tmp_path / "blobs" / "uploads" / name, (written, written))
    assert collect(storage, tags, held=()).size == 3
    assert [name for name, _ in storage.abandoned(time.time())] == ["young"]
