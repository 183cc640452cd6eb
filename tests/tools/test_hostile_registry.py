"""That the registry of the tests is right until it is told to be wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP

import httpx
import pytest

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.storage import MemoryStorage
from nbmodel.storage.distribution_client import Distribution
from tests.tools import misbehaviours
from tests.tools.hostile_answers import ELSEWHERE
from tests.tools.hostile_registry import HostileRegistry

DATA = bytes(range(256)) * 40


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry() as registry:
        yield registry


@pytest.fixture
def blob(registry: HostileRegistry) -> str:
    return f"{registry.url}/v2/digits/blobs/{registry.put(DATA)}"


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(
        url, headers={k.replace("_", "-"): v for k, v in headers.items()}, trust_env=False
    )


def test_a_version_can_be_pulled(registry: HostileRegistry) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    manifest = Manifest(
        name="digits",
        created="2026-01-01",
        files=(FileEntry("model.onnx", len(DATA), here.add_bytes(DATA)),),
        framework="onnx",
        model_type="other",
        signature=Signature(),
    )
    here.add_bytes(manifest.config_bytes())
    digest = here.add_bytes(manifest.manifest_bytes())
    registry.take("team/digits", here, digest, tags=("1", "latest"))
    with Distribution(registry.url) as remote:
        remote.check()
        assert remote.tags("team/digits") == ("1", "latest")
        assert remote.tags("digits") == ()
        assert remote.pull("team/digits", "latest", there) == digest
    assert {one for one, *_ in there.digests()} == {one for one, *_ in here.digests()}
    assert registry.sent("blob") == len(DATA) + len(manifest.config_bytes())


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        pytest.param("bytes=0-0", 206, f"bytes 0-0/{len(DATA)}", DATA[:1], id="the first byte"),
        pytest.param(
            "bytes=100-", 206, f"bytes 100-10239/{len(DATA)}", DATA[100:], id="all but the first"
        ),
        pytest.param(
            "bytes=-5", 206, f"bytes 10235-10239/{len(DATA)}", DATA[-5:], id="the last five"
        ),
        pytest.param(
            "bytes=9000-99999",
            206,
            f"bytes 9000-10239/{len(DATA)}",
            DATA[9000:],
            id="cut at the end",
        ),
        pytest.param("bytes=10240-", 416, f"bytes */{len(DATA)}", b"", id="behind the end"),
        pytest.param("bytes=banana", 200, None, DATA, id="nothing that is a range"),
    ],
)
def test_a_range(
    blob: str, asked: str, status: int, content_range: str | None, body: bytes
) -> None:
    answer = get(blob, Range=asked)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == content_range
    assert answer.content == body


def test_several_ranges(blob: str) -> None:
    answer = get(blob, Range="bytes=0-9, 300-309,-4")
    assert answer.status_code == 206
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    # The standard library's own reader of multipart bodies.
    parts = message_from_bytes(head + answer.content, policy=HTTP).get_payload()
    assert [part["Content-Range"] for part in parts] == [
        f"bytes {which}/{len(DATA)}" for which in ("0-9", "300-309", "10236-10239")
    ]
    assert parts[0].get_payload(decode=True) == DATA[:10]


def test_conditions(blob: str) -> None:
    etag = get(blob).headers["ETag"]
    assert get(blob, Range="bytes=5-", If_Range=etag).status_code == 206
    assert get(blob, Range="bytes=5-", If_Range='"another"').status_code == 200


def test_tags_that_did_not_change_are_not_sent_again(registry: HostileRegistry) -> None:
    registry.tag("digits", "1", "sha256:" + "0" * 64)
    url = f"{registry.url}/v2/digits/tags/list"
    etag = get(url).headers["ETag"]
    assert get(url, If_None_Match=etag).status_code == 304
    registry.tag("digits", "2", "sha256:" + "0" * 64)
    assert get(url, If_None_Match=etag).json() == {"name": "digits", "tags": ["1", "2"]}


def test_it_wants_its_token(registry: HostileRegistry, blob: str) -> None:
    registry.token = "secret"
    assert get(blob).status_code == 401
    assert get(blob, Authorization="Bearer secret").status_code == 200
    assert [one.authorization for one in registry.asked] == [None, "Bearer secret"]


def test_a_misbehaviour_begins_and_ends_as_told(registry: HostileRegistry, blob: str) -> None:
    registry.misbehave(misbehaviours.failing(500), "blob", skip=1, times=2)
    assert [get(blob).status_code for _ in range(4)] == [200, 500, 500, 200]
    registry.misbehave(misbehaviours.failing(503, Retry_After="7"), "blob")
    assert get(blob).headers["Retry-After"] == "7"
    registry.behave()
    assert get(blob).content == DATA


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_is_cut(registry: HostileRegistry, blob: str, reset: bool) -> None:
    registry.misbehave(misbehaviours.truncated(0.5, reset=reset), "blob")
    with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
        get(blob)


def test_it_goes_away_and_comes_back_at_the_same_address(
    registry: HostileRegistry, blob: str
) -> None:
    registry.vanish()
    with pytest.raises(httpx.ConnectError):
        get(blob)
    registry.come_back()
    assert get(blob).content == DATA


def test_what_hangs_or_drips_goes_on_when_it_behaves_again(
    registry: HostileRegistry, blob: str
) -> None:
    for fault in (misbehaviours.hanging(), misbehaviours.dripping()):
        registry.misbehave(fault, "blob")
        timer = threading.Timer(0.2, registry.behave)
        timer.start()
        assert get(blob).content == DATA
        timer.join()


def test_redirects_lead_to_the_same_content(registry: HostileRegistry, blob: str) -> None:
    registry.misbehave(misbehaviours.redirected(ELSEWHERE + "{path}"), "blob")
    assert get(blob).status_code == 307
    answer = httpx.get(blob, follow_redirects=True, trust_env=False)
    assert answer.content == DATA


def test_a_version_can_be_pushed(registry: HostileRegistry) -> None:
    here = MemoryStorage()
    digest = here.add_bytes(DATA)
    with Distribution(registry.url) as remote:
        assert remote.push_blob("digits", here, digest).sent == len(DATA)
        assert remote.push_blob("digits", here, digest).sent == 0
        remote.push_manifest("digits", "1", b"{}")
        assert remote.manifest("digits", "1") == b"{}"
    assert registry.blob(digest) == DATA
    assert set(registry.tags("digits")) == {"1"}
