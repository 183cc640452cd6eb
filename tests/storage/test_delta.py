"""Pushing only what the other side has no chunks of, and everything that may go wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from nbmodel.core.chunks import ChunkTable, chunk_digest
from nbmodel.core.patch import Patch
from nbmodel.errors import TargetUnreachableError
from nbmodel.storage import MemoryStorage, Storage, send
from nbmodel.storage.distribution_client import Distribution, Pushed
from nbmodel.storage.manifests import load_manifest
from tests.tools.storage_server import Device, Flaky, Server, add_version

pytestmark = pytest.mark.unhurried

MB = 1_000_000
MAX_BLOB = 64 * MB


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def device(tmp_path: Path, server: Server) -> Device:
    return Device(tmp_path / "device", server, max_blob=MAX_BLOB)


@pytest.fixture
def http(device: Device) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=device.url, trust_env=False) as client:
        yield client


@pytest.fixture
def remote(device: Device) -> Iterator[Distribution]:
    with Distribution(device.url) as remote:
        yield remote


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def retrained(data: bytes, share: float = 0.05, seed: int = 1) -> bytes:
    """Weights whose last layers were trained again."""
    kept = len(data) - int(share * len(data))
    return data[:kept] + noise(len(data) - kept, seed)


def push(remote: Distribution, storage: Storage, data: bytes, tag: str) -> tuple[Pushed, str]:
    digest = add_version(storage, {"model.onnx": data}, created=f"2026-01-0{tag}")
    return remote.push("digits", storage, digest, tags=[tag, "latest"]), digest


def same(device: Device, data: bytes) -> bool:
    """Whether the device has those bytes, and no upload is left over."""
    device.storage.check(sha256(data))
    return list(device.storage.abandoned(time.time() + 1)) == []


@pytest.mark.parametrize("size", [14 * MB, 3_500_000], ids=["14 MB", "3.5 MB"])
@pytest.mark.parametrize("seed", range(3))
def test_a_head_trained_again_costs_at_most_8_percent(
    remote: Distribution, device: Device, size: int, seed: int
) -> None:
    """A MobileNet in 32 bits and one quantised: the last 5 % of the bytes differ."""
    here = MemoryStorage()
    old = noise(size, seed)
    new = retrained(old, seed=seed + 100)
    first, _ = push(remote, here, old, "1")
    assert first.sent > size
    done: list[int] = []
    digest = add_version(here, {"model.onnx": new}, created="2026-01-02")
    pushed = remote.push("digits", here, digest, tags=["2"], progress=done.append)
    assert pushed.sent <= 0.08 * size, "the table, the config and the patch together"
    assert pushed.saved >= 0.92 * size
    manifest = load_manifest(here, digest)
    table = manifest.chunks["model.onnx"].size
    config = len(manifest.config_bytes())
    assert pushed.sent + pushed.present + pushed.saved == size + table + config
    assert sum(done) == size + table + config
    assert same(device, new)


@pytest.mark.parametrize(
    ("change", "share"),
    [
        pytest.param(lambda data: b"head" * 25 + data, 0.05, id="bytes put in front"),
        pytest.param(lambda data: data + noise(1000), 0.05, id="bytes put behind"),
        pytest.param(lambda data: data[:MB] + data[MB + 5000 :], 0.1, id="bytes taken out"),
        pytest.param(lambda data: data[2 * MB :] + data[: 2 * MB], 0.1, id="halves swapped"),
        pytest.param(lambda data: data + data, 0.1, id="everything twice"),
        pytest.param(lambda data: data[: 3 * MB], 0.1, id="a shorter file"),
    ],
)
def test_what_moved_is_not_sent(
    remote: Distribution, device: Device, change: Callable[[bytes], bytes], share: float
) -> None:
    here = MemoryStorage()
    old = noise(4 * MB)
    push(remote, here, old, "1")
    new = change(old)
    pushed, _ = push(remote, here, new, "2")
    assert pushed.sent <= share * len(new)
    assert same(device, new)


def test_a_version_with_other_metadata_sends_no_weights(
    remote: Distribution, device: Device
) -> None:
    here = MemoryStorage()
    data = noise(4 * MB)
    push(remote, here, data, "1")
    pushed, digest = push(remote, here, data, "2")
    config = len(load_manifest(here, digest).config_bytes())
    assert pushed.sent == config, "the config has another time of creation in it"
    assert pushed.saved == 0
    assert same(device, data)


def test_other_weights_are_sent_as_they_are(remote: Distribution, device: Device) -> None:
    """A patch of everything would save nothing, and cost putting it together."""
    here = MemoryStorage()
    push(remote, here, noise(4 * MB), "1")
    new = retrained(noise(4 * MB), share=0.97)
    pushed, _ = push(remote, here, new, "2")
    assert pushed.saved == 0
    assert pushed.sent > len(new)
    assert same(device, new)


def test_chunks_of_any_model_on_the_device_are_used(remote: Distribution, device: Device) -> None:
    here = MemoryStorage()
    one, other = noise(2 * MB, seed=1), noise(2 * MB, seed=2)
    for name, data in (("one", one), ("team/other", other)):
        remote.push(name, here, add_version(here, {"model.onnx": data}), tags=["1"])
    pushed, _ = push(remote, here, one + other, "1")
    assert pushed.sent < 0.1 * len(one + other)
    assert same(device, one + other)


# What is here when the patch is asked for may be gone, or never have been right.


class Meanwhile:
    """Does something when an upload is ended."""

    def __init__(self, app: ASGIApp, action: Callable[[], None]) -> None:
        self._app = app
        self._action = action

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "PUT" and b"assemble=" in scope["query_string"]:
            self._action()
        await self._app(scope, receive, send)


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda storage, digest: storage.delete(digest), id="gone"),
        pytest.param(
            lambda storage, digest: overwrite(storage.path(digest), noise(4 * MB, 9)), id="damaged"
        ),
        pytest.param(
            lambda storage, digest: overwrite(storage.path(digest), b"short"), id="cut short"
        ),
    ],
)
def test_a_device_that_lost_a_chunk_meanwhile_gets_the_whole_blob(
    device: Device, lose: Callable[[Storage, str], None]
) -> None:
    here = MemoryStorage()
    old = noise(4 * MB)
    with Distribution(device.url) as remote:
        push(remote, here, old, "1")
    device.start([Middleware(Meanwhile, action=lambda: lose(device.storage, sha256(old)))])
    new = retrained(old)
    done: list[int] = []
    digest = add_version(here, {"model.onnx": new}, created="2026-01-02")
    with Distribution(device.url) as remote:
        pushed = remote.push("digits", here, digest, tags=["2"], progress=done.append)
    assert pushed.saved == 0
    assert pushed.sent > len(new)
    manifest = load_manifest(here, digest)
    total = len(new) + manifest.chunks["model.onnx"].size + len(manifest.config_bytes())
    assert sum(done) == total, "what was sent in vain is taken back"
    assert same(device, new)


@pytest.mark.parametrize(
    ("method", "number", "lost"),
    [
        pytest.param("POST", 3, "request", id="the opening of the upload"),
        pytest.param("POST", 3, "answer", id="the answer to it"),
        pytest.param("PATCH", 2, "request", id="a chunk"),
        pytest.param("PATCH", 2, "answer", id="the answer to a chunk"),
        pytest.param("PUT", 3, "request", id="the last chunk"),
        pytest.param("PUT", 3, "answer", id="the answer to the last chunk"),
    ],
)
def test_a_patch_that_breaks_off_is_gone_on_with(
    device: Device, monkeypatch: pytest.MonkeyPatch, method: str, number: int, lost: str
) -> None:
    """The third upload is the patch: the table and the config go before it."""
    here = MemoryStorage()
    old = noise(4 * MB)
    with Distribution(device.url) as remote:
        push(remote, here, old, "1")
    monkeypatch.setattr(send, "CHUNK", 50_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 100_000)
    new = retrained(old)
    transport = Flaky(lambda request, n: lost if (request.method, n) == (method, number) else None)
    with Distribution(device.url, transport=transport) as remote:
        pushed, _ = push(remote, here, new, "2")
    assert 0 < pushed.sent <= 0.1 * len(new)
    device.storage.check(sha256(new))


def test_a_push_that_was_given_up_goes_on_over_a_restart(device: Device) -> None:
    """What is there is not sent again, and nothing is half there."""
    here = MemoryStorage()
    old = noise(4 * MB)
    with Distribution(device.url) as remote:
        push(remote, here, old, "1")
    new = retrained(old)
    transport = Flaky(lambda request, _: "request" if "assemble" in request.url.params else None)
    lost = pytest.raises(TargetUnreachableError)
    with Distribution(device.url, transport=transport) as remote, lost:
        push(remote, here, new, "2")
    assert not device.storage.has(sha256(new))
    device.start()
    with Distribution(device.url) as remote:
        pushed, digest = push(remote, here, new, "2")
    assert pushed.present == load_manifest(here, digest).chunks["model.onnx"].size + len(
        load_manifest(here, digest).config_bytes()
    )
    assert pushed.sent <= 0.08 * len(new)
    device.storage.check(sha256(new))


# Servers that do not know it, or say what cannot be.


def answering(body: object, status: int = 202) -> Callable[[httpx.Request], httpx.Response | None]:
    """A server that answers the question for missing ranges so."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST" or "assemble" not in request.url.params:
            return None
        location = str(request.url.copy_with(query=None, path="/v2/digits/blobs/uploads/x"))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, content=content, headers={"Location": location})

    return answer


class Pretending(httpx.HTTPTransport):
    """A network that answers some requests itself."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | None]) -> None:
        super().__init__()
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request)
        if answer is None:
            return super().handle_request(request)
        stream = httpx.ByteStream(answer.content)  # as from a network: not read yet
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"[" * 100_000, id="deep JSON"),
        pytest.param([], id="a list"),
        pytest.param({"missing": None}, id="null"),
        pytest.param({"missing": [1, 2]}, id="numbers"),
        pytest.param({"missing": [["a", "b"]]}, id="words"),
        pytest.param({"missing": [[0, 0]]}, id="an empty range"),
        pytest.param({"missing": [[0, 9], [5, 9]]}, id="ranges that overlap"),
        pytest.param({"missing": [[9, 9], [0, 9]]}, id="ranges in disorder"),
        pytest.param({"missing": [[-9, 9]]}, id="a range before the file"),
        pytest.param({"missing": [[4 * MB - 1, 2]]}, id="a range behind the file"),
        pytest.param({"missing": [[0, 1e400]]}, id="an endless range"),
    ],
)
def test_an_answer_that_cannot_be_gets_the_whole_blob(device: Device, body: object) -> None:
    here = MemoryStorage()
    new = noise(4 * MB)
    device.storage.receive(name="x").close()
    with Distribution(device.url, transport=Pretending(answering(body))) as remote:
        pushed, _ = push(remote, here, new, "1")
    assert pushed.saved == 0
    device.storage.check(sha256(new))


@pytest.mark.parametrize("status", [400, 404, 405, 500])
def test_a_registry_that_is_strict_about_parameters_gets_the_whole_blob(
    device: Device, status: int
) -> None:
    here = MemoryStorage()
    new = noise(4 * MB)
    with Distribution(device.url, transport=Pretending(answering({}, status))) as remote:
        pushed, _ = push(remote, here, new, "1")
    assert pushed.saved == 0
    assert same(device, new)


# Clients that send what cannot be.


def ask(http: httpx.Client, digest: str, table: str) -> httpx.Response:
    return http.post(f"/v2/digits/blobs/uploads/?assemble={digest}&chunks={table}")


def finish(http: httpx.Client, patch: bytes, digest: str, table: str) -> httpx.Response:
    location = http.post("/v2/digits/blobs/uploads/").headers["Location"]
    return http.put(f"{location}?digest={digest}&assemble={table}", content=patch)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def stored(storage: Storage) -> set[str]:
    return {digest for digest, _, _ in storage.digests()}


@pytest.fixture
def known(device: Device, remote: Distribution) -> bytes:
    """Weights that the device has, with their table."""
    data = noise(2 * MB)
    push(remote, MemoryStorage(), data, "1")
    return data


def test_missing_ranges_are_told_when_the_table_is_here(
    http: httpx.Client, device: Device, known: bytes
) -> None:
    fresh = noise(20_000, seed=5)
    manifest = load_manifest(device.storage, device.tags.tags("digits")["1"])
    table = device.storage.read(manifest.chunks["model.onnx"].digest, limit=MB)
    chunks = ChunkTable.from_bytes(table).chunks
    mixed = ChunkTable(
        ((20_000, chunk_digest(fresh)), *chunks[:3], (20_000, chunk_digest(fresh)), *chunks[3:])
    )
    digest = device.storage.add_bytes(mixed.to_bytes())
    answer = ask(http, sha256(b"any"), digest)
    assert answer.status_code == 202
    inside = 20_000 + sum(length for length, _ in chunks[:3])
    assert answer.json() == {"missing": [[0, 20_000], [inside, 20_000]]}
    assert answer.headers["Range"] == "0-0"


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(None, id="is not here"),
        pytest.param(b"no table", id="is none"),
        pytest.param(ChunkTable(((9, bytes(16)),)).to_bytes()[:-1], id="is cut short"),
    ],
)
def test_a_table_that_cannot_be_used_opens_an_upload_of_the_whole_blob(
    http: httpx.Client, device: Device, table: bytes | None
) -> None:
    digest = sha256(b"gone") if table is None else device.storage.add_bytes(table)
    answer = ask(http, sha256(b"abc"), digest)
    assert (answer.status_code, answer.content) == (202, b"")
    end = http.put(f"{answer.headers['Location']}?digest={sha256(b'abc')}", content=b"abc")
    assert end.status_code == 201


@pytest.mark.parametrize("query", ["assemble=sha256:1&chunks={0}", "assemble={0}&chunks=x"])
def test_digests_of_a_patch_are_checked(http: httpx.Client, query: str) -> None:
    answer = http.post("/v2/digits/blobs/uploads/?" + query.format(sha256(b"a")))
    assert code(answer) == (400, "DIGEST_INVALID")


def test_a_table_of_more_than_a_blob_may_have_is_refused(
    http: httpx.Client, device: Device
) -> None:
    chunks = ((1024 * 1024, bytes(16)),) * 65
    digest = device.storage.add_bytes(ChunkTable(chunks).to_bytes())
    assert code(ask(http, sha256(b"a"), digest)) == (413, "SIZE_INVALID")


def head(*ranges: tuple[int, int]) -> bytes:
    return Patch.head(FakePatch(ranges))


class FakePatch(Patch):
    """A patch that is not checked."""

    def __init__(self, ranges: Any) -> None:
        object.__setattr__(self, "ranges", ranges)


LYING = [
    pytest.param(b"", (400, "MANIFEST_INVALID"), id="no patch"),
    pytest.param(b"NBPATCH1\xff\xff\xff\xff", (400, "MANIFEST_INVALID"), id="a huge count"),
    pytest.param(head((0, 3)) + b"ab", (400, "MANIFEST_INVALID"), id="cut short"),
    pytest.param(head((0, 3)) + b"abcd", (400, "MANIFEST_INVALID"), id="too long"),
    pytest.param(head((0, 3), (2, 3)) + b"abcdef", (400, "MANIFEST_INVALID"), id="overlaps"),
    pytest.param(head((2**63, 3)) + b"abc", (400, "MANIFEST_INVALID"), id="far outside"),
    pytest.param(head((1_999_999, 3)) + b"abc", (400, "MANIFEST_INVALID"), id="outside"),
    pytest.param(head((0, 3)) + b"abc", (409, "BLOB_UPLOAD_INVALID"), id="other bytes"),
    pytest.param(head(), (409, "BLOB_UPLOAD_INVALID"), id="not what was asked for"),
]


@pytest.mark.parametrize(("patch", "expected"), LYING)
def test_a_patch_that_lies_leaves_nothing(
    http: httpx.Client, device: Device, known: bytes, patch: bytes, expected: tuple[int, str]
) -> None:
    manifest = load_manifest(device.storage, device.tags.tags("digits")["1"])
    before = stored(device.storage)
    table = manifest.chunks["model.onnx"].digest
    assert code(finish(http, patch, sha256(b"another"), table)) == expected
    assert stored(device.storage) == before
    assert list(device.storage.abandoned(time.time() + 1)) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(None, (409, "BLOB_UPLOAD_INVALID"), id="gone"),
        pytest.param(b"no table", (400, "MANIFEST_INVALID"), id="no table"),
        pytest.param(
            ChunkTable(((2 * MB // 2, bytes(16)), (9, bytes(16)))).to_bytes(),
            (409, "BLOB_UPLOAD_INVALID"),
            id="of chunks that are nowhere",
        ),
    ],
)
def test_a_table_that_lies_leaves_nothing(
    http: httpx.Client, device: Device, table: bytes | None, expected: tuple[int, str]
) -> None:
    digest = sha256(b"gone") if table is None else device.storage.add_bytes(table)
    before = stored(device.storage)
    assert code(finish(http, head(), sha256(b"another"), digest)) == expected
    assert stored(device.storage) == before
    assert list(device.storage.abandoned(time.time() + 1)) == []


def test_a_blob_that_came_meanwhile_needs_no_patch(
    http: httpx.Client, device: Device, known: bytes
) -> None:
    answer = finish(http, b"whatever", sha256(known), sha256(b"gone"))
    assert answer.status_code == 201
    assert same(device, known)


def test_chunks_that_a_patch_relies_on_are_kept_from_a_collector(
    http: httpx.Client, device: Device, known: bytes
) -> None:
    manifest = load_manifest(device.storage, device.tags.tags("digits")["1"])
    path = device.storage.path(sha256(known))
    os.utime(path, (1, 1))
    ask(http, sha256(b"another"), manifest.chunks["model.onnx"].digest)
    assert path.stat().st_mtime > time.time() - 60
