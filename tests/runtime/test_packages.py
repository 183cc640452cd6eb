from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbmodel.core.machine import Package
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.errors import BlobNotFoundError, StorageUnavailableError
from nbmodel.runtime.packages import Installed, PackageFolder
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.storage import OciLayout

PACKAGE = Package("digits", "acme/team.digits")
STAMP = "2026-02-28T13-36-51"


class Device:
    def __init__(self, root: Path) -> None:
        self.storage = OciLayout(root / "blobs")
        self.root = root / "packages"
        self.packages = PackageFolder(self.root, self.storage)

    def install(self, files: dict[str, bytes], stamp: str | None = STAMP) -> Installed:
        entries = tuple(
            FileEntry(path, len(data), self.storage.add_bytes(data)) for path, data in files.items()
        )
        manifest = Manifest("digits", "2026", entries, "onnx", "other", Signature())
        digest = self.storage.add_bytes(manifest.manifest_bytes())
        version = PackageVersion("digits", digest, "latest", None, stamp)
        return self.packages.install(PACKAGE, version, manifest)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_files_lie_where_viam_puts_them(device: Device) -> None:
    installed = device.install({"model.onnx": b"m", "data/weights.bin": b"w"})
    assert installed.folder == device.root / "data" / "ml_model" / f"acme-team.digits-{STAMP}"
    assert (installed.folder / "data" / "weights.bin").read_bytes() == b"w"
    assert (device.root / "digits" / "model.onnx").read_bytes() == b"m"
    status = json.loads(
        installed.folder.with_name(installed.folder.name + ".status.json").read_text()
    )
    assert status["package_id"] == "acme/team.digits"
    assert status["version"] == STAMP
    assert status["sync_status"] == "done"


def test_the_name_moves_to_the_version_installed_last(device: Device) -> None:
    first = device.install({"model.onnx": b"1"})
    second = device.install({"model.onnx": b"2"}, stamp="2026-03-01T00-00-00")
    assert (device.root / "digits").resolve() == second.folder.resolve()
    assert (first.folder / "model.onnx").read_bytes() == b"1"


def test_installing_again_writes_nothing(device: Device) -> None:
    before = device.install({"model.onnx": b"1"}).folder.stat()
    after = device.install({"model.onnx": b"1"}).folder.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_other_files_under_the_same_label_get_a_folder_of_their_own(device: Device) -> None:
    first = device.install({"model.onnx": b"1"})
    second = device.install({"model.onnx": b"2"})
    assert first.folder != second.folder
    assert (first.folder / "model.onnx").read_bytes() == b"1", "it may be in use"
    assert (second.folder / "model.onnx").read_bytes() == b"2"


def test_a_missing_file_is_put_back(device: Device) -> None:
    folder = device.install({"model.onnx": b"1"}).folder
    (folder / "model.onnx").unlink()
    device.install({"model.onnx": b"1"})
    assert (folder / "model.onnx").read_bytes() == b"1"


def test_a_version_without_its_blobs_is_not_installed(device: Device) -> None:
    entry = FileEntry("model.onnx", 1, "sha256:" + "1" * 64)
    manifest = Manifest("digits", "2026", (entry,), "onnx", "other", Signature())
    version = PackageVersion("digits", "sha256:" + "2" * 64, "latest", None, STAMP)
    with pytest.raises(BlobNotFoundError):
        device.packages.install(PACKAGE, version, manifest)
    assert not (device.root / "digits").exists()


def test_a_folder_that_cannot_be_written_is_named(device: Device) -> None:
    device.root.write_bytes(b"")
    with pytest.raises(StorageUnavailableError, match="cannot lay out package 'digits'"):
        device.install({"model.onnx": b"1"})


def test_sweeping_keeps_what_is_named(device: Device) -> None:
    gone = device.install({"model.onnx": b"1"}, stamp="2026-01-01T00-00-00")
    kept = device.install({"model.onnx": b"2"})
    (device.root / "dangling").symlink_to("nowhere")
    (device.root / "data" / "ml_model" / ".new-half").mkdir()
    assert device.packages.sweep(names=["digits"], digests=[kept.version.digest]) == 2
    assert sorted(path.name for path in device.root.iterdir()) == ["data", "digits"]
    names = sorted(path.name for path in gone.folder.parent.iterdir())
    assert names == [kept.folder.name, kept.folder.name + ".status.json"]
