"""Packed blobs go wherever whole ones go."""

from __future__ import annotations

import email
import email.policy
import hashlib
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
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


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "whole"])
@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ({}, 200, OLD),
        ({"Range": "bytes=999990-1000009"}, 206, OLD[999_990:1_000_010]),
        ({"Range": "bytes=0-9", "If-Range": f'"{BLOB}"'}, 206, OLD[:10]),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200, OLD),
        ({"Range": "bytes=3000000-"}, 416, b""),
    ],
    ids=["all", "a range", "of this", "of another", "behind its end"],
)
def test_it_is_served(
    device: Device, is_packed: bool, asked: dict[str, str], status: int, expected: bytes
) -> None:
    pack(device.storage)
    if not is_packed:
        device.storage.path(BLOB)
    url = f"{device.url}/v2/digits/blobs/{BLOB}"
    answer = httpx.get(url, headers=asked, trust_env=False)
    assert (answer.status_code, answer.content) == (status, expected)
    assert device.storage.is_whole(BLOB) is not is_packed


def test_several_ranges_of_it_are_served(device: Device) -> None:
    pack(device.storage)
    ranges = [(5, 15), (990_000, 1_200_000), (2_999_999, 3_000_000)]
    asked = "bytes=" + ",".join(f"{start}-{end - 1}" for start, end in ranges)
    answer = httpx.get(
        f"{device.url}/v2/digits/blobs/{BLOB}", headers={"Range": asked}, trust_env=False
    )
    # The standard library's own reader of multipart bodies.
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    found = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP).get_payload()
    assert answer.status_code == 206
    assert [one["Content-Range"] for one in found] == [
        f"bytes {start}-{end - 1}/3000000" for start, end in ranges
    ]
    assert [one.get_payload(decode=True) for one in found] == [
        OLD[start:end] for start, end in ranges
    ]


def test_it_is_served_also_where_no_file_can_be_made(device: Device) -> None:
    pack(device.storage)
    uploads = device.storage.root / "uploads"
    uploads.rmdir()
    uploads.write_bytes(b"")  # nothing can be written there any more
    answer = httpx.get(f"{device.url}/v2/digits/blobs/{BLOB}", trust_env=False)
    assert (answer.status_code, answer.content) == (200, OLD)


def test_what_is_packed_while_it_is_served_arrives(device: Device) -> None:
    pack(device.storage)
    device.storage.path(BLOB)
    url = f"{device.url}/v2/digits/blobs/{BLOB}"
    with httpx.stream("GET", url, trust_env=False) as answer:
        pack(device.storage)
        assert answer.read() == OLD
    assert not device.storage.is_whole(BLOB)


def test_whoever_packs_and_unpacks_meanwhile_nobody_is_refused(device: Device) -> None:
    pack(device.storage)
    ended = threading.Event()

    def turn() -> None:
        while not ended.is_set():
            device.storage.path(BLOB)
            pack(device.storage)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        with httpx.Client(trust_env=False) as http:
            for _ in range(30):
                answer = http.get(
                    f"{device.url}/v2/digits/blobs/{BLOB}", headers={"Range": "bytes=0-9"}
                )
                assert (answer.status_code, answer.content) == (206, OLD[:10])
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="what is open is listed on Linux alone")
def test_a_client_that_goes_leaves_nothing_open(device: Device) -> None:
    pack(device.storage)
    for _ in range(5):
        url = f"{device.url}/v2/digits/blobs/{BLOB}"
        with httpx.stream("GET", url, trust_env=False) as answer:
            assert answer.status_code == 200
    deadline = time.monotonic() + 60
    while opened(device.storage.root):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def opened(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(one.readlink()))
    return [name for name in found if name.startswith(str(folder))]
