"""Signatures to and from registries: with a list of referrers, and with a tag in its place."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.core.referrer import (
    BUNDLE_TYPE,
    EMPTY,
    MAX_BUNDLE,
    MAX_REFERRERS,
    fallback_tag,
    signature_manifest,
)
from nbmodel.errors import ManifestError, StorageError
from nbmodel.storage import MemoryStorage, Storage
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.origin import Origin
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.referrers import fetch_signatures, read_referrers, send_signatures
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.storage_server import Device, Server, add_version

pytestmark = pytest.mark.unhurried

CREATED = "2026-02-28T13:36:51.250000Z"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture(params=["with a list", "with a tag"])
def url(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> Iterator[str]:
    """A registry that keeps a list of referrers, and one that does not know how."""
    if request.param == "with a list":
        yield Device(tmp_path / "device", server, max_blob=1 << 30).url
    elif PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    else:
        with docker_registry(tmp_path / "registry") as made:
            yield made


def signed(storage: Storage, subject: str, bundle: bytes = b'{"a": "bundle"}') -> str:
    """A signature of a version, in a storage; the digest of its manifest."""
    raw = storage.read(subject, limit=1 << 20)
    for blob in (EMPTY, bundle):
        storage.add_bytes(blob)
    return storage.add_bytes(signature_manifest(raw, bundle, created=CREATED))


def test_what_is_sent_is_listed_and_fetched(url: str) -> None:
    mine, theirs = MemoryStorage(), MemoryStorage()
    version = add_version(mine, {"model.onnx": b"weights"})
    signature = signed(mine, version)
    with Origin(url) as origin, Distribution(url) as remote:
        assert read_referrers(origin, "team/digits", version) == ()
        assert fetch_signatures(origin, "team/digits", version, theirs) == ()
        # Before the version itself, as a deploy does.
        assert send_signatures(origin, "team/digits", mine, version, [signature]) == 1
        remote.push("team/digits", mine, version, tags=["1", "latest"])
        (listed,) = read_referrers(origin, "team/digits", version)
        assert (listed.digest, listed.artifact_type) == (signature, BUNDLE_TYPE)
        assert fetch_signatures(origin, "team/digits", version, theirs) == (signature,)
        assert theirs.read(digest_of(b'{"a": "bundle"}'), limit=100) == b'{"a": "bundle"}'
        assert theirs.has(digest_of(EMPTY))
        assert fetch_signatures(origin, "team/digits", version, theirs, known=[signature]) == ()


def test_only_what_is_missing_is_sent(url: str) -> None:
    mine = MemoryStorage()
    version = add_version(mine, {"model.onnx": b"weights"})
    both = [signed(mine, version, b"one"), signed(mine, version, b"two")]
    with Origin(url) as origin:
        assert send_signatures(origin, "digits", mine, version, both[:1]) == 1
        assert send_signatures(origin, "digits", mine, version, both) == 1
        assert send_signatures(origin, "digits", mine, version, both) == 0
        assert send_signatures(origin, "digits", mine, version, []) == 0
        assert {one.digest for one in read_referrers(origin, "digits", version)} == set(both)


def test_who_sign_one_version_at_a_time_lose_nothing(url: str) -> None:
    mine = MemoryStorage()
    version = add_version(mine, {"model.onnx": b"weights"})
    signatures = [signed(mine, version, b"%d" % number) for number in range(8)]
    together, errors = threading.Barrier(len(signatures)), []

    def send(signature: str) -> None:
        with Origin(url) as origin:
            together.wait()
            try:
                send_signatures(origin, "digits", mine, version, [signature])
            except Exception as exc:
                errors.append(exc)

    threads = [threading.Thread(target=send, args=(one,)) for one in signatures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Origin(url) as origin:
        listed = read_referrers(origin, "digits", version)
    assert sorted(one.digest for one in listed) == sorted(signatures)


def test_what_others_put_into_the_list_stays(tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    mine = MemoryStorage()
    version = add_version(mine, {"model.onnx": b"weights"})
    foreign = {
        "mediaType": MANIFEST_TYPE,
        "digest": "sha256:" + "5" * 64,
        "size": 500,
        "artifactType": "application/spdx+json",
        "annotations": {"who": "another tool"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [foreign],
    }
    path = f"/v2/digits/manifests/{fallback_tag(version)}"
    headers = {"Content-Type": str(index["mediaType"])}
    with docker_registry(tmp_path) as url, Origin(url) as origin:
        # docker-registry wants the manifests of an index to be there.
        raw = json.dumps(foreign_manifest(origin, mine)).encode()
        foreign["digest"], foreign["size"] = digest_of(raw), len(raw)
        put = httpx.put(url + path, content=json.dumps(index), headers=headers, trust_env=False)
        assert put.status_code == 201, put.text
        signature = signed(mine, version)
        send_signatures(origin, "digits", mine, version, [signature])
        listed = httpx.get(
            url + path, headers={"Accept": headers["Content-Type"]}, trust_env=False
        ).json()["manifests"]
        assert listed[0] == foreign
        assert [one["digest"] for one in listed[1:]] == [signature]
        assert [
            one.digest
            for one in read_referrers(origin, "digits", version, artifact_type=BUNDLE_TYPE)
        ] == [signature]


def foreign_manifest(origin: Origin, storage: MemoryStorage) -> dict[str, Any]:
    """A manifest of another tool, put there under its digest."""
    from nbmodel.storage.send import request, send_blob

    storage.add_bytes(EMPTY)
    send_blob(origin, "digits", storage, digest_of(EMPTY))
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of(EMPTY),
        "size": len(EMPTY),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": empty,
        "layers": [empty],
    }
    raw = json.dumps(manifest).encode()
    request(
        origin,
        "PUT",
        f"v2/digits/manifests/{digest_of(raw)}",
        expect=(201,),
        headers={"Content-Type": MANIFEST_TYPE},
        content=raw,
    )
    return manifest


def streamed(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


class Hostile:
    """A registry that lists whatever it was told to."""

    def __init__(self, listed: object, blobs: dict[str, bytes]) -> None:
        self.listed, self.blobs, self.asked = listed, blobs, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert self.asked < 500
        *_, kind, last = request.url.path.split("/")
        if kind == "referrers":
            headers = {"Link": f'<{request.url.path}?page={self.asked}>; rel="next"'}
            return streamed(200, json.dumps(self.listed).encode(), headers)
        return streamed(200, self.blobs[last]) if last in self.blobs else streamed(404)


Listing = Callable[[MemoryStorage, str], tuple[object, dict[str, bytes]]]


def _entry(raw: bytes, **changed: Any) -> dict[str, Any]:
    known = {"mediaType": MANIFEST_TYPE, "digest": digest_of(raw), "size": len(raw)}
    return {**known, "artifactType": BUNDLE_TYPE, **changed}


def _index(*entries: object) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": list(entries)}


def _of(raw: bytes, **changed: Any) -> Listing:
    return lambda storage, version: (_index(_entry(raw, **changed)), {digest_of(raw): raw})


def _with_bundle(
    change: Callable[[dict[str, Any]], object], served: bytes | None = None
) -> Listing:
    def listing(storage: MemoryStorage, version: str) -> tuple[object, dict[str, bytes]]:
        data = json.loads(storage.read(signed(storage, version, b"bundle"), limit=1 << 20))
        change(data)
        raw = json.dumps(data).encode()
        blobs = {digest_of(raw): raw, digest_of(EMPTY): EMPTY}
        blobs[data["layers"][0]["digest"]] = b"bundle" if served is None else served
        return _index(_entry(raw)), blobs

    return listing


@pytest.mark.parametrize(
    "listing",
    [
        pytest.param(_of(b"[]"), id="no manifest"),
        pytest.param(_of(b"{}"), id="an empty manifest"),
        pytest.param(_of(b"x", digest=digest_of(b"y")), id="a manifest that is not there"),
        pytest.param(
            _with_bundle(lambda data: data["subject"].update(digest="sha256:" + "0" * 64)),
            id="of another version",
        ),
        pytest.param(_with_bundle(lambda data: data.pop("subject")), id="of nothing"),
        pytest.param(
            _with_bundle(lambda data: data.update(artifactType="text/plain")), id="another type"
        ),
        pytest.param(
            _with_bundle(lambda data: data["layers"].append(data["layers"][0])), id="two bundles"
        ),
        pytest.param(
            _with_bundle(lambda data: data["layers"][0].update(size=100 * 1024 * 1024)),
            id="a bundle of 100 MB",
        ),
        pytest.param(_with_bundle(lambda data: None, b"elbnud"), id="an altered bundle"),
        pytest.param(_with_bundle(lambda data: None, b"longer than it should be"), id="a long one"),
    ],
)
def test_what_is_no_signature_is_left_out(listing: Listing) -> None:
    storage = MemoryStorage()
    version = add_version(storage, {"model.onnx": b"weights"})
    listed, blobs = listing(manifest_alone(storage, version), version)
    here = MemoryStorage()
    hostile = Hostile(listed, blobs)
    with Origin("http://registry", transport=httpx.MockTransport(hostile)) as origin:
        assert fetch_signatures(origin, "digits", version, here) == ()
    assert sum(size for _, size, _ in here.digests()) < MAX_BUNDLE


def manifest_alone(storage: MemoryStorage, version: str) -> MemoryStorage:
    """Another storage that has the manifest of a version alone."""
    other = MemoryStorage()
    other.add_bytes(storage.read(version, limit=1 << 20))
    return other


@pytest.mark.parametrize(
    "listed",
    [
        [],
        {"manifests": {}},
        {"manifests": ["x"]},
        {"manifests": [{"digest": "sha256:x", "size": 1, "mediaType": "x"}]},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "size": -1, "mediaType": "x"}]},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "size": 10**9, "mediaType": "x"}]},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "size": True, "mediaType": "x"}]},
    ],
    ids=str,
)
def test_what_is_no_list_is_refused(listed: object) -> None:
    hostile = Hostile(listed, {})
    with (
        Origin("http://registry", transport=httpx.MockTransport(hostile)) as origin,
        pytest.raises(ManifestError),
    ):
        read_referrers(origin, "digits", "sha256:" + "1" * 64)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 501])
def test_a_registry_that_knows_no_lists_may_say_so_in_many_ways(status: int) -> None:
    entry = _entry(b"x")

    def answer(request: httpx.Request) -> httpx.Response:
        if "/referrers/" in request.url.path:
            return streamed(status)
        assert request.url.path == "/v2/digits/manifests/sha256-" + "1" * 64
        return streamed(200, json.dumps(_index(entry)).encode())

    with Origin("http://registry", transport=httpx.MockTransport(answer)) as origin:
        (listed,) = read_referrers(origin, "digits", "sha256:" + "1" * 64)
    assert listed.digest == entry["digest"]


def test_a_list_without_end_is_left() -> None:
    entries = [_entry(b"%d" % number) for number in range(1000)]
    hostile = Hostile(_index(*entries), {})
    with Origin("http://registry", transport=httpx.MockTransport(hostile)) as origin:
        assert len(read_referrers(origin, "digits", "sha256:" + "1" * 64)) == MAX_REFERRERS
        hostile.listed = _index(entries[0])  # page after page with nothing that was not told
        assert len(read_referrers(origin, "digits", "sha256:" + "1" * 64)) == 1
    assert hostile.asked <= 3


def test_a_signature_behind_any_number_of_other_things_is_listed(
    tmp_path: Path, server: Server
) -> None:
    device = Device(tmp_path / "device", server, max_blob=1 << 30)
    mine, theirs = MemoryStorage(), MemoryStorage()
    version = add_version(mine, {"model.onnx": b"weights"})
    some = (signed(mine, version, b"%d" % number) for number in itertools.count())
    signature = next(one for one in some if one.startswith("sha256:ff"))
    manifest = json.loads(mine.read(signature, limit=1 << 20))
    noted = ReferrerStore(tmp_path / "device" / "referrers")
    for number in range(210):
        manifest |= {"artifactType": "text/plain", "annotations": {"n": str(number)}}
        noted.add(version, device.storage.add_bytes(json.dumps(manifest).encode()))
    with Origin(device.url) as origin:
        assert send_signatures(origin, "digits", mine, version, [signature]) == 1
        assert send_signatures(origin, "digits", mine, version, [signature]) == 0
        assert fetch_signatures(origin, "digits", version, theirs) == (signature,)


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_what_is_of_another_type_takes_no_signatures_place(kind: str) -> None:
    others = [_entry(b"%d" % number, artifactType=kind) for number in range(MAX_REFERRERS)]
    hostile = Hostile(_index(*others, _entry(b"signature")), {})
    with Origin("http://registry", transport=httpx.MockTransport(hostile)) as origin:
        wanted = "sha256:" + "1" * 64
        first, *rest = read_referrers(origin, "digits", wanted, artifact_type=BUNDLE_TYPE)
        assert first.digest == digest_of(b"signature")
        assert len(rest) == (0 if kind else MAX_REFERRERS - 1)


def test_pages_without_end_that_say_nothing_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbmodel.storage.referrers._MAX_PAGES", 5)
    hostile = Hostile(_index(), {})
    with Origin("http://registry", transport=httpx.MockTransport(hostile)) as origin:
        assert read_referrers(origin, "digits", "sha256:" + "1" * 64) == ()
    assert hostile.asked == 5


def test_a_registry_that_overwrites_the_tag_for_ever_is_told(monkeypatch: Any) -> None:
    from nbmodel.storage import referrers

    monkeypatch.setattr(referrers, "_PAUSE_S", 0.0)
    storage = MemoryStorage()
    version = add_version(storage, {"model.onnx": b"weights"})
    signature = signed(storage, version)
    own = f"{fallback_tag(version)}.{signature[7:23]}"
    raw = storage.read(signature, limit=1 << 20)

    def forgetful(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/tags/list"):
            return streamed(200, json.dumps({"name": "digits", "tags": [own]}).encode())
        if request.method == "GET" and path.endswith(own):
            return streamed(200, raw)
        if request.method == "PUT":
            return streamed(201)
        return streamed(200 if request.method == "HEAD" else 404)

    with (
        Origin("http://registry", transport=httpx.MockTransport(forgetful)) as origin,
        pytest.raises(StorageError, match="was overwritten 20 times"),
    ):
        send_signatures(origin, "digits", storage, version, [signature])
