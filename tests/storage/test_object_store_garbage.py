"""What nobody needs in an object store goes, and nobody who pushes loses anything by that."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InputError,
    InUseError,
    NbModelError,
    StorageError,
)
from nbmodel.storage import MemoryStorage
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.object_store import Bucket, open_store
from nbmodel.storage.object_store_garbage import Garbage
from nbmodel.storage.object_store_presence import (
    COLLECTORS,
    HOLDS_S,
    WRITERS,
    Presence,
    begin_to_write,
)
from nbmodel.storage.object_store_registry import ObjectStoreRegistry
from nbmodel.storage.remote_registry import CollectsGarbage
from tests.tools.object_server import ObjectServer, object_server
from tests.tools.storage_server import add_version

pytestmark = pytest.mark.unhurried
pytest.importorskip("obstore", reason="the extra object-store is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as server:
        yield server


@pytest.fixture(params=["s3", "file"])
def bucket(
    request: pytest.FixtureRequest,
    server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bucket:
    """An empty store."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    if request.param == "file":
        (tmp_path / "store").mkdir()
        return open_store((tmp_path / "store").as_uri())
    name = "g" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:40]
    return open_store(server.make_bucket(name) + "/team/models")


@pytest.fixture
def here() -> MemoryStorage:
    return MemoryStorage()


def push(bucket: Bucket, here: MemoryStorage, content: bytes, *tags: str) -> str:
    """Push a version and be a writer no more; the digest of its manifest."""
    digest = add_version(here, {"model.onnx": content})
    with ObjectStoreRegistry(bucket) as remote:
        remote.push("digits", here, digest, tags=tags)
    return digest


def collect(bucket: Bucket, grace_s: float = 0, *, dry_run: bool = False) -> Garbage:
    with ObjectStoreRegistry(bucket) as remote:
        assert isinstance(remote, CollectsGarbage)
        return remote.collect(grace_s=grace_s, dry_run=dry_run)


def blobs(bucket: Bucket) -> set[str]:
    return {item.key.rpartition("/")[2] for item in bucket.items("blobs/sha256/")}


def is_there(bucket: Bucket, here: MemoryStorage, tag: str) -> bool:
    """Whether a version can be pulled, as a whole."""
    there = MemoryStorage()
    with ObjectStoreRegistry(bucket) as remote:
        try:
            digest = remote.pull("digits", tag, there)
        except BlobNotFoundError:
            return False
    for blob in blobs_of(here.read(digest, limit=100_000)):
        there.check(blob)
    return True


def test_what_tags_lead_to_stays_and_the_rest_goes(bucket: Bucket, here: MemoryStorage) -> None:
    push(bucket, here, b"kept", "1", "best")
    before = blobs(bucket)
    untagged = push(bucket, here, b"untagged")
    push(bucket, here, b"deleted", "2")
    with ObjectStoreRegistry(bucket) as remote:
        remote.delete_tag("digits", "2")
    bucket.put("blobs/sha256/" + "0" * 64, b"left by a push that was killed")
    bucket.put("blobs/sha256/notes.txt", b"not ours")
    gone = blobs(bucket) - before - {"notes.txt"}
    sizes = {item.key: item.size for item in bucket.items("blobs/sha256/")}
    expected = Garbage(len(gone), sum(sizes[f"blobs/sha256/{name}"] for name in gone))
    assert collect(bucket, dry_run=True) == expected
    assert collect(bucket) == expected
    assert blobs(bucket) == {*before, "notes.txt"}
    assert is_there(bucket, here, "1")
    assert is_there(bucket, here, "best")
    assert not is_there(bucket, here, untagged)
    assert collect(bucket) == Garbage(0, 0)


def test_what_is_young_stays(bucket: Bucket, here: MemoryStorage) -> None:
    push(bucket, here, b"untagged")
    assert collect(bucket, grace_s=3600) == Garbage(0, 0)
    assert collect(bucket, grace_s=0).blobs == 3


def test_signatures_stay_with_their_version_and_go_with_it(
    bucket: Bucket, here: MemoryStorage
) -> None:
    here.add_bytes(EMPTY)
    signed = push(bucket, here, b"signed", "1")
    bundle = b'{"a": "bundle"}'
    here.add_bytes(bundle)
    subject = here.read(signed, limit=100_000)
    raw = signature_manifest(subject, bundle, created="2026-01-01T00:00:00Z")
    signature = here.add_bytes(raw)
    with ObjectStoreRegistry(bucket) as remote:
        assert remote.push_signatures("digits", here, signed, [signature]) == 1
    assert collect(bucket) == Garbage(0, 0)
    there = MemoryStorage()
    with ObjectStoreRegistry(bucket) as remote:
        assert remote.pull_signatures("digits", signed, there) == (signature,)
        remote.delete_tag("digits", "1")
    assert collect(bucket).blobs == 6
    assert list(bucket.items("repositories/")) == []


def test_manifests_of_an_image_index_stay(bucket: Bucket, here: MemoryStorage) -> None:
    inner = push(bucket, here, b"inner")
    descriptor = {"mediaType": MANIFEST_TYPE, "digest": inner, "size": here.size(inner)}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor]}
    with ObjectStoreRegistry(bucket) as remote:
        remote.push_manifest("digits", "all", json.dumps(index).encode())
    assert collect(bucket) == Garbage(0, 0)
    assert is_there(bucket, here, inner)


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"digest": "sha256:1"}'])
def test_a_tag_that_nobody_can_read_keeps_everything(
    bucket: Bucket, here: MemoryStorage, damage: bytes
) -> None:
    push(bucket, here, b"untagged")
    bucket.put("repositories/digits/_tags/1", damage)
    before = blobs(bucket)
    with pytest.raises(NbModelError):
        collect(bucket)
    assert blobs(bucket) == before
    assert list(bucket.items(COLLECTORS)) == [], "nobody waits for a collector that gave up"


def test_a_damaged_manifest_keeps_everything(bucket: Bucket, here: MemoryStorage) -> None:
    digest = push(bucket, here, b"tagged", "1")
    push(bucket, here, b"untagged")
    bucket.put("blobs/sha256/" + digest.removeprefix("sha256:"), b"{}")
    before = blobs(bucket)
    with pytest.raises(DigestMismatchError):
        collect(bucket)
    assert blobs(bucket) == before


def test_a_tag_whose_manifest_is_gone_keeps_nothing_from_going(
    bucket: Bucket, here: MemoryStorage
) -> None:
    digest = push(bucket, here, b"tagged", "1")
    bucket.delete("blobs/sha256/" + digest.removeprefix("sha256:"))
    assert collect(bucket).blobs == 2


def test_a_grace_period_is_not_negative(bucket: Bucket) -> None:
    with pytest.raises(InputError, match="grace period of -1"):
        collect(bucket, grace_s=-1)


def test_while_somebody_pushes_nothing_is_collected(bucket: Bucket, here: MemoryStorage) -> None:
    push(bucket, here, b"untagged")
    digest = add_version(here, {"model.onnx": b"untagged"})
    blob = next(iter(blobs_of(here.read(digest, limit=100_000))))
    with ObjectStoreRegistry(bucket) as writer:
        assert writer.push_blob("digits", here, blob).sent == 0, "what is there is reused"
        with pytest.raises(InUseError, match=r"somebody pushes .* nothing was collected"):
            collect(bucket)
        writer.push("digits", here, digest, tags=["1"])
    assert collect(bucket) == Garbage(0, 0)
    assert is_there(bucket, here, "1")


def test_reading_hinders_no_collection(bucket: Bucket, here: MemoryStorage) -> None:
    push(bucket, here, b"kept", "1")
    with ObjectStoreRegistry(bucket) as reader:
        reader.pull("digits", "1", MemoryStorage())
        reader.tags("digits")
        assert list(bucket.items(WRITERS)) == []
        assert collect(bucket) == Garbage(0, 0)


def test_who_pushes_waits_for_a_collector_and_sends_what_that_one_took(
    bucket: Bucket, here: MemoryStorage
) -> None:
    digest = push(bucket, here, b"untagged")
    collector = Presence(bucket, COLLECTORS)
    collector.begin()
    thread = threading.Thread(target=push, args=(bucket, here, b"untagged", "1"))
    thread.start()
    while not list(bucket.items(WRITERS)):
        assert thread.is_alive()
    for blob in (digest, *blobs_of(here.read(digest, limit=100_000))):
        bucket.delete("blobs/sha256/" + blob.removeprefix("sha256:"))
    assert list(bucket.items("repositories/")) == []
    collector.end()
    thread.join(60)
    assert not thread.is_alive()
    assert is_there(bucket, here, "1")
    assert list(bucket.items(WRITERS)) == []


def test_who_waits_can_be_told_not_to(bucket: Bucket) -> None:
    Presence(bucket, COLLECTORS).begin()
    writer = Presence(bucket, WRITERS)
    with pytest.raises(CancelledError):
        begin_to_write(writer, cancelled=lambda: True)
    assert list(bucket.items(WRITERS)) == []
    with pytest.raises(CancelledError):  # and does not think later that nobody collects
        begin_to_write(writer, cancelled=lambda: True)


@pytest.mark.parametrize("kind", [WRITERS, COLLECTORS])
def test_nobody_waits_for_ever_for_one_that_was_killed(
    bucket: Bucket, here: MemoryStorage, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    Presence(bucket, kind).begin()
    monkeypatch.setitem(HOLDS_S, kind, -1.0)
    if kind == COLLECTORS:
        push(bucket, here, b"kept", "1")
        monkeypatch.undo()
        assert is_there(bucket, here, "1")
        return
    bucket.put("blobs/sha256/" + "0" * 64, b"left")
    assert collect(bucket).blobs == 1
    assert list(bucket.items(WRITERS)) == []


def test_who_slept_for_too_long_does_not_go_on(
    bucket: Bucket, here: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_version(here, {"model.onnx": b"late"})
    with ObjectStoreRegistry(bucket) as writer:
        writer.push("digits", here, digest, tags=())
        monkeypatch.setitem(HOLDS_S, WRITERS, 0.0)
        with pytest.raises(StorageError, match="nothing was heard of this process") as caught:
            writer.push_manifest("digits", "1", here.read(digest, limit=100_000))
        assert "do it again" in str(caught.value.hint)
    assert list(bucket.items("repositories/")) == []


def test_no_push_loses_anything_whoever_collects_meanwhile(
    bucket: Bucket, here: MemoryStorage
) -> None:
    """Three push the same bytes under their own tag, take it away and push again."""
    digest = add_version(here, {"model.onnx": b"the same"})
    ended = threading.Event()
    failed: list[BaseException] = []
    collected = 0

    def write(tag: str) -> None:
        try:
            for _ in range(4):
                with ObjectStoreRegistry(bucket) as remote:
                    remote.push("digits", here, digest, tags=[tag])
                assert is_there(bucket, here, tag)
                with ObjectStoreRegistry(bucket) as remote:
                    remote.delete_tag("digits", tag)
            push(bucket, here, b"the same", tag)
        except BaseException as exc:
            failed.append(exc)

    def sweep() -> None:
        nonlocal collected
        while not ended.is_set():
            try:
                collected += collect(bucket).blobs
            except InUseError:
                ended.wait(0.05)
            except BaseException as exc:
                failed.append(exc)
                return

    sweeper = threading.Thread(target=sweep)
    writers = [threading.Thread(target=write, args=(tag,)) for tag in ("a", "b", "c")]
    for thread in (sweeper, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    sweeper.join()
    assert failed == []
    collect(bucket)
    assert all(is_there(bucket, here, tag) for tag in ("a", "b", "c"))
