from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.errors import ManifestError
from nbmodel.runtime.collector import (
    GRACE_S,
    LEFT_BEHIND_GRACE_S,
    LEFT_BEHIND_S,
    SHORT_GRACE_S,
    UPLOAD_GRACE_S,
    Collected,
    Collector,
    forgettable_tags,
)
from nbmodel.storage import OciLayout
from nbmodel.storage.tags import TagStore

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
IN_1970 = 3600.0  # where a device without a battery begins


class Device:
    """A device's storage and tags, its collector, and the clock that nobody sets."""

    def __init__(self, home: Path) -> None:
        self.storage = OciLayout(home / "blobs")
        self.tags = TagStore(home / "tags")
        self.seconds = 1000.0
        self.restart()

    def restart(self) -> None:
        self.collector = Collector(self.storage, self.tags, clock=lambda: self.seconds)

    def collect(self, *held: str) -> Collected:
        return self.collector.collect(held)

    def publish(self, number: int, *tags: str) -> str:
        """Put a version there as a push does; its manifest's digest."""
        content = f"weights {number}".encode()
        entry = FileEntry("model.onnx", len(content), self.storage.add_bytes(content))
        manifest = Manifest("digits", f"2026-{number}", (entry,), "onnx", "other", Signature())
        self.storage.add_bytes(manifest.config_bytes())
        digest = self.storage.add_bytes(manifest.manifest_bytes())
        for tag in (str(number), *tags):
            self.tags.set("digits", tag, digest)
        return digest

    def upload(self, name: str, content: bytes) -> None:
        with self.storage.receive(name=name) as writer:
            writer.write(content)

    def set_times(self, when: float) -> None:
        """Make every file look as if it was written then."""
        for root in (self.storage.root, self.tags.root):
            for file in root.rglob("*"):
                if file.is_file():
                    os.utime(file, (when, when))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


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


@pytest.mark.parametrize(
    ("models", "forgettable"),
    [
        pytest.param({"digits"}, False, id="a package of the config has the model"),
        pytest.param({"local/digits", "faces"}, True, id="no package has it"),
        pytest.param(set(), True, id="there are no packages"),
    ],
)
def test_tags_that_move_keep_versions_of_models_that_the_config_names(
    models: set[str], forgettable: bool
) -> None:
    entries = [("digits", tag, OLD) for tag in ("1", "champion", "latest")]
    expected = [(name, tag) for name, tag, _ in entries] if forgettable else []
    assert forgettable_tags(entries, set(), models) == expected


def test_a_version_that_runs_keeps_the_tags_of_a_model_that_no_package_names() -> None:
    entries = [("digits", "1", OLD), ("digits", "latest", OLD), ("digits", "2", NEW)]
    assert forgettable_tags(entries, {OLD}, set()) == [("digits", "2")]


def test_a_model_that_followed_latest_goes_as_soon_as_no_package_names_it(device: Device) -> None:
    device.publish(1, "latest", "champion")
    assert device.collector.collect((), models={"digits"}) == Collected()
    gone = device.collector.collect((), models=())
    assert (gone.tags, gone.blobs) == (3, 3)
    assert list(device.tags.all()) == []
    assert list(device.storage.digests()) == []


def test_a_model_that_is_pushed_again_after_it_was_let_go_of_gets_time(device: Device) -> None:
    device.publish(1, "latest")
    device.collector.collect((), models={"digits"})
    device.collector.collect((), models=())
    version = device.publish(1, "latest")  # the tags come before the config
    assert device.collector.collect((), models=()) == Collected()
    assert device.storage.has(version)


def test_where_there_is_no_room_what_a_failed_push_left_goes_soon(device: Device) -> None:
    kept = device.publish(1, "latest")
    left = device.storage.add_bytes(b"the large blob never came")
    assert device.collector.collect((), models={"digits"}, is_short=True) == Collected()
    device.seconds += SHORT_GRACE_S + 1
    gone = device.collector.collect((), models={"digits"}, is_short=True)
    assert (gone.tags, gone.blobs) == (0, 1)
    assert not device.storage.has(left)
    assert device.storage.has(kept)


def test_what_was_in_use_goes_as_soon_as_it_is_not(device: Device) -> None:
    first, second = device.publish(1), device.publish(2)
    assert device.collect(first, second) == Collected()
    gone = device.collect(second)
    assert (gone.tags, gone.blobs) == (1, 3)
    assert list(device.tags.tags("digits")) == ["2"]
    assert device.storage.has(second)
    assert not device.storage.has(first)


def test_a_blob_that_a_push_asks_for_stays_although_its_version_goes(device: Device) -> None:
    first, second = device.publish(1), device.publish(2)
    device.collect(first, second)
    weights = device.storage.add_bytes(b"weights 1")  # as a push that finds it there
    device.collect(second)
    assert device.storage.has(weights)
    assert not device.storage.has(first)
    device.seconds += GRACE_S + 1
    device.collect(second)
    assert not device.storage.has(weights)


def test_what_was_never_in_use_gets_time(device: Device) -> None:
    blob, version = device.storage.add_bytes(b"the manifest follows"), device.publish(1)
    device.collect()
    assert device.collector.is_waiting
    device.seconds += GRACE_S - 1
    assert device.collect() == Collected()
    assert device.storage.has(blob)
    assert device.tags.get("digits", "1") == version
    device.seconds += 2
    gone = device.collect()
    assert (gone.tags, gone.blobs) == (1, 4)
    assert list(device.storage.digests()) == []
    assert not device.collector.is_waiting


@pytest.mark.parametrize(
    "clock",
    [
        pytest.param(time.time() + 60 * 365 * 86400, id="forwards"),
        pytest.param(IN_1970, id="back"),
    ],
)
def test_a_clock_that_jumps_in_the_middle_of_a_push_removes_nothing(
    device: Device, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    kept = device.publish(1)
    device.collect(kept)
    blob = device.storage.add_bytes(b"the manifest follows")
    device.upload("push", b"half")
    device.collect(kept)
    monkeypatch.setattr(time, "time", lambda: clock)
    device.seconds += 600
    assert device.collect(kept) == Collected()
    device.tags.set("digits", "2", kept)  # the push goes on, at the clock's new time
    device.set_times(clock)
    device.seconds += 600
    assert device.collect(kept) == Collected()
    assert device.storage.has(blob)


def test_a_push_that_began_in_1970_is_not_left_behind(device: Device) -> None:
    device.collect()
    blob = device.storage.add_bytes(b"the manifest follows")
    device.set_times(IN_1970)
    device.collect()
    device.seconds += LEFT_BEHIND_GRACE_S + 1
    assert device.collect() == Collected()
    assert device.storage.has(blob)


def test_what_a_former_process_left_behind_long_ago_goes_soon(device: Device) -> None:
    device.storage.add_bytes(b"left behind")
    device.publish(1)
    device.upload("push", b"half")
    device.set_times(time.time() - LEFT_BEHIND_S - 1)
    device.restart()
    assert device.collect() == Collected()
    device.seconds += LEFT_BEHIND_GRACE_S + 1
    gone = device.collect()
    assert (gone.tags, gone.blobs) == (1, 5)
    assert list(device.storage.digests()) == []


def test_an_unreadable_manifest_stops_the_collector(device: Device) -> None:
    device.tags.set("digits", "latest", device.storage.add_bytes(b"no manifest"))
    blob = device.storage.add_bytes(b"perhaps needed")
    device.set_times(0)
    for _ in range(2):
        with pytest.raises(ManifestError):
            device.collect()
        device.seconds += GRACE_S + 1
    assert device.storage.has(blob)


def test_unfinished_uploads_go_when_nobody_goes_on_with_them(device: Device) -> None:
    device.upload("given-up", b"abc")
    device.upload("slow", b"a")
    for _ in range(3):
        device.collect()
        device.seconds += UPLOAD_GRACE_S / 2
        device.upload("slow", b"b")
    assert device.collect() == Collected(blobs=1, size=3)
    assert [name for name, _ in device.storage.abandoned(float("inf"))] == ["slow"]


def test_an_upload_that_somebody_writes_to_stays(device: Device) -> None:
    with device.storage.receive(name="push") as writer:
        writer.write(b"abc")
        device.collect()
        device.seconds += UPLOAD_GRACE_S + 1
        assert device.collect() == Collected()
        assert writer.commit(device.storage.add_bytes(b"abc")) == 3
