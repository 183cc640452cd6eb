"""Server and client of the distribution API, over a real connection."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    DigestMismatchError,
    NbModelError,
    RefError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
)
from nbmodel.storage import MemoryStorage, Storage, reading, send
from nbmodel.storage import origin as origin_module
from nbmodel.storage.distribution_client import Distribution, Pushed
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.patience import IMPATIENT
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.storage_server import Device, Flaky, Server, add_version

pytestmark = pytest.mark.unhurried

MAX_BLOB = 4 * 1024 * 1024


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


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


def test_a_version_goes_there_and_back(remote: Distribution, device: Device) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"model.onnx": b"m" * 3_000_000, "labels.txt": b"a\nb\n"})
    pushed = remote.push("team/digits", here, digest, tags=["1", "latest"])
    assert pushed.sent > 3_000_000
    assert device.tags.tags("team/digits") == {"1": digest, "latest": digest}
    assert device.changed == ["team/digits", "team/digits"]

    received: list[int] = []
    assert remote.pull("team/digits", "latest", there, progress=received.append) == digest
    assert dict(here_sizes(there)) == dict(here_sizes(here))
    assert sum(received) == sum(size for _, size in here_sizes(here)) - there.size(digest)


def here_sizes(storage: Storage) -> list[tuple[str, int]]:
    return [(digest, size) for digest, size, _ in storage.digests()]


def test_what_is_there_is_not_sent_again(remote: Distribution) -> None:
    here = MemoryStorage()
    first = add_version(here, {"model.onnx": b"same"})
    second = add_version(here, {"model.onnx": b"same"}, created="2026-01-02")
    remote.push("digits", here, first, tags=["1"])
    done: list[int] = []
    pushed = remote.push("digits", here, second, tags=["2"], progress=done.append)
    assert pushed == Pushed(sum(done) - len(b"same"), len(b"same")), "the config alone was sent"
    shared = remote.push("other", here, second, tags=["1"])
    assert shared == Pushed(0, sum(done)), "repositories share blobs"


def test_an_empty_blob(remote: Distribution, device: Device) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    digest = here.add_bytes(b"")
    assert remote.push_blob("digits", here, digest) == Pushed(0, 0)
    assert device.storage.has(digest)
    remote.pull_blob("digits", there, digest, size=0)
    assert there.read(digest, limit=0) == b""


def test_a_large_blob_goes_in_chunks(
    remote: Distribution, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    here = MemoryStorage()
    data = bytes(range(256)) * 5000
    digest = here.add_bytes(data)
    done: list[int] = []
    assert remote.push_blob("digits", here, digest, progress=done.append).sent == len(data)
    assert device.storage.read(digest, limit=len(data)) == data
    assert sum(done) == len(data)


@pytest.mark.parametrize(
    ("method", "number", "lost"),
    [
        pytest.param("HEAD", 1, "request", id="the question whether it is there"),
        pytest.param("POST", 1, "request", id="the opening of the upload"),
        pytest.param("PATCH", 2, "request", id="the second chunk"),
        pytest.param("PATCH", 2, "answer", id="the answer to the second chunk"),
        pytest.param("PUT", 1, "request", id="the last chunk"),
        pytest.param("PUT", 1, "answer", id="the answer to the last chunk"),
    ],
)
def test_a_lost_connection_is_gone_on_from(
    device: Device, monkeypatch: pytest.MonkeyPatch, method: str, number: int, lost: str
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    transport = Flaky(lambda request, n: lost if (request.method, n) == (method, number) else None)
    here = MemoryStorage()
    data = bytes(range(256)) * 5000
    digest = here.add_bytes(data)
    with Distribution(device.url, transport=transport) as remote:
        assert remote.push_blob("digits", here, digest).sent == len(data)
    assert device.storage.read(digest, limit=len(data)) == data


def test_a_broken_download_goes_on_where_it_broke(device: Device) -> None:
    data = bytes(range(256)) * 8000
    digest = device.storage.add_bytes(data)
    ranges: list[str | None] = []

    class Breaking(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            ranges.append(request.headers.get("Range"))
            answer = super().handle_request(request)
            if len(ranges) > 1:
                return answer
            return httpx.Response(200, headers=answer.headers, stream=Half(answer))

    class Half(httpx.SyncByteStream):
        def __init__(self, answer: httpx.Response) -> None:
            self._answer = answer

        def __iter__(self) -> Iterator[bytes]:
            yield data[:1_500_000]
            raise httpx.ReadError("connection reset")

        def close(self) -> None:
            self._answer.close()

    there = MemoryStorage()
    with Distribution(device.url, transport=Breaking()) as remote:
        remote.pull_blob("digits", there, digest, size=len(data))
    assert there.read(digest, limit=len(data)) == data
    assert ranges == [None, "bytes=1500000-"]


def test_wrong_bytes_are_not_kept(device: Device, remote: Distribution) -> None:
    digest = device.storage.add_bytes(b"right")
    path = device.storage.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"wrong")
    there = MemoryStorage()
    with pytest.raises(DigestMismatchError):
        remote.pull_blob("digits", there, digest, size=5)
    assert list(there.digests()) == []


def test_more_bytes_than_promised_are_refused(device: Device, remote: Distribution) -> None:
    digest = device.storage.add_bytes(b"more")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:\d+ sent more than the 3 bytes"):
        remote.pull_blob("digits", MemoryStorage(), digest, size=3)


def test_tags_come_page_by_page(
    device: Device, remote: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TAG_PAGE", 2)
    for number in range(5):
        device.tags.set("digits", str(number), sha256(b""))
    assert remote.tags("digits") == ("0", "1", "2", "3", "4")
    assert remote.tags("nothing") == ()


def test_a_deleted_tag_is_gone(device: Device, remote: Distribution) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"m": b"m"})
    remote.push("digits", here, digest, tags=["1", "pinned"])
    assert remote.delete_tag("digits", "pinned") is True
    assert remote.delete_tag("digits", "pinned") is False
    assert device.tags.tags("digits") == {"1": digest}


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        pytest.param(
            httpx.Response(401, json={"error": "no token"}),
            AuthenticationError,
            "example:1 refused a request without token: no token",
            id="a token is wanted",
        ),
        pytest.param(
            httpx.Response(507, json={"errors": [{"code": "X", "message": "disk full"}]}),
            StorageUnavailableError,
            "example:1 answered 507 to PUT /v2/digits/manifests/1: disk full",
            id="its disk is full",
        ),
        pytest.param(
            httpx.Response(500, text="<html>"),
            StorageError,
            "example:1 answered 500 to PUT /v2/digits/manifests/1: Internal Server Error",
            id="it breaks down",
        ),
        pytest.param(
            httpx.Response(503), TargetUnreachableError, "example:1 answered 503", id="it is away"
        ),
    ],
)
def test_refusals_name_the_host(
    answer: httpx.Response, error: type[NbModelError], message: str
) -> None:
    with (
        Distribution("http://example:1", transport=answering(answer), patience=IMPATIENT) as remote,
        pytest.raises(error, match=message),
    ):
        remote.push_manifest("digits", "1", b"{}")


def answering(answer: httpx.Response) -> httpx.MockTransport:
    """A network on which every question gets one answer."""

    def sent(_request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(answer.content)  # not read yet
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)

    return httpx.MockTransport(sent)


def test_an_answer_without_an_end_is_not_read() -> None:
    pieces = 0

    def endless() -> Iterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield bytes(1024 * 1024)

    transport = httpx.MockTransport(lambda _: httpx.Response(201, content=endless()))
    with (
        Distribution("http://example:1", transport=transport) as remote,
        pytest.raises(StorageError, match=r"example:1 answered .* with more than"),
    ):
        remote.push_manifest("digits", "1", b"{}")
    assert pieces < 100


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(b"http://[::1", id="a bracket that is open"),
        pytest.param(b"http://xn--\xff/", id="letters that no host has"),
        pytest.param(b"http://a/\x7f", id="control characters"),
    ],
)
def test_an_upload_that_is_nowhere_is_an_error_of_the_registry(location: bytes) -> None:
    here = MemoryStorage()
    digest = here.add_bytes(b"blob")

    def opened(request: httpx.Request) -> httpx.Response:
        status = 404 if request.method == "HEAD" else 202
        headers = [(b"Location", location)]
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(b""))

    with (
        Distribution("http://example:1", transport=httpx.MockTransport(opened)) as remote,
        pytest.raises(StorageError, match="example refers to"),
    ):
        remote.push_blob("digits", here, digest)


def test_nobody_there() -> None:
    with (
        Distribution("http://127.0.0.1:1") as remote,
        pytest.raises(TargetUnreachableError, match=r"127\.0\.0\.1:1 does not answer"),
    ):
        remote.has_blob("digits", sha256(b""))


def test_who_takes_connections_and_never_answers_was_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origin_module, "_ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with Distribution(f"http://{host}") as remote:
            for ask in (remote.tags, lambda name: remote.digest(name, "1")):
                with pytest.raises(TargetUnreachableError) as caught:
                    ask("digits")
                assert str(caught.value) == f"{host} did not answer within 0.2 s"


def test_tls_where_there_is_none_is_told_of(device: Device) -> None:
    host = device.url.removeprefix("http://")
    with (
        Distribution(f"https://{host}") as remote,
        pytest.raises(TargetUnreachableError) as caught,
    ):
        remote.tags("digits")
    assert caught.value.hint == f"it speaks no TLS: write http://{host}"


def test_no_tls_where_there_is_one_is_told_of() -> None:
    # What Go's net/http answers.
    said = httpx.Response(400, text="Client sent an HTTP request to an HTTPS server.\n")
    with (
        Distribution("http://example:1", transport=answering(said)) as remote,
        pytest.raises(StorageError, match="speaks TLS") as caught,
    ):
        remote.tags("digits")
    assert caught.value.hint == "write https://example:1"


def test_a_token_goes_to_its_own_address_only() -> None:
    seen: dict[str, str | None] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen[request.url.host] = request.headers.get("Authorization")
        if request.url.host == "registry.example":
            return httpx.Response(307, headers={"Location": "https://bytes.example/blob"})
        return httpx.Response(200, stream=httpx.ByteStream(b"blob"))

    there = MemoryStorage()
    with Distribution(
        "https://registry.example", token="secret", transport=httpx.MockTransport(answer)
    ) as remote:
        remote.pull_blob("digits", there, sha256(b"blob"), size=4)
    assert seen == {"registry.example": "Bearer secret", "bytes.example": None}


def test_names_that_lead_elsewhere_are_never_sent() -> None:
    with Distribution("http://127.0.0.1:1") as remote:
        with pytest.raises(RefError):
            remote.has_blob("../x", sha256(b""))
        with pytest.raises(RefError):
            remote.manifest("digits", "../../x")


# The server alone, asked as any OCI client would.


def open_upload(http: httpx.Client) -> str:
    answer = http.post("/v2/digits/blobs/uploads/")
    assert answer.status_code == 202
    return str(answer.headers["Location"])


def code(answer: httpx.Response) -> tuple[int, str]:
    body = answer.content
    return answer.status_code, answer.json()["errors"][0]["code"] if body else ""


def test_a_blob_in_one_request(http: httpx.Client) -> None:
    digest = sha256(b"abc")
    answer = http.post(f"/v2/digits/blobs/uploads/?digest={digest}", content=b"abc")
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v2/digits/blobs/{digest}"
    assert answer.headers["Docker-Content-Digest"] == digest


def test_a_blob_in_chunks(http: httpx.Client) -> None:
    location = open_upload(http)
    answer = http.patch(location, content=b"abc", headers={"Content-Range": "0-2"})
    assert (answer.status_code, answer.headers["Range"]) == (202, "0-2")
    answer = http.get(location)
    assert (answer.status_code, answer.headers["Range"]) == (204, "0-2")
    answer = http.patch(location, content=b"def")
    assert answer.headers["Range"] == "0-5", "a range is not obligatory"
    digest = sha256(b"abcdefg")
    answer = http.put(f"{location}?digest={digest}", content=b"g", headers={"Content-Range": "6-6"})
    assert answer.status_code == 201
    assert http.get(f"/v2/digits/blobs/{digest}").content == b"abcdefg"
    assert code(http.get(location)) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("text", ["0", "a-b", "0--1", f"{'9' * 5000}-{'9' * 5000}"])
def test_a_range_that_is_none_is_refused(http: httpx.Client, text: str) -> None:
    answer = http.patch(open_upload(http), content=b"x", headers={"Content-Range": text})
    assert code(answer) == (400, "BLOB_UPLOAD_INVALID")


def test_a_chunk_out_of_order_is_refused_and_says_where_to_go_on(http: httpx.Client) -> None:
    location = open_upload(http)
    http.patch(location, content=b"abc")
    answer = http.patch(location, content=b"x", headers={"Content-Range": "7-7"})
    assert code(answer) == (416, "BLOB_UPLOAD_INVALID")
    assert (answer.headers["Range"], answer.headers["Location"]) == ("0-2", location)


def test_an_upload_outlives_a_restart(device: Device) -> None:
    with httpx.Client(base_url=device.url, trust_env=False) as http:
        location = open_upload(http)
        http.patch(location, content=b"abc")
    device.start()
    with httpx.Client(base_url=device.url, trust_env=False) as http:
        assert http.get(location).headers["Range"] == "0-2"
        digest = sha256(b"abcd")
        assert http.put(f"{location}?digest={digest}", content=b"d").status_code == 201


def test_a_cancelled_upload_is_gone(http: httpx.Client) -> None:
    location = open_upload(http)
    assert http.delete(location).status_code == 204
    assert code(http.patch(location, content=b"x")) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        pytest.param("", b"abc", (400, "DIGEST_INVALID"), id="no digest"),
        pytest.param("?digest=sha256:1", b"abc", (400, "DIGEST_INVALID"), id="half a digest"),
        pytest.param(f"?digest={sha256(b'x')}", b"abc", (400, "DIGEST_INVALID"), id="another"),
    ],
)
def test_an_upload_must_end_with_its_digest(
    http: httpx.Client, query: str, body: bytes, expected: tuple[int, str]
) -> None:
    assert code(http.put(open_upload(http) + query, content=body)) == expected


def test_a_blob_beyond_the_limit_is_refused(http: httpx.Client, device: Device) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(1024 * 1024)

    location = open_upload(http)
    answer = http.patch(location, content=bytes(MAX_BLOB + 1))
    assert code(answer) == (413, "SIZE_INVALID")
    answer = http.patch(open_upload(http), content=stream())
    assert code(answer) == (413, "SIZE_INVALID")
    assert list(device.storage.digests()) == []
    assert list(device.storage.abandoned(time.time() + 1)) == []


def test_a_blob_is_mounted_when_it_is_there(http: httpx.Client, device: Device) -> None:
    digest = device.storage.add_bytes(b"abc")
    answer = http.post(f"/v2/other/blobs/uploads/?mount={digest}&from=digits")
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v2/other/blobs/{digest}")
    answer = http.post(f"/v2/other/blobs/uploads/?mount={sha256(b'no')}&from=digits")
    assert answer.status_code == 202, "an upload is opened instead"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param("", (200, b"0123456789", None), id="all of it"),
        pytest.param("bytes=2-4", (206, b"234", "bytes 2-4/10"), id="a middle part"),
        pytest.param("bytes=7-", (206, b"789", "bytes 7-9/10"), id="from a byte on"),
        pytest.param("bytes=-3", (206, b"789", "bytes 7-9/10"), id="the last bytes"),
        pytest.param("bytes=10-", (416, b"", "bytes */10"), id="behind the end"),
    ],
)
def test_parts_of_a_blob(
    http: httpx.Client, device: Device, asked: str, expected: tuple[int, bytes, str | None]
) -> None:
    digest = device.storage.add_bytes(b"0123456789")
    answer = http.get(f"/v2/digits/blobs/{digest}", headers={"Range": asked} if asked else {})
    body = answer.content if answer.is_success else b""
    assert (answer.status_code, body, answer.headers.get("Content-Range")) == expected


def test_the_head_of_a_blob(http: httpx.Client, device: Device) -> None:
    digest = device.storage.add_bytes(b"0123456789")
    answer = http.head(f"/v2/digits/blobs/{digest}")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Docker-Content-Digest"] == digest
    assert http.head(f"/v2/digits/blobs/{sha256(b'no')}").status_code == 404


def test_a_manifest_by_tag_and_by_digest(http: httpx.Client, device: Device) -> None:
    digest = add_version(device.storage, {"m": b"m"})
    raw = device.storage.read(digest, limit=10_000)
    assert http.put("/v2/digits/manifests/1", content=raw).status_code == 201
    for reference in ("1", digest):
        answer = http.get(f"/v2/digits/manifests/{reference}")
        assert answer.content == raw
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
        head = http.head(f"/v2/digits/manifests/{reference}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(raw))
    unchanged = http.get("/v2/digits/manifests/1", headers={"If-None-Match": f'"{digest}"'})
    assert unchanged.status_code == 304


def test_a_manifest_deleted_by_digest_takes_its_tags_along(
    http: httpx.Client, device: Device
) -> None:
    digest = add_version(device.storage, {"m": b"m"})
    device.tags.set("digits", "1", digest)
    device.tags.set("digits", "latest", digest)
    device.tags.set("other", "1", digest)
    assert http.delete(f"/v2/digits/manifests/{digest}").status_code == 202
    assert device.tags.tags("digits") == {}
    assert http.get("/v2/other/manifests/1").status_code == 200
    http.delete(f"/v2/other/manifests/{digest}")
    assert code(http.get(f"/v2/other/manifests/{digest}")) == (404, "MANIFEST_UNKNOWN")


def manifest_json(storage: Storage, **changes: Any) -> bytes:
    raw = storage.read(add_version(storage, {"m": b"m"}), limit=10_000)
    return json.dumps({**json.loads(raw), **changes}).encode()


@pytest.mark.parametrize(
    ("reference", "body", "expected"),
    [
        pytest.param("1", lambda s: b"no json", (400, "MANIFEST_INVALID"), id="not JSON"),
        pytest.param("1", lambda s: b"{}", (400, "MANIFEST_INVALID"), id="an empty object"),
        pytest.param(
            "1",
            lambda s: manifest_json(s, layers=[{"mediaType": "x", "digest": "y", "size": 1}]),
            (400, "MANIFEST_INVALID"),
            id="a layer without a path",
        ),
        pytest.param(
            "1",
            lambda s: manifest_json(
                s,
                layers=[
                    {
                        "mediaType": "x",
                        "digest": sha256(b"m"),
                        "size": 1,
                        "annotations": {"org.cncf.model.filepath": "../../etc/passwd"},
                    }
                ],
            ),
            (400, "MANIFEST_INVALID"),
            id="a path with a way out",
        ),
        pytest.param(
            "1",
            lambda s: manifest_json(
                s,
                layers=[
                    {
                        "mediaType": "x",
                        "digest": sha256(b"not pushed"),
                        "size": 10,
                        "annotations": {"org.cncf.model.filepath": "m"},
                    }
                ],
            ),
            (404, "MANIFEST_BLOB_UNKNOWN"),
            id="a blob that is not here",
        ),
        pytest.param(
            "1",
            lambda s: manifest_json(
                s,
                layers=[
                    {
                        "mediaType": "x",
                        "digest": sha256(b"m"),
                        "size": 2,
                        "annotations": {"org.cncf.model.filepath": "m"},
                    }
                ],
            ),
            (400, "MANIFEST_INVALID"),
            id="a size that is not the blob's",
        ),
        pytest.param(
            sha256(b"x"), manifest_json, (400, "DIGEST_INVALID"), id="the digest of another"
        ),
        pytest.param("-1", manifest_json, (400, "NAME_INVALID"), id="a malformed tag"),
        pytest.param(
            "1", lambda s: bytes(4 * 1024 * 1024 + 1), (413, "SIZE_INVALID"), id="more than 4 MiB"
        ),
    ],
)
def test_a_bad_manifest_changes_nothing(
    http: httpx.Client,
    device: Device,
    reference: str,
    body: Callable[[Storage], bytes],
    expected: tuple[int, str],
) -> None:
    answer = http.put(f"/v2/digits/manifests/{reference}", content=body(device.storage))
    assert code(answer) == expected
    assert device.tags.names() == ()
    assert device.changed == []


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        pytest.param("GET", "/v2/Digits/tags/list", (400, "NAME_INVALID"), id="a malformed name"),
        pytest.param("GET", "/v2/digits/tags/list", (404, "NAME_UNKNOWN"), id="no repository"),
        pytest.param("GET", "/v2/a/b/digits/tags/list", (404, "NAME_UNKNOWN"), id="no such depth"),
        pytest.param("HEAD", "/v2/a/b/digits/manifests/1", (404, ""), id="no such depth, a look"),
        pytest.param("PUT", "/v2/a/b/digits/manifests/1", (400, "NAME_INVALID"), id="a new depth"),
        pytest.param("GET", "/v2/Digits/tags/list", (400, "NAME_INVALID"), id="no name at all"),
        pytest.param("GET", "/v2/digits/manifests/1", (404, "MANIFEST_UNKNOWN"), id="no tag"),
        pytest.param("DELETE", "/v2/digits/manifests/1", (404, "MANIFEST_UNKNOWN"), id="no tag 2"),
        pytest.param("GET", "/v2/digits/blobs/x", (400, "DIGEST_INVALID"), id="no digest"),
        pytest.param("GET", f"/v2/digits/blobs/{sha256(b'')}", (404, "BLOB_UNKNOWN"), id="no blob"),
        pytest.param(
            "GET", "/v2/digits/blobs/uploads/x", (404, "BLOB_UPLOAD_UNKNOWN"), id="no upload"
        ),
    ],
)
def test_unknown_and_malformed_things(
    http: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert code(http.request(method, path)) == expected


def test_a_blob_is_not_a_manifest(http: httpx.Client, device: Device) -> None:
    digest = device.storage.add_bytes(b"weights")
    assert code(http.get(f"/v2/digits/manifests/{digest}")) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("query", "tags", "link"),
    [
        pytest.param("", ["a", "b", "c"], None, id="all"),
        pytest.param("?n=2", ["a", "b"], '</v2/digits/tags/list?n=2&last=b>; rel="next"', id="two"),
        pytest.param("?n=2&last=b", ["c"], None, id="the rest"),
        pytest.param("?n=0", [], None, id="none"),
    ],
)
def test_pages_of_tags(
    http: httpx.Client, device: Device, query: str, tags: list[str], link: str | None
) -> None:
    for tag in "cab":
        device.tags.set("digits", tag, sha256(b""))
    answer = http.get(f"/v2/digits/tags/list{query}")
    assert answer.json() == {"name": "digits", "tags": tags}
    assert answer.headers.get("Link") == link


@pytest.mark.parametrize("text", ["x", "-1", "²", "9" * 10])
def test_a_page_must_be_a_number(http: httpx.Client, device: Device, text: str) -> None:
    device.tags.set("digits", "a", sha256(b""))
    answer = http.get("/v2/digits/tags/list", params={"n": text})
    assert code(answer) == (400, "PAGINATION_NUMBER_INVALID")


def test_a_blob_that_a_client_asked_for_counts_as_new(http: httpx.Client, device: Device) -> None:
    digest = device.storage.add_bytes(b"abc")
    os.utime(device.storage.path(digest), (0, 0))
    assert http.head(f"/v2/digits/blobs/{digest}").status_code == 200
    assert device.storage.path(digest).stat().st_mtime > time.time() - 60


def test_a_storage_that_takes_nothing_says_so(http: httpx.Client, device: Device) -> None:
    device.storage.add_bytes(b"")
    uploads = device.storage.root / "uploads"
    uploads.rmdir()
    uploads.write_bytes(b"")  # no folder: nothing can be written there
    answer = http.post(f"/v2/digits/blobs/uploads/?digest={sha256(b'x')}", content=b"x")
    assert code(answer) == (507, "INSUFFICIENT_STORAGE")


def test_pulling_what_is_not_there(remote: Distribution) -> None:
    with pytest.raises(BlobNotFoundError, match="no manifest digits:1 here"):
        remote.pull("digits", "1", MemoryStorage())


# Foreign programs at the other end.


@pytest.fixture
def foreign_registry(tmp_path: Path) -> Iterator[str]:
    """The CNCF's registry on a free port."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path / "registry") as url:
        yield url


def test_a_foreign_registry_takes_and_gives_versions(
    foreign_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"large.onnx": bytes(range(256)) * 5000, "small.txt": b"small"})
    with Distribution(foreign_registry) as remote:
        remote.check()
        remote.push("team/digits", here, digest, tags=["1", "latest"])
        assert remote.push("team/digits", here, digest, tags=["2"]).sent == 0
        assert remote.tags("team/digits") == ("1", "2", "latest")
        assert remote.pull("team/digits", "latest", there) == digest
        assert dict(here_sizes(there)) == dict(here_sizes(here))
        assert list(load_manifest(there, digest).chunks) == ["large.onnx"]
        with pytest.raises(BlobNotFoundError, match="manifest unknown"):
            remote.manifest("team/digits", "9")


@pytest.mark.parametrize(
    ("lost", "method"),
    [
        pytest.param("request", "PATCH", id="a chunk"),
        pytest.param("answer", "PATCH", id="the answer to a chunk"),
        pytest.param("answer", "PUT", id="the answer to the last chunk"),
    ],
)
def test_a_foreign_registry_is_gone_on_with(
    foreign_registry: str, monkeypatch: pytest.MonkeyPatch, lost: str, method: str
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    transport = Flaky(lambda request, n: lost if (request.method, n) == (method, 1) else None)
    here, there = MemoryStorage(), MemoryStorage()
    digest = here.add_bytes(bytes(range(256)) * 5000)
    with Distribution(foreign_registry, transport=transport) as remote:
        assert remote.push_blob("digits", here, digest).saved == 0
        remote.pull_blob("digits", there, digest, size=here.size(digest))


def test_skopeo_copies_a_version_to_and_from_a_device(device: Device, tmp_path: Path) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")

    def copy(source: str, target: str) -> None:
        subprocess.run(
            [
                program,
                "--insecure-policy",
                "copy",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                source,
                target,
            ],
            check=True,
            capture_output=True,
        )

    digest = add_version(device.storage, {"model.onnx": b"m" * 1_500_000, "labels.txt": b"a"})
    device.tags.set("digits", "3", digest)
    host = device.url.removeprefix("http://")
    copy(f"docker://{host}/digits:3", f"oci:{tmp_path / 'copy'}:3")
    for entry in (tmp_path / "copy" / "blobs" / "sha256").iterdir():
        assert sha256(entry.read_bytes()) == f"sha256:{entry.name}"

    for blob, _ in here_sizes(device.storage):
        device.storage.delete(blob)
    copy(f"oci:{tmp_path / 'copy'}:3", f"docker://{host}/team/copied:3")
    assert device.tags.get("team/copied", "3") == digest
    assert device.storage.has(sha256(b"m" * 1_500_000))
    (table,) = load_manifest(device.storage, digest).chunks.values()
    assert device.storage.has(table.digest), "a chunk table is a layer like any other"
