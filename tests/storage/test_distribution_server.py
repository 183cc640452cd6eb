"""What the distribution API of a device offers beside blobs, manifests and tags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from nbmodel.core.artifact import EMPTY_TYPE, INDEX_TYPE
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.storage.distribution_server import repository_routes
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.repositories import TaggedRepositories
from tests.tools.registries import sha256
from tests.tools.storage_server import Device, Server, add_version

pytestmark = pytest.mark.unhurried

NOTE, SBOM = "application/vnd.example.note", "application/vnd.example.sbom"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def device(tmp_path: Path, server: Server) -> Device:
    return Device(tmp_path / "device", server, max_blob=1 << 20)


@pytest.fixture
def http(device: Device) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=device.url, trust_env=False, timeout=30) as client:
        yield client


def version(device: Device, name: str, *tags: str) -> str:
    digest = add_version(device.storage, {"m.onnx": name.encode()})
    for tag in tags:
        device.tags.set(name, tag, digest)
    return digest


def note(device: Device, subject: str, text: bytes, kind: str = NOTE) -> bytes:
    """A manifest that refers to another, whose blobs are on the device."""
    device.storage.add_bytes(b"{}")
    device.storage.add_bytes(text)
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": {"mediaType": EMPTY_TYPE, "digest": sha256(b"{}"), "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": sha256(text), "size": len(text)}],
            "subject": {"mediaType": MANIFEST_TYPE, "digest": subject, "size": 1},
        }
    ).encode()


def put(http: httpx.Client, name: str, raw: bytes, reference: str = "") -> httpx.Response:
    return http.put(
        f"/v2/{name}/manifests/{reference or sha256(raw)}",
        content=raw,
        headers={"Content-Type": MANIFEST_TYPE},
    )


def code(answer: httpx.Response) -> str:
    return str(answer.json()["errors"][0]["code"])


def test_the_repositories_of_a_device_are_listed_in_pages(
    device: Device, http: httpx.Client
) -> None:
    for name in ("team/b", "a", "c"):
        version(device, name, "1")
    assert http.get("/v2/_catalog").json() == {"repositories": ["a", "c", "team/b"]}
    first = http.get("/v2/_catalog?n=2")
    assert first.json() == {"repositories": ["a", "c"]}
    assert first.headers["Link"] == '</v2/_catalog?n=2&last=c>; rel="next"'
    last = http.get("/v2/_catalog?n=2&last=c")
    assert last.json() == {"repositories": ["team/b"]}
    assert "Link" not in last.headers
    assert http.get("/v2/_catalog?n=0").json() == {"repositories": []}
    refused = http.get("/v2/_catalog?n=many")
    assert (refused.status_code, code(refused)) == (400, "PAGINATION_NUMBER_INVALID")


def test_what_refers_to_a_version_is_kept_and_listed(device: Device, http: httpx.Client) -> None:
    subject = version(device, "digits", "1")
    raws = [
        note(device, subject, b"a"),
        note(device, subject, b"b"),
        note(device, subject, b"c", SBOM),
    ]
    for raw in raws:
        answer = put(http, "digits", raw)
        assert answer.status_code == 201
        assert answer.headers["OCI-Subject"] == subject
        put(http, "digits", raw)  # once more is the same
    assert device.changed == ["digits"] * 6
    path = f"/v2/digits/referrers/{subject}"
    listed = http.get(path)
    assert listed.headers["Content-Type"] == INDEX_TYPE
    entries = listed.json()["manifests"]
    assert {entry["digest"] for entry in entries} == set(map(sha256, raws))
    assert {entry["size"] for entry in entries} == set(map(len, raws))
    some = http.get(path, params={"artifactType": SBOM})
    assert some.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in some.json()["manifests"]] == [sha256(raws[2])]
    assert http.get(f"/v2/digits/referrers/{sha256(b'')}").json()["manifests"] == []
    assert http.get(f"/v2/digits/manifests/{sha256(raws[0])}").content == raws[0]
    assert http.get("/v2/digits/tags/list").json()["tags"] == ["1"]

    assert http.delete(f"/v2/digits/manifests/{sha256(raws[0])}").status_code == 202
    left = {entry["digest"] for entry in http.get(path).json()["manifests"]}
    assert left == {sha256(raws[1]), sha256(raws[2])}


def test_referrers_come_in_pages_and_filtered_pages_keep_their_filter(
    device: Device, http: httpx.Client
) -> None:
    subject = version(device, "digits", "1")
    for text in (b"a", b"b", b"c"):
        put(http, "digits", note(device, subject, text))
    found, path = [], f"/v2/digits/referrers/{subject}?n=2&artifactType={NOTE}"
    while path:
        answer = http.get(path)
        found += [entry["digest"] for entry in answer.json()["manifests"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert not path or "artifactType=" in path
    assert len(set(found)) == len(found) == 3


def test_a_referrer_may_come_before_its_subject(device: Device, http: httpx.Client) -> None:
    subject = sha256(b"not here yet")
    assert put(http, "digits", note(device, subject, b"early")).status_code == 201
    assert len(http.get(f"/v2/digits/referrers/{subject}").json()["manifests"]) == 1


def test_what_refers_to_a_version_has_no_tag(device: Device, http: httpx.Client) -> None:
    subject = version(device, "digits", "1")
    refused = put(http, "digits", note(device, subject, b"a"), "signature")
    assert (refused.status_code, code(refused)) == (400, "MANIFEST_INVALID")
    assert device.tags.tags("digits") == {"1": subject}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"subject": {"digest": "sha256:x"}}, id="a subject that is none"),
        pytest.param({"subject": 7}, id="a subject of another kind"),
        pytest.param({"layers": None}, id="no layers"),
        pytest.param({"layers": [{"mediaType": "x"}]}, id="a layer without a digest"),
        pytest.param({"annotations": {"a": 1}}, id="annotations that are no text"),
        pytest.param({"mediaType": INDEX_TYPE}, id="a list of manifests"),
    ],
)
def test_malformed_referrers_are_refused(
    device: Device, http: httpx.Client, change: dict[str, object]
) -> None:
    subject = version(device, "digits", "1")
    raw = json.dumps(json.loads(note(device, subject, b"a")) | change).encode()
    refused = put(http, "digits", raw)
    assert (refused.status_code, code(refused)) == (400, "MANIFEST_INVALID")


def test_damaged_referrers_are_left_out(device: Device, http: httpx.Client) -> None:
    subject = version(device, "digits", "1")
    raw = note(device, subject, b"a")
    put(http, "digits", raw)
    file = device.storage.path(sha256(raw))
    file.chmod(0o600)
    file.write_bytes(b"damaged")
    assert http.get(f"/v2/digits/referrers/{subject}").json()["manifests"] == []


def test_blobs_are_not_deleted_one_by_one(device: Device, http: httpx.Client) -> None:
    digest = device.storage.add_bytes(b"needed")
    refused = http.delete(f"/v2/digits/blobs/{digest}")
    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert device.storage.has(digest)
    gone = http.delete(f"/v2/digits/blobs/{sha256(b'gone')}")
    assert (gone.status_code, code(gone)) == (404, "BLOB_UNKNOWN")


def test_read_only_everything_that_changes_is_refused(
    device: Device, server: Server, http: httpx.Client
) -> None:
    subject = version(device, "digits", "1")
    repositories = TaggedRepositories(
        device.storage, device.tags, ReferrerStore(device.tags.root / "referrers")
    )
    server.app = Starlette(routes=repository_routes(device.storage, repositories, read_only=True))
    for method, path in (
        ("POST", "/v2/digits/blobs/uploads/"),
        ("PUT", f"/v2/digits/manifests/{subject}"),
        ("DELETE", "/v2/digits/manifests/1"),
        ("DELETE", f"/v2/digits/blobs/{subject}"),
    ):
        refused = http.request(method, path)
        assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    for path in ("manifests/1", f"blobs/{subject}", "tags/list", f"referrers/{subject}"):
        assert http.get(f"/v2/digits/{path}").status_code == 200
    assert device.tags.tags("digits") == {"1": subject}
