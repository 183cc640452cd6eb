from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    BlobNotFoundError,
    DeployError,
    StorageUnavailableError,
    TrustError,
    VersionNotFoundError,
)
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.packages import PackageFolder
from nbmodel.runtime.state import Record
from nbmodel.runtime.stock import Stockroom, record_of
from nbmodel.runtime.trust import TrustGate
from nbmodel.signing.policy import TrustPolicy
from nbmodel.storage import OciLayout
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.tags import TagStore


class Device:
    """Blobs, tags and packages on a disk."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.storage = OciLayout(home / "blobs")
        self.tags = TagStore(home / "tags")
        self.stockroom = Stockroom(
            storage=self.storage,
            tags=self.tags,
            packages=PackageFolder(home / "packages", self.storage),
            environment={},
        )

    def add(self, number: int, content: bytes) -> str:
        manifest = Manifest(
            "digits",
            f"2026-02-28T00:00:{number:02d}.000000Z",
            (FileEntry("model.onnx", len(content), self.storage.add_bytes(content)),),
            "onnx",
            "other",
            Signature(),
        )
        self.storage.add_bytes(manifest.config_bytes())
        digest = self.storage.add_bytes(manifest.manifest_bytes())
        for tag in (str(number), "latest"):
            self.tags.set("digits", tag, digest)
        return digest


def config(version: str = "latest", path: str = "${packages.d}") -> MachineConfig:
    return MachineConfig.from_json(
        {
            "packages": [
                {"name": "d", "package": "local/digits", "version": version},
                {"name": "away", "package": "local/away"},
                {"name": "tool", "package": "acme/tool", "type": "module"},
            ],
            "services": [
                {
                    "name": "s",
                    "api": "rdk:service:mlmodel",
                    "model": "onnx_cpu",
                    "attributes": {"model_path": path},
                }
            ],
        }
    )


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def wish_in(device: Device, wanted: MachineConfig) -> tuple[Wish, Record]:
    wish = device.stockroom.wishes(wanted, device.stockroom.look(wanted))["s"]
    assert isinstance(wish, Wish)
    record = record_of(wish)
    assert record is not None
    return wish, record


def test_what_is_here_and_what_is_not(device: Device) -> None:
    digest = device.add(1, b"one")
    found = device.stockroom.look(config())
    assert isinstance(found["d"], Found)
    assert found["d"].version.digest == digest
    assert isinstance(found["away"], VersionNotFoundError)
    assert isinstance(found["tool"], DeployError)
    assert not (device.home / "packages").exists(), "a look writes nothing"


def test_a_version_is_laid_out_before_its_name_leads_there(device: Device) -> None:
    device.add(1, b"one")
    stock = device.stockroom.fill(config())
    installed = stock.installed["d"]
    assert (installed.folder / "model.onnx").read_bytes() == b"one"
    link = device.home / "packages" / "d"
    assert not link.exists()
    device.stockroom.activate("d", installed)
    assert link.resolve() == installed.folder.resolve()


def test_what_no_model_service_uses_is_there_at_once(device: Device) -> None:
    device.add(1, b"one")
    device.stockroom.fill(config(path="/elsewhere.onnx"))
    assert (device.home / "packages" / "d" / "model.onnx").read_bytes() == b"one"


def test_what_cannot_be_laid_out_is_damaged(device: Device) -> None:
    device.add(1, b"one")
    (device.home / "packages").write_bytes(b"in the way")
    stock = device.stockroom.fill(config())
    assert isinstance(stock.damaged["d"], StorageUnavailableError)
    assert stock.found["d"] is stock.damaged["d"]
    assert "d" not in stock.installed


def test_a_package_alone_stands_for_its_model(device: Device) -> None:
    device.add(1, b"one")
    stock = device.stockroom.fill(config())
    wish, _ = wish_in(device, config())
    source = device.stockroom.source(wish, stock)
    assert source.attributes["model_path"] == str(stock.installed["d"].folder / "model.onnx")
    assert (source.key, source.model, source.installed) == (
        wish.key,
        "onnx_cpu",
        stock.installed["d"],
    )


def test_what_ran_before_is_loaded_as_it_was_then(device: Device) -> None:
    digest = device.add(1, b"one")
    _, record = wish_in(device, config())
    device.add(2, b"two")
    stock = device.stockroom.fill(config())
    source = device.stockroom.former(record, stock)
    assert source.installed is not None
    assert source.installed.version.digest == digest
    assert Path(source.attributes["model_path"]).read_bytes() == b"one"
    assert source.key == record.key


def test_what_ran_before_needs_neither_tags_nor_its_package(device: Device) -> None:
    device.add(1, b"one")
    _, record = wish_in(device, config())
    shutil.rmtree(device.home / "tags")
    stock = device.stockroom.fill(MachineConfig.from_json({}))
    source = device.stockroom.former(record, stock)
    assert Path(source.attributes["model_path"]).read_bytes() == b"one"


def test_what_ran_before_there_was_a_policy_is_looked_at_as_a_config_is(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.add(1, b"one")
    _, record = wish_in(device, config())
    stock = device.stockroom.fill(config())
    folder = device.home / "trusting"
    gate = TrustGate(TrustPolicy(()), device.storage, ReferrerStore(folder / "referrers"), folder)
    monkeypatch.setattr(gate, "check", lambda *_: None)  # it is signed
    monkeypatch.setattr(device.stockroom, "_trust", gate)
    assert device.stockroom.former(record, stock).key == record.key
    attributes = {**record.attributes, "label_path": "/elsewhere.txt"}
    with pytest.raises(TrustError, match="label_path of the service of digits:1 is a path"):
        device.stockroom.former(replace(record, attributes=attributes), stock)


def test_what_is_gone_cannot_be_brought_back(device: Device) -> None:
    digest = device.add(1, b"one")
    _, record = wish_in(device, config())
    stock = device.stockroom.fill(config())
    device.storage.delete(digest)
    with pytest.raises(BlobNotFoundError):
        device.stockroom.former(record, stock)


def test_a_file_by_path_is_nothing_to_remember(device: Device) -> None:
    wanted = config(path="/elsewhere.onnx")
    wish = device.stockroom.wishes(wanted, device.stockroom.look(wanted))["s"]
    assert isinstance(wish, Wish)
    assert record_of(wish) is None
