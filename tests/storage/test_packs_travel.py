"""Packed blobs go wherever whole ones go."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbmodel.storage import MemoryStorage, OciLayout
from nbmodel.storage.assembly import chunk_index, read_table
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.manifests import chunked_blobs
from nbmodel.storage.remote_registry import open_registry
from tests.tools.storage_server import Device, Server, add_version

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is packed on Windows"),
]

OLD = random.Random(0).randbytes(3_000_000)
NEW = OLD[:1_000_000] + random.Random(1).randbytes(100_000) + OLD[1_100_000:]
BLOB = "sha256:" + hashlib.sha256(OLD).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def device(tmp_path: Path, server: Server) -> Device:
    return Device(tmp_path / "device", server, max_blob=64_000_000)


def pack(layout: OciLayout) -> str:
    """Two versions, the file of the first packed; the digest of its manifest."""
    old, new = (add_version(layout, {"model.onnx": data}) for data in (OLD, NEW))
    table = chunked_blobs(layout.read(old, limit=100_000))[BLOB]
    have = chunk_index(layout, [new])
    assert layout.pack(BLOB, read_table(layout, table.digest, len(OLD)), have) > 2_000_000
    return old


def test_it_is_pushed_and_nothing_is_unpacked_for_that(device: Device, tmp_path: Path) -> None:
    here = OciLayout(tmp_path / "here")
    old = pack(here)
    with Distribution(device.url) as remote:
        remote.push("digits", here, old, tags=["1"])
    device.storage.check(BLOB)
    assert not here.is_whole(BLOB)


def test_it_is_pushed_to_an_object_store(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    here, there = OciLayout(tmp_path / "here"), MemoryStorage()
    old = pack(here)
    (tmp_path / "store").mkdir()
    with open_registry((tmp_path / "store").as_uri()) as remote:
        remote.push("digits", here, old, tags=["1"])
        remote.pull("digits", "1", there)
    there.check(BLOB)
    assert not here.is_whole(BLOB)


def test_of_a_version_beside_it_only_what_differs_is_pushed(device: Device, tmp_path: Path) -> None:
    here = OciLayout(tmp_path / "here")
    old = pack(here)
    third = NEW[:2_000_000] + random.Random(2).randbytes(100_000) + NEW[2_100_000:]
    digest = add_version(here, {"model.onnx": third})
    with Distribution(device.url) as remote:
        remote.push("digits", here, old, tags=["1"])
        pack(device.storage)
        pushed = remote.push("digits", here, digest, tags=["3"])
    assert pushed.sent < 500_000
    assert not device.storage.is_whole(BLOB)
    device.storage.check("sha256:" + hashlib.sha256(third).hexdigest())


def test_whether_it_is_there_is_answered_without_unpacking(device: Device) -> None:
    pack(device.storage)
    answer = httpx.head(f"{device.url}/v2/digits/blobs/{BLOB}", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(OLD))
    assert answer.headers["Docker-Content-Digest"] == BLOB
    assert not device.storage.is_whole(BLOB)


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [({}, 200, OLD), ({"Range": "bytes=999990-1000009"}, 206, OLD[999_990:1_000_010])],
    ids=["all", "a range"],
)
def test_it_is_served(device: Device, asked: dict[str, str], status: int, expected: bytes) -> None:
    pack(device.storage)
    url = f"{device.url}/v2/digits/blobs/{BLOB}"
    answer = httpx.get(url, headers=asked, trust_env=False)
    assert (answer.status_code, answer.content) == (status, expected)


def test_it_is_served_also_where_no_file_can_be_made(device: Device) -> None:
    pack(device.storage)
    uploads = device.storage.root / "uploads"
    uploads.rmdir()
    uploads.write_bytes(b"")  # nothing can be written there any more
    answer = httpx.get(f"{device.url}/v2/digits/blobs/{BLOB}", trust_env=False)
    assert (answer.status_code, answer.content) == (200, OLD)
    assert not device.storage.is_whole(BLOB)
