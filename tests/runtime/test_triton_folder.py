from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.runtime.triton_folder import TritonFolder

LABELLED = Signature(
    (Tensor("x", "FP32", (-1, 2)),),
    (
        Tensor("boxes", "FP32", (-1, 4)),
        Tensor("classes", "FP32", (-1, 3), labels=("cat", " a\ndog ", "")),
    ),
)


class Device:
    def __init__(self, home: Path) -> None:
        self.root = home / "models"
        self.triton = TritonFolder(self.root)
        self._versions = home / "packages"

    def serve(self, name: str, number: int, signature: Signature = LABELLED) -> Path:
        """Make a version served; the folder of its files."""
        folder = self._versions / f"{name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_text(f"version {number}")
        entry = FileEntry("model.onnx", 9, "sha256:" + "1" * 64)
        manifest = Manifest(name, "2026", (entry,), "onnx", "other", signature)
        self.triton.serve(name, number, folder, manifest)
        return folder

    def config(self, name: str = "digits") -> str:
        return (self.root / name / "config.pbtxt").read_text()

    def names(self, name: str = "digits") -> list[str]:
        return sorted(path.name for path in (self.root / name).iterdir())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_version_is_a_numbered_folder(device: Device) -> None:
    device.serve("digits", 3)
    assert (device.root / "digits" / "3" / "model.onnx").read_text() == "version 3"
    assert "versions: [ 3 ]" in device.config()


def test_labels_are_one_a_line(device: Device) -> None:
    device.serve("digits", 3)
    assert 'label_filename: "labels-3-1.txt"' in device.config()
    assert (device.root / "digits" / "labels-3-1.txt").read_text() == "cat\na dog\n\n"


def test_the_former_version_stays_beside_the_one_that_is_served(device: Device) -> None:
    device.serve("digits", 3)
    device.serve("digits", 4)
    assert "versions: [ 4 ]" in device.config()
    assert (device.root / "digits" / "3" / "model.onnx").read_text() == "version 3"
    assert device.triton.sweep({"digits"}) == 1
    assert device.names() == ["3", "4", "config.pbtxt", "labels-4-1.txt"]


def test_a_version_whose_files_went_goes(device: Device) -> None:
    former = device.serve("digits", 3)
    device.serve("digits", 4, Signature())
    former.rename(former.with_name("elsewhere"))
    device.triton.sweep({"digits"})
    assert device.names() == ["4", "config.pbtxt"]


def test_a_package_without_a_version_is_no_model(device: Device) -> None:
    folder = device.serve("digits", 3)
    folder.rename(folder.with_name("elsewhere"))
    device.triton.sweep({"digits"})
    assert not (device.root / "digits").exists()


def test_a_package_that_nobody_wants_goes(device: Device) -> None:
    device.serve("digits", 3)
    device.serve("faces", 1)
    assert device.triton.sweep({"faces"}) == 1
    assert [path.name for path in device.root.iterdir()] == ["faces"]


def test_the_folders_may_be_moved_together(device: Device, tmp_path: Path) -> None:
    device.serve("digits", 3)
    moved = tmp_path / "elsewhere" / "deeper"
    moved.mkdir(parents=True)
    for name in ("models", "packages"):
        (tmp_path / name).rename(moved / name)
    assert (moved / "models" / "digits" / "3" / "model.onnx").read_text() == "version 3"


def test_a_configuration_names_only_what_is_there(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.serve("digits", 3)
    seen = []
    rename = Path.replace

    def watched(source: Path, target: Path) -> None:
        rename(source, target)
        config = device.config()
        labels = config.partition('label_filename: "')[2].partition('"')[0]
        number = config.partition("versions: [ ")[2].partition(" ")[0]
        seen.append({labels, number} <= set(device.names()))

    monkeypatch.setattr(Path, "replace", watched)
    device.serve("digits", 4)
    assert seen == [True] * 3  # the link, the labels, the configuration


def test_nothing_is_written_when_nothing_changes(device: Device) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        found = [device.root, *device.root.rglob("*")]
        return {str(one): (one.lstat().st_ino, one.lstat().st_mtime_ns) for one in found}

    device.serve("digits", 3)
    before = seen()
    device.serve("digits", 3)
    assert seen() == before
