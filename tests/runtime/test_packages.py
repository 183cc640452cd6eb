from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nbmodel.core.machine import Package
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ManifestError,
    StorageUnavailableError,
)
from nbmodel.runtime.packages import Installed, PackageFolder
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.storage import OciLayout

STAMP = "2026-02-28T13-36-51"
OTHER_FILES = Path("/dev/shm")  # another file system than the one of temporary files, on Linux


class Device:
    def __init__(self, home: Path, blobs: Path | None = None) -> None:
        self.home = home
        self.storage = OciLayout((blobs or home) / "blobs")
        self.root = home / "packages"
        self.packages = PackageFolder(self.root, self.storage)

    def add(self, files: Mapping[str, bytes], stamp: str | None = STAMP) -> Installed:
        """A version whose blobs are there, not laid out."""
        entries = tuple(
            FileEntry(path, len(data), self.storage.add_bytes(data)) for path, data in files.items()
        )
        return self.version(entries, stamp)

    def version(self, entries: tuple[FileEntry, ...], stamp: str | None = STAMP) -> Installed:
        manifest = Manifest("digits", "2026", entries, "onnx", "other", Signature())
        digest = self.storage.add_bytes(manifest.manifest_bytes())
        return Installed(
            PackageVersion("digits", digest, "latest", None, stamp), manifest, self.root
        )

    def lay_out(self, version: Installed, name: str = "digits") -> Installed:
        package = Package(name, "acme/team.digits")
        return self.packages.install(package, version.version, version.manifest)

    def install(
        self, files: Mapping[str, bytes], stamp: str | None = STAMP, name: str = "digits"
    ) -> Installed:
        return self.lay_out(self.add(files, stamp), name)

    def tree(self) -> set[str]:
        """Everything but the blobs; of links, where they lead."""
        found = set()
        for top in ("packages", "models"):
            for folder, folders, files in os.walk(self.home / top):
                for name in (*folders, *files):
                    path = Path(folder) / name
                    target = f" -> {path.readlink()}" if path.is_symlink() else ""
                    found.add(f"{path.relative_to(self.home).as_posix()}{target}")
        return found


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


def test_a_package_takes_no_disk_of_its_own(device: Device) -> None:
    version = device.install({"model.onnx": b"m"})
    (entry,) = version.manifest.files
    assert (version.folder / "model.onnx").samefile(device.storage.path(entry.digest))


def test_the_name_moves_to_the_version_installed_last(device: Device) -> None:
    first = device.install({"model.onnx": b"1"})
    second = device.install({"model.onnx": b"2"}, stamp="2026-03-01T00-00-00")
    assert (device.root / "digits").resolve() == second.folder.resolve()
    assert (first.folder / "model.onnx").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["data", "Data"])
def test_a_package_may_be_called_as_the_folder_of_all(device: Device, name: str) -> None:
    installed = device.install({"model.onnx": b"1"}, name=name)
    assert (device.packages.link(name) / "model.onnx").read_bytes() == b"1"
    assert device.packages.sweep(names=[name], digests=[installed.version.digest]) == 0
    assert (device.packages.link(name) / "model.onnx").read_bytes() == b"1"


def test_installing_again_writes_nothing(device: Device) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        paths = [device.home / path.partition(" -> ")[0] for path in device.tree()]
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}

    version = device.add({"model.onnx": b"1"})
    device.lay_out(version)
    before = seen()
    device.lay_out(version)
    assert seen() == before


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


@pytest.mark.parametrize("what", ["model.onnx", ""], ids=["a file", "the folder"])
def test_a_link_out_in_the_place_of_what_was_laid_out_is_replaced(
    device: Device, tmp_path: Path, what: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model.onnx").write_bytes(b"?")
    folder = device.install({"model.onnx": b"1"}).folder
    place = folder / what
    if what:
        place.unlink()
        place.symlink_to(outside / what)
    else:
        (folder / "model.onnx").unlink()
        folder.rmdir()
        folder.symlink_to(outside, target_is_directory=True)
    device.install({"model.onnx": b"1"})
    assert not place.is_symlink()
    assert (folder / "model.onnx").read_bytes() == b"1"
    assert (outside / "model.onnx").read_bytes() == b"?"


def test_a_version_without_its_blobs_is_not_installed(device: Device) -> None:
    entry = FileEntry("model.onnx", 1, "sha256:" + "1" * 64)
    with pytest.raises(BlobNotFoundError):
        device.lay_out(device.version((entry,)))
    assert device.tree() == {"packages/data", "packages/data/ml_model"}


def _cut(path: Path) -> None:
    path.write_bytes(b"")


def _grown(path: Path) -> None:
    path.write_bytes(b"weights and more")


def _linked(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.write_bytes(b"secrets")
    path.unlink()
    path.symlink_to(outside)


@pytest.mark.parametrize("damage", [_cut, _grown, _linked])
def test_a_damaged_blob_is_not_laid_out_and_can_be_sent_again(
    device: Device, damage: Callable[[Path], None]
) -> None:
    version = device.add({"model.onnx": b"weights"})
    (entry,) = version.manifest.files
    path = device.storage.path(entry.digest)
    path.chmod(0o600)
    damage(path)
    with pytest.raises(DigestMismatchError):
        device.lay_out(version)
    assert not device.storage.has(entry.digest)
    device.install({"model.onnx": b"weights"})
    assert (device.root / "digits" / "model.onnx").read_bytes() == b"weights"


def test_a_manifest_that_says_another_size_is_refused_and_takes_nothing_away(
    device: Device,
) -> None:
    digest = device.storage.add_bytes(b"weights")
    with pytest.raises(ManifestError, match=r"'model\.onnx' is 7 bytes, the manifest says 9"):
        device.lay_out(device.version((FileEntry("model.onnx", 9, digest),)))
    assert device.storage.has(digest)


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(("model.onnx", "model.onnx/1"), id="a file where a folder is to be"),
        pytest.param(("model.onnx/1", "model.onnx"), id="a folder where a file is to be"),
    ],
)
def test_paths_in_each_others_way_are_refused(device: Device, paths: tuple[str, ...]) -> None:
    with pytest.raises(ManifestError, match="is in the way of another one"):
        device.install({path: path.encode() for path in paths})
    assert device.tree() == {"packages/data", "packages/data/ml_model"}


def test_too_many_files_are_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbmodel.runtime.packages.MAX_FILES", 2)
    with pytest.raises(ManifestError, match="has 3 files, expected at most 2"):
        device.install({"a": b"", "b": b"", "c": b""})


@pytest.mark.skipif(not OTHER_FILES.is_dir(), reason=f"there is no {OTHER_FILES}")
def test_blobs_on_another_file_system_are_copied_and_checked(tmp_path: Path) -> None:
    blobs = OTHER_FILES / f"nbmodel-{os.getpid()}-{threading.get_ident()}"
    device = Device(tmp_path, blobs)
    if blobs.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("temporary files are on the same file system")
    try:
        version = device.add({"model.onnx": b"weights"})
        assert (device.lay_out(version).folder / "model.onnx").read_bytes() == b"weights"
        damaged = device.add({"model.onnx": b"another"}, stamp=None)
        path = device.storage.path(damaged.manifest.files[0].digest)
        path.chmod(0o600)
        path.write_bytes(b"damaged")
        before = device.tree()
        with pytest.raises(DigestMismatchError):
            device.lay_out(damaged)
        assert device.tree() == before
    finally:
        for file in sorted(blobs.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        blobs.rmdir()


def test_a_folder_that_cannot_be_written_is_named(device: Device) -> None:
    device.root.write_bytes(b"")
    with pytest.raises(StorageUnavailableError, match="cannot lay out package 'digits'"):
        device.install({"model.onnx": b"1"})


FOLDER = f"packages/data/ml_model/acme-team.digits-{STAMP}"
SWEPT = {
    "models/digits",
    f"models/digits/1 -> ../../{FOLDER}",
    "models/digits/config.pbtxt",
    "packages/data",
    "packages/data/ml_model",
    f"packages/digits -> {FOLDER.removeprefix('packages/')}",
    FOLDER,
    f"{FOLDER}/model.onnx",
    f"{FOLDER}.status.json",
}


def test_sweeping_keeps_what_is_named(device: Device) -> None:
    device.install({"model.onnx": b"1"}, stamp="2026-01-01T00-00-00")
    kept = device.install({"model.onnx": b"2"})
    assert device.packages.sweep(names=["digits"], digests=[kept.version.digest]) == 1
    assert device.tree() == SWEPT
    assert device.packages.sweep(names=["digits"], digests=[kept.version.digest]) == 0


def test_sweeping_removes_packages_that_nobody_names(device: Device) -> None:
    device.install({"model.onnx": b"1"})
    device.packages.sweep(names=[], digests=[])
    assert device.tree() == {"packages/data", "packages/data/ml_model"}


def _file(path: Path) -> None:
    path.write_bytes(b"?")


def _folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_bytes(b"?")


def _link(path: Path) -> None:
    path.symlink_to("nowhere", target_is_directory=True)


@pytest.mark.parametrize("make", [_file, _folder, _link])
@pytest.mark.parametrize(
    "path",
    [
        "packages/stranger",
        "packages/.new-digits",
        "packages/data/stranger",
        "packages/data/ml_model/.new-half",
        "packages/data/ml_model/stranger",
        "packages/data/ml_model/gone.status.json",
        "models/stranger",
        "models/.new-digits",
        "models/digits/.new-1",
        "models/digits/labels-7-0.txt",
        "models/digits/2",
    ],
)
def test_sweeping_removes_what_nobody_owns(
    device: Device, path: str, make: Callable[[Path], None]
) -> None:
    kept = device.install({"model.onnx": b"1"})
    make(device.home / path)
    device.packages.sweep(names=["digits"], digests=[kept.version.digest])
    assert device.tree() == SWEPT


@pytest.mark.parametrize("make", [_file, _folder, _link])
@pytest.mark.parametrize("path", ["packages/digits", "models/digits/1", FOLDER])
def test_what_is_in_the_way_is_replaced(
    device: Device, path: str, make: Callable[[Path], None]
) -> None:
    (device.home / path).parent.mkdir(parents=True)
    make(device.home / path)
    device.install({"model.onnx": b"1"})
    assert device.tree() == SWEPT


@pytest.mark.parametrize("missing", [*sorted(SWEPT)])
def test_whatever_is_missing_is_made_again(device: Device, missing: str) -> None:
    device.install({"model.onnx": b"1"})
    path = device.home / missing.partition(" -> ")[0]
    if path.is_dir() and not path.is_symlink():
        path.rename(device.home / "lost")
    else:
        path.unlink()
    device.install({"model.onnx": b"1"})
    assert device.tree() == SWEPT


def test_a_version_that_is_not_active_is_laid_out_and_nothing_leads_to_it(
    device: Device,
) -> None:
    serving = device.install({"model.onnx": b"1"})
    tried = device.add({"model.onnx": b"2"}, stamp=None)
    package = Package("digits", "acme/team.digits")
    installed = device.packages.install(package, tried.version, tried.manifest, is_active=False)
    assert (installed.folder / "model.onnx").read_bytes() == b"2"
    digests = [serving.version.digest, tried.version.digest]
    device.packages.sweep(names=["digits"], digests=digests)
    for leads in ("packages/digits", "models/digits/1"):
        assert (device.home / leads / "model.onnx").read_bytes() == b"1"
    device.packages.activate("digits", installed)
    for leads in ("packages/digits", "models/digits/1"):
        assert (device.home / leads / "model.onnx").read_bytes() == b"2"
