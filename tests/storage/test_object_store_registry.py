"""A registry in an object store: an S3-compatible server, and a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.core.claim import Claim
from nbmodel.core.digest import digest_of
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InputError,
    ManifestError,
    NbModelError,
    PluginError,
    RefError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
)
from nbmodel.storage import MemoryStorage, OciLayout
from nbmodel.storage import object_store as object_store_module
from nbmodel.storage.object_store import Bucket, open_store
from nbmodel.storage.object_store_registry import ObjectStoreRegistry
from nbmodel.storage.remote_registry import open_registry
from nbmodel.storage.send import Pushed
from tests.tools.object_server import SECRET, ObjectServer, object_server
from tests.tools.storage_server import add_version

pytestmark = pytest.mark.unhurried
pytest.importorskip("obstore", reason="the extra object-store is not installed")

LARGE = os.urandom(1_000_000) * 9  # two parts
CONDITIONS = {"if-match", "if-none-match"}
LARGE_DIGEST = "sha256:" + hashlib.sha256(LARGE).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, server: ObjectServer, tmp_path: Path) -> str:
    """The address of an empty store."""
    if request.param == "file":
        (tmp_path / "team models").mkdir()
        return (tmp_path / "team models").as_uri()
    name = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:40]
    return server.make_bucket(name) + "/team/models"


@pytest.fixture
def bucket(address: str) -> Bucket:
    return open_store(address)


@pytest.fixture
def remote(bucket: Bucket) -> ObjectStoreRegistry:
    return ObjectStoreRegistry(bucket)


def test_a_version_goes_there_and_back(address: str) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"model.onnx": LARGE, "labels.txt": b"a\nb\n"})
    with open_registry(address) as remote:
        remote.check()
        assert remote.host == address
        pushed = remote.push("team/digits", here, digest, tags=["1", "latest"])
        assert pushed.sent > len(LARGE)
        assert pushed.present == 0
        assert remote.tags("team/digits") == ("1", "latest")
        assert remote.tags("team") == ()
        told: list[int] = []
        assert remote.pull("team/digits", "latest", there, progress=told.append) == digest
    assert _sizes(there) == _sizes(here)
    assert sum(told) == sum(_sizes(here).values()) - there.size(digest)


def test_what_is_there_is_not_sent_again(remote: ObjectStoreRegistry) -> None:
    here = MemoryStorage()
    first = add_version(here, {"model.onnx": b"same"})
    second = add_version(here, {"model.onnx": b"same"}, created="2026-01-02")
    remote.push("digits", here, first, tags=["1"])
    told: list[int] = []
    pushed = remote.push("digits", here, second, tags=["2"], progress=told.append)
    assert pushed == Pushed(sum(told) - len(b"same"), len(b"same")), "the config alone was sent"
    assert remote.push("digits", here, second, tags=["2"]).sent == 0


def test_a_tag_moves_and_goes(remote: ObjectStoreRegistry) -> None:
    here = MemoryStorage()
    first = add_version(here, {"model.onnx": b"1"})
    second = add_version(here, {"model.onnx": b"2"})
    remote.push("digits", here, first, tags=["best"])
    remote.push("digits", here, second, tags=["best"])
    assert remote.pull("digits", "best", MemoryStorage()) == second
    assert remote.pull("digits", first, MemoryStorage()) == first, "by digest"
    assert remote.delete_tag("digits", "best")
    assert not remote.delete_tag("digits", "best")
    with pytest.raises(BlobNotFoundError, match="has no digits:best"):
        remote.manifest("digits", "best")


def test_of_two_who_move_a_tag_the_second_is_told(
    remote: ObjectStoreRegistry, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = MemoryStorage()
    digests = [add_version(here, {"model.onnx": bytes([at])}) for at in range(4)]
    first, second, third, fourth = (here.read(one, limit=10_000) for one in digests)
    for digest in digests:
        remote.push("digits", here, digest, tags=())
    assert remote.move_tag("digits", "best", first, expected=None)
    assert not remote.move_tag("digits", "best", second, expected=None), "it is new no more"
    assert remote.move_tag("digits", "best", first, expected=None), "it is there already"
    assert remote.move_tag("digits", "best", second, expected=digests[0])
    assert not remote.move_tag("digits", "best", third, expected=digests[0])
    assert remote.digest("digits", "best") == digests[1]

    if not bucket.url.startswith("file:"):  # between the look and the step
        put, moved = Bucket.put, ObjectStoreRegistry(bucket)

        def late(self: Bucket, key: str, data: bytes, **how: Any) -> bool:
            monkeypatch.undo()
            assert moved.move_tag("digits", "best", third, expected=digests[1])
            return put(self, key, data, **how)

        monkeypatch.setattr(Bucket, "put", late)
        assert not remote.move_tag("digits", "best", fourth, expected=digests[1])
        assert remote.digest("digits", "best") == digests[2]


def test_a_store_without_conditions(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As S3-compatible stores of some years ago: a tag is looked at just before it moves."""
    refused: list[str] = []

    class Old(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.command == "PUT" and {one.lower() for one in self.headers} & CONDITIONS:
                refused.append(self.path)
                status, headers, content = 501, {}, b"<Error><Code>NotImplemented</Code></Error>"
            else:
                url, given = server.url + self.path, dict(self.headers)
                answer = httpx.request(
                    self.command, url, headers=given, content=body, trust_env=False
                )
                status, headers, content = answer.status_code, answer.headers, answer.content
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("etag", "last-modified", "content-type", "content-range"):
                    self.send_header(name, value)
            told = headers.get("content-length") if self.command == "HEAD" else len(content)
            self.send_header("Content-Length", str(told or 0))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

        def do_GET(self) -> None:
            self.forward()

        def do_HEAD(self) -> None:
            self.forward()

        def do_PUT(self) -> None:
            self.forward()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(object_store_module, "_RETRIES", 0)
    address = server.make_bucket("of-old")
    here = MemoryStorage()
    first, second = (add_version(here, {"model.onnx": bytes([at])}) for at in range(2))
    old = ThreadingHTTPServer(("127.0.0.1", 0), Old)
    threading.Thread(target=old.serve_forever, args=(0.02,), daemon=True).start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{old.server_port}")
        with open_registry(address) as remote:
            remote.push("digits", here, first, tags=["1"])
            remote.push("digits", here, second, tags=["2"])
            raw = here.read(first, limit=10_000)
            assert remote.move_tag("digits", "best", raw, expected=None)
            raw = here.read(second, limit=10_000)
            assert not remote.move_tag("digits", "best", raw, expected=None)
            assert remote.move_tag("digits", "best", raw, expected=first)
            assert remote.pull("digits", "best", MemoryStorage()) == second
        index = json.loads(open_store(address).read("index.json", limit=10_000)[1])
    finally:
        old.shutdown()
        old.server_close()
    assert refused
    assert len(index["manifests"]) == 3


def test_repositories_are_listed(remote: ObjectStoreRegistry) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": b"1"})
    for name in ("digits", "team/digits"):
        remote.push(name, here, digest, tags=["1", "2"])
    assert remote.repositories() == ("digits", "team/digits")


def test_repositories_within_each_other(remote: ObjectStoreRegistry) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": b"1"})
    for name in ("a", "a/b", "a/b-c"):
        remote.push(name, here, digest, tags=["1", "b"])
    assert [remote.tags(name) for name in ("a", "a/b", "a/b-c", "b")] == [("1", "b")] * 3 + [()]


def test_other_tools_read_it_as_a_layout(
    remote: ObjectStoreRegistry, bucket: Bucket, tmp_path: Path
) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": b"weights"})
    claim = "v3-20260228T133651.250000-" + digest.partition(":")[2][:16]
    assert Claim.parse(claim) is not None
    remote.push("digits", here, digest, tags=[claim, "3", "2026-02-28T13-36-51", "best"])
    remote.push("digits", here, digest, tags=["3"])
    remote.delete_tag("digits", "best")
    index = json.loads(bucket.read("index.json", limit=10_000)[1])
    (entry,) = index["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "digits:3"}
    assert (entry["digest"], entry["size"]) == (digest, here.size(digest))

    for item in bucket.items():
        (tmp_path / "copy" / item.key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / item.key).write_bytes(b"".join(bucket.stream(item)))
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    done = subprocess.run(
        [skopeo, "inspect", "--raw", f"oci:{tmp_path / 'copy'}:digits:3"],
        capture_output=True,
        check=True,
    )
    assert "sha256:" + hashlib.sha256(done.stdout).hexdigest() == digest


def test_a_damaged_blob_never_arrives(
    remote: ObjectStoreRegistry, bucket: Bucket, tmp_path: Path
) -> None:
    here = OciLayout(tmp_path / "layout")
    small, large = here.add_bytes(b"small"), here.add_bytes(LARGE)
    for digest in (small, large):
        path = here.path(digest)
        path.chmod(0o600)
        path.write_bytes(b"X" + path.read_bytes()[1:])
        told: list[int] = []
        with pytest.raises(DigestMismatchError):
            remote.push_blob("digits", here, digest, progress=told.append)
        assert sum(told) == 0
        assert not remote.has_blob("digits", digest)
    assert not list(bucket.items("blobs"))


def test_an_upload_that_fails_is_given_up_by_the_store(
    server: ObjectServer, tmp_path: Path
) -> None:
    address = server.make_bucket("given-up")
    here = OciLayout(tmp_path / "layout")
    digest = here.add_bytes(LARGE * 2)  # so that a part is there when it is given up
    calls = iter(range(100))
    remote = ObjectStoreRegistry(open_store(address), cancelled=lambda: next(calls) > 16)
    with pytest.raises(CancelledError):
        remote.push_blob("digits", here, digest)
    assert b"<UploadId>" not in server.unfinished("given-up"), "nobody pays for its parts"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(LARGE[:-1], StorageError, id="too short"),
        pytest.param(LARGE + b"x", StorageError, id="too long"),
        pytest.param(b"X" + LARGE[1:], DigestMismatchError, id="other bytes"),
        pytest.param(None, BlobNotFoundError, id="gone"),
    ],
)
def test_a_blob_that_is_another_is_not_taken(
    remote: ObjectStoreRegistry, bucket: Bucket, data: bytes | None, error: type[Exception]
) -> None:
    if data is not None:
        bucket.put("blobs/sha256/" + LARGE_DIGEST[7:], data)
    there = MemoryStorage()
    told: list[int] = []
    with pytest.raises(error):
        remote.pull_blob("digits", there, LARGE_DIGEST, size=len(LARGE), progress=told.append)
    assert not there.has(LARGE_DIGEST)
    assert sum(told) == 0


def test_a_cut_is_gone_on_with(remote: ObjectStoreRegistry, bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload("blobs/sha256/" + LARGE_DIGEST[7:], [LARGE], len(LARGE))
    there = OciLayout(tmp_path / "there")
    told: list[int] = []
    stopping = ObjectStoreRegistry(bucket, cancelled=lambda: sum(told) > 0)
    with pytest.raises(CancelledError):
        stopping.pull_blob("m", there, LARGE_DIGEST, size=len(LARGE), progress=told.append)
    begun = sum(told)
    assert 0 < begun < len(LARGE)

    told.clear()
    remote.pull_blob("m", there, LARGE_DIGEST, size=len(LARGE), progress=told.append)
    assert told[0] == begun, "what was there is not fetched again"
    assert sum(told) == len(LARGE)
    there.check(LARGE_DIGEST)


def test_a_wrong_part_of_an_earlier_time_does_no_harm(
    remote: ObjectStoreRegistry, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.upload("blobs/sha256/" + LARGE_DIGEST[7:], [LARGE], len(LARGE))
    for garbage in (b"garbage", LARGE + b"more"):
        there = OciLayout(tmp_path / str(len(garbage)))
        with there.receive(name="fetch-" + LARGE_DIGEST[7:55]) as writer:
            writer.write(garbage)
        told: list[int] = []
        remote.pull_blob("m", there, LARGE_DIGEST, size=len(LARGE), progress=told.append)
        there.check(LARGE_DIGEST)
        assert sum(told) == len(LARGE)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(b"", ManifestError, id="empty"),
        pytest.param(b"[1]", ManifestError, id="no object"),
        pytest.param(b"{}", ManifestError, id="no digest"),
        pytest.param(b'{"digest": "../../etc/passwd"}', ManifestError, id="a path"),
        pytest.param(b" " * 70_000, StorageError, id="huge"),
        pytest.param(b"[" * 60_000, ManifestError, id="deep"),
    ],
)
def test_a_tag_that_is_none(
    remote: ObjectStoreRegistry, bucket: Bucket, raw: bytes, error: type[Exception]
) -> None:
    bucket.put("repositories/digits/_tags/1", raw)
    with pytest.raises(error) as caught:
        remote.manifest("digits", "1")
    assert "\n" not in str(caught.value)


def test_what_is_no_tag_is_not_listed(remote: ObjectStoreRegistry, bucket: Bucket) -> None:
    for key in ("1", ".hidden", "a/b", "with space", "ok"):
        bucket.put("repositories/digits/_tags/" + key, b"{}")
    assert remote.tags("digits") == ("1", "ok")


@pytest.mark.parametrize("name", ["../x", "A", "", "a/../b", "_tags", "a/_tags"])
def test_names_do_not_escape(remote: ObjectStoreRegistry, name: str) -> None:
    with pytest.raises(RefError):
        remote.tags(name)
    with pytest.raises(NbModelError):
        remote.has_blob(name, LARGE_DIGEST)


def test_an_index_that_others_broke_is_written_anew(
    remote: ObjectStoreRegistry, bucket: Bucket
) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": b"1"})
    bucket.put("index.json", b"not json")
    remote.push("digits", here, digest, tags=["1"])
    assert json.loads(bucket.read("index.json", limit=10_000)[1])["manifests"]


def test_eight_writers_at_once_lose_no_tag(address: str, bucket: Bucket) -> None:
    here = MemoryStorage()
    digests = [add_version(here, {"model.onnx": bytes([at])}) for at in range(8)]
    errors: list[BaseException] = []

    def push(at: int) -> None:
        try:
            with open_registry(address) as remote:
                for turn in range(3):
                    remote.push("digits", here, digests[at], tags=[f"w{at}-{turn}", "same"])
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=push, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    remote = ObjectStoreRegistry(bucket)
    assert len(remote.tags("digits")) == 8 * 3 + 1
    assert remote.pull("digits", "same", MemoryStorage()) in digests


_MOVE = """
import sys
from pathlib import Path
from nbmodel.storage import OciLayout
from nbmodel.storage.remote_registry import open_registry

def memory(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what + ":")))

address, digest, size, here, there = sys.argv[1:]
with open_registry(address) as remote:
    remote.check()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = memory("VmRSS")
    remote.push_blob("digits", OciLayout(Path(here)), digest)
    remote.pull_blob("digits", OciLayout(Path(there)), digest, size=int(size))
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured as Linux does")
def test_memory_does_not_grow_with_a_blob(address: str, tmp_path: Path) -> None:
    size = 200 * 1024 * 1024
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", size)
    here = OciLayout(tmp_path / "here")
    digest, _ = here.add_file(tmp_path / "large")
    done = subprocess.run(
        [sys.executable, "-c", _MOVE, address, digest, str(size), here.root, tmp_path / "there"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024, "KiB"
    OciLayout(tmp_path / "there").check(digest)


# -- opening, and what goes wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///prefix",
        "s3://key:hidden@bucket/x",
        "s3://bucket/x?token=hidden",
        "s3://bucket/#hidden",
        "s3://bucket/../x",
        "s3://bucket/%2e%2e/x",
        "file:///",
        "file://host/x",
        "file:///nowhere/at/all",
        "ftp://host/x",
        "bucket/x",
        "s3://[",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError) as caught:
        open_store(text)
    assert "hidden" not in f"{caught.value} {caught.value.hint}"


def test_signatures_go_along(
    remote: ObjectStoreRegistry,
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    subject = add_version(here, {"model.onnx": b"1"})
    signatures = []
    for text in (b"one", b"two"):
        raw = signature_manifest(here.read(subject, limit=10_000), text, created="2026-01-01")
        for data in (EMPTY, text, raw):
            here.add_bytes(data)
        signatures.append(digest_of(raw))
    assert remote.push_signatures("digits", here, subject, signatures) == 2
    assert remote.push_signatures("digits", here, subject, signatures) == 0
    assert remote.repositories() == (), "a signature is no version"
    remote.push("digits", here, subject, tags=["1"])

    # What anybody who may write there can put beside them.
    folder = f"repositories/digits/_referrers/{subject[7:]}/"
    bucket.put(folder + subject[7:], b"{}")
    bucket.put(folder + "0" * 64, b"{}")
    bucket.put(folder + "evil", b"{}")
    came = remote.pull_signatures("digits", subject, there, known=signatures[:1])
    assert came == (signatures[1],)
    assert there.has(digest_of(b"two"))
    assert not there.has(digest_of(b"one"))
    assert caplog.text.count("is left out") == 2
    monkeypatch.setattr("nbmodel.storage.object_store_registry.MAX_REFERRERS", 1)
    (first,) = remote.pull_signatures("digits", subject, MemoryStorage())
    assert first == min(signatures), "what is no signature takes no place of one"


def test_a_missing_bucket_is_told(server: ObjectServer) -> None:
    remote = ObjectStoreRegistry(open_store("s3://nobody-made-this/x"))
    here = MemoryStorage()
    with pytest.raises(BlobNotFoundError, match=r"there is no bucket at s3://nobody-made-this/x$"):
        remote.push("digits", here, add_version(here, {"m.onnx": b"1"}), tags=["1"])
    with pytest.raises(BlobNotFoundError, match="there is no bucket"):
        remote.tags("digits")


def test_nobody_at_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store_module, "_RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TargetUnreachableError) as caught:
        open_store("s3://bucket/x").find("a")
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "full" / "a").mkdir(parents=True)
    bucket = open_store((tmp_path / "full").as_uri())
    with pytest.raises(StorageUnavailableError, match="cannot write a in file:"):
        bucket.put("a", b"1")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(PluginError) as caught:
        open_store("s3://bucket/x")
    assert caught.value.hint == "pip install 'nbmodel[object-store]'"


def _sizes(storage: MemoryStorage) -> dict[str, int]:
    return {digest: size for digest, size, _ in storage.digests()}
