"""One suite for every registry: Debian's docker-registry and ``registry serve``.

Three ways each: open, with a password (a token), and with TLS by a private authority.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.errors import AuthenticationError
from nbmodel.storage import MemoryStorage, OciLayout, send
from nbmodel.storage.distribution_client import Distribution
from tests.tools.registries import KINDS, Target, missing, running, sha256
from tests.tools.storage_server import add_version

pytestmark = [pytest.mark.unhurried, pytest.mark.slow]

SKOPEO, CURL = shutil.which("skopeo"), shutil.which("curl")
NAME = "team/digits"
DATA = bytes(range(256)) * 1200  # 307,200 bytes
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module", params=KINDS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    reason = missing(request.param)
    if reason is not None:
        pytest.skip(reason)
    with (
        running(request.param, tmp_path_factory.mktemp(request.param)) as target,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in target.environment.items():
            environment.setenv(name, value)
        yield target


@pytest.fixture(scope="module")
def http(target: Target) -> Iterator[httpx.Client]:
    with target.client() as client:
        yield client


@pytest.fixture
def remote(target: Target) -> Iterator[Distribution]:
    with Distribution(target.url, access=target.access) as remote:
        yield remote


def error_code(answer: httpx.Response) -> str:
    """The first code of an answer in the specification's error form."""
    body = answer.json()
    assert list(body) == ["errors"]
    assert body["errors"][0]["message"]
    return str(body["errors"][0]["code"])


def version(storage: MemoryStorage, content: bytes, created: str = "2026-01-01T00:00:00Z") -> bytes:
    """The manifest of a version whose blobs are in a storage."""
    digest = add_version(storage, {"model.onnx": content}, created)
    return storage.read(digest, limit=1 << 20)


def pushed(target: Target, http: httpx.Client, name: str, tag: str, content: bytes) -> bytes:
    """A version pushed with nothing but HTTP; its manifest."""
    storage = MemoryStorage()
    raw = version(storage, content)
    manifest = json.loads(raw)
    for one in (manifest["config"], *manifest["layers"]):
        target.push_blob(http, name, storage.read(one["digest"], limit=1 << 22))
    answer = http.put(
        f"/v2/{name}/manifests/{tag}", content=raw, headers={"Content-Type": MANIFEST_TYPE}
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == sha256(raw)
    return raw


# Entering


def test_it_says_that_it_speaks_the_api(target: Target, http: httpx.Client) -> None:
    answer = http.get("/v2/")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_who_may_not_enter_is_told_what_to_show(target: Target) -> None:
    with target.client(logged_in=False) as stranger:
        answer = stranger.get("/v2/")
        assert answer.status_code == (200 if target.login is None else 401)
        if target.login is not None:
            assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
            assert error_code(answer) == "UNAUTHORIZED"
            assert stranger.get("/v2/", auth=("anybody", "wrong")).status_code == 401


# Blobs


def test_a_blob_in_one_piece(target: Target, http: httpx.Client) -> None:
    digest = target.push_blob(http, NAME, DATA)
    head = http.head(f"/v2/{NAME}/blobs/{digest}")
    assert head.status_code == 200
    assert head.headers["Content-Length"] == str(len(DATA))
    assert head.headers["Docker-Content-Digest"] == digest
    assert http.get(f"/v2/{NAME}/blobs/{digest}").content == DATA


def test_a_blob_in_one_request_or_a_place_to_send_it(target: Target, http: httpx.Client) -> None:
    data = b"in one request"
    answer = http.post(f"/v2/{NAME}/blobs/uploads/", params={"digest": sha256(data)}, content=data)
    assert answer.status_code in (201, 202)
    assert answer.headers["Location"]
    if target.is_ours:
        assert http.get(answer.headers["Location"]).content == data


def test_a_blob_in_chunks(target: Target, http: httpx.Client) -> None:
    data = DATA[::-1]
    place = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    for start in range(0, len(data), 100_000):
        chunk = data[start : start + 100_000]
        answer = http.patch(
            place,
            content=chunk,
            headers={
                "Content-Range": f"{start}-{start + len(chunk) - 1}",
                "Content-Type": "application/octet-stream",
            },
        )
        assert answer.status_code == 202, answer.text
        assert answer.headers["Range"] == f"0-{start + len(chunk) - 1}"
        place = answer.headers["Location"]
    url = httpx.URL(place)
    closed = http.put(url, params={**url.params, "digest": sha256(data)})
    assert closed.status_code == 201, closed.text
    assert http.get(f"/v2/{NAME}/blobs/{sha256(data)}").content == data


def test_a_chunk_out_of_order_is_refused(target: Target, http: httpx.Client) -> None:
    if not target.is_ours:
        pytest.skip("docker-registry 2.8 appends whatever comes")
    place = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    headers = {"Content-Range": "5-9", "Content-Type": "application/octet-stream"}
    assert http.patch(place, content=b"56789", headers=headers).status_code == 416


def test_an_upload_goes_on_where_it_was_broken_off(target: Target) -> None:
    data = b"resumed" * 10_000
    with target.client() as first:
        place = first.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
        place = first.patch(
            place,
            content=data[:30_000],
            headers={"Content-Range": "0-29999", "Content-Type": "application/octet-stream"},
        ).headers["Location"]
    with target.client() as second:
        status = second.get(place)
        assert status.status_code == 204
        assert status.headers["Range"] == "0-29999"
        place = second.patch(
            status.headers["Location"],
            content=data[30_000:],
            headers={
                "Content-Range": f"30000-{len(data) - 1}",
                "Content-Type": "application/octet-stream",
            },
        ).headers["Location"]
        url = httpx.URL(place)
        closed = second.put(url, params={**url.params, "digest": sha256(data)})
        assert closed.status_code == 201, closed.text
        assert second.get(f"/v2/{NAME}/blobs/{sha256(data)}").content == data


def test_an_upload_is_given_up(target: Target, http: httpx.Client) -> None:
    place = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    assert http.delete(place).status_code == 204
    gone = http.get(place)
    assert gone.status_code == 404
    assert error_code(gone) == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        pytest.param("bytes=5-9", 5, 9, id="from the middle"),
        pytest.param("bytes=307000-", 307_000, 307_199, id="to the end"),
        pytest.param("bytes=-7", 307_193, 307_199, id="the end"),
    ],
)
def test_a_part_of_a_blob(
    target: Target, http: httpx.Client, asked: str, first: int, last: int
) -> None:
    digest = target.push_blob(http, NAME, DATA)
    answer = http.get(f"/v2/{NAME}/blobs/{digest}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.content == DATA[first : last + 1]


def test_a_part_beyond_the_end_is_refused(target: Target, http: httpx.Client) -> None:
    if not target.is_ours:
        pytest.skip("docker-registry 2.8 closes the connection")
    digest = target.push_blob(http, NAME, b"short")
    answer = http.get(f"/v2/{NAME}/blobs/{digest}", headers={"Range": "bytes=90-99"})
    assert answer.status_code == 416


def test_a_blob_is_mounted_from_another_repository(target: Target, http: httpx.Client) -> None:
    digest = target.push_blob(http, NAME, b"mounted")
    answer = http.post("/v2/other/fruit/blobs/uploads/", params={"mount": digest, "from": NAME})
    assert answer.status_code == 201
    assert http.get(f"/v2/other/fruit/blobs/{digest}").content == b"mounted"


def test_what_cannot_be_mounted_is_sent(target: Target, http: httpx.Client) -> None:
    absent = sha256(b"nobody has it")
    answer = http.post(f"/v2/{NAME}/blobs/uploads/", params={"mount": absent, "from": "nobody"})
    assert answer.status_code == 202
    assert http.delete(answer.headers["Location"]).status_code == 204


def test_bytes_of_another_digest_are_refused(target: Target, http: httpx.Client) -> None:
    place = httpx.URL(http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"])
    wrong = sha256(b"something else")
    answer = http.put(place, params={**place.params, "digest": wrong}, content=b"something")
    assert answer.status_code == 400
    assert error_code(answer) == "DIGEST_INVALID"
    assert http.head(f"/v2/{NAME}/blobs/{wrong}").status_code == 404


def test_a_blob_that_is_not_there(target: Target, http: httpx.Client) -> None:
    answer = http.get(f"/v2/{NAME}/blobs/{sha256(b'not there')}")
    assert answer.status_code == 404
    assert error_code(answer) == "BLOB_UNKNOWN"


# Manifests and tags


def test_a_manifest_by_tag_and_by_digest(target: Target, http: httpx.Client) -> None:
    raw = pushed(target, http, "a/manifests", "champion", b"one")
    for reference in ("champion", sha256(raw)):
        path = f"/v2/a/manifests/manifests/{reference}"
        answer = http.get(path, headers={"Accept": MANIFEST_TYPE})
        assert answer.content == raw
        assert answer.headers["Content-Type"] == MANIFEST_TYPE
        assert answer.headers["Docker-Content-Digest"] == sha256(raw)
        head = http.head(path, headers={"Accept": MANIFEST_TYPE})
        assert head.status_code == 200
        assert head.headers["Content-Length"] == str(len(raw))
        assert head.headers["Docker-Content-Digest"] == sha256(raw)


def test_a_tag_moves(target: Target, http: httpx.Client) -> None:
    pushed(target, http, "a/moving", "champion", b"one")
    second = pushed(target, http, "a/moving", "champion", b"two")
    accept = {"Accept": MANIFEST_TYPE}
    assert http.get("/v2/a/moving/manifests/champion", headers=accept).content == second


def test_manifests_that_are_not_there(target: Target, http: httpx.Client) -> None:
    pushed(target, http, "a/absent", "champion", b"one")
    for reference in ("nobody", sha256(b"no manifest")):
        answer = http.get(f"/v2/a/absent/manifests/{reference}")
        assert answer.status_code == 404
        assert error_code(answer) == "MANIFEST_UNKNOWN"
    assert http.get("/v2/a/nothing/tags/list").status_code == 404


def test_a_manifest_whose_blobs_are_not_there_is_refused(
    target: Target, http: httpx.Client
) -> None:
    raw = version(MemoryStorage(), b"nobody pushed this")
    answer = http.put(
        "/v2/a/lacking/manifests/champion",
        content=raw,
        headers={"Content-Type": MANIFEST_TYPE},
    )
    assert answer.status_code in (400, 404)
    assert http.get("/v2/a/lacking/manifests/champion").status_code == 404


def test_a_manifest_under_another_digest_is_refused(target: Target, http: httpx.Client) -> None:
    raw = pushed(target, http, "a/wrong", "champion", b"one")
    answer = http.put(
        f"/v2/a/wrong/manifests/{sha256(b'wrong')}",
        content=raw,
        headers={"Content-Type": MANIFEST_TYPE},
    )
    assert answer.status_code == 400
    assert error_code(answer) == "DIGEST_INVALID"


def test_what_is_no_manifest_is_refused(target: Target, http: httpx.Client) -> None:
    headers = {"Content-Type": MANIFEST_TYPE}
    answer = http.put("/v2/a/wrong/manifests/x", content=b'{"layers": 1', headers=headers)
    assert answer.status_code == 400
    assert error_code(answer) == "MANIFEST_INVALID"


def test_tags_come_in_pages(target: Target, http: httpx.Client) -> None:
    wanted = {"apple", "banana", "cherry", "damson", "elder"}
    for tag in wanted:
        pushed(target, http, "a/fruit", tag, b"one")
    everything = http.get("/v2/a/fruit/tags/list").json()
    assert everything["name"] == "a/fruit"
    assert wanted <= set(everything["tags"])
    found, path = [], "/v2/a/fruit/tags/list?n=2"
    while path:
        answer = http.get(path)
        page = answer.json()["tags"]
        if target.is_ours:  # docker-registry 2.8 has one page of tags, in no order
            assert len(page) <= 2
            assert page == sorted(page)
        found += page
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        path = "" if link is None else link[1]
    assert sorted(found) == sorted(everything["tags"])


def test_repositories_come_in_pages(target: Target, http: httpx.Client) -> None:
    for name in ("z/one", "z/two"):
        pushed(target, http, name, "champion", b"one")
    everything = http.get("/v2/_catalog", params={"n": 1000}).json()["repositories"]
    assert {"z/one", "z/two"} <= set(everything)
    found, path = [], "/v2/_catalog?n=1"
    while path:
        answer = http.get(path)
        found += answer.json()["repositories"]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        path = "" if link is None else link[1]
    assert found == everything


def test_a_manifest_is_deleted(target: Target, http: httpx.Client) -> None:
    raw = pushed(target, http, "a/deleted", "1", b"one")
    path = f"/v2/a/deleted/manifests/{sha256(raw)}"
    assert http.delete(path).status_code == 202
    for reference in ("1", sha256(raw)):
        answer = http.get(f"/v2/a/deleted/manifests/{reference}")
        assert answer.status_code == 404
    assert http.delete(path).status_code == 404


# What refers to a manifest


def test_referrers_are_listed_by_the_api_or_under_the_fallback_tag(
    target: Target, http: httpx.Client
) -> None:
    raw = pushed(target, http, "a/referred", "champion", b"one")
    subject = sha256(raw)
    answer = target.push_note(http, "a/referred", raw, b"a note")
    assert answer.status_code == 201, answer.text
    note = answer.headers["Docker-Content-Digest"]
    path = f"/v2/a/referred/referrers/{subject}"
    listed = http.get(path)
    assert (answer.headers.get("OCI-Subject") == subject) == (listed.status_code == 200)
    if listed.status_code != 200:
        assert not target.is_ours
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [{"mediaType": MANIFEST_TYPE, "digest": note, "size": 1}],
        }
        fallback = f"/v2/a/referred/manifests/{subject.replace(':', '-')}"
        assert http.get(fallback).status_code == 404
        size = len(
            http.get(f"/v2/a/referred/manifests/{note}", headers={"Accept": MANIFEST_TYPE}).content
        )
        index["manifests"] = [{"mediaType": MANIFEST_TYPE, "digest": note, "size": size}]
        put = http.put(fallback, content=json.dumps(index), headers={"Content-Type": INDEX_TYPE})
        assert put.status_code == 201, put.text
        listed = http.get(fallback, headers={"Accept": INDEX_TYPE})
    assert listed.headers["Content-Type"].partition(";")[0] == INDEX_TYPE
    (entry,) = listed.json()["manifests"]
    assert entry["digest"] == note


def test_referrers_are_filtered_by_what_they_are(target: Target, http: httpx.Client) -> None:
    raw = pushed(target, http, "a/filtered", "champion", b"one")
    target.push_note(http, "a/filtered", raw, b"a note")
    path = f"/v2/a/filtered/referrers/{sha256(raw)}"
    if http.get(path).status_code != 200:
        pytest.skip("this registry has no referrers API")
    for kind, count in (("application/vnd.example.note", 1), ("application/vnd.example.x", 0)):
        answer = http.get(path, params={"artifactType": kind})
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        assert len(answer.json()["manifests"]) == count
    (entry,) = http.get(path).json()["manifests"]
    assert entry["artifactType"] == "application/vnd.example.note"
    assert entry["annotations"] == {"org.example.author": "a"}
    assert http.get(f"/v2/a/filtered/referrers/{sha256(b'x')}").json()["manifests"] == []


# nbmodel's own client


def test_a_version_goes_there_and_back(
    target: Target, remote: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"model.onnx": DATA * 4, "labels.txt": b"a\nb\n"})
    remote.check()
    first = remote.push("our/digits", here, digest, tags=["champion"])
    assert first.sent > len(DATA) * 4
    assert remote.push("our/digits", here, digest, tags=["champion"]).sent == 0
    assert "champion" in remote.tags("our/digits")
    assert remote.pull("our/digits", "champion", there) == digest
    assert {one: there.size(one) for one, _, _ in there.digests()} == {
        one: here.size(one) for one, _, _ in here.digests()
    }


def test_without_the_password_it_is_told_what_to_do(target: Target) -> None:
    if target.login is None:
        pytest.skip("anybody may enter")
    with Distribution(target.url, token="wrong") as stranger, pytest.raises(AuthenticationError):
        stranger.check()


# Other people's tools


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed")
def test_skopeo_inspects_and_copies_both_ways(
    target: Target, remote: Distribution, tmp_path: Path
) -> None:
    assert SKOPEO is not None
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": DATA, "labels.txt": b"a\nb\n"})
    remote.push("sk/digits", here, digest, tags=["champion"])
    address = f"docker://{target.host}/sk/digits"
    raw = run(SKOPEO, "inspect", "--raw", *target.skopeo(""), f"{address}:champion")
    assert sha256(raw.encode()) == digest
    listed = json.loads(run(SKOPEO, "list-tags", *target.skopeo(""), address))
    assert "champion" in listed["Tags"]

    out = tmp_path / "layout"
    run(
        SKOPEO,
        "copy",
        "--preserve-digests",
        *target.skopeo("src"),
        f"{address}:champion",
        f"oci:{out}:x",
    )
    layout = OciLayout(out)
    for blob, _, _ in here.digests():
        assert layout.read(blob, limit=1 << 22) == here.read(blob, limit=1 << 22)

    back = f"docker://{target.host}/sk/back:champion"
    run(SKOPEO, "copy", "--preserve-digests", *target.skopeo("dest"), f"oci:{out}:x", back)
    there = MemoryStorage()
    assert remote.pull("sk/back", "champion", there) == digest


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_fetches_a_file_by_its_digest(
    target: Target, remote: Distribution, tmp_path: Path
) -> None:
    assert CURL is not None
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": DATA})
    remote.push("curl/digits", here, digest, tags=["champion"])
    base = f"{target.url}/v2/curl/digits"
    accept = ["-H", f"Accept: {MANIFEST_TYPE}"]
    manifest = json.loads(run(CURL, "-fsS", *target.curl(), *accept, f"{base}/manifests/champion"))
    (layer,) = manifest["layers"]
    file = tmp_path / "model.onnx"
    run(CURL, "-fsSL", *target.curl(), "-o", str(file), f"{base}/blobs/{layer['digest']}")
    assert f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" == layer["digest"]


def test_oras_pulls_it(
    target: Target, remote: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oras = pytest.importorskip("oras.client")
    here = MemoryStorage()
    files = {"model.onnx": DATA, "more/labels.txt": b"a\nb\n"}
    remote.push("oras/digits", here, add_version(here, files), tags=["champion"])
    # requests, which it is made on, knows no other way to a private authority.
    if target.ca is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(target.ca))
    client: Any = oras.OrasClient(
        hostname=target.host, insecure=target.ca is None, auth_backend="basic"
    )
    if target.login is not None:
        client.auth.set_basic_auth(*target.login)
    paths = client.pull(f"{target.host}/oras/digits:champion", outdir=str(tmp_path))
    found = {Path(path).relative_to(tmp_path).as_posix(): Path(path).read_bytes() for path in paths}
    assert found == files
