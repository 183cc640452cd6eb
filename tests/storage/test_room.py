"""What has no room on the disk that it is to come to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.core.digest import digest_of
from nbmodel.errors import StorageUnavailableError
from nbmodel.storage import MemoryStorage, OciLayout
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.object_store import open_store
from nbmodel.storage.object_store_registry import ObjectStoreRegistry
from nbmodel.storage.remote_registry import RemoteRegistry
from nbmodel.storage.room import free_bytes, room_told
from tests.tools.small_disk import disk, fill
from tests.tools.storage_server import Device, Server, add_version

pytestmark = pytest.mark.unhurried

MIB = 1024 * 1024
LARGE = os.urandom(3 * MIB)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(params=["registry", "object store"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server
) -> Iterator[RemoteRegistry]:
    """A registry that has a version of two large files."""
    if request.param == "registry":
        device = Device(tmp_path / "device", server, max_blob=64 * MIB)
        remote: RemoteRegistry = Distribution(device.url)
    else:
        pytest.importorskip("obstore", reason="the extra object-store is not installed")
        (tmp_path / "bucket").mkdir()
        remote = ObjectStoreRegistry(open_store(f"file://{tmp_path}/bucket"))
    storage = MemoryStorage()
    digest = add_version(storage, {"model.onnx": LARGE, "more.bin": os.urandom(3 * MIB)})
    remote.push("digits", storage, digest, tags=("1",))
    yield remote
    remote.close()


def left_in(place: Path) -> int:
    """Bytes of what came in part."""
    return sum(path.stat().st_size for path in place.rglob("uploads/*"))


def test_what_has_no_room_is_refused_before_it_comes(
    tmp_path: Path, remote: RemoteRegistry
) -> None:
    with disk(tmp_path, 4 * MIB) as (place, _):
        storage = OciLayout(place / "registry")
        with pytest.raises(StorageUnavailableError, match=r"7\.\d MB are needed, 4\.2 MB are free"):
            remote.pull("digits", "1", storage)
        assert left_in(place) == 0


def test_a_disk_that_fills_up_meanwhile_keeps_what_came(
    tmp_path: Path, remote: RemoteRegistry
) -> None:
    with disk(tmp_path, 12 * MIB) as (place, _):
        storage = OciLayout(place / "registry")
        filler = place / "filler"
        came: list[int] = []

        def watch(count: int) -> None:
            came.append(count)
            if sum(came) > MIB and not filler.exists():
                fill(filler, 0)

        with pytest.raises(StorageUnavailableError, match=r"B are needed, .* are free") as caught:
            remote.pull("digits", "1", storage, progress=watch)
        assert caught.value.hint is not None
        assert "gc" in caught.value.hint
        assert left_in(place) > 0
        filler.unlink()
        seen: list[int] = []
        remote.pull("digits", "1", storage, progress=seen.append)
        assert sum(seen) >= len(LARGE) * 2
        storage.check(digest_of(LARGE))
        assert left_in(place) == 0


def test_an_error_that_is_not_of_a_full_disk_is_left_as_it_is(tmp_path: Path) -> None:
    error = StorageUnavailableError("cannot keep a blob: Permission denied")
    with (
        pytest.raises(StorageUnavailableError) as caught,
        room_told(OciLayout(tmp_path), lambda: 1),
    ):
        raise error from PermissionError(13, "Permission denied")
    assert caught.value is error


def test_the_room_of_a_folder_that_is_not_there_is_that_of_its_disk(tmp_path: Path) -> None:
    with disk(tmp_path, MIB) as (place, _):
        assert free_bytes(place / "a" / "b") == MIB
