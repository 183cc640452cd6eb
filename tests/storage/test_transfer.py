"""What pushing and pulling does besides moving bytes: mount, wait, several at once, go on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import httpx
import pytest

from nbmodel.errors import (
    DigestMismatchError,
    RemoteFaultError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.storage import MemoryStorage, OciLayout, fetch, send
from nbmodel.storage.distribution_client import Distribution, Pushed
from nbmodel.storage.fetch import UPLOAD_PREFIX
from nbmodel.storage.patience import Patience
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.storage_server import Device, Server, add_version

pytestmark = pytest.mark.unhurried

DATA = bytes(range(256)) * 5000
QUICK = Patience(tries=3, first_s=0.001, longest_s=1)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def device(tmp_path: Path, server: Server) -> Device:
    return Device(tmp_path / "device", server, max_blob=64 * 1024 * 1024)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The CNCF's registry on a free port."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)


class Seen(httpx.HTTPTransport):
    """A network on which requests are noted, and some answered by the test."""

    def __init__(
        self, answer: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    ) -> None:
        super().__init__()
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        own = self._answer(request)
        if own is None:
            return super().handle_request(request)
        for _ in request.stream:  # type: ignore[union-attr] # of a synchronous client
            pass
        stream = httpx.ByteStream(own.content)
        return httpx.Response(own.status_code, headers=own.headers, stream=stream)

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


# Mounting


def test_a_blob_that_another_repository_has_is_mounted(registry: str) -> None:
    here = MemoryStorage()
    one = add_version(here, {"model.onnx": DATA})
    two = add_version(here, {"model.onnx": DATA}, created="2026-01-02")
    transport, done = Seen(), []
    with Distribution(registry, transport=transport) as remote:
        remote.push("team/one", here, one, tags=["1"])
        transport.requests.clear()
        pushed = remote.push("team/two", here, two, tags=["1"], progress=done.append)
    config = sum(done) - pushed.present
    assert pushed == Pushed(config, sum(done) - config)
    assert config < 2000, "the config alone was sent"
    mounts = [one for one in transport.requests if "mount" in one.url.params]
    assert {one.url.params["from"] for one in mounts} == {"team/one"}
    with Distribution(registry) as remote:
        assert remote.pull("team/two", "1", MemoryStorage()) == two


def test_the_next_client_knows_where_a_blob_is(registry: str, tmp_path: Path) -> None:
    here = MemoryStorage()
    data = b"known" * 100_000
    one = add_version(here, {"model.onnx": data})
    with Distribution(registry, sessions=tmp_path) as remote:
        remote.push("known/one", here, one, tags=["1"])
    with Distribution(registry, sessions=tmp_path) as remote:
        pushed = remote.push("known/two", here, one, tags=["1"])
    assert pushed.sent < 10_000, "config and chunk table, which asking for would cost as much"
    assert pushed.present >= len(data)


def test_a_registry_that_mounts_nothing_is_sent_the_blob(device: Device) -> None:
    def refuses(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(403) if "mount" in request.url.params else None

    here = MemoryStorage()
    one = add_version(here, {"model.onnx": DATA})
    with Distribution(device.url, transport=Seen(refuses)) as remote:
        remote.push("one", here, one, tags=["1"])
        for blob, _, _ in list(device.storage.digests()):
            device.storage.delete(blob)
        remote.push("two", here, one, tags=["1"])
    assert device.storage.has(sha256(DATA))


# Chunks


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 501])
def test_a_registry_that_takes_no_chunks_gets_it_in_one(device: Device, status: int) -> None:
    transport = Seen(lambda request: httpx.Response(status) if request.method == "PATCH" else None)
    here, done = MemoryStorage(), []
    digest = here.add_bytes(DATA)
    with Distribution(device.url, transport=transport) as remote:
        assert remote.push_blob("digits", here, digest, progress=done.append).sent == len(DATA)
    assert transport.methods() == ["HEAD", "POST", "PATCH", "POST", "PUT"]
    assert sum(done) == len(DATA)
    assert device.storage.read(digest, limit=len(DATA)) == DATA


@pytest.mark.usefixtures("small_chunks")
def test_chunks_are_as_long_as_a_registry_wants_them(device: Device) -> None:
    def wants(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        answer = httpx.post(request.url, trust_env=False)
        headers = {**answer.headers, "OCI-Chunk-Min-Length": "500000"}
        return httpx.Response(answer.status_code, headers=headers)

    transport = Seen(wants)
    here = MemoryStorage()
    digest = here.add_bytes(DATA)
    with Distribution(device.url, transport=transport) as remote:
        remote.push_blob("digits", here, digest)
    sizes = [one.headers["Content-Length"] for one in transport.requests if one.method == "PATCH"]
    assert sizes == ["500000", "500000"]
    assert device.storage.has(digest)


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_that_was_taken_in_part_is_gone_on_with(device: Device) -> None:
    def takes_some(request: httpx.Request) -> httpx.Response | None:
        if request.method != "PATCH" or request.headers["Content-Range"] != "300000-599999":
            return None
        content = request.read()[:100_000]
        headers = {"Content-Range": "300000-399999"}
        answer = httpx.patch(request.url, content=content, headers=headers, trust_env=False)
        return httpx.Response(202, headers=answer.headers)

    here = MemoryStorage()
    digest = here.add_bytes(DATA)
    with Distribution(device.url, transport=Seen(takes_some)) as remote:
        remote.push_blob("digits", here, digest)
    assert device.storage.read(digest, limit=len(DATA)) == DATA


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_registry_that_breaks_down_for_a_moment_is_gone_on_with(
    device: Device, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "PATIENCE", QUICK)
    faults = [httpx.Response(500)]
    transport = Seen(lambda request: faults.pop() if request.method == method and faults else None)
    here, done = MemoryStorage(), []
    digest = here.add_bytes(DATA)
    with Distribution(device.url, transport=transport) as remote:
        remote.push_blob("digits", here, digest, progress=done.append)
    assert device.storage.read(digest, limit=len(DATA)) == DATA
    assert sum(done) == len(DATA)


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_that_stays_broken_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "PATIENCE", QUICK)
    transport = Seen(lambda request: httpx.Response(500) if request.method == "PATCH" else None)
    here = MemoryStorage()
    with (
        Distribution(device.url, transport=transport) as remote,
        pytest.raises(RemoteFaultError, match="answered 500 to PATCH"),
    ):
        remote.push_blob("digits", here, here.add_bytes(DATA))


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_that_loses_every_upload_is_given_up(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "PATIENCE", QUICK)

    def loses(request: httpx.Request) -> httpx.Response | None:
        is_second = request.headers.get("Content-Range", "").startswith("300000-")
        return httpx.Response(404) if is_second or request.method == "GET" else None

    here, done = MemoryStorage(), []
    digest = here.add_bytes(DATA)
    with (
        Distribution(device.url, transport=Seen(loses)) as remote,
        pytest.raises(TargetUnreachableError, match="loses an upload again and again"),
    ):
        remote.push_blob("digits", here, digest, progress=done.append)
    assert sum(done) <= 600_000, "what has to be sent again does not count"


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_that_has_something_else_now_is_told(device: Device) -> None:
    other = sha256(b"other")

    def lies(request: httpx.Request) -> httpx.Response | None:
        headers = {"Docker-Content-Digest": other}
        return httpx.Response(201, headers=headers) if request.method == "PUT" else None

    here = MemoryStorage()
    with (
        Distribution(device.url, transport=Seen(lies)) as remote,
        pytest.raises(DigestMismatchError, match=other),
    ):
        remote.push_blob("digits", here, here.add_bytes(DATA))


# Over the end of a process


@pytest.mark.usefixtures("small_chunks")
def test_an_upload_goes_on_with_the_next_client(device: Device, tmp_path: Path) -> None:
    here = MemoryStorage()
    digest = here.add_bytes(DATA)
    stopped = threading.Event()

    def stop(count: int) -> None:
        done.append(count)
        if sum(done) > 700_000:
            stopped.set()

    done: list[int] = []
    first = Distribution(device.url, cancelled=stopped.is_set, sessions=tmp_path / "sessions")
    with first as remote, pytest.raises(CancelledError):
        remote.push_blob("digits", here, digest, progress=stop)
    again: list[int] = []
    with Distribution(device.url, sessions=tmp_path / "sessions") as remote:
        pushed = remote.push_blob("digits", here, digest, progress=again.append)
    assert pushed.sent + pushed.present == sum(again) == len(DATA)
    assert pushed.present >= 600_000
    assert again[0] == pushed.present
    assert list((tmp_path / "sessions").glob("*.json")) == []


@pytest.mark.usefixtures("small_chunks")
def test_an_upload_that_the_registry_forgot_begins_anew(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "PATIENCE", QUICK)
    here, stopped = MemoryStorage(), threading.Event()
    digest = here.add_bytes(DATA)
    sessions = tmp_path / "sessions"
    with (
        Distribution(device.url, cancelled=stopped.is_set, sessions=sessions) as remote,
        pytest.raises(CancelledError),
    ):
        remote.push_blob("digits", here, digest, progress=lambda _: stopped.set())
    limit = time.monotonic() + 60
    while not (begun := list(device.storage.abandoned(time.time() + 60))):
        assert time.monotonic() < limit  # the server may still have it open
        time.sleep(0.01)
    assert all(device.storage.discard(name) for name, _ in begun)
    with Distribution(device.url, sessions=sessions) as remote:
        assert remote.push_blob("digits", here, digest) == Pushed(len(DATA), 0)


def test_a_partial_blob_waits_for_the_next_client(device: Device, tmp_path: Path) -> None:
    digest = device.storage.add_bytes(DATA)
    there, stopped = OciLayout(tmp_path / "there"), threading.Event()
    with (
        Distribution(device.url, cancelled=stopped.is_set) as remote,
        pytest.raises(CancelledError),
    ):
        remote.pull_blob("digits", there, digest, size=len(DATA), progress=lambda _: stopped.set())
    ((name, begun),) = there.abandoned(time.time() + 60)
    assert name.startswith(UPLOAD_PREFIX)
    transport, done = Seen(), []
    with Distribution(device.url, transport=transport) as remote:
        remote.pull_blobs("digits", there, {digest: len(DATA)}, progress=done.append)
    assert done[0] == begun
    assert transport.requests[0].headers["Range"] == f"bytes={begun}-"
    there.check(digest)


def test_a_blob_that_somebody_else_brings_is_waited_for(device: Device, tmp_path: Path) -> None:
    digest = device.storage.add_bytes(DATA)
    there = OciLayout(tmp_path / "there")
    name = UPLOAD_PREFIX + digest.partition(":")[2][:48]
    transport, done = Seen(), []
    with (
        there.receive(name=name) as writer,
        Distribution(device.url, transport=transport) as remote,
    ):
        pulling = threading.Thread(
            target=remote.pull_blobs,
            args=("digits", there, {digest: len(DATA)}),
            kwargs={"progress": done.append},
        )
        pulling.start()
        writer.write(DATA)
        writer.commit(digest)
        pulling.join()
    assert (sum(done), transport.requests) == (len(DATA), [])


def test_a_blob_that_does_not_grow_is_not_waited_for(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_HUNG_S", 0.1)
    digest = device.storage.add_bytes(DATA)
    there = OciLayout(tmp_path / "there")
    name = UPLOAD_PREFIX + digest.partition(":")[2][:48]
    with there.receive(name=name) as writer, Distribution(device.url) as remote:
        writer.write(DATA[:1000])
        assert (there.begun(name), there.begun("other")) == (1000, 0)
        remote.pull_blobs("digits", there, {digest: len(DATA)})
        there.check(digest)
        writer.write(DATA[1000:])  # it was not stopped for good
        writer.commit(digest)
    there.check(digest)


# "Later"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_says_later_is_asked_again(device: Device, status: int) -> None:
    refusals = [httpx.Response(status, headers={"Retry-After": "0"})] * 2
    transport = Seen(
        lambda request: refusals.pop() if request.method == "PUT" and refusals else None
    )
    here, done = MemoryStorage(), []
    digest = here.add_bytes(DATA)
    with Distribution(device.url, transport=transport, patience=QUICK) as remote:
        remote.push_blob("digits", here, digest, progress=done.append)
    assert transport.methods().count("PUT") == 3
    assert sum(done) == len(DATA), "what was sent to no end is taken back"
    assert device.storage.has(digest)


def test_a_server_is_not_asked_before_it_wants_to_be(device: Device) -> None:
    refusals = [httpx.Response(429, headers={"Retry-After": "1"})]
    transport = Seen(lambda _: refusals.pop() if refusals else None)
    began = time.monotonic()
    with Distribution(device.url, transport=transport, patience=QUICK) as remote:
        assert not remote.has_blob("digits", sha256(DATA))
    assert time.monotonic() - began >= 1


def test_a_server_that_wants_to_be_asked_tomorrow_is_away(device: Device) -> None:
    transport = Seen(lambda _: httpx.Response(503, headers={"Retry-After": "86400"}))
    with (
        Distribution(device.url, transport=transport, patience=QUICK) as remote,
        pytest.raises(TargetUnreachableError, match="answered 503"),
    ):
        remote.has_blob("digits", sha256(DATA))
    assert len(transport.requests) == 1


def test_waiting_ends_when_nobody_wants_to_go_on(device: Device) -> None:
    stopped = threading.Event()

    def refuse(_request: httpx.Request) -> httpx.Response:
        stopped.set()
        return httpx.Response(503, headers={"Retry-After": "30"})

    with (
        Distribution(device.url, transport=Seen(refuse), cancelled=stopped.is_set) as remote,
        pytest.raises(CancelledError),
    ):
        remote.has_blob("digits", sha256(DATA))


# Several at once


def test_several_blobs_go_and_come_at_a_time(registry: str, tmp_path: Path) -> None:
    here = OciLayout(tmp_path / "here")
    files = {f"part-{number}": bytes([number]) * 3_000_000 for number in range(12)}
    digest = add_version(here, files)
    seen: set[int] = set()
    done: list[int] = []

    def told(count: int) -> None:
        seen.add(threading.get_ident())
        done.append(count)

    with Distribution(registry) as remote:
        remote.push("team/parts", here, digest, tags=["1"], progress=told)
        assert len(seen) > 1
        there, received = OciLayout(tmp_path / "there"), []
        assert remote.pull("team/parts", "1", there, progress=received.append) == digest
    sizes = {blob: size for blob, size, _ in here.digests()}
    assert {blob: size for blob, size, _ in there.digests()} == sizes
    assert sum(done) == sum(received) == sum(sizes.values()) - sizes[digest]


def test_all_end_with_the_first_error(device: Device, tmp_path: Path) -> None:
    there = OciLayout(tmp_path / "there")
    blobs = {
        device.storage.add_bytes(bytes([number]) * 2_000_000): 2_000_000 for number in range(8)
    }
    wrong = next(iter(blobs))
    path = device.storage.path(wrong)
    path.chmod(0o644)
    path.write_bytes(b"\xff" * 2_000_000)
    with Distribution(device.url) as remote:
        with pytest.raises(DigestMismatchError):
            remote.pull_blobs("digits", there, blobs)
        assert not there.has(wrong)
        rest = {blob: size for blob, size in blobs.items() if blob != wrong}
        remote.pull_blobs("digits", there, rest)  # it can be used as before
    for blob in rest:
        there.check(blob)


def test_an_interrupt_ends_all(device: Device, tmp_path: Path) -> None:
    there = OciLayout(tmp_path / "there")
    blobs = {
        device.storage.add_bytes(bytes([number]) * 2_000_000): 2_000_000 for number in range(8)
    }

    def interrupt(_count: int) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    with Distribution(device.url) as remote, pytest.raises(KeyboardInterrupt):
        remote.pull_blobs("digits", there, blobs, progress=interrupt)
    assert not [one for one in threading.enumerate() if one.name == "nbmodel-lane"]


def test_a_storage_without_a_blob_is_told_before_anything_goes(device: Device) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": DATA})
    here.delete(sha256(DATA))
    with Distribution(device.url) as remote, pytest.raises(StorageError, match="no blob"):
        remote.push("digits", here, digest, tags=["1"])
    assert device.tags.tags("digits") == {}


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_that_takes_a_byte_at_a_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "PATIENCE", QUICK)

    def takes_a_byte(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(404)
        start = int(request.headers.get("Content-Range", "0-").partition("-")[0])
        headers = {"Location": "/v2/digits/blobs/uploads/1", "Range": f"0-{start}"}
        return httpx.Response(202, headers=headers)

    transport = Seen(takes_a_byte)
    here = MemoryStorage()
    with (
        Distribution("http://127.0.0.1:1", transport=transport) as remote,
        pytest.raises(TargetUnreachableError, match="loses an upload again and again"),
    ):
        remote.push_blob("digits", here, here.add_bytes(DATA))
    assert len(transport.requests) < 10
